"""An FP32 engine in another precision, by NVIDIA's ModelOpt, calibrated on pictures: strongly typed FP16, or INT8.

`fp16`: AutoCast keeps in FP32 what leaves half precision's range on the pictures; box decoding, scores and top-K stay
FP32 always. `int8`: convolutions between Q/DQ pairs, all else FP32 until a card's compiler halves it; attention is left
alone. Measured to be sensitive and left in FP32: colour conversion, and in the detection head the class branch and each
last convolution. Activations are unsigned, because OpenVINO computes wrong numbers for signed ones (zero_points.py).
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.attention_pattern import attentions
from export.errors import ExportError
from export.graph import HALF, value_types
from export.parity import FP16, Difference, differences, reference
from export.to_half import up_to_products
from export.zero_points import unsigned

Precision = Literal["fp32", "fp16", "int8"]
_FP16_PICTURES = 8  # AutoCast holds every tensor of every picture in memory


def converted(model: bytes, precision: Precision, frames: NDArray[np.uint8]) -> tuple[bytes, Difference]:
    """The engine at `fp16` or `int8`, and how far its objects lie from FP32's on `frames` [n, H * 3 / 2, W].

    Raises ExportError: ModelOpt fails, FP16 differs by more than it may, or an attention has lost its form.
    """
    full = in_fp32(onnx.load_from_string(model))
    result = _autocast(full, frames) if precision == "fp16" else _quantised(full, frames)
    if precision == "fp16":
        _check_attention(result)
    found = difference(full, result, frames[:_FP16_PICTURES])
    if precision == "fp16":
        check_fp16(found)
    return bytes(result.SerializeToString()), found


def check_fp16(found: Difference) -> None:
    """Raises ExportError when FP16 differs from FP32 by more than it may."""
    if not FP16.hold(found):
        raise ExportError(
            f"FP16 differs from FP32 by {found.box_p95_px:.3f} px (95 % of boxes) and {found.score:.3f} (score); "
            f"expected at most {FP16.box_p95_px} and {FP16.score}"
        )


def in_fp32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose weights are stored in FP32 instead of in half precision behind a cast."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    halves = {weight.name: weight for weight in result.graph.initializer if weight.data_type == HALF}
    kept = []
    for node in result.graph.node:
        weight = halves.get(node.input[0]) if node.op_type == "Cast" else None
        if weight is None:
            kept.append(node)
        else:
            values = numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values, node.output[0]))
    del result.graph.node[:]
    result.graph.node.extend(kept)
    return result


def rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that ONNX Runtime rounds to half precision after every step: as outputs, no tensor may be skipped."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    types = value_types(model)
    for name in (name for node in model.graph.node if node.op_type != "Constant" for name in node.output):
        if types.get(name) == HALF:
            result.graph.output.append(helper.make_tensor_value_info(name, HALF, None))
    return result


def difference(full: onnx.ModelProto, other: onnx.ModelProto, frames: NDArray[np.uint8]) -> Difference:
    """How far `other` is from `full` through ONNX Runtime, on the objects that `full` sees in `frames`."""
    return differences(reference(full, frames), reference(rounding(other), frames))


def _autocast(full: onnx.ModelProto, frames: NDArray[np.uint8]) -> onnx.ModelProto:
    with _modelopt() as folder:
        from modelopt.onnx.autocast import convert_to_mixed_precision

        onnx.save(full, folder / "full.onnx")
        np.savez(folder / "frames.npz", frames=frames[:_FP16_PICTURES])
        return convert_to_mixed_precision(
            str(folder / "full.onnx"),
            nodes_to_exclude=[f"^{re.escape(name)}$" for name in _behind_products(full)],
            keep_io_types=True,
            calibration_data=str(folder / "frames.npz"),
        )


def _quantised(full: onnx.ModelProto, frames: NDArray[np.uint8]) -> onnx.ModelProto:
    excluded = [re.escape(name) for name in _behind_products(full)]
    with _modelopt() as folder:
        from modelopt.onnx.quantization import quantize

        onnx.save(full, folder / "full.onnx")
        quantize(
            str(folder / "full.onnx"),
            quantize_mode="int8",
            calibration_data={"frames": frames},
            calibration_method="max",
            calibration_eps=["cpu"],
            high_precision_dtype="fp32",
            disable_mha_qdq=True,
            dq_only=True,  # weights are stored as INT8
            nodes_to_exclude=[*excluded, "/front/.*", *_sensitive(_head(full))],
            output_path=str(folder / "int8.onnx"),
            log_level="ERROR",
        )
        return unsigned(onnx.load(folder / "int8.onnx"))


def _behind_products(model: onnx.ModelProto) -> list[str]:
    """What no matrix product depends on: box decoding, scores, top-K and gather."""
    before = up_to_products(model.graph)
    nodes = enumerate(model.graph.node)
    return [node.name for index, node in nodes if index not in before and node.op_type != "Constant"]


def _sensitive(head: str) -> list[str]:
    """Patterns of the head's nodes that stay FP32: all but the two large convolutions of each box branch (cv2)."""
    prefix = re.escape(head)
    return [f"{prefix}/(?!cv2).*", rf"{prefix}/cv2\.\d+/cv2\.\d+\.2/.*"]


def _head(model: onnx.ModelProto) -> str:
    """The prefix of the detection head's nodes, `/network/model.21`: it is the last of the network's modules."""
    found = [match[0] for node in model.graph.node if (match := re.match(r"/network/model\.\d+", node.name))]
    return found[-1]


def _check_attention(model: onnx.ModelProto) -> None:
    for attention in attentions(model):
        if attention.flaw:
            raise ExportError(f"{attention.softmax}: {attention.flaw}; a T4 would not fuse this attention")


@contextlib.contextmanager
def _modelopt() -> Iterator[Path]:
    """A folder for ModelOpt, silent; what it raises becomes one line."""
    logging.getLogger("modelopt.onnx").setLevel(logging.ERROR)
    quiet = io.StringIO()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(quiet),
            contextlib.redirect_stderr(quiet),
        ):
            yield Path(folder)
    except ImportError as error:
        raise ExportError(f"this precision needs ModelOpt: pip install --group export ({error})") from error
    except Exception as error:  # ModelOpt raises many kinds
        raise ExportError(f"ModelOpt cannot convert this model: {' '.join(str(error).split())}") from error
