"""The proof of fused attention: a real compiler builds for SM 7.5, what is broken is found, bad input is one line."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorrt_rtx as trt
from conftest import MODELS, has_card
from numpy.typing import NDArray
from onnx import TensorProto, helper

from clients.types import Tier
from demo.pictures import camera_pictures
from demo.scenes import Purpose
from export import cli
from export.attention_pattern import attentions
from export.errors import ExportError
from export.graph import computes_in_half, value_types
from export.on_card import fused_layers
from export.spec import Spec
from export.to_engine import Batches, build
from export.to_half import to_half
from export.verify import FUSED_MARK

T4 = (7, 5)
SERVED = MODELS / "yolo12n_engine" / "1" / "model.onnx"
SMALL = ("--canvas", "256x192")  # a small canvas has the same network and compiles faster


@pytest.fixture(scope="module")
def full() -> onnx.ModelProto:
    """The demo's engine n, trained, as it is served: FP32 arithmetic."""
    return onnx.load(SERVED)


@pytest.fixture(scope="module")
def half(full: onnx.ModelProto) -> onnx.ModelProto:
    """The same engine in half precision."""
    return to_half(full)


def verify(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], list[str]]:
    """Run the command: exit code, report (empty if none), lines of stderr."""
    code = cli.main(["verify", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out else {}, err.splitlines()


def with_steps(model: onnx.ModelProto, softmax: str, steps: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    """A copy with `steps` behind one softmax; they lead from a tensor "softmax" to a tensor "stepped"."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    nodes = list(result.graph.node)
    at = next(index for index, node in enumerate(nodes) if node.name == softmax)
    (output,) = nodes[at].output
    for node in nodes:
        node.input[:] = ["stepped" if name == output else name for name in node.input]
    nodes[at].output[0] = "softmax"
    del result.graph.node[:]
    result.graph.node.extend([*nodes[: at + 1], *steps, *nodes[at + 1 :]])
    del result.graph.value_info[:]
    onnx.checker.check_model(result, full_check=True)
    return result


# --- the proof -----------------------------------------------------------------------------------------------


def test_every_attention_of_the_canonical_form_is_fused(capsys: pytest.CaptureFixture[str]) -> None:
    """From weights to proof: 8 of 8 blocks, memory that grows with the batch and fits a T4, exit code 0."""
    code, report, lines = verify(capsys, "--sm", "75", "yolo12n", "--random", *SMALL)
    (model,) = report["models"]
    assert code == 0, lines
    assert list(model)[:3] == ["model", "attention_blocks", "fused"]
    assert (model["model"], model["attention_blocks"], model["fused"], model["canonical"]) == ("yolo12n", 8, 8, 8)
    assert model["activation_mb"].keys() == {"1", "8", "16"}
    assert 0 < model["activation_mb"]["1"] < model["activation_mb"]["16"] < 1000
    assert 4 < model["weights_mb"] < 10  # 2.6 million weights of two bytes
    least = model["activation_mb"]["16"] + model["weights_mb"] + report["postprocess_mb"]
    assert report["memory_mb"] == pytest.approx(least + report["assumed_context_mb"], abs=0.3)
    assert report["fits_t4"] is True


def test_none_of_the_stock_form_is_fused(capsys: pytest.CaptureFixture[str]) -> None:
    """The control: with Ultralytics' own attention the same count is 0, so the count can fail."""
    code, report, lines = verify(capsys, "yolo12n", "--random", "--stock-attention", *SMALL)
    (model,) = report["models"]
    assert code == 0, lines
    assert (model["attention_blocks"], model["fused"], model["canonical"]) == (8, 0, 0)
    assert report["attention"] == "stock"


def test_the_served_engine_is_fused(capsys: pytest.CaptureFixture[str]) -> None:
    """The demo's own model, out of a models folder: trained, NV12 input, converted, and said to be."""
    code, report, lines = verify(capsys, "yolo12n", "--onnx", MODELS)
    (model,) = report["models"]
    assert code == 0, lines
    assert (model["attention_blocks"], model["fused"]) == (8, 8)
    assert (model["precision"], model["converted_from_fp32"]) == ("fp16", True)


def test_a_broken_attention_is_found(half: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One attention of eight that is no longer canonical: exit code 1 and its name, the report still printed."""
    third = attentions(half)[2].softmax
    onnx.save(with_steps(half, third, [helper.make_node("Relu", ["softmax"], ["stepped"])]), tmp_path / "model.onnx")
    code, report, lines = verify(capsys, "yolo12n", "--onnx", tmp_path / "model.onnx")
    assert code == 1
    assert (report["models"][0]["fused"], report["models"][0]["canonical"]) == (7, 7)
    assert lines[-1] == (f"export: yolo12n: 7 of 8 attention blocks are fused; {third}: Relu between the products")


# --- the graph -----------------------------------------------------------------------------------------------


@functools.cache
def street() -> NDArray[np.uint8]:
    """NV12 canvases from a camera that no model was trained on."""
    pictures = [picture.image for picture in camera_pictures(Purpose.VALIDATION, 1, 0)]
    planar = [cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420) for picture in pictures]
    return np.stack([np.concatenate([p[:384], p[384:].reshape(2, -1).T.reshape(-1, 640)]) for p in planar])


def candidates(model: onnx.ModelProto) -> NDArray[np.float32]:
    """Run an engine on the street, every half tensor rounded: ONNX Runtime skips the rounding of inner ones."""
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    types = value_types(model)
    inner = [name for node in model.graph.node if node.op_type != "Constant" for name in node.output]
    for name in inner:
        if types.get(name) == TensorProto.FLOAT16:
            kept.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT16, None))
    session = onnxruntime.InferenceSession(kept.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["candidates"], {"frames": street()})[0])


def test_half_precision_keeps_boxes_and_scores(full: onnx.ModelProto, half: onnx.ModelProto) -> None:
    """Against FP32, on pictures with objects: 95 % of boxes within 0.05 px, every score within 0.01."""
    boxes, scores = [], []
    for exact, rounded in zip(candidates(full), candidates(half), strict=True):
        for row in exact[exact[:, 4] > 0.25]:
            same = rounded[rounded[:, 5] == row[5]]
            distance = np.abs(same[:, :4] - row[:4]).max(axis=1)
            nearest = (distance + 10 * np.abs(same[:, 4] - row[4])).argmin()
            boxes.append(distance[nearest])
            scores.append(abs(same[nearest, 4] - row[4]))
    assert len(boxes) > 30
    assert np.percentile(boxes, 95) <= 0.05
    assert max(scores) <= 0.01
    assert max(scores) > 0  # it is another arithmetic


def test_half_precision_ends_before_the_boxes(half: onnx.ModelProto) -> None:
    """Matrix products are half, what makes boxes and candidates is FP32, inputs and outputs are what they were."""
    types = value_types(half)
    assert computes_in_half(half)
    assert types["frames"] == TensorProto.UINT8
    assert types["candidates"] == TensorProto.FLOAT
    source = {name: node for node in half.graph.node for name in node.output}
    top = next(node for node in half.graph.node if node.op_type == "TopK")
    assert types[top.input[0]] == TensorProto.FLOAT
    gathered = source["candidates"].input[0]
    assert types[gathered] == TensorProto.FLOAT
    consumers = [node.op_type for node in half.graph.node if "frames" in node.input]
    assert consumers == ["Cast"]


def test_every_attention_of_a_half_graph_is_canonical(full: onnx.ModelProto, half: onnx.ModelProto) -> None:
    """MatMul, Softmax, MatMul in half precision with nothing between, 8 times; an FP32 graph is told apart."""
    assert [found.flaw for found in attentions(half)] == [""] * 8
    assert [found.flaw for found in attentions(full)] == ["not in half precision"] * 8


@pytest.mark.parametrize(
    ("flaw", "steps"),
    [
        ("Relu between the products", [("Relu", {})]),
        (
            "Cast, Cast between the products",
            [("Cast", {"to": TensorProto.FLOAT}), ("Cast", {"to": TensorProto.FLOAT16})],
        ),
        ("Transpose, Transpose between the products", [("Transpose", {"perm": [0, 1, 3, 2]})] * 2),
    ],
)
def test_what_stands_in_an_attention_is_named(
    half: onnx.ModelProto, flaw: str, steps: list[tuple[str, dict[str, Any]]]
) -> None:
    """A step between softmax and product is found, in that attention alone, and named."""
    names = ["softmax", *(f"step{index}" for index in range(1, len(steps))), "stepped"]
    nodes = [
        helper.make_node(kind, [before], [after], **attributes)
        for (kind, attributes), before, after in zip(steps, names[:-1], names[1:], strict=True)
    ]
    fifth = attentions(half)[4].softmax
    found = attentions(with_steps(half, fifth, nodes))
    assert {attention.softmax: attention.flaw for attention in found if attention.flaw} == {fifth: flaw}


def attention_graph(*, turned: bool) -> onnx.ModelProto:
    """softmax(q @ k) @ v on [2, 4, 4] in half precision, or with `turned` v @ softmax(q @ k)."""
    shape = [2, 4, 4]
    nodes = [
        helper.make_node("MatMul", ["q", "k"], ["scores"], name="product"),
        helper.make_node("Softmax", ["scores"], ["weights"], name="softmax"),
        helper.make_node("MatMul", ["v", "weights"] if turned else ["weights", "v"], ["out"], name="second"),
        helper.make_node("Softmax", ["out"], ["last"], name="of a head"),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name in "qkv"]
    output = helper.make_tensor_value_info("last", TensorProto.FLOAT16, shape)
    return helper.make_model(helper.make_graph(nodes, "attention", inputs, [output]))


@pytest.mark.parametrize(("turned", "flaw"), [(False, ""), (True, "the softmax is the right-hand factor")])
def test_the_side_of_the_softmax_matters(turned: bool, flaw: str) -> None:
    """The stock order v @ softmax is told apart; a softmax that no product follows is no attention."""
    assert [(found.softmax, found.flaw) for found in attentions(attention_graph(turned=turned))] == [("softmax", flaw)]


# --- the builder ---------------------------------------------------------------------------------------------


def test_the_builder_takes_what_the_batches_say(half: onnx.ModelProto, tmp_path: Path) -> None:
    """One engine, 8 fused blocks, more memory for a larger batch; a timing cache is written where one is asked for."""
    cache = tmp_path / "kept" / "timing.cache"
    data = half.SerializeToString()
    small = build(trt, data, Batches(2, 1), sm=T4, timing_cache=cache)
    large = build(trt, data, Batches.of(Spec().tier(Tier.N)), sm=T4, timing_cache=cache)
    assert cache.is_file()
    assert [plan.data.count(FUSED_MARK) for plan in (small, large)] == [8, 8]
    assert small.activation_bytes is not None
    assert large.activation_bytes is not None
    assert 0 < small.activation_bytes < large.activation_bytes


def test_batches_follow_the_spec() -> None:
    """16, 4 and 2 at most, tuned for the largest preferred size; nonsense is refused."""
    batches = [Batches.of(Spec().tier(tier)) for tier in Tier]
    assert [(b.least, b.tuned, b.largest) for b in batches] == [(1, 16, 16), (1, 4, 4), (1, 2, 2)]
    with pytest.raises(ValueError, match=r"expected 1 <= least <= tuned <= largest, got 1, 8, 4"):
        Batches(largest=4, tuned=8)


def test_a_graph_that_cannot_be_parsed_names_its_node() -> None:
    """The parser's error comes with the node that it is about, in one line."""
    graph = helper.make_graph(
        [helper.make_node("Nonsense", ["a"], ["b"], name="the/culprit")],
        "nonsense",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT16, ["batch", 4])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT16, ["batch", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]).SerializeToString()
    with pytest.raises(ExportError, match=r"node the/culprit \(Nonsense\)") as caught:
        build(trt, model, Batches(1, 1), sm=T4)
    assert "\n" not in str(caught.value)


def test_a_graph_that_cannot_be_compiled_says_why(full: onnx.ModelProto) -> None:
    """FP32 attention for a T4: the compiler's own reason, in one line."""
    with pytest.raises(ExportError, match="FP32 GEMM is not supported") as caught:
        build(trt, full.SerializeToString(), Batches(1, 1), sm=T4)
    assert "\n" not in str(caught.value)


def test_only_the_batch_may_be_open() -> None:
    """A graph with another open axis has no profile, and its input is named."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["a"], ["b"])],
        "open",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT16, ["batch", "rows"])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT16, ["batch", "rows"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]).SerializeToString()
    with pytest.raises(ExportError, match=r"input a: expected only the batch open, got \[-1, -1\]"):
        build(trt, model, Batches(1, 1), sm=T4)


# --- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--sm", "61", "--random"], "compute capability 6.1: expected 7.5 (T4) or later"),
        (["--sm", "turing", "--random"], "compute capability 'turing': expected two digits"),
        (["--sm", "90", "--onnx", "SERVED"], "does not know compute capability 9.0; it knows 7.5, 8.0"),
        (["--onnx", "missing.onnx"], "missing.onnx: no such file"),
        (["--onnx", "text.onnx"], "text.onnx: not an ONNX model"),
        (["--onnx", "empty.onnx"], "expected an engine with the input frames UINT8 [batch, rows, width], got none"),
        (["--onnx", "POSTPROCESS"], "input frames UINT8 [batch, rows, width], got candidates, geometry, thresholds"),
        (["--weights", "missing.pt"], "missing.pt: no such file; expected a yolo12n checkpoint"),
        (["--weights", "text.onnx"], "text.onnx: not a checkpoint"),
        (["--random", "--onnx", "SERVED"], "exclude each other"),
        (["--stock-attention", "--onnx", "SERVED"], "--stock-attention exports anew"),
        (["yolo12m", "--onnx", "SERVED"], "is one file: name one model with it"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 1, no report, and a last line that names the thing."""
    monkeypatch.chdir(tmp_path)
    Path("text.onnx").write_text("this is no model\n")
    Path("empty.onnx").touch()
    stand_ins = {"SERVED": SERVED, "POSTPROCESS": MODELS / "postprocess" / "1" / "model.onnx"}
    code, report, lines = verify(capsys, "yolo12n", *(stand_ins.get(a, a) for a in arguments))
    assert code == 1
    assert not report
    assert lines[-1].startswith("export: ")
    assert told in lines[-1]


def test_a_file_of_another_tier_does_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """n and m have 8 attention blocks each, so the number of weights must fit too."""
    code, _, lines = verify(capsys, "yolo12m", "--onnx", SERVED)
    assert code == 1
    assert "expected the 20.1 million weights of yolo12m, got 2.6 million" in lines[-1]


# --- on the card ---------------------------------------------------------------------------------------------


def test_fused_layers_are_read_from_an_inspected_engine() -> None:
    """A layer counts once, by name or type, whatever else it holds."""
    layers = [
        {"Name": "__myl_Conv", "LayerType": "CaskConvolution"},
        {"Name": "_gemm_mha_v2_myl0_7", "LayerType": "kgen", "Metadata": "[ONNX Layer: attn/MatMul_1] fmha"},
        {"Name": "block", "LayerType": "fused_mha"},
    ]
    assert fused_layers(json.dumps({"Layers": layers})) == 2
    assert fused_layers("{}") == 0


@pytest.mark.skipif(has_card(), reason="TensorRT and a GPU are here")
def test_without_a_card_nothing_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3 and one line; no file appears."""
    code = cli.main(["build", "yolo12n", "--onnx", str(MODELS), "--out", str(tmp_path)])
    lines = capsys.readouterr().err.splitlines()
    assert code == 3
    assert len(lines) == 1
    assert "TensorRT cannot be imported" in lines[0] or "NVIDIA GPU" in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not has_card(), reason="needs an NVIDIA GPU and TensorRT")
def test_the_card_builds_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the card: plans for engine and postprocess, each with a JSON that names the card and the ONNX file."""
    folders = ["--onnx", str(MODELS), "--out", str(tmp_path), "--profiles", str(tmp_path / "gpus")]
    code = cli.main(["build", "yolo12n", *folders])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0
    for model in report["models"]:
        told = json.loads((tmp_path / model["model"] / "plan.json").read_text())
        assert told == model
        assert (tmp_path / model["model"] / "1" / "model.plan").stat().st_size > 100_000
