"""`python -m loadtest profile`: the data sheet of whatever runs behind a Triton, measured there, whatever its backend.

Each engine is sent batches of 1, 2, 4 … up to its largest, one at a time and in turns, and asked afterwards what the
batch took: the difference of Triton's own statistics of that batch size (`compute_infer`), so neither network nor queue
is in it. A batch that did not run alone is sent again. Noise is what the engines are shown: their time does not depend
on the picture.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from clients.data_sheet import SHEETS, GpuProfile, Hardware, Kind, ModelProfile, sheet_of
from clients.errors import ConfigError, FleetError, ModelError
from clients.gpu import read_gpu
from clients.inference.server import translated
from clients.types import Canvas, Tier
from export.latency import batch_sizes, interleaved, summed_up
from export.spec import engine_name

_TIMEOUT_S = 30.0
_TRIES = 5  # of a batch beside which something else ran
_EMULATED = "emulated "  # begins the precision that an emulated card's ensembles state
_NO_CARD = Hardware("cpu", {}, 0, 0, None)


@dataclass(frozen=True, slots=True)
class Served:
    """One engine: its largest batch, whether it is on a GPU, its frames' shape without the batch, its precision."""

    largest: int
    on_gpu: bool
    frame: tuple[int, ...]
    precision: str


class Engines:
    """A running Triton's engines, timed one batch at a time. Use as a context manager."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = triton.InferenceServerClient(url)
        self._frames: dict[tuple[int, ...], Any] = {}

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def served(self) -> dict[Tier, Served]:
        """Those that are ready. Raises ServerUnavailable, ModelError, ConfigError where none is."""
        ready = [tier for tier in Tier if self._asked(self._client.is_model_ready, engine_name(tier))]
        if not ready:
            raise ConfigError(f"{self.url} serves none of {', '.join(engine_name(tier) for tier in Tier)}")
        return {tier: self._served(tier) for tier in ready}

    def time_ms(self, tier: Tier, frame: tuple[int, ...], batch: int) -> float:
        """One batch. Raises ModelError when others keep the engine busy, or when it says nothing; ServerUnavailable."""
        name, shape = engine_name(tier), (batch, *frame)
        if shape not in self._frames:
            tensor = triton.InferInput("frames", list(shape), "UINT8")
            tensor.set_data_from_numpy(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
            self._frames[shape] = tensor
        for _ in range(_TRIES):
            before = self._spent(name)
            self._asked(self._client.infer, name, [self._frames[shape]])
            after = self._spent(name)
            new = {
                size: (count - before.get(size, (0, 0))[0], ns - before.get(size, (0, 0))[1])
                for size, (count, ns) in after.items()
            }
            if {size: count for size, (count, _) in new.items() if count} == {batch: 1}:
                return new[batch][1] / 1e6
        raise ModelError(f"{self.url}: {name} serves others meanwhile; a profile needs the server to itself")

    def _served(self, tier: Tier) -> Served:
        engine = self._asked(self._client.get_model_config, engine_name(tier)).config
        groups = {group.kind for group in engine.instance_group}
        (frames,) = (tensor for tensor in engine.input if tensor.name == "frames")
        ensemble = self._asked(self._client.get_model_config, tier.value).config
        precision = ensemble.parameters["precision"].string_value or "unknown"
        return Served(max(1, engine.max_batch_size), _KIND_GPU in groups, tuple(frames.dims), precision)

    def _spent(self, name: str) -> dict[int, tuple[int, int]]:
        """By batch size: how many batches have run, and their nanoseconds."""
        (model,) = self._asked(self._client.get_inference_statistics, name).model_stats
        return {
            int(one.batch_size): (int(one.compute_infer.count), int(one.compute_infer.ns)) for one in model.batch_stats
        }

    def _asked(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments, client_timeout=_TIMEOUT_S)
        except InferenceServerException as error:
            raise translated(error, self.url) from error


_KIND_GPU = 1  # of ModelInstanceGroup.Kind, model_config.proto


def measured(url: str, rounds: int, name: str | None, progress: Callable[[str, float], None]) -> GpuProfile:
    """Time all engines of a server. Raises FleetError, one line. `name` is the card's, where it cannot be asked."""
    clocks: list[int] = []
    with Engines(url) as engines:
        served = engines.served()
        gpu = _gpu_name(served, name)
        samples: dict[str, dict[int, list[float]]] = {}
        for done, (tier, one) in enumerate(served.items()):
            progress(tier.value, done / len(served))
            run = {tier.value: lambda batch, tier=tier, one=one: engines.time_ms(tier, one.frame, batch)}
            looked = (lambda: _look(clocks)) if one.on_gpu else None
            samples |= interleaved(run, batch_sizes(one.largest), rounds=rounds, warm=2, between=looked)
    progress("done", 1.0)
    first = next(iter(served.values()))
    known = sheet_of(gpu.removeprefix(_EMULATED))
    on_card = first.on_gpu or gpu.startswith(_EMULATED)
    hardware = (known.hardware if known else None) if on_card else _NO_CARD
    clock = sorted(clocks)[len(clocks) // 2] if clocks else None
    models = {
        tier.value: ModelProfile(one.precision, "unknown", summed_up(samples[tier.value]), None, clock, False, None)
        for tier, one in served.items()
    }
    kind: Kind = "emulated" if gpu.startswith(_EMULATED) else "measured"
    profile = GpuProfile(
        kind=kind,
        gpu=gpu,
        sm=known.sm if known else "",
        driver="",
        tensorrt="",
        memory_mb=known.memory_mb if known else None,
        sm_clock_max_mhz=known.sm_clock_max_mhz if known else None,
        canvas=str(Canvas(first.frame[1], first.frame[0] * 2 // 3)),
        command=f"python -m loadtest profile --url {url} --rounds {rounds}",
        models=models,
        hardware=hardware,
    )
    return _with_what_is_known(profile, known) if known and on_card else profile


def _with_what_is_known(profile: GpuProfile, known: GpuProfile) -> GpuProfile:
    """What a server does not tell, memory of engines and hardware, from a sheet of the same card, with its sources."""
    models = {
        name: replace(one, device_mb=known.models[name].device_mb if name in known.models else None)
        for name, one in profile.models.items()
    }
    sources = {
        place: text for place, text in known.sources.items() if place.startswith("hardware") or "device_mb" in place
    }
    return replace(profile, models=models, sources={"models": f"measured: {profile.command}"} | sources)


def _gpu_name(served: dict[Tier, Served], name: str | None) -> str:
    """What the sheet is of. Raises ConfigError where a card is served that this machine does not have."""
    first = next(iter(served.values()))
    if name is not None:
        return name
    if first.precision.startswith(_EMULATED):
        return first.precision
    if not first.on_gpu:
        return f"{_processor()}, {os.cpu_count()} cores"
    reading = read_gpu()
    if reading is None:
        raise ConfigError("the server runs on a GPU that this machine does not have: say which with --name")
    return reading.name


def _look(clocks: list[int]) -> None:
    reading = read_gpu()
    if reading is not None:
        clocks.append(reading.sm_clock_mhz)


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "CPU"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "CPU"


def add_profile(commands: Any) -> None:
    """The command and its options."""
    text = "time the engines of a running Triton, whatever its backend, and write the data sheet that plans read"
    parser = commands.add_parser("profile", help=text, description=text)
    parser.add_argument("--url", default="127.0.0.1:8001", metavar="HOST:PORT", help="its gRPC (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="of all batches (default %(default)s)")
    parser.add_argument("--name", metavar="GPU", help="the card's name, where the server runs on another machine")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: loadtest/gpus/<name>.json")
    parser.set_defaults(command=profile)


def profile(options: argparse.Namespace) -> dict[str, Any]:
    """Run it. Raises FleetError and ValueError."""
    from demo.progress import bars

    if options.rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {options.rounds}")
    if options.out is not None:
        _folder_of(options.out)  # before minutes of measuring, not after
    with bars() as bar:
        task = bar.add_task("profile", total=1.0)
        found = measured(
            options.url,
            options.rounds,
            options.name,
            lambda name, done: bar.update(task, completed=done, description=f"profile: {name}"),
        )
    path = options.out or SHEETS / f"{found.slug}.json"
    _folder_of(path)
    try:
        path.write_text(found.as_json(), encoding="utf-8")
    except OSError as error:
        raise FleetError(f"{path}: cannot be written: {error.strerror or error}") from error
    p50_ms = {
        name: {str(batch): one.p50_ms for batch, one in model.latency.items()} for name, model in found.models.items()
    }
    return {"profile": str(path), "kind": found.kind, "gpu": found.gpu, "canvas": found.canvas, "p50_ms": p50_ms}


def _folder_of(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FleetError(f"{path}: cannot be written: {error.strerror or error}") from error
