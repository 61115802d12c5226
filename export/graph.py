"""Questions to an ONNX graph: what types it computes with. Knows neither YOLO12 nor TensorRT."""

from __future__ import annotations

import itertools
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, shape_inference

from export.errors import ExportError

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def read_onnx(path: Path) -> onnx.ModelProto:
    """An ONNX file. Raises ExportError: no such file, or not an ONNX model."""
    if not path.is_file():
        raise ExportError(f"{path}: no such file; expected an exported ONNX model")
    try:
        return onnx.load(path)
    except (DecodeError, ValueError, OSError) as error:
        raise ExportError(f"{path}: not an ONNX model") from error


def value_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type by tensor name: weights, inputs, and all that shape inference finds."""
    graph = shape_inference.infer_shapes(model).graph
    types = {weight.name: weight.data_type for weight in graph.initializer}
    for value in itertools.chain(graph.input, graph.output, graph.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def computes_in_half(model: onnx.ModelProto) -> bool:
    """Whether no matrix product of the graph works on FP32: TensorRT for a T4 then takes it as it is."""
    types = value_types(model)
    return all(types.get(node.input[0]) != FLOAT for node in model.graph.node if node.op_type in PRODUCTS)


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether the graph holds quantisation steps, as an INT8 export does."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)
