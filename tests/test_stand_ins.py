"""Stand-ins for m and x: rising canvases, exported once, and able to look at a clip."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import moving_square, write_clip

from clients.sources.file import FileSource, Timing
from clients.types import Canvas
from demo.detections import Models
from demo.stand_ins import STAND_INS, stand_in
from loadtest.recordings import CANVASES


def test_canvases_rise_around_the_served_one() -> None:
    """Three names that say their size; the simulator replays the same three."""
    areas = [canvas.width * canvas.height for canvas in STAND_INS.values()]
    assert areas == sorted(set(areas))
    assert [f"n-{canvas}" for canvas in STAND_INS.values()] == list(STAND_INS)
    assert tuple(STAND_INS.values()) == CANVASES
    assert Canvas() in CANVASES


def test_the_served_canvas_needs_no_export(tmp_path: Path) -> None:
    """Its models are the demo's own."""
    assert stand_in(f"n-{Canvas()}", tmp_path) == Models()
    assert list(tmp_path.iterdir()) == []


def test_a_stand_in_is_exported_once_at_its_own_size(tmp_path: Path) -> None:
    """The engine takes its canvas and no other, and a second call writes nothing."""
    name, canvas = next(iter(STAND_INS.items()))
    models = stand_in(name, tmp_path)
    graph = onnx.load(models.path("yolo12n_engine")).graph
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim][1:] == list(canvas.nv12_shape)
    written = models.path("yolo12n_engine").stat().st_mtime_ns
    assert stand_in(name, tmp_path) == models
    assert models.path("yolo12n_engine").stat().st_mtime_ns == written


def test_an_unknown_stand_in_is_none(tmp_path: Path) -> None:
    """There are three."""
    with pytest.raises(KeyError, match="x-1280x736"):
        stand_in("x-1280x736", tmp_path)


def test_frames_fit_every_canvas(tmp_path: Path) -> None:
    """A picture of any size lies on each of them."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(2))
    frames = FileSource("clip", clip).frames(Timing(lambda: 0, lambda _seconds: False))
    for frame, canvas in itertools.product(frames, STAND_INS.values()):
        pixels = canvas_of(canvas)
        geometry = frame.picture.write_canvas(canvas, pixels)
        assert geometry.scale_x > 0
        assert pixels.std() > 0


def canvas_of(canvas: Canvas) -> np.ndarray:

    return np.zeros(canvas.nv12_shape, np.uint8)
