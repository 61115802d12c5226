"""The exported graphs compute what they stand for: colour, network, candidates, suppression, letterbox."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_network import random_network

from clients.sources.letterbox import letterbox
from clients.types import Canvas, Tier
from export import attention, cli, configs, engine, to_onnx, weights
from export.spec import Spec

SPEC = Spec()
SMALL = Spec(canvas=Canvas(256, 192), top_k=512)
DEMO_WEIGHTS = ROOT / "demo/weights/yolo12n.pt"
FloatArray = NDArray[np.float32]


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def network() -> Any:
    """yolo12n, untrained, every part of it felt in the output."""
    return random_network()


@pytest.fixture(scope="module")
def exported(network: Any) -> tuple[Any, bytes]:
    """The prepared network and its engine as ONNX, on a small canvas."""
    prepared = engine.prepare(network)
    return prepared, to_onnx.engine_onnx(prepared, SMALL)


def pictures(count: int, canvas: Canvas, seed: int = 0) -> NDArray[np.uint8]:
    """NV12 canvases of coloured rectangles on noise."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        picture = rng.integers(0, 255, (canvas.height, canvas.width, 3), dtype=np.uint8)
        for _ in range(12):
            x, y = rng.integers(0, canvas.width - 40), rng.integers(0, canvas.height - 40)
            w, h = rng.integers(8, 120, 2)
            picture[y : y + h, x : x + w] = rng.integers(0, 255, 3)
        planar = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
        chroma = planar[canvas.height :].reshape(2, -1).T.reshape(-1, canvas.width)
        out.append(np.concatenate([planar[: canvas.height], chroma]))
    return np.stack(out)


