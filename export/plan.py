"""The TensorRT step: `model.plan` from an exported ONNX file, with a JSON beside it that says what it is good for.

An engine is built twice, with canonical and with stock attention; both are timed in turns and compared with FP32, and
the faster that passes is kept. Runs in the serving image, on its own libraries; knows neither torch nor Ultralytics,
which that image does not have, and reaches the card through `Machine` only.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clients.data_sheet import slug
from export.attention_pattern import attentions
from export.choice import Form, Trial, keep, summary
from export.data_sheet import data_sheet
from export.errors import ExportError
from export.graph import computes_in_half, is_quantised, read_onnx
from export.latency import ROUNDS, WARM, batch_sizes, interleaved, summed_up
from export.machine import Card, Machine, Running
from export.parity import Difference, differences, in_full, limits, reference
from export.publish import publish, sha256
from export.sidecar import batches_of, reasons_to_build, told_of
from export.spec import POSTPROCESS, Spec
from export.stock_attention import as_stock
from export.to_engine import Batches, Plan, check_sm
from export.to_half import to_half

_ENGINE_INPUT = "frames"


@dataclass(frozen=True, slots=True)
class Job:
    """What to build from, where to, and how. `frames` [n, H * 3 / 2, W] are compared with FP32; None: nothing is.

    `profiles` is the folder of data sheets. `force` builds what has not changed too.
    """

    spec: Spec
    onnx_folder: Path
    out: Path
    profiles: Path
    frames: NDArray[np.uint8] | None
    force: bool = False
    warm: int = WARM
    rounds: int = ROUNDS


def build_plans(machine: Machine, names: Sequence[str], job: Job) -> dict[str, Any]:
    """Build each model that has changed, and write the GPU's data sheet; returns what there is then.

    Raises ExportError: a card that is too old, a graph that cannot be built, no plan that computes what FP32 does.
    """
    check_sm(machine.card.sm)
    reports = []
    for name in names:
        try:
            reports.append(_up_to_date(machine, name, job) or _build_one(machine, name, job))
        except ExportError as error:
            raise ExportError(f"{name}: {error}") from error
    sheet = job.profiles / f"{slug(machine.card.name)}.json"
    profile = data_sheet(machine.card, machine.tensorrt, str(job.spec.canvas), job.out)
    if profile is not None:
        publish({sheet: profile.as_json().encode()})
        _say(f"the card's data sheet: {sheet}")
    return {"models": reports, "profile": str(sheet) if profile is not None else None}


def _up_to_date(machine: Machine, name: str, job: Job) -> dict[str, Any] | None:
    """What plan.json says, where nothing has changed since; else None."""
    source = job.onnx_folder / name / "1" / "model.onnx"
    told = told_of(job.out / name / "plan.json")
    if job.force or told is None or not source.is_file():
        return None
    plan = job.out / name / "1" / "model.plan"
    found = sha256(plan.read_bytes()) if plan.is_file() else None
    wanted = _inputs(machine, name, job, source.read_bytes()) | {"plan_sha256": found}
    reasons = reasons_to_build(told, wanted)
    if reasons:
        _say(f"{name}: built again: {'; '.join(reasons)}")
        return None
    _say(f"{name}: nothing has changed since it was built; --force builds it again")
    return told | {"skipped": True}


def _build_one(machine: Machine, name: str, job: Job) -> dict[str, Any]:
    source = job.onnx_folder / name
    model = read_onnx(source / "1" / "model.onnx")
    data = (source / "1" / "model.onnx").read_bytes()
    origin = _origin(source, data, job.spec)
    graph = model if computes_in_half(model) else to_half(model)
    precision = "int8" if is_quantised(graph) else "fp16"
    batches = batches_of(name, job.spec)
    _say(f"{name}: building on {machine.card.name} with TensorRT {machine.tensorrt}, which takes minutes")
    plans = dict(_plans(machine, graph, batches, job.out / _cache_name(machine.card)))
    inputs = _inputs_of_model(name, job, batches.largest)
    trials, clock = _timed(machine, plans, model, inputs, job, batches)
    kept = keep(trials, limits(precision), batches.tuned)
    plan = plans[kept.form]
    _say(f"{name}: {summary(trials, kept, limits(precision), batches.tuned)}")
    sidecar = {
        "model": name,
        **_inputs(machine, name, job, data),
        **origin,
        "plan_sha256": sha256(plan.data),
        "precision": precision,
        "converted_from_fp32": graph is not model,
        "attention": kept.form,
        "fused": kept.fused,
        "forms": {trial.form: trial.as_json(limits(precision)) for trial in trials},
        "sm_clock_mhz": clock,
        "activation_bytes": plan.activation_bytes,
        "weight_bytes": plan.weight_bytes,
        "build_s": round(sum(each.build_s for each in plans.values()), 1),
    }
    _publish(job.out / name, source, plan, sidecar)
    return sidecar


def _plans(machine: Machine, graph: onnx.ModelProto, batches: Batches, cache: Path) -> Iterator[tuple[Form, Plan]]:
    """The graph as it is and, where it has attention, its stock form."""
    if not attentions(graph):
        yield "none", machine.build(graph.SerializeToString(), batches, cache)
        return
    yield "canonical", machine.build(graph.SerializeToString(), batches, cache)
    yield "stock", machine.build(as_stock(graph).SerializeToString(), batches, cache)


def _timed(
    machine: Machine,
    plans: Mapping[Form, Plan],
    model: onnx.ModelProto,
    inputs: Mapping[str, NDArray[Any]],
    job: Job,
    batches: Batches,
) -> tuple[list[Trial], int | None]:
    """Compare each plan with FP32, time all in turns; and the card's median clock meanwhile."""
    clocks: list[int] = []

    def watch() -> None:
        clock = machine.sm_clock_mhz()
        clocks.extend([] if clock is None else [clock])

    with ExitStack() as loaded:
        running = {form: loaded.enter_context(machine.run(plan)) for form, plan in plans.items()}
        parity = _compared(running, model, None if "none" in plans else job.frames, batches)
        for each in running.values():
            each.outputs(inputs)  # what is timed: pictures, because zeros draw less power and run at higher clocks
        runs = {str(form): each.time_ms for form, each in running.items()}
        sizes = batch_sizes(batches.largest)
        samples = interleaved(runs, sizes, rounds=job.rounds, warm=job.warm, between=watch)
        trials = [
            Trial(form, each.fused, parity.get(form), summed_up(samples[form]), each.device_bytes, each.cuda_graphs)
            for form, each in running.items()
        ]
    return trials, round(statistics.median(clocks)) if clocks else None


