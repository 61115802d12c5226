"""plan.json, the file beside each plan: what is read from it, and whether it still holds.

Reads files and compares; needs no TensorRT, no ONNX and no GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clients.types import Tier
from export.errors import ExportError
from export.spec import Spec, engine_name, postprocess
from export.to_engine import Batches

_NAMES = {
    "onnx_sha256": "the ONNX file",
    "plan_sha256": "the plan's file",
    "batches": "batches",
    "tensorrt": "TensorRT",
    "gpu": "GPU",
    "sm": "compute capability",
    "driver": "driver",
}


def batches_of(name: str, spec: Spec) -> Batches:
    """The batches of one model of the repository: a tier's engine or the postprocess model."""
    for tier in Tier:
        if name == engine_name(tier):
            return Batches.of(spec.tier(tier))
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
