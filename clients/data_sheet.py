"""The data sheet of a GPU: how long each model takes per batch, and what else a plan needs to know of the card.

A leaf: it imports nothing of this project but errors, so that the export, which measures, and the planner, which
reads, share one definition without importing each other. It says what was found, not what it means. The sheets of
this repository lie in loadtest/gpus; `export build` writes one on a card, `python -m loadtest profile` of a server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from clients.errors import ConfigError

Kind = Literal["measured", "emulated", "modelled", "projected"]
SHEETS = Path(__file__).resolve().parents[1] / "loadtest" / "gpus"
CENTRAL = "central"


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds on the GPU for one batch, from its first kernel to its last; copies not counted."""

    p50_ms: float
    p95_ms: float

    def __post_init__(self) -> None:
        if not 0 < self.p50_ms <= self.p95_ms:
            raise ValueError(f"expected 0 < p50_ms <= p95_ms, got {self.p50_ms} and {self.p95_ms}")


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """One model: `latency` by batch size, ascending. `attention` is the form of the plan that is served.

    `device_mb` is what the loaded plan with its buffers takes of the GPU's memory, `sm_clock_mhz` the median while
    it was timed, and `cuda_graphs` whether each batch was replayed as one; None where that is not known.
    """

    precision: str
    attention: str
    latency: Mapping[int, Latency]
    device_mb: float | None
    sm_clock_mhz: int | None
    cuda_graphs: bool
    plan_sha256: str | None

    def __post_init__(self) -> None:
        sizes = list(self.latency)
        if not sizes or sizes != sorted(sizes) or sizes[0] < 1:
            raise ValueError(f"latency: expected batch sizes from 1 up, ascending, got {sizes}")


@dataclass(frozen=True, slots=True)
class VideoDecoder:
    """What all decoders of a card together do of one codec in a second: million luma pixels, million bits."""

    mpixels_per_s: float
    mbit_per_s: float

    def __post_init__(self) -> None:
        if not (self.mpixels_per_s > 0 and self.mbit_per_s > 0):
            raise ValueError(f"expected positive figures, got {self.mpixels_per_s} and {self.mbit_per_s}")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a card has beside its kernels. `on` says whether engines run on a card or on the machine's own CPU.

    `decoders` by FFmpeg's name of the codec, empty where there are none. `session_mb` is what one decoder takes of the
    card's memory for a picture of 1920x1080, `context_mb` what CUDA, TensorRT and Triton take before any model is
    loaded, `pcie_mb_per_s` what the bus really carries in one direction.
    """

    on: Literal["card", "cpu"]
    decoders: Mapping[str, VideoDecoder]
    session_mb: float
    context_mb: float
    pcie_mb_per_s: float | None

    def __post_init__(self) -> None:
        if self.on not in ("card", "cpu"):
            raise ValueError(f"hardware.on: expected card or cpu, got {self.on!r}")
        if self.session_mb < 0 or self.context_mb < 0:
            raise ValueError(f"expected memory of at least 0 MB, got {self.session_mb} and {self.context_mb}")
        if self.pcie_mb_per_s is not None and not self.pcie_mb_per_s > 0:
            raise ValueError(f"hardware.pcie_mb_per_s: expected a positive number, got {self.pcie_mb_per_s}")


@dataclass(frozen=True, slots=True)
class GpuProfile:
    """A GPU and the models that were timed on it, by name: `yolo12n` ..., `postprocess`.

    `sm` is the compute capability such as "7.5", `canvas` is WIDTHxHEIGHT, `command` repeats the measurement.
    `models` is the central variant; `variants` holds latencies of others, by name, model and batch. `sources` says
    where numbers come from, by their place in the file.
    """

    kind: Kind
    gpu: str
    sm: str
    driver: str
    tensorrt: str
    memory_mb: int | None
    sm_clock_max_mhz: int | None
    canvas: str
    command: str
    models: Mapping[str, ModelProfile]
    variants: Mapping[str, Mapping[str, Mapping[int, Latency]]] = field(default_factory=dict)
    hardware: Hardware | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind: expected one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if not self.models:
            raise ValueError("models: expected at least one, got none")
        for name, models in self.variants.items():
            if name == CENTRAL or models.keys() != self.models.keys():
                told = f"{name} with {sorted(models)}"
                raise ValueError(f"variants: expected other names than central, each with all models, got {told}")

    def variant(self, name: str) -> GpuProfile:
        """The sheet with the latencies of a variant; `central` is the sheet itself. Raises ConfigError: no such one."""
        if name == CENTRAL:
            return self
        if name not in self.variants:
            known = ", ".join((CENTRAL, *self.variants))
            raise ConfigError(f"the data sheet of {self.gpu} has no variant {name!r}; it has {known}")
        latencies = self.variants[name]
        models = {key: replace(model, latency=latencies[key]) for key, model in self.models.items()}
        return replace(self, models=models)

    def as_json(self) -> str:
        """The file's text."""
        plain = asdict(self)
        for model in plain["models"].values():
            model["latency"] = {str(batch): latency for batch, latency in model["latency"].items()}
        for models in plain["variants"].values():
            for name, latency in models.items():
                models[name] = {str(batch): one for batch, one in latency.items()}
        return json.dumps(plain, indent=2) + "\n"

    @property
    def slug(self) -> str:
        """The file's name without suffix: `tesla-t4`."""
        return slug(self.gpu)