def rgb_reference(frames: NDArray[np.uint8], height: int) -> NDArray[np.float64]:
    """BT.601 limited NV12 -> RGB 0..1, in double precision, from the recommendation's own coefficients."""
    y = (frames[:, :height].astype(float) - 16) / 219
    uv = frames[:, height:].reshape(len(frames), height // 2, -1, 2).astype(float)
    u, v = (np.kron((uv[..., i] - 128) / 224, np.ones((2, 2))) for i in (0, 1))
    r, b = y + 2 * (1 - 0.299) * v, y + 2 * (1 - 0.114) * u
    g = (y - 0.299 * r - 0.114 * b) / 0.587
    return np.clip(np.stack([r, g, b], axis=1), 0, 1)


@pytest.mark.parametrize("trained", [False, True])
def test_canonical_attention_is_the_same_function(trained: bool) -> None:
    """The whole network answers the same in both forms, random or trained, and its 8 blocks are all rewritten.

    In FP32 the difference is 0 where both orders of a product are summed alike; in FP64 it is rounding, anywhere.
    """
    path = DEMO_WEIGHTS if trained else None
    network = engine.prepare(weights.chosen(Tier.N, path, untrained=not trained).network)
    picture = torch.rand(1, 3, 192, 256, generator=torch.Generator().manual_seed(0))
    assert attention.count_attention(network) == 8
    assert attention.attention_difference(network, picture) <= 1e-5
    assert attention.attention_difference(network.double(), picture.double()) <= 1e-10


@pytest.mark.parametrize("area", [1, 4])
def test_one_attention_block_is_rewritten_exactly(area: int) -> None:
    """A single block with random weights gives the same map in both forms, for whole maps and for areas."""
    torch.manual_seed(1)
    block = weights.ultralytics_block("AAttn")(64, num_heads=2, area=area).eval()
    x = 3 * torch.randn(2, 64, 12, 16)
    with torch.no_grad():
        stock = block(x)
        with attention.canonical_attention():
            rewritten = block(x)
    assert stock.std() > 0.1
    torch.testing.assert_close(rewritten, stock, atol=1e-5, rtol=1e-5)


def test_the_rewrite_ends_with_its_block() -> None:
    """Ultralytics is as it was after an export, a failed one too."""
    kind = weights.ultralytics_block("AAttn")
    stock = kind.forward
    with attention.canonical_attention():
        assert kind.forward is not stock
    assert kind.forward is stock
    with pytest.raises(RuntimeError, match="stop"), attention.canonical_attention():
        raise RuntimeError("stop")
    assert kind.forward is stock


def test_attention_is_traced_in_the_fusible_form(exported: tuple[Any, bytes]) -> None:
    """In the ONNX every softmax of attention multiplies values from the left: MatMul(softmax, v), v not transposed."""
    model = onnx.load_from_string(exported[1])
    source = {name: node for node in model.graph.node for name in node.output}
    products = [n for n in model.graph.node if n.op_type == "MatMul" and "attn" in n.name]
    after = [n for n in products if source[n.input[0]].op_type == "Softmax"]
    assert len(products) == 16
    assert len(after) == 8
    assert all(source[n.input[1]].op_type == "Split" for n in after)


def test_front_end_is_bt601_limited() -> None:
    """NV12 becomes RGB within a thousandth of a grey level of the definition, clipped, chroma by nearest."""
    frames = np.random.default_rng(0).integers(0, 256, (2, *SMALL.canvas.nv12_shape), dtype=np.uint8)
    with torch.no_grad():
        rgb = engine.Nv12ToRgb(SMALL)(torch.from_numpy(frames)).numpy()
    np.testing.assert_allclose(rgb, rgb_reference(frames, SMALL.canvas.height), atol=1e-3 / 255)


def test_front_end_undoes_opencv() -> None:
    """A picture that OpenCV converted to YUV comes back as that picture, red first."""
    flat = np.zeros((192, 256, 3), dtype=np.uint8)
    flat[:] = (40, 90, 200)  # blue, green, red
    planar = cv2.cvtColor(flat, cv2.COLOR_BGR2YUV_I420)
    frame = np.concatenate([planar[:192], planar[192:].reshape(2, -1).T.reshape(-1, 256)])[None]
    with torch.no_grad():
        rgb = 255 * engine.Nv12ToRgb(SMALL)(torch.from_numpy(frame)).numpy()[0]
    np.testing.assert_allclose(rgb.mean(axis=(1, 2)), (200, 90, 40), atol=2)


def test_engine_onnx_is_the_torch_network(exported: tuple[Any, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Through ONNX Runtime, any batch: candidates are the network's own best boxes, sorted by score."""
    network, model = exported
    frames = pictures(3, SMALL.canvas)
    (candidates,) = session(model).run(None, {"frames": frames})
    assert candidates.shape == (3, 512, 6)
    assert candidates.dtype == np.float32
    rgb = torch.from_numpy(rgb_reference(frames, SMALL.canvas.height)).float()
    monkeypatch.setattr(network.model[-1], "xyxy", False)  # as Ultralytics answers: centre and size
    with torch.no_grad():
        stock = network(rgb).numpy()  # [3, 4 + 4, boxes]
    centre, size = stock[:, :2].copy(), stock[:, 2:4].copy()
    stock[:, :2], stock[:, 2:4] = centre - size / 2, centre + size / 2
    scores = stock[:, 4:].max(axis=1)
    assert np.ptp(scores) > 0.4
    np.testing.assert_allclose(candidates[..., 4], -np.sort(-scores, axis=1)[:, :512], atol=1e-4)
    for rows, prediction in zip(candidates, stock.transpose(0, 2, 1), strict=True):
        distance = np.abs(prediction[None, :, :4] - rows[:, None, :4]).max(axis=2)
        nearest = distance.argmin(axis=1)
        assert distance.min(axis=1).max() < 0.05  # pixels
        np.testing.assert_allclose(prediction[nearest, 4:].max(axis=1), rows[:, 4], atol=1e-3)
        assert np.mean(prediction[nearest, 4:].argmax(axis=1) == rows[:, 5]) > 0.99


def test_items_of_a_batch_do_not_mix(exported: tuple[Any, bytes]) -> None:
    """A picture's candidates are the same alone and in a batch with others."""
    run = session(exported[1])
    frames = pictures(3, SMALL.canvas, seed=9)
    (together,) = run.run(None, {"frames": frames})
    assert not np.allclose(together[0], together[1])
    for index in range(3):
        (alone,) = run.run(None, {"frames": frames[index : index + 1]})
        np.testing.assert_allclose(alone[0, :, 4], together[index, :, 4], atol=1e-4)


def test_uint8_meets_a_cast_and_only_the_batch_is_open(exported: tuple[Any, bytes]) -> None:
    """What TensorRT needs: the input's one consumer is a Cast, shapes are fixed but for the batch, weights halved."""
    model = onnx.load_from_string(exported[1])
    consumers = [node.op_type for node in model.graph.node if "frames" in node.input]
    assert consumers == ["Cast"]
    for value in (*model.graph.input, *model.graph.output):
        batch, *rest = value.type.tensor_type.shape.dim
        assert batch.dim_param == "batch"
        assert all(dim.dim_value > 0 for dim in rest)
    large = [w for w in model.graph.initializer if np.prod(w.dims) >= 1024]
    assert large
    assert {w.data_type for w in large} == {onnx.TensorProto.FLOAT16}
    assert len(exported[1]) < 6_000_000


# --- postprocess ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def suppress() -> onnxruntime.InferenceSession:
    return session(to_onnx.postprocess_onnx(SPEC))


def run_post(
    run: onnxruntime.InferenceSession, candidates: FloatArray, geometry: Any, thresholds: Any
) -> list[FloatArray]:
    """Detections per item, after checking that rows beyond `count` are zero."""
    feed = {
        "candidates": candidates,
        "geometry": np.asarray(geometry, dtype=np.float32),
        "thresholds": np.asarray(thresholds, dtype=np.float32),
    }
    detections, count = run.run(["detections", "count"], feed)
    assert detections.shape == (len(candidates), 300, 6)
    assert (count.shape, count.dtype) == ((len(candidates), 1), np.int32)
    for rows, n in zip(detections, count[:, 0], strict=True):
        assert not rows[n:].any()
    return [rows[:n] for rows, n in zip(detections, count[:, 0], strict=True)]


def padded(rows: Any) -> FloatArray:
    """(n, 6) rows -> candidates (1, K, 6), sorted by score."""
    table = np.asarray(rows, dtype=np.float32).reshape(-1, 6)
    out = np.zeros((1, SPEC.top_k, 6), dtype=np.float32)
    out[0, : len(table)] = table[np.argsort(-table[:, 4], kind="stable")]
    return out


def greedy(candidates: FloatArray, geometry: FloatArray, thresholds: FloatArray) -> FloatArray:
    """The textbook: take the best box, drop what overlaps it in its class, go on; then map to the source and clip."""
    score, limit = thresholds
    kept: list[FloatArray] = []
    for row in candidates:
        if row[4] < score or row[4] <= 0:
            continue
        if not any(other[5] == row[5] and overlaps(row, other, limit) for other in kept):
            kept.append(row)
    rows = np.array(kept[:300], dtype=np.float32).reshape(-1, 6)
    scale, pad = np.tile(geometry[:2], 2), np.tile(geometry[2:], 2)
    size = (np.float32([640, 384, 640, 384]) - 2 * pad) / scale
    rows[:, :4] = np.clip((rows[:, :4] - pad) / scale, 0, size)
    return rows


def overlaps(a: FloatArray, b: FloatArray, limit: np.float32) -> bool:
    size = np.maximum(np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2]), np.float32(0))
    shared = size[0] * size[1]
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return bool(shared > limit * union)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(0, SPEC.top_k), min_size=1, max_size=3),
    spread=st.floats(5, 300),
    limits=st.lists(st.tuples(st.floats(0, 1), st.floats(0.05, 1)), min_size=3, max_size=3),
)
def test_postprocess_is_greedy_suppression(
    suppress: onnxruntime.InferenceSession,
    seed: int,
    counts: list[int],
    spread: float,
    limits: list[tuple[float, float]],
) -> None:
    """Whatever the crowd, each item of a batch gets the greedy result for its own thresholds and geometry."""
    rng = np.random.default_rng(seed)
    candidates = np.zeros((len(counts), SPEC.top_k, 6), dtype=np.float32)
    for item, n in zip(candidates, counts, strict=True):
        centre = rng.normal([320, 192], spread, (n, 2))
        half = rng.uniform(3, 60, (n, 2))
        item[:n, :2], item[:n, 2:4] = centre - half, centre + half
        item[:n, 4] = -np.sort(-rng.uniform(0.001, 1, n))
        item[:n, 5] = rng.integers(0, 3, n)
    geometry = np.column_stack(
        [rng.uniform(0.2, 2, (len(counts), 2)), 2 * rng.integers(0, 40, (len(counts), 2))]
    ).astype(np.float32)
    thresholds = np.array(limits[: len(counts)], dtype=np.float32)
    answers = run_post(suppress, candidates, geometry, thresholds)
    for index, actual in enumerate(answers):
        expected = greedy(candidates[index], geometry[index], thresholds[index])
        assert len(actual) == len(expected)
        np.testing.assert_allclose(actual, expected, atol=1e-2, rtol=1e-5)


