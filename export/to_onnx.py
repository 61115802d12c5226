"""Weights -> ONNX: the engine of a tier, and the postprocess model that all tiers share.

One file serves every runtime: FP32 arithmetic, only the batch open, large weights stored in half precision behind a
cast, which OpenVINO, ONNX Runtime and TensorRT fold when they load the file.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from clients.types import Tier
from export import weights
from export.attention import attention_difference, canonical_attention, count_attention
from export.engine import Engine, open_batch, prepare
from export.errors import ExportError
from export.postprocess import STEPS, Postprocess
from export.precision import Precision, converted
from export.publish import publish, sha256
from export.resume import fingerprint, kept
from export.spec import POSTPROCESS, Spec, Tensor, engine_name

if TYPE_CHECKING:
    from export.gate import Gate  # it measures with this module

OPSET = 19
_HALF_FROM = 1024  # weights with at least this many values are stored in half precision
_STATED: dict[Precision, dict[str, Any]] = {  # in the sidecar
    "fp32": {"precision": "f32", "stored_precision": "f16"},
    "fp16": {"precision": "f16", "stored_precision": "f16"},
    "int8": {"precision": "int8", "stored_precision": "int8"},
}
_SCORE_TOLERANCE, _BOX_TOLERANCE_PX = 1e-3, 0.1  # ONNX Runtime against torch, both FP32


@dataclass(frozen=True, slots=True)
class Order:
    """What one tier is to be exported to. `calibration`: canvases [n, H * 3 / 2, W], for a precision other than FP32.

    `weights` None is the official file, `random` an untrained network. `gate` measures a converted engine.
    """

    weights: Path | None
    out: Path
    random: bool = False
    precision: Precision = "fp32"
    calibration: NDArray[np.uint8] | None = None
    gate: Gate | None = None
    force: bool = False


def export_tier(tier: Tier, spec: Spec, order: Order) -> dict[str, Any]:
    """Write engine and postprocess below `out`, whole or not at all; returns what was written and measured.

    What would come out the same is left as it is (`"repeated": false`) unless `force`. Raises ExportError: unusable
    weights, an ONNX file that does not compute what torch computes, a conversion that fails or loses too much.
    """
    started = time.monotonic()
    folder, post_path = order.out / engine_name(tier), order.out / POSTPROCESS / "1" / "model.onnx"
    paths = folder / "export.json", folder / "1" / "model.onnx", post_path
    checkpoint = weights.chosen(tier, order.weights, untrained=order.random)
    inputs = _fingerprint(tier, spec, order, checkpoint.path)
    there = None if order.force else kept(paths[0], inputs, *paths[1:])
    if there is not None:
        _say(f"{tier.value}: up to date in {folder}; --force exports it again")
        return {**there, "out": str(folder), "repeated": False}
    _say(f"{tier.value}: {len(checkpoint.classes)} classes, canvas {spec.canvas}, top {spec.top_k}")
    engine, stated = _converted(tier, spec, order, checkpoint)
    post = postprocess_onnx(spec)
    sidecar = {
        "tier": tier.value,
        "inputs_sha256": inputs,
        "sha256": {"onnx": sha256(engine), "weights": _weights_sha256(checkpoint.path)},
        "canvas": str(spec.canvas),
        "top_k": spec.top_k,
        "classes": list(checkpoint.classes),
        **stated,
        "postprocess": {"sha256": sha256(post), "steps": STEPS},
        "opset": OPSET,
        "tools": _tools(),
    }
    labels = "".join(f"{name}\n" for name in checkpoint.classes)
    text = json.dumps(sidecar, indent=2) + "\n"
    publish({paths[1]: engine, post_path: post, folder / "labels.txt": labels.encode(), paths[0]: text.encode()})
    sizes = {"engine": len(engine), "postprocess": len(post)}
    seconds = round(time.monotonic() - started, 1)
    return {**sidecar, "out": str(folder), "bytes": sizes, "repeated": True, "seconds": seconds}


def _converted(tier: Tier, spec: Spec, order: Order, checkpoint: weights.Checkpoint) -> tuple[bytes, dict[str, Any]]:
    """The engine at the wished precision, and what the sidecar says of it."""
    network = prepare(checkpoint.network)
    picture = torch.rand(1, 3, spec.canvas.height, spec.canvas.width, generator=torch.Generator().manual_seed(0))
    difference = attention_difference(network, picture)
    blocks = count_attention(network)
    _say(f"{tier.value}: {blocks} attention blocks rewritten, largest difference {difference:g}")
    engine, stated = engine_onnx(network, spec), dict(_STATED[order.precision])
    if order.calibration is not None and order.precision != "fp32":
        _say(f"{tier.value}: converting to {order.precision}, calibrated on {len(order.calibration)} pictures")
        engine, found = converted(engine, order.precision, order.calibration)
        stated |= {"calibration_pictures": len(order.calibration), "difference_from_fp32": asdict(found)}
        if order.gate is not None:
            stated["accuracy"] = order.gate.check(spec, tier, order.weights, order.precision, engine)
    return engine, {**stated, "attention": {"blocks": blocks, "largest_difference": difference}}


def _fingerprint(tier: Tier, spec: Spec, order: Order, weights_file: Path | None) -> str:
    frames, gate = order.calibration, order.gate
    return fingerprint(
        tier=tier.value,
        weights=_weights_sha256(weights_file),
        canvas=str(spec.canvas),
        top_k=spec.top_k,
        max_detections=spec.max_detections,
        precision=order.precision,
        calibration=None if frames is None else sha256(frames.tobytes()),
        gate=None if gate is None else [str(gate.data), gate.pictures, gate.limits],
        tools=_tools(),
    )


def engine_onnx(network: Any, spec: Spec, *, stock_attention: bool = False) -> bytes:
    """The engine's ONNX file. Raises ExportError when ONNX Runtime does not get torch's numbers out of it.

    `stock_attention` keeps Ultralytics' own form, which no T4 fuses: the control of a proof, nothing to serve.
    """
    module = Engine(network, spec).eval()
    frames = torch.from_numpy(_noise(spec))
    form = nullcontext() if stock_attention else canonical_attention()
    with form, open_batch(network.model[-1]), torch.no_grad():
        module(frames)  # the head keeps its anchors for this shape; the trace then sees constants
        expected = module(frames).numpy()
        data = _traced(module, (frames,), ["frames"], ["candidates"])
    result = _finished(_halved(onnx.load_from_string(data)), (spec.candidates,))
    _check_same(result, frames.numpy(), expected)
    return result


def postprocess_onnx(spec: Spec, steps: int = STEPS) -> bytes:
    """The postprocess model's ONNX file."""
    arguments = (torch.zeros(2, spec.top_k, 6), torch.ones(2, 4), torch.ones(2, 2))
    names = ["candidates", "geometry", "thresholds"]
    with torch.no_grad():
        data = _traced(Postprocess(spec, steps).eval(), arguments, names, ["detections", "count"])
    return _finished(onnx.load_from_string(data), (spec.detections, spec.count))


