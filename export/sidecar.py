"""plan.json, the file beside each plan: what is read from it, whether it still holds, and the data sheet made of all.

Reads files and compares; needs no TensorRT, no ONNX and no GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clients.types import Tier
from export.errors import ExportError
from export.machine import Card
from export.spec import POSTPROCESS, TIERS, Spec, engine_name, postprocess
from export.to_engine import Batches
from loadtest.profile import GpuProfile, Latency, ModelProfile

_NAMES = {
    "onnx_sha256": "the ONNX file",
    "plan_sha256": "the plan's file",
    "batches": "batches",
    "tensorrt": "TensorRT",
    "gpu": "GPU",
    "sm": "compute capability",
    "driver": "driver",
}
_MB = 1e6


def batches_of(name: str, spec: Spec) -> Batches:
    """The batches of one model of the repository: a tier's engine or the postprocess model."""
    for tier in TIERS:
        if name == engine_name(tier):
            return Batches.of(Tier(tier))
    most = postprocess(spec).max_batch
    return Batches(largest=most, tuned=most)


def told_of(path: Path) -> dict[str, Any] | None:
    """A sidecar's content; None where there is none. Raises ExportError: unreadable, or not a JSON object."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ExportError(f"{path}: expected JSON, got something else ({error})") from error
    if not isinstance(told, dict):
        raise ExportError(f"{path}: expected a JSON object, got a {type(told).__name__}")
    return told


def reasons_to_build(told: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Why a plan with this plan.json must be built again; none: it need not be.

    `wanted` are the inputs as they are now, and the hash of the plan's file.
    """
    reasons = [f"{_NAMES[key]} changed" for key, value in wanted.items() if told.get(key) != value]
    if "forms" not in told:
        reasons.append("it was never timed")
    return reasons


def data_sheet(card: Card, tensorrt: str, canvas: str, plans: Path) -> GpuProfile | None:
    """The measured profile of all plans in a folder that this card and TensorRT built; None where there are none."""
    names = {engine_name(tier): tier.value for tier in Tier} | {POSTPROCESS: POSTPROCESS}
    same = {"gpu": card.name, "tensorrt": tensorrt, "driver": card.driver}
    found = {}
    for folder, name in names.items():
        told = told_of(plans / folder / "plan.json")
        if told is None or "forms" not in told or any(told.get(key) != value for key, value in same.items()):
            continue
        if told.get("canvas", canvas) == canvas:
            found[name] = _model_profile(told)
    if not found:
        return None
    tiers = [name for name in found if name != POSTPROCESS] or [Tier.N.value]
    return GpuProfile(
        kind="measured",
        gpu=card.name,
        sm=f"{card.sm[0]}.{card.sm[1]}",
        driver=card.driver,
        tensorrt=tensorrt,
        memory_mb=card.memory_mb,
        sm_clock_max_mhz=card.sm_clock_max_mhz,
        canvas=canvas,
        command=f"python -m export build {' '.join(tiers)} --canvas {canvas} --force",
        models=found,
    )


def _model_profile(told: Mapping[str, Any]) -> ModelProfile:
    form = told["forms"][told["attention"]]
    latency = {int(batch): Latency(**value) for batch, value in form["latency_ms"].items()}
    size = form["device_bytes"]
    return ModelProfile(
        precision=told["precision"],
        attention=told["attention"],
        latency=dict(sorted(latency.items())),
        device_mb=None if size is None else round(size / _MB, 1),
        sm_clock_mhz=told["sm_clock_mhz"],
        cuda_graphs=form["cuda_graphs"],
        plan_sha256=told["plan_sha256"],
    )
