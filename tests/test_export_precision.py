"""FP16 and INT8 engines by ModelOpt: accurate as asked, attention untouched, calibrated on the user's pictures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import tensorrt_rtx as trt
from conftest import MODELS, moving_square, write_clip
from live_servers import closes, jpegs, mjpeg, tcp_server
from numpy.typing import NDArray

from clients.types import Canvas
from export import cli
from export.attention_pattern import attentions
from export.calibration import calibration_canvases
from export.errors import ExportError
from export.graph import computes_in_half, is_quantised
from export.parity import Difference
from export.precision import check_fp16, converted, difference, in_fp32, rounding
from export.serving import compiled
from export.to_engine import Batches, build
from export.to_half import to_half
from export.verify import FUSED_MARK
from export.zero_points import signed, unsigned

SERVED = (MODELS / "yolo12n_engine" / "1" / "model.onnx").read_bytes()
WEIGHTS = MODELS / "yolo12n.pt"


@pytest.fixture(scope="module")
def street() -> NDArray[np.uint8]:
    """Canvases of the demo's training streets."""
    return calibration_canvases("demo", Canvas(), 6)


@pytest.fixture(scope="module")
def full() -> onnx.ModelProto:
    """The demo's engine, FP32."""
    return onnx.load_from_string(SERVED)


@pytest.fixture(scope="module")
def fp16(street: NDArray[np.uint8]) -> tuple[onnx.ModelProto, Difference]:
    """The same engine through AutoCast."""
    model, found = converted(SERVED, "fp16", street)
    return onnx.load_from_string(model), found


@pytest.fixture(scope="module")
def int8(street: NDArray[np.uint8]) -> onnx.ModelProto:
    """The same engine with Q/DQ."""
    return onnx.load_from_string(converted(SERVED, "int8", street)[0])


def test_fp16_keeps_boxes_and_scores(fp16: tuple[onnx.ModelProto, Difference]) -> None:
    """On pictures with objects: 95 % of boxes within 0.05 px, every score within 0.01, and not the same arithmetic."""
    _, found = fp16
    assert found.objects > 100
    assert 0 < found.box_p95_px <= 0.05
    assert 0 < found.score <= 0.01


def test_fp16_is_strongly_typed_and_fused(fp16: tuple[onnx.ModelProto, Difference]) -> None:
    """Eight attentions MatMul, Softmax, MatMul in half precision with no cast between; a T4 fuses all eight."""
    model, _ = fp16
    assert computes_in_half(model)
    assert [found.flaw for found in attentions(model)] == [""] * 8
    plan = build(trt, model.SerializeToString(), Batches(1, 1), sm=(7, 5))
    assert plan.data.count(FUSED_MARK) == 8


def test_int8_leaves_attention_alone(int8: onnx.ModelProto) -> None:
    """Quantised, but not in attention, colour or the class branch; as a T4 gets it, all eight attentions are fused."""
    assert is_quantised(int8)
    quantised = {node.name for node in int8.graph.node if node.op_type == "Conv" and _reads_dq(int8, node)}
    assert len(quantised) > 80
    assert not [name for name in quantised if name.startswith(("/front/", "/network/model.21/cv3"))]
    half = to_half(int8)
    assert [found.flaw for found in attentions(half)] == [""] * 8
    plan = build(trt, half.SerializeToString(), Batches(1, 1), sm=(7, 5))
    assert plan.data.count(FUSED_MARK) == 8


def test_openvino_computes_int8_as_onnx_runtime_does(
    full: onnx.ModelProto, int8: onnx.ModelProto, street: NDArray[np.uint8]
) -> None:
    """The served runtime may fuse Q/DQ into integer arithmetic; scores must stay near FP32's, as they do unfused."""
    engines = [compiled(model.SerializeToString(), "f32") for model in (full, int8)]
    errors = [
        np.abs(np.subtract(*(engine({"frames": frame[None]})["candidates"][0, :100, 4] for engine in engines)))
        for frame in street
    ]
    assert 0 < np.mean(errors) < 0.05  # 0.5 with signed activations, 0.2 with integers on a CPU without VNNI


def test_the_difference_sees_int8(full: onnx.ModelProto, int8: onnx.ModelProto, street: NDArray[np.uint8]) -> None:
    """The measure that FP16 passes is not one that everything passes."""
    found = difference(in_fp32(full), int8, street[:2])
    assert found.box_p95_px > 0.05
    with pytest.raises(ExportError, match="FP16 differs from FP32 by"):
        check_fp16(found)


