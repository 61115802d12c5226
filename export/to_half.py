"""An FP32 engine graph made strongly typed: half precision where a T4 is fast, FP32 where a pixel is at stake.

TensorRT takes precision from the graph. Half becomes all that some matrix product depends on: colour, network, the
head's convolutions. What follows the last of them stays FP32, that is box decoding, scores and top-K, because half
precision steps by half a pixel above 512. Knows nothing of ranges: a network whose activations exceed 65 504 needs a
conversion calibrated on pictures, not this one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.errors import ExportError
from export.graph import FLOAT, HALF, PRODUCTS, value_types
from export.zero_points import signed

_ALWAYS_FLOAT = {("Resize", 1), ("Resize", 2)}  # region and scales: FP32 whatever the data is


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in half precision up to its last matrix products, in FP32 behind them; same inputs and outputs.

    Raises ExportError when what comes out is no valid graph.
    """
    result = signed(model)  # TensorRT takes no other INT8
    graph = result.graph
    types = value_types(result)
    half = up_to_products(graph)
    state = _Lowering({name for i in half for name in graph.node[i].output if types.get(name) == FLOAT})
    _lower_weights(graph, half, state)
    for index, node in enumerate(graph.node):
        state.add(node, is_half=index in half)
    del graph.node[:]
    graph.node.extend(state.nodes)
    del graph.value_info[:]  # the types have changed
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"cannot be converted to half precision: {' '.join(str(error).split())}") from error
    return result


@dataclass(slots=True)
class _Lowering:
    """The new node list as it grows. `low`: names of tensors that are half now; `alias`: casts that fell away."""

    low: set[str]
    alias: dict[str, str] = field(default_factory=dict)
    raised: set[str] = field(default_factory=set)
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def add(self, node: onnx.NodeProto, *, is_half: bool) -> None:
        """Append the node with its types changed, behind the casts that it needs."""
        if is_half and _casts_to_float(node):
            if node.input[0] in self.low:  # a weight that is stored in half precision
                self.alias[node.output[0]] = node.input[0]
                return
            _to(node).i = HALF
        if is_half and node.op_type == "Constant" and node.output[0] in self.low:
            _lower_tensor(node.attribute[0].t)
        for index, taken in enumerate(node.input):
            name = self.alias.get(taken, taken)
            needs_float = not is_half or (node.op_type, index) in _ALWAYS_FLOAT
            node.input[index] = self._raise(name) if name in self.low and needs_float else name
        self.nodes.append(node)

    def _raise(self, name: str) -> str:
        """The FP32 value of a half tensor, cast once for all who ask."""
        full = f"{name}.float"
        if full not in self.raised:
            self.raised.add(full)
            self.nodes.append(helper.make_node("Cast", [name], [full], name=f"{name}.to_float", to=FLOAT))
        return full


def up_to_products(graph: onnx.GraphProto) -> set[int]:
    """Places in the node list of the matrix products and of everything that they depend on."""
    source = {name: index for index, node in enumerate(graph.node) for name in node.output}
    open_ = [index for index, node in enumerate(graph.node) if node.op_type in PRODUCTS]
    found = set(open_)
    while open_:
        node = graph.node[open_.pop()]
        for place, name in enumerate(node.input):
            index = source.get(name)
            if index is not None and index not in found and (node.op_type, place) not in _ALWAYS_FLOAT:
                found.add(index)
                open_.append(index)
    return found


def _lower_weights(graph: onnx.GraphProto, half: set[int], state: _Lowering) -> None:
    used = {name for index in half for name in graph.node[index].input}
    for weight in graph.initializer:
        if weight.name in used and weight.data_type == FLOAT:
            _lower_tensor(weight)
        if weight.name in used and weight.data_type == HALF:
            state.low.add(weight.name)


def _lower_tensor(tensor: onnx.TensorProto) -> None:
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))


def _casts_to_float(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and bool(_to(node).i == FLOAT)


def _to(cast: onnx.NodeProto) -> onnx.AttributeProto:
    return next(attribute for attribute in cast.attribute if attribute.name == "to")