def _compared(
    running: Mapping[Form, Running], model: onnx.ModelProto, frames: NDArray[np.uint8] | None, batches: Batches
) -> dict[Form, Difference]:
    """Each plan against the FP32 network on the pictures, in batches as large as they come."""
    if frames is None:
        return {}
    exact = list(reference(in_full(model), frames))
    found = {}
    for form, each in running.items():
        chunks = [frames[start : start + batches.largest] for start in range(0, len(frames), batches.largest)]
        answers = [row for chunk in chunks for row in each.outputs({_ENGINE_INPUT: chunk})["candidates"]]
        found[form] = differences(exact, answers)
    if any(difference.objects == 0 for difference in found.values()):
        raise ExportError(
            "no object in the pictures, so nothing can be compared with FP32: give others with --pictures, "
            "or `--pictures none` to build unchecked"
        )
    return found


def _inputs_of_model(name: str, job: Job, batch: int) -> dict[str, NDArray[Any]]:
    """A full batch to be timed on: the pictures over and over, noise where there are none, or made-up candidates."""
    random = np.random.default_rng(0)
    if name != POSTPROCESS:
        noise = random.integers(16, 236, (1, *job.spec.canvas.nv12_shape), dtype=np.uint8)
        frames = noise if job.frames is None else job.frames
        return {_ENGINE_INPUT: np.resize(frames, (batch, *frames.shape[1:]))}
    corners = random.uniform(0, 300, (batch, job.spec.top_k, 2)).astype(np.float32)
    sizes = random.uniform(8, 80, corners.shape).astype(np.float32)
    scores = np.sort(random.uniform(0, 1, (batch, job.spec.top_k, 1)).astype(np.float32), axis=1)[:, ::-1]
    classes = random.integers(0, 4, scores.shape).astype(np.float32)
    return {
        "candidates": np.concatenate([corners, corners + sizes, scores, classes], axis=2),
        "geometry": np.tile(np.array([1, 1, 0, 0], dtype=np.float32), (batch, 1)),
        "thresholds": np.tile(np.array([0.25, 0.7], dtype=np.float32), (batch, 1)),
    }


def _inputs(machine: Machine, name: str, job: Job, data: bytes) -> dict[str, Any]:
    """What a plan depends on: when one of these changes it is built again."""
    return {
        "onnx_sha256": sha256(data),
        "batches": asdict(batches_of(name, job.spec)),
        "tensorrt": machine.tensorrt,
        "gpu": machine.card.name,
        "sm": f"{machine.card.sm[0]}.{machine.card.sm[1]}",
        "driver": machine.card.driver,  # the plan would do, its timings would not
    }


def _origin(source: Path, data: bytes, spec: Spec) -> dict[str, Any]:
    """What the export said of this ONNX file. Raises ExportError: changed since, or for another canvas or top-k."""
    told = told_of(source / "export.json")
    if told is None:
        return {}
    if told["sha256"]["onnx"] != sha256(data):
        raise ExportError(
            f"{source / '1' / 'model.onnx'}: not the file that {source / 'export.json'} describes; export it again"
        )
    shape = (told["canvas"], told["top_k"])
    if shape != (str(spec.canvas), spec.top_k):
        raise ExportError(
            f"exported for canvas {shape[0]} and top-k {shape[1]}, to be built for {spec.canvas} and {spec.top_k}: "
            f"give --canvas {shape[0]} --top-k {shape[1]}, or export it again"
        )
    kept = {key: told[key] for key in ("canvas", "top_k", "classes")}
    return {"weights_sha256": told["sha256"]["weights"], **kept}


def _publish(folder: Path, source: Path, plan: Plan, sidecar: dict[str, Any]) -> None:
    """The plan, its JSON and the class names that the server's ensembles carry, all or none."""
    files = {folder / "1" / "model.plan": plan.data}
    labels = source / "labels.txt"
    if labels.is_file():
        files[folder / "labels.txt"] = labels.read_bytes()
    publish({**files, folder / "plan.json": (json.dumps(sidecar, indent=2) + "\n").encode()})


def _cache_name(card: Card) -> str:
    return f"timing-{card.sm[0]}{card.sm[1]}.cache"


def _say(line: str) -> None:
    sys.stderr.write(f"export: {line}\n")
