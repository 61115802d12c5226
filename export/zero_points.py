"""The same INT8 activations written in two ways: unsigned about 128, which CPUs compute, or signed about 0.

The steps and their size are the same, so no value changes. OpenVINO 2026.4 computes wrong numbers for signed
activations (boxes move by 60 px on the demo) and right ones for unsigned; TensorRT takes nothing but signed.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

_CENTRES = {np.uint8: 128, np.int8: 0}


def unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose activations are UINT8 with zero point 128; weights stay INT8."""
    return _about(model, np.uint8)


def signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose activations are INT8 with zero point 0. A graph without them comes back equal."""
    return _about(model, np.int8)


def _about(model: onnx.ModelProto, kind: type[np.uint8] | type[np.int8]) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    quantised = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    if not quantised:
        return result
    centre = f"activation_zero_point.{np.dtype(kind).name}"
    for node in graph.node:
        if node.op_type == "QuantizeLinear" or (node.op_type == "DequantizeLinear" and node.input[0] in quantised):
            del node.input[2:]
            node.input.append(centre)
    used = {name for node in graph.node for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used and weight.name != centre]
    del graph.initializer[:]
    graph.initializer.extend([*kept, numpy_helper.from_array(np.array(_CENTRES[kind], dtype=kind), centre)])
    del graph.value_info[:]  # the types have changed
    return result
