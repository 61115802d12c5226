"""The stock control is the same network: equal numbers, no fused attention, and nothing guessed about other graphs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorrt_rtx as trt
from conftest import MODELS
from numpy.typing import NDArray
from onnx import TensorProto

from clients.types import Canvas, Tier
from export import to_onnx, weights
from export.attention_pattern import attentions
from export.calibration import calibration_canvases
from export.engine import prepare
from export.errors import ExportError
from export.parity import FP16, INT8, Difference, differences, in_full, reference
from export.precision import converted
from export.spec import Spec
from export.stock_attention import as_stock
from export.to_engine import Batches, build
from export.to_half import to_half
from export.verify import FUSED_MARK

T4 = (7, 5)
SERVED = MODELS / "yolo12n_engine" / "1" / "model.onnx"


@pytest.fixture(scope="module")
def street() -> NDArray[np.uint8]:
    """Canvases with objects."""
    return calibration_canvases("demo", Canvas(), 2)


@pytest.fixture(scope="module")
def full() -> onnx.ModelProto:
    """The demo's engine n, as it is served."""
    return onnx.load(SERVED)


def test_the_stock_form_computes_the_same(full: onnx.ModelProto, street: NDArray[np.uint8]) -> None:
    """On pictures with objects, FP32: no box moves by a thousandth of a pixel, no score by a hundred-thousandth."""
    found = differences(reference(full, street), reference(as_stock(full), street))
    assert found.objects > 100
    assert found.box_p95_px < 1e-3
    assert found.score < 1e-5


def test_no_attention_of_the_stock_form_is_fused(full: onnx.ModelProto) -> None:
    """NVIDIA's compiler finds 8 fused kernels in the one and none in the other."""
    batches = Batches(2, 2)
    plans = [build(trt, to_half(m).SerializeToString(), batches, sm=T4) for m in (full, as_stock(full))]
    assert [plan.data.count(FUSED_MARK) for plan in plans] == [8, 0]


def test_it_is_the_form_that_ultralytics_exports(full: onnx.ModelProto) -> None:
    """Against a real export with stock attention: as many products, transposes and splits, and the same answers."""
    network = prepare(weights.chosen(Tier.N, MODELS / "yolo12n.pt", untrained=False).network)
    real = onnx.load_from_string(to_onnx.engine_onnx(network, Spec(), stock_attention=True))
    kinds = ("Conv", "MatMul", "Softmax", "Split", "Transpose")
    counted = [Counter(node.op_type for node in model.graph.node) for model in (real, as_stock(full))]
    assert [counted[0][kind] for kind in kinds] == [counted[1][kind] for kind in kinds]
    flaws = [{attention.flaw for attention in attentions(model)} for model in (real, as_stock(full))]
    assert flaws[0] == flaws[1] == {"Transpose between the products"}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_precision_has_a_stock_form(precision: str, street: NDArray[np.uint8]) -> None:
    """What AutoCast and Q/DQ left behind is recognised too, and stays within the limits of its precision."""
    data, _ = converted(SERVED.read_bytes(), precision, street)  # type: ignore[arg-type]
    model = onnx.load_from_string(data)
    found = differences(reference(in_full(model), street), reference(as_stock(model), street))
    assert found.objects > 100
    assert (INT8 if precision == "int8" else FP16).hold(found)


def test_a_graph_in_half_is_raised_to_what_it_was(full: onnx.ModelProto, street: NDArray[np.uint8]) -> None:
    """The FP32 reference out of a half engine is the FP32 engine, but for a few rounded constants."""
    found = differences(reference(full, street), reference(in_full(to_half(full)), street))
    assert found.box_p95_px < 5e-3
    assert found.score < 5e-4
    kinds = {weight.data_type for weight in in_full(to_half(full)).graph.initializer}
    assert TensorProto.FLOAT16 not in kinds


def test_an_unknown_attention_is_refused(full: onnx.ModelProto) -> None:
    """A graph whose attention was changed, or that has none, is not rewritten."""
    changed = onnx.ModelProto()
    changed.CopyFrom(full)
    split = next(node for node in changed.graph.node if node.op_type == "Split" and "attn" in node.name)
    before = next(node for node in changed.graph.node if split.input[0] in node.output)
    before.attribute[0].ints[:] = [0, 2, 3, 1]
    with pytest.raises(ExportError, match=r"attn/Softmax: not an attention as this export writes it"):
        as_stock(changed)
    with pytest.raises(ExportError, match="not an attention as this export writes it"):
        as_stock(as_stock(full))
    with pytest.raises(ExportError, match="no attention in this graph"):
        as_stock(onnx.load(Path(MODELS) / "postprocess" / "1" / "model.onnx"))


def test_what_is_no_number_is_no_parity() -> None:
    """NaN is outside every limit, and so is a box or a score alone."""
    assert FP16.hold(Difference(0.05, 0.01, 3))
    assert not FP16.hold(Difference(0.051, 0.0, 3))
    assert not FP16.hold(Difference(0.0, 0.011, 3))
    assert not FP16.hold(Difference(float("nan"), 0.0, 3))


def test_a_missing_object_is_a_difference() -> None:
    """An engine that answers zeros differs by the whole score."""
    exact = np.array([[[10, 10, 20, 20, 0.9, 1]]], dtype=np.float32)
    found = differences(exact, np.zeros_like(exact))
    assert found.score >= 0.9
