"""Reads the attention blocks out of an ONNX graph and says which have the form that TensorRT fuses.

That form is `MatMul -> Softmax -> MatMul`, the softmax on the left of the second product, all of it in half precision
and nothing between. Any other step there, even a cast, leaves three kernels and a matrix of scores in memory. Sees the
graph only: whether the compiler did fuse is what `verify.py` counts.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import onnx

from export.graph import HALF, value_types

# What may stand between the products of an attention without making it something else.
_STEPS = frozenset(
    ("Add", "Cast", "DequantizeLinear", "Div", "Identity", "Mul", "QuantizeLinear", "Relu", "Reshape", "Transpose")
)


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention by its softmax's node name; `flaw` says what keeps it from being canonical, empty if nothing."""

    softmax: str
    flaw: str = ""


def attentions(model: onnx.ModelProto) -> list[Attention]:
    """Every softmax between two matrix products, in the graph's order; that of a detection head is none."""
    graph = _Graph(model)
    return [found for node in model.graph.node if node.op_type == "Softmax" and (found := graph.attention(node))]


class _Graph:
    """Who makes each tensor and who takes it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.types = value_types(model)
        self.maker = {name: node for node in model.graph.node for name in node.output}
        self.takers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.takers[name].append(node)

    def attention(self, softmax: onnx.NodeProto) -> Attention | None:
        before, scores = self._back(softmax)
        after, product, place = self._forth(softmax)
        if scores is None or product is None:
            return None
        return Attention(softmax.name, self._flaw(scores, [*before, *after], product, place))

    def _flaw(self, scores: onnx.NodeProto, between: list[str], product: onnx.NodeProto, place: int) -> str:
        if between:
            return f"{', '.join(between)} between the products"
        if place != 0:
            return "the softmax is the right-hand factor"
        kinds = {self.types.get(name) for node in (scores, product) for name in node.input}
        return "" if kinds == {HALF} else "not in half precision"

    def _back(self, node: onnx.NodeProto) -> tuple[list[str], onnx.NodeProto | None]:
        """The steps from the first product down to the softmax, and that product."""
        steps: list[str] = []
        maker = self.maker.get(node.input[0])
        while maker is not None and maker.op_type in _STEPS:
            steps.insert(0, maker.op_type)
            maker = self.maker.get(maker.input[0])
        return steps, maker if maker is not None and maker.op_type == "MatMul" else None

    def _forth(self, node: onnx.NodeProto) -> tuple[list[str], onnx.NodeProto | None, int]:
        """The steps from the softmax to the second product, that product, and on which side of it they end."""
        steps: list[str] = []
        name = node.output[0]
        while len(takers := self.takers[name]) == 1 and takers[0].op_type in _STEPS:
            steps.append(takers[0].op_type)
            name = takers[0].output[0]
        if len(takers) == 1 and takers[0].op_type == "MatMul":
            return steps, takers[0], list(takers[0].input).index(name)
        return steps, None, 0
