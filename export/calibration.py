"""Pictures that a conversion of precision is calibrated on: canvases as they are served.

They come from a folder of pictures, a video, the cameras of a configuration, or the rendered street of the demo.
Knows neither torch nor ONNX.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.sources.file import FileSource, Timing
from clients.sources.letterbox import letterbox
from clients.sources.picture import Picture
from clients.types import Canvas, Geometry
from export.errors import ExportError

DEMO = "demo"
PICTURES = 32  # more change the demo's ranges little
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_PAD_LUMA, _PAD_CHROMA = 114, 128


def calibration_canvases(source: str, canvas: Canvas, count: int = PICTURES) -> NDArray[np.uint8]:
    """UINT8 [n, H * 3 / 2, W], n at most `count`, spread over the source: `demo`, a folder, a video, a config.yaml.

    Raises ExportError: no such source, or no picture in it; SourceError: not a video; ConfigError: no configuration.
    """
    if source == DEMO:
        found = _street(canvas, count)
    elif Path(source).is_dir():
        found = _folder(Path(source), canvas, count)
    elif Path(source).suffix in (".yaml", ".yml"):
        from export.camera_pictures import camera_canvases  # the client's sources: only these need them

        found = camera_canvases(Path(source), canvas, count)
    elif Path(source).is_file():
        found = spread(video_canvases(Path(source), canvas), count)
    else:
        expected = "`demo`, a folder of pictures, a video or a config.yaml"
        raise ExportError(f"calibration {source}: expected {expected}, found nothing")
    return np.stack(found)


def canvas_of(picture: NDArray[np.uint8], canvas: Canvas) -> tuple[NDArray[np.uint8], Geometry]:
    """A BGR picture as NV12 canvas, BT.601 limited, the same way as the server's decode_jpeg makes it."""
    fit = letterbox(picture.shape[1], picture.shape[0], canvas)
    shrinks = picture.shape[1] > fit.width or picture.shape[0] > fit.height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    planar = cv2.cvtColor(cv2.resize(picture, (fit.width, fit.height), interpolation=method), cv2.COLOR_BGR2YUV_I420)
    chroma = planar[fit.height :].reshape(2, fit.height // 2, fit.width // 2).transpose(1, 2, 0)
    left, top = int(fit.geometry.pad_x), int(fit.geometry.pad_y)
    result = np.full(canvas.nv12_shape, _PAD_CHROMA, dtype=np.uint8)
    result[: canvas.height] = _PAD_LUMA
    result[top : top + fit.height, left : left + fit.width] = planar[: fit.height]
    below = canvas.height + top // 2
    result[below : below + fit.height // 2, left : left + fit.width] = chroma.reshape(-1, fit.width)
    return result, fit.geometry


def video_canvases(
    path: Path, canvas: Canvas, wanted: Collection[int] | None = None
) -> Iterator[tuple[int, NDArray[np.uint8], Geometry]]:
    """The wanted frames of a video (None: all) as the client would send them, not paced, with their indices.

    Raises SourceError: not a video.
    """
    for index, picture in video_pictures(path, wanted):
        out = np.empty(canvas.nv12_shape, dtype=np.uint8)
        geometry = picture.write_canvas(canvas, out)
        yield index, out, geometry


def video_pictures(path: Path, wanted: Collection[int] | None = None) -> Iterator[tuple[int, Picture]]:
    """The wanted frames of a video (None: all) as the client decodes them, not scaled and not paced.

    Raises SourceError: not a video.
    """
    last = None if wanted is None else max(wanted, default=-1)
    for frame in FileSource(path.stem, path).frames(Timing(time.monotonic_ns, lambda _seconds: False)):
        if last is not None and frame.index > last:
            return
        if wanted is None or frame.index in wanted:
            yield frame.index, frame.picture


def spread(frames: Iterator[tuple[int, NDArray[np.uint8], Geometry]], count: int) -> list[NDArray[np.uint8]]:
    """At most `count` canvases, evenly spaced over a stream whose length is not known."""
    kept: list[NDArray[np.uint8]] = []
    step = 1
    for index, frame, _ in frames:
        if index % step == 0:
            kept.append(frame)
        if len(kept) > count:
            kept, step = kept[::2], step * 2
    return kept


def _folder(folder: Path, canvas: Canvas, count: int) -> list[NDArray[np.uint8]]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise ExportError(f"calibration {folder}: expected pictures ({', '.join(sorted(_SUFFIXES))}), found none")
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]
    return [canvas_of(read_picture(path), canvas)[0] for path in chosen]


def read_picture(path: Path) -> NDArray[np.uint8]:
    """UINT8 (H, W, 3), BGR. Raises ExportError: no such file, or not a picture."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if picture is None:
        raise ExportError(f"{path}: not a picture that can be read")
    return np.asarray(picture, dtype=np.uint8)


def _street(canvas: Canvas, count: int) -> list[NDArray[np.uint8]]:
    """Cameras that the demo's weights were trained on, never those of its clips, on which accuracy is measured."""
    from demo.pictures import camera_pictures
    from demo.scenes import Purpose

    found: list[NDArray[np.uint8]] = []
    camera = 0
    while len(found) < count:
        found += [canvas_of(picture.image, canvas)[0] for picture in camera_pictures(Purpose.TRAINING, 0, camera)]
        camera += 1
    return found[:count]