def _finished(model: onnx.ModelProto, outputs: tuple[Tensor, ...]) -> bytes:
    """State the outputs' shapes, which the tracer leaves open behind a top-K, and check the file."""
    for value, tensor in zip(model.graph.output, outputs, strict=True):
        shape = value.type.tensor_type.shape
        del shape.dim[1:]
        for size in tensor.dims:
            shape.dim.add().dim_value = size
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _traced(module: nn.Module, arguments: tuple[Any, ...], inputs: list[str], outputs: list[str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "model.onnx"
        warnings.simplefilter("ignore")  # tracing warns about every constant that it keeps, which is what we want
        torch.onnx.export(
            module,
            arguments,
            path,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store each large FP32 weight as FP16 and cast it back. The values do not change: they are rounded already."""
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.size < _HALF_FROM or not _fits_half(values):
            continue
        full = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{full}.half"))
        casts.append(helper.make_node("Cast", [weight.name], [full], name=f"{full}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _fits_half(values: NDArray[Any]) -> bool:
    return bool(np.array_equal(values, values.astype(np.float16).astype(np.float32)))


def _check_same(model: bytes, frames: NDArray[np.uint8], expected: NDArray[np.float32]) -> None:
    """Scores rank by rank; boxes only where no neighbour in rank could have taken the place."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (actual,) = session.run(["candidates"], {"frames": frames})
    score = float(np.abs(actual[..., 4] - expected[..., 4]).max())
    gaps = np.abs(np.diff(expected[..., 4], axis=1))
    alone = np.minimum(gaps[:, 1:], gaps[:, :-1]) > 4 * score + 1e-6
    moved = np.abs(actual[:, 1:-1, :4] - expected[:, 1:-1, :4]).max(axis=2)
    box = float(moved.max(where=alone, initial=0.0))
    if not (score <= _SCORE_TOLERANCE and box <= _BOX_TOLERANCE_PX):
        raise ExportError(
            f"the exported model does not compute what torch computes: scores differ by {score:g}, boxes by {box:g} px"
        )


def _noise(spec: Spec) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(16, 236, (2, *spec.canvas.nv12_shape), dtype=np.uint8)


def _weights_sha256(path: Path | None) -> str | None:
    return None if path is None else sha256(path.read_bytes())


def _tools() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "ultralytics", "onnx", "onnxruntime", "nvidia-modelopt")} | {
        "python": platform.python_version()
    }


def _say(line: str) -> None:
    sys.stderr.write(f"export: {line}\n")