def chain(count: int) -> FloatArray:
    """Boxes in a row, each overlapping only the next by more than half, scores falling along the row."""
    rows = [[10 * i, 100, 10 * i + 30, 140, 0.9 - 0.005 * i, 1] for i in range(count)]
    return padded(rows)


def test_a_chain_of_sixty_boxes_is_greedy(suppress: onnxruntime.InferenceSession) -> None:
    """Sixty parked cars, each decision hanging on the one before: every second stands, as greedy has it."""
    candidates = chain(60)
    thresholds = np.float32([0.25, 0.4])
    (actual,) = run_post(suppress, candidates, [[1, 1, 0, 0]], [thresholds])
    expected = greedy(candidates[0], np.float32([1, 1, 0, 0]), thresholds)
    assert len(expected) == 30
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    few = session(to_onnx.postprocess_onnx(SPEC, steps=16))
    assert len(run_post(few, candidates, [[1, 1, 0, 0]], [thresholds])[0]) != 30  # why there are more steps


def test_classes_do_not_suppress_each_other(suppress: onnxruntime.InferenceSession) -> None:
    """A person on a bicycle keeps both boxes."""
    box = [100, 100, 150, 200]
    (rows,) = run_post(
        suppress, padded([[*box, 0.9, 0], [*box, 0.8, 3], [*box, 0.7, 0]]), [[1, 1, 0, 0]], [[0.25, 0.5]]
    )
    assert rows[:, 4:].tolist() == [[np.float32(0.9), 0], [np.float32(0.8), 3]]