def test_weights_stored_in_half_precision_come_back(full: onnx.ModelProto, street: NDArray[np.uint8]) -> None:
    """FP32 storage is the same network; a copy that rounds every step of an FP32 graph adds nothing to it."""
    stored = in_fp32(full)
    assert all(weight.data_type != onnx.TensorProto.FLOAT16 for weight in stored.graph.initializer)
    assert difference(full, stored, street[:1]).score <= 1e-4
    assert len(rounding(stored).graph.output) == 1


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_command_states_the_precision(precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights to a converted engine: the sidecar and the JSON line name precision and calibration, and no accuracy.

    Weights that are not the demo's have no labelled pictures, which is said.
    """
    own = tmp_path / "own.pt"
    own.write_bytes(WEIGHTS.read_bytes())
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index, picture in enumerate(moving_square(3)):
        cv2.imwrite(str(pictures / f"{index}.png"), picture)
    command = ["yolo12n", "--weights", own, "--precision", precision, "--calibration", pictures, "--out", tmp_path]
    assert cli.main([str(word) for word in command]) == 0
    out, err = capsys.readouterr()
    (report,) = json.loads(out.splitlines()[-1])["models"]
    assert "accuracy is not measured, for want of labelled pictures: name a COCO folder with --data" in err
    assert "accuracy" not in report
    sidecar = json.loads((tmp_path / "yolo12n_engine" / "export.json").read_text())
    assert sidecar.items() <= report.items()
    assert sidecar["precision"] == {"fp16": "f16", "int8": "int8"}[precision]
    assert sidecar["calibration_pictures"] == 3


@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        (None, "--precision int8 needs --calibration: a folder of pictures, a video, a config.yaml or `demo`"),
        (
            "missing",
            "calibration missing: expected `demo`, a folder of pictures, a video or a config.yaml, found nothing",
        ),
        ("empty", "calibration empty: expected pictures"),
        ("broken", "broken/a.png: not a picture that can be read"),
        ("broken/a.png", "broken/a.png: no frame in it could be decoded"),
    ],
)
def test_calibration_that_cannot_be_used_is_one_line(
    calibration: str | None,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 1, one line, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/a.png").write_text("no picture")
    extra = [] if calibration is None else ["--calibration", calibration]
    code = cli.main(["yolo12n", "--random", "--precision", "int8", "--out", "models", *extra])
    lines = capsys.readouterr().err.splitlines()
    assert code == 1
    assert len(lines) == 1
    assert told in lines[0]
    assert not Path("models").exists()


def test_a_video_is_sampled_over_its_whole_length(tmp_path: Path) -> None:
    """At most as many frames as asked for, the first among them, evenly spaced; one that is short gives all."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(20))
    few = calibration_canvases(str(clip), Canvas(), 6)
    every = calibration_canvases(str(clip), Canvas(), 32)
    assert few.shape == (5, 576, 640)
    assert len(every) == 20
    assert np.array_equal(few, every[::4])


def test_the_configured_cameras_are_calibrated_on_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files and live cameras give the same share, in turn; one that cannot be reached is named and left out."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(20))
    with tcp_server(mjpeg(jpegs())) as port, tcp_server(closes) as dead:
        sources = {
            "file": clip,
            "live": f"http://127.0.0.1:{port}/live.mjpg",
            "dead": f"http://user:secret@127.0.0.1:{dead}/",
            "gone": tmp_path / "gone.mp4",
        }
        cameras = [{"id": name, "source": str(source), "open_timeout_s": 5} for name, source in sources.items()]
        config = tmp_path / "cameras.yaml"
        config.write_text(json.dumps({"cameras": cameras}))
        found = calibration_canvases(str(config), Canvas(), 4)
    recorded = calibration_canvases(str(clip), Canvas(), 1)
    assert found.shape == (2, 576, 640)
    assert np.array_equal(found[0], recorded[0])
    assert not np.array_equal(found[1], recorded[0])
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.split()[2] for line in lines) == ["dead:", "gone:"]
    assert "secret" not in "".join(lines)

    config.write_text(json.dumps({"cameras": cameras[3:]}))
    with pytest.raises(ExportError, match="none of its 1 cameras gave a picture"):
        calibration_canvases(str(config), Canvas(), 4)


def test_cameras_give_in_turn_and_no_more_than_asked_for(tmp_path: Path) -> None:
    """The first picture of each, then the second of each; the end is cut, and every camera is heard before."""
    clips = [write_clip(tmp_path / f"{count}.mp4", moving_square(count)) for count in (5, 10, 20)]
    config = tmp_path / "cameras.yaml"
    config.write_text(json.dumps({"cameras": [{"id": clip.stem, "source": str(clip)} for clip in clips]}))
    found = calibration_canvases(str(config), Canvas(), 6)
    alone = [calibration_canvases(str(clip), Canvas(), 2) for clip in clips]
    assert len(found) == 6
    for place, picture in enumerate(found):
        assert np.array_equal(picture, alone[place % 3][place // 3])
    assert np.array_equal(calibration_canvases(str(config), Canvas(), 2), found[:2])


def _reads_dq(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    return any("DequantizeLinear" in other.op_type and other.output[0] == node.input[0] for other in model.graph.node)


def test_signed_and_unsigned_activations_are_the_same_numbers(int8: onnx.ModelProto, street: NDArray[np.uint8]) -> None:
    """The served file is unsigned; signed, as TensorRT wants it, ONNX Runtime gets the same; and back again."""
    for model, kind in ((int8, onnx.TensorProto.UINT8), (signed(int8), onnx.TensorProto.INT8)):
        assert activation_kinds(model) == {kind}
    assert difference(signed(int8), unsigned(signed(int8)), street[:2]).score <= 1e-5
    assert difference(signed(int8), int8, street[:2]).score <= 1e-5
    assert activation_kinds(to_half(int8)) == {onnx.TensorProto.INT8}


def activation_kinds(model: onnx.ModelProto) -> set[int]:
    """Types of the zero points that activations are quantised with."""
    kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
    return {kinds[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}
