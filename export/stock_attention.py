"""The control on the card: an engine whose attention is turned back into the form that Ultralytics exports.

A plan is built where there is neither torch nor Ultralytics, so the stock form is made from the exported ONNX file: the
same weights, types and quantisation, and of each attention only the order of axes and factors is another. Tokens move
to the last axis, and the softmax stands on the right of the second product: `v @ softmax((q * s).T @ k).T`.
Refuses a graph that it does not know rather than change what it computes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import onnx
from onnx import helper

from export.attention_pattern import attentions
from export.errors import ExportError

_SPLIT = ([0, 2, 1, 3], [0, 2, 3, 1])  # [B, tokens, heads, 3 * dim] to heads first, canonical and stock
_JOIN = ([0, 2, 1, 3], [0, 3, 1, 2])  # and back to tokens first
_SWAP = [0, 1, 3, 2]


@dataclass(frozen=True, slots=True)
class _Block:
    """The nodes of one canonical attention. `joins` bring the product and the values back to tokens first."""

    softmax: onnx.NodeProto
    scale: onnx.NodeProto
    turn: onnx.NodeProto
    scores: onnx.NodeProto
    split: onnx.NodeProto
    first: onnx.NodeProto
    product: onnx.NodeProto
    joins: tuple[onnx.NodeProto, ...]


def as_stock(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with stock attention. Raises ExportError: no attention in it, or one that this export did not write."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    names = {attention.softmax for attention in attentions(result)}
    if not names:
        raise ExportError("no attention in this graph, so it has no stock form")
    find = _Finder(result.graph)
    blocks = [find.block(node) for node in result.graph.node if node.op_type == "Softmax" and node.name in names]
    moved = {block.turn.name for block in blocks}
    before = {block.scores.name: block.turn for block in blocks} | {b.product.name: _turned(b) for b in blocks}
    for block in blocks:
        _rewrite(block)
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        nodes += [before[node.name]] if node.name in before else []
        nodes += [] if node.name in moved else [node]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    result.graph.node.extend(kept)
    del result.graph.value_info[:]  # the shapes have changed
    onnx.checker.check_model(result, full_check=True)
    return result


def _turned(block: _Block) -> onnx.NodeProto:
    """The softmax with its axes exchanged, as the right-hand factor."""
    name = f"{block.softmax.name}.turned"
    return helper.make_node("Transpose", [block.softmax.output[0]], [name], name=name, perm=_SWAP)


def _rewrite(block: _Block) -> None:
    """Change the block's nodes in place; `turn` then turns the scaled queries instead of the keys."""
    _, keys, values = block.split.output
    _attribute(block.first, "perm").ints[:] = _SPLIT[1]
    _attribute(block.split, "axis").i = 2
    block.turn.input[0] = block.scale.output[0]
    block.scores.input[:] = [block.turn.output[0], keys]
    block.product.input[:] = [values, f"{block.softmax.name}.turned"]
    for join in block.joins:
        _attribute(join, "perm").ints[:] = _JOIN[1]


class _Finder:
    """Recognises an attention as `attention.py` writes it, starting at its softmax."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._maker = {name: node for node in graph.node for name in node.output}
        self._takers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._takers[name].append(node)

    def block(self, softmax: onnx.NodeProto) -> _Block:
        scores = self._made(softmax, softmax.input[0], "MatMul")
        scale = self._made(softmax, scores.input[0], "Mul")
        turn = self._made(softmax, scores.input[1], "Transpose", _SWAP)
        split = self._made(softmax, scale.input[0], "Split")
        first = self._made(softmax, split.input[0], "Transpose", _SPLIT[0])
        (product,) = self._taken(softmax, softmax.output[0], ("MatMul",))
        after = self._taken(softmax, product.output[0], ("Transpose",))
        values = self._taken(softmax, split.output[2], ("Transpose", "MatMul"))
        joins = (*after, *(node for node in values if node is not product and node.name != product.name))
        axis = _attribute(split, "axis").i
        if len(split.output) != 3 or axis not in (3, -1) or list(product.input) != [softmax.output[0], split.output[2]]:
            raise _unknown(softmax)
        if any(list(_attribute(join, "perm").ints) != _JOIN[0] for join in joins):
            raise _unknown(softmax)
        return _Block(softmax, scale, turn, scores, split, first, product, joins)

    def _made(
        self, softmax: onnx.NodeProto, name: str, kind: str, permutation: list[int] | None = None
    ) -> onnx.NodeProto:
        """The node that makes a tensor and that nobody but its one taker reads, unless it is the split's."""
        node = self._maker.get(name)
        if node is None or node.op_type != kind or (kind != "Split" and len(self._takers[name]) != 1):
            raise _unknown(softmax)
        if permutation is not None and list(_attribute(node, "perm").ints) != permutation:
            raise _unknown(softmax)
        return node

    def _taken(self, softmax: onnx.NodeProto, name: str, kinds: tuple[str, ...]) -> list[onnx.NodeProto]:
        takers = self._takers[name]
        if not takers or any(node.op_type not in kinds for node in takers):
            raise _unknown(softmax)
        return takers


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next((attribute for attribute in node.attribute if attribute.name == name), onnx.AttributeProto())


def _unknown(softmax: onnx.NodeProto) -> ExportError:
    return ExportError(
        f"{softmax.name}: not an attention as this export writes it, so it has no stock form; export it again"
    )