def test_boxes_come_back_in_source_pixels_and_inside_the_picture(suppress: onnxruntime.InferenceSession) -> None:
    """With a 1280x720 source on 640x384, canvas pixels double, the 12 rows of padding vanish, edges are clipped."""
    geometry = letterbox(1280, 720, Canvas()).geometry.as_array()
    boxes = padded([[100, 62, 200, 112, 0.9, 1], [-20, 2, 700, 383, 0.8, 0]])
    (rows,) = run_post(suppress, boxes, [geometry], [[0.25, 0.5]])
    np.testing.assert_allclose(rows[:, :4], [[200, 100, 400, 200], [0, 0, 1280, 720]], atol=1e-3)


def test_the_score_threshold_includes_its_own_value(suppress: onnxruntime.InferenceSession) -> None:
    """A box of exactly the least score is a detection; of score 0 never."""
    rows = [[0, 0, 10, 10, 0.5, 0], [50, 50, 60, 60, 0.4999, 0]]
    assert len(run_post(suppress, padded(rows), [[1, 1, 0, 0]], [[0.5, 0.5]])[0]) == 1
    assert len(run_post(suppress, padded(rows), [[1, 1, 0, 0]], [[0.0, 0.5]])[0]) == 2


def test_at_most_three_hundred_come_out(suppress: onnxruntime.InferenceSession) -> None:
    """Of 512 boxes that stand, the best 300 are answered, in order."""
    rows = [[i % 32 * 20, i // 32 * 20, i % 32 * 20 + 10, i // 32 * 20 + 10, 1 - i / 600, 0] for i in range(512)]
    (kept,) = run_post(suppress, padded(rows), [[1, 1, 0, 0]], [[0.1, 0.5]])
    assert len(kept) == 300
    np.testing.assert_allclose(kept[:, 4], [1 - i / 600 for i in range(300)], rtol=1e-6)


@pytest.mark.parametrize(
    ("geometry", "thresholds"),
    [
        ([1, 1, 0, 0], [np.nan, 0.5]),
        ([1, 1, 0, 0], [0.25, np.nan]),
        ([1, 1, 0, 0], [0.25, -0.1]),
        ([0, 1, 0, 0], [0.25, 0.5]),
        ([1, np.nan, 0, 0], [0.25, 0.5]),
        ([1, 1, 0, np.nan], [0.25, 0.5]),
        ([1, 1, -2, 0], [0.25, 0.5]),
    ],
)
def test_nonsense_in_a_request_gives_nothing(
    suppress: onnxruntime.InferenceSession, geometry: list[float], thresholds: list[float]
) -> None:
    """NaN thresholds or a scale that maps nowhere give count 0 for that item, and leave its neighbour alone."""
    candidates = np.repeat(padded([[10, 10, 50, 50, 0.9, 0]]), 2, axis=0)
    bad, good = run_post(suppress, candidates, [geometry, [1, 1, 0, 0]], [thresholds, [0.25, 0.5]])
    assert len(bad) == 0
    assert len(good) == 1


def test_nan_candidates_are_none(suppress: onnxruntime.InferenceSession) -> None:
    """A NaN score or coordinate is no detection and suppresses nothing."""
    rows = padded([[10, 10, 50, 50, 0.9, 0], [10, 10, 50, 50, 0.8, 0], [10, 10, 50, 50, 0.7, 0]])
    rows[0, 0, 4] = np.nan
    rows[0, 1, 2] = np.inf
    (kept,) = run_post(suppress, rows, [[1, 1, 0, 0]], [[0.25, 0.5]])
    assert kept[:, 4].tolist() == [np.float32(0.7)]


# --- command line --------------------------------------------------------------------------------------------


def complaint(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a command ends with."""
    assert cli.main(argv) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    return lines[0]


def saved(path: Path, architecture: str) -> str:
    """A checkpoint of an architecture with random weights, as Ultralytics writes it."""
    from ultralytics import YOLO

    YOLO(architecture, verbose=False).save(path)
    return str(path)


def test_what_is_no_checkpoint_of_the_tier_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file, text, another task and another architecture each get one line with the file's name."""
    weights.ultralytics_block("AAttn")  # our settings for Ultralytics, before it is imported here
    text = tmp_path / "text.pt"
    text.write_text("not a checkpoint\n")
    out = ("--out", str(tmp_path / "models"))
    missing = complaint(capsys, "yolo12n", "--weights", str(tmp_path / "no.pt"), *out)
    assert "no.pt: no such file" in missing
    assert "text.pt: not a checkpoint" in complaint(capsys, "yolo12n", "--weights", str(text), *out)
    segment = saved(tmp_path / "seg.pt", "yolo12n-seg.yaml")
    assert "expected weights for detect, got weights for segment" in complaint(
        capsys, "yolo12n", "--weights", segment, *out
    )
    other = saved(tmp_path / "other.pt", "yolo11n.yaml")
    assert "expected weights of yolo12n, got yolo11n" in complaint(capsys, "yolo12n", "--weights", other, *out)
    assert "multiple of 32" in complaint(capsys, "yolo12n", "--random", "--canvas", "640x360", *out)
    assert not (tmp_path / "models").exists()


def test_an_export_is_whole_or_leaves_the_old_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An export writes model, labels and sidecar that agree; one that fails half-way changes no file."""
    models = tmp_path / "models"
    arguments = ["yolo12n", "--random", "--canvas", "256x192", "--out", str(models)]
    assert cli.main(arguments) == 0
    (report,) = json.loads(capsys.readouterr().out.splitlines()[-1])["models"]
    sidecar = json.loads((models / "yolo12n_engine/export.json").read_text())
    data = (models / "yolo12n_engine/1/model.onnx").read_bytes()
    assert sidecar["sha256"]["onnx"] == report["sha256"]["onnx"] == to_onnx.sha256(data)
    assert (sidecar["canvas"], sidecar["top_k"]) == ("256x192", 768)
    assert (models / "yolo12n_engine/labels.txt").read_text().split() == sidecar["classes"]
    assert configs.rendered_for() == Spec()  # another folder's canvas is not the repository's

    (models / "postprocess/1/model.onnx").unlink()
    (models / "postprocess/1").rmdir()
    (models / "postprocess/1").write_text("in the way")
    before = {p: p.read_bytes() for p in models.rglob("*") if p.is_file()}
    assert "cannot write the exported model" in complaint_after(capsys, [*arguments[:3], "320x192", *arguments[4:]])
    assert {p: p.read_bytes() for p in models.rglob("*") if p.is_file()} == before


def complaint_after(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    """The last line of a command that worked for a while before it failed."""
    assert cli.main(argv) == 1
    return capsys.readouterr().err.splitlines()[-1]


# --- decode_jpeg ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoder() -> ModuleType:
    """The Python backend's module; Triton's own module exists only inside Triton."""
    sys.modules.setdefault("triton_python_backend_utils", ModuleType("triton_python_backend_utils"))
    location = importlib.util.spec_from_file_location(
        "decode_jpeg_model", configs.REPOSITORY / "shared/decode_jpeg/1/model.py"
    )
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


def encoded(picture: NDArray[np.uint8], kind: str = ".jpg") -> bytes:
    done, data = cv2.imencode(kind, picture)
    assert done
    return data.tobytes()


@given(width=st.integers(1, 8000), height=st.integers(1, 8000))
def test_decoder_letterboxes_as_clients_do(decoder: ModuleType, width: int, height: int) -> None:
    """Server and client place a picture of any size at the same pixels."""
    (fit_w, fit_h), geometry = decoder.letterbox(width, height, 640, 384)
    expected = letterbox(width, height, Canvas())
    assert (fit_w, fit_h) == (expected.width, expected.height)
    np.testing.assert_array_equal(geometry, expected.geometry.as_array())


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (5000, 3000), (300, 900), (33, 21)])
def test_decoder_paints_the_right_colours_in_the_right_place(
    decoder: ModuleType, kind: str, size: tuple[int, int]
) -> None:
    """Halves of two colours arrive as those colours, the border as grey, whatever the size and reduction."""
    picture = np.full((size[1], size[0], 3), (40, 90, 200), dtype=np.uint8)
    picture[:, size[0] // 2 :] = (180, 60, 20)
    frame, geometry = decoder.canvas_of(encoded(picture, kind), 640, 384, 64_000_000)
    assert (frame.shape, frame.dtype) == ((576, 640), np.uint8)
    fit = letterbox(*size, Canvas())
    left, top = int(fit.geometry.pad_x), int(fit.geometry.pad_y)
    rgb = 255 * rgb_reference(frame[None], 384)[0]
    inside = rgb[:, top : top + fit.height, left : left + fit.width]
    np.testing.assert_allclose(inside[:, :, : fit.width // 4].mean(axis=(1, 2)), (200, 90, 40), atol=3)
    np.testing.assert_allclose(inside[:, :, -fit.width // 4 :].mean(axis=(1, 2)), (20, 60, 180), atol=3)
    outside = np.ones((384, 640), dtype=bool)
    outside[top : top + fit.height, left : left + fit.width] = False
    assert (frame[:384][outside] == 114).all()
    chroma = frame[384:].reshape(192, 320, 2)
    assert (chroma[outside[::2, ::2]] == 128).all()
    np.testing.assert_array_equal(geometry, fit.geometry.as_array())


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose header promises a huge picture."""
    small = bytearray(encoded(np.zeros((8, 8, 3), dtype=np.uint8), ".png"))
    small[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(small)


NOISE = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "expected a JPEG or PNG, got 0 bytes"),
        (b"GIF89a....", "expected a JPEG or PNG"),
        (bomb(20_000, 20_000), "20000x20000 pixels are more than the 64000000 allowed"),
        (bomb(0, 10), "the header says 0x10 pixels"),
        (b"\xff\xd8" + bytes(100), "no frame header"),
        (b"\xff\xd8\xff\xe0\xff\xff" + bytes(100), "no frame header"),
        (encoded(NOISE)[:5000], "cut short"),
        (encoded(NOISE, ".png")[:5000], "damaged"),
    ],
    ids=["empty", "gif", "bomb", "no-width", "no-header", "long-segment", "cut-jpeg", "cut-png"],
)
def test_decoder_refuses_what_is_no_picture(decoder: ModuleType, data: bytes, reason: str) -> None:
    """Every damaged or oversized picture is refused with its reason, before any decoding where it is too large."""
    with pytest.raises(ValueError, match=reason):
        decoder.canvas_of(data, 640, 384, 64_000_000)


@given(data=st.binary(max_size=200))
def test_decoder_survives_any_bytes(decoder: ModuleType, data: bytes) -> None:
    """Bytes behind a JPEG's or PNG's first marker give a picture or a ValueError, never another error."""
    for head in (b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"):
        with pytest.raises((ValueError, cv2.error)):
            decoder.canvas_of(head + data, 640, 384, 64_000_000)


def test_orientation_tags_do_not_turn_the_picture(decoder: ModuleType) -> None:
    """A JPEG tagged as rotated is used as coded: its boxes refer to the size in its header."""
    picture = np.full((200, 400, 3), 60, dtype=np.uint8)
    picture[:100] = 200  # the upper half is bright, and stays the upper half
    data = encoded(picture)
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    exif = b"Exif\x00\x00" + tiff
    tagged = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    decoded = cv2.imdecode(np.frombuffer(tagged, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape[:2] == (400, 200)  # OpenCV itself would turn it
    frame, geometry = decoder.canvas_of(tagged, 640, 384, 64_000_000)
    assert frame[40:180, 20:620].min() > 150 > 100 > frame[200:340, 20:620].max()
    np.testing.assert_array_equal(geometry, letterbox(400, 200, Canvas()).geometry.as_array())