def slug(gpu: str) -> str:
    """`NVIDIA H100 80GB HBM3` -> `nvidia-h100-80gb-hbm3`."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def known_sheets() -> list[str]:
    """The names of the sheets in loadtest/gpus: what `--gpu` takes."""
    return sorted(path.stem for path in SHEETS.glob("*.json"))


def sheet(name: str, variant: str = CENTRAL) -> GpuProfile:
    """`t4`, or the path of a sheet's file. Raises ConfigError: neither, no data sheet, or no such variant."""
    path = Path(name) if name.endswith(".json") else SHEETS / f"{name}.json"
    if not name.endswith(".json") and name not in known_sheets():
        raise ConfigError(f"there is no data sheet of {name!r}; there are {', '.join(known_sheets())}")
    return read_profile(path).variant(variant)


def sheet_of(gpu: str) -> GpuProfile | None:
    """The first sheet in loadtest/gpus of a card of this name that knows its hardware; None where there is none."""
    for name in known_sheets():
        try:
            found = sheet(name)
        except ConfigError:  # somebody's broken file is no reason to lose a measurement
            continue
        if found.gpu == gpu and found.hardware is not None:
            return found
    return None


def parse_profile(text: str) -> GpuProfile:
    """The profile that `as_json` wrote. Raises ValueError: not JSON, a key missing or unknown, or a bad value."""
    told = _checked(json.loads(text), GpuProfile, "profile")
    models = {name: _model(value, name) for name, value in _mapping(told["models"], "models").items()}
    variants = {name: _variant(value, name) for name, value in _mapping(told.get("variants", {}), "variants").items()}
    hardware = None if told.get("hardware") is None else _hardware(told["hardware"])
    return GpuProfile(**told | {"models": models, "variants": variants, "hardware": hardware})


def read_profile(path: Path) -> GpuProfile:
    """A profile's file. Raises ConfigError, one line: it cannot be read, or is not a profile."""
    try:
        return parse_profile(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a GPU profile: {error}") from error


def _model(told: Any, name: str) -> ModelProfile:
    plain = _checked(told, ModelProfile, f"models.{name}")
    return ModelProfile(**plain | {"latency": _latency(plain["latency"], f"models.{name}.latency")})


def _variant(told: Any, name: str) -> dict[str, dict[int, Latency]]:
    where = f"variants.{name}"
    return {model: _latency(latency, f"{where}.{model}") for model, latency in _mapping(told, where).items()}


def _latency(told: Any, where: str) -> dict[int, Latency]:
    by_batch = _mapping(told, where)
    return {int(batch): Latency(**_checked(value, Latency, where)) for batch, value in by_batch.items()}


def _hardware(told: Any) -> Hardware:
    plain = _checked(told, Hardware, "hardware")
    decoders = _mapping(plain["decoders"], "hardware.decoders")
    parsed = {
        codec: VideoDecoder(**_checked(value, VideoDecoder, f"hardware.decoders.{codec}"))
        for codec, value in decoders.items()
    }
    return Hardware(**plain | {"decoders": parsed})


def _checked(told: Any, kind: type[Any], where: str) -> dict[str, Any]:
    """The mapping itself, when it has exactly the fields of `kind`; those with a default may be left out."""
    names = {one.name for one in fields(kind)}
    needed = {one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING}
    given = _mapping(told, where)
    if not needed <= given.keys() <= names:
        missing, unknown = sorted(needed - given.keys()), sorted(given.keys() - names)
        raise ValueError(f"{where}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
    return given


def _mapping(told: Any, where: str) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise ValueError(f"{where}: expected an object, got {type(told).__name__}")  # noqa: TRY004 - bad text, not a bad call
    return told
