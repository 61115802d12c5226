"""The TensorRT step: `model.plan` from an exported ONNX file, with a JSON beside it that says what it is good for.

A plan runs only on the kind of card and the version of TensorRT that built it, so this runs in the serving image, on
its own libraries. Knows neither torch nor Ultralytics, which that image does not have.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pynvml

from clients.types import Tier
from export.errors import ExportError, NoCard
from export.publish import publish, sha256
from export.spec import TIERS, Spec, engine_name, postprocess
from export.to_engine import Batches, Plan, build, check_sm

# Words in the names or types of an inspected engine's layers that only a fused attention has.
_FUSED_WORDS = ("_gemm_mha", "fmha", "fused_mha", "kgen_mha")


@dataclass(frozen=True, slots=True)
class Card:
    """The GPU here; `sm` its compute capability."""

    name: str
    sm: tuple[int, int]
    driver: str


def build_plans(names: Sequence[str], spec: Spec, onnx_folder: Path, out: Path) -> dict[str, Any]:
    """Build each model; returns what was built. Raises NoCard without TensorRT or a GPU, ExportError otherwise."""
    trt = tensorrt()
    card = the_card()
    check_sm(card.sm)
    reports = []
    for name in names:
        _say(f"{name}: building on {card.name} with TensorRT {trt.__version__}, which takes minutes")
        try:
            reports.append(_build_one(trt, card, name, spec, onnx_folder / name, out))
        except ExportError as error:
            raise ExportError(f"{name}: {error}") from error
    return {"models": reports}


def tensorrt() -> Any:
    """The module `tensorrt`. Raises NoCard where it cannot be imported."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise NoCard(f"TensorRT cannot be imported; run this in the serving image, on the card ({error})") from error
    return tensorrt


def the_card() -> Card:
    """The first GPU. Raises NoCard where there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoCard(f"no NVIDIA GPU here; a plan is built on the card that will serve it ({error})") from error
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(device)
        return Card(str(pynvml.nvmlDeviceGetName(device)), (major, minor), str(pynvml.nvmlSystemGetDriverVersion()))
    except pynvml.NVMLError as error:
        raise NoCard(f"no usable NVIDIA GPU here ({error})") from error
    finally:
        pynvml.nvmlShutdown()


def fused_layers(inspected: str) -> int:
    """How many layers of an inspected engine (JSON) are fused attention; reported, never a reason to fail."""
    layers = json.loads(inspected).get("Layers", [])
    texts = (json.dumps(layer).lower() for layer in layers)
    return sum(any(word in text for word in _FUSED_WORDS) for text in texts)


def _build_one(trt: Any, card: Card, name: str, spec: Spec, source: Path, out: Path) -> dict[str, Any]:
    from export.graph import computes_in_half, is_quantised, read_onnx  # onnx: `status` does without
    from export.to_half import to_half

    path = source / "1" / "model.onnx"
    model = read_onnx(path)
    data = path.read_bytes()
    graph = model if computes_in_half(model) else to_half(model)
    batches = batches_of(name, spec)
    cache = out / f"timing-{card.sm[0]}{card.sm[1]}.cache"
    plan = build(trt, graph.SerializeToString(), batches, timing_cache=cache)
    sidecar = {
        "model": name,
        **_origin(source, data),
        "onnx_sha256": sha256(data),
        "plan_sha256": sha256(plan.data),
        "precision": "int8" if is_quantised(graph) else "fp16",
        "converted_from_fp32": graph is not model,
        "batches": asdict(batches),
        "tensorrt": trt.__version__,
        "gpu": card.name,
        "sm": f"{card.sm[0]}.{card.sm[1]}",
        "driver": card.driver,
        "fused": _inspected(trt, plan),
        "activation_bytes": plan.activation_bytes,
        "weight_bytes": plan.weight_bytes,
        "build_s": round(plan.build_s, 1),
    }
    text = json.dumps(sidecar, indent=2) + "\n"
    publish({out / name / "1" / "model.plan": plan.data, out / name / "plan.json": text.encode()})
    return sidecar


def batches_of(name: str, spec: Spec) -> Batches:
    """The batches of one model of the repository: a tier's engine or the postprocess model."""
    for tier in TIERS:
        if name == engine_name(tier):
            return Batches.of(Tier(tier))
    most = postprocess(spec).max_batch
    return Batches(largest=most, tuned=most)


def _origin(source: Path, data: bytes) -> dict[str, Any]:
    """What the export said of this ONNX file. Raises ExportError when it has been changed since."""
    path = source / "export.json"
    if not path.is_file():
        return {}
    told = json.loads(path.read_text())
    if told["sha256"]["onnx"] != sha256(data):
        raise ExportError(f"{source / '1' / 'model.onnx'}: not the file that {path} describes; export it again")
    kept = {key: told[key] for key in ("canvas", "top_k", "classes")}
    return {"weights_sha256": told["sha256"]["weights"], **kept}


def _inspected(trt: Any, plan: Plan) -> int:
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(plan.data)
    if engine is None:
        raise ExportError("TensorRT cannot load the plan that it has just built")
    information = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return fused_layers(information)


def _say(line: str) -> None:
    sys.stderr.write(f"export: {line}\n")
