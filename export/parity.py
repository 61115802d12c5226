"""How far an engine's objects lie from those of the same network in FP32, and how far they may.

Compares candidates [K, 6], as they leave an engine; runs nothing but the reference, which is ONNX Runtime on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.graph import FLOAT, HALF

OBJECT = 0.25  # a candidate with at least this score is compared


@dataclass(frozen=True, slots=True)
class Difference:
    """Of objects from those of FP32: 95th percentile of the boxes in canvas pixels, largest score, how many objects."""

    box_p95_px: float
    score: float
    objects: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine may differ from its reference."""

    box_p95_px: float
    score: float

    def hold(self, found: Difference) -> bool:
        """Whether the difference is within the limits; one that is not a number is not."""
        return found.box_p95_px <= self.box_p95_px and found.score <= self.score


FP16 = Limits(box_p95_px=0.05, score=0.01)
# Chosen, not measured on a card. A sum ordered anew falls on the other side of a quantisation step: ONNX Runtime,
# fusing one INT8 graph in two ways, differs from itself by 0.15 px and 0.02. Wrong kernels: 9 px and 0.26 (0040).
INT8 = Limits(box_p95_px=1.0, score=0.1)


def limits(precision: str) -> Limits:
    """Those of `int8`, or else of `fp16`."""
    return INT8 if precision == "int8" else FP16


def differences(exact: Iterable[NDArray[np.float32]], other: Iterable[NDArray[np.float32]]) -> Difference:
    """Each object of `exact`, picture by picture, against the candidate of `other` that is nearest to it."""
    boxes, scores = [0.0], [0.0]
    for expected, actual in zip(exact, other, strict=True):
        for row in expected[expected[:, 4] >= OBJECT]:
            distance = np.abs(actual[:, :4] - row[:4]).max(axis=1)
            off = np.abs(actual[:, 4] - row[4]) + (actual[:, 5] != row[5])
            nearest = int((distance + 10 * off).argmin())
            boxes.append(float(distance[nearest]))
            scores.append(float(off[nearest]))
    return Difference(float(np.percentile(boxes[1:] or boxes, 95)), max(scores), len(boxes) - 1)


def in_full(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes in FP32 throughout: whatever is half, weight, constant or cast, is FP32.

    Weights were rounded to half precision before the export, so they are the same in both. Constants (colours, an
    attention's scale) keep their rounding: 0.001 px and 0.0002 of score on the demo's engine.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for weight in result.graph.initializer:
        _raise(weight)
    for node in result.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == HALF:
                attribute.i = FLOAT
            if attribute.HasField("t"):
                _raise(attribute.t)
    for value in (*result.graph.input, *result.graph.output):
        if value.type.tensor_type.elem_type == HALF:
            value.type.tensor_type.elem_type = FLOAT
    del result.graph.value_info[:]  # the types have changed
    return result


def reference(model: onnx.ModelProto, frames: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """The candidates of each canvas in `frames` [n, H * 3 / 2, W], by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for frame in frames:
        yield session.run(["candidates"], {"frames": frame[None]})[0][0]


def _raise(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == HALF:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
