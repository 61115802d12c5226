"""All cameras in one picture with their boxes: a video while the run lasts, and the last picture as PNG.

Runs at its own slow pace in its own thread. A tile shows the camera's newest *inferred* frame with what was found in
it, so a box is where its object is, however long the answer took; until the first answer, the newest decoded frame. It
costs the pipeline nothing but the processor time it takes. Cameras may come and go: a video keeps the size it has
begun with, and the tiles become as small as they must.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from clients.errors import SinkError
from clients.result import Result, label
from clients.sources.frame import Frame

_WIDTH_PX = 1440
_BACKGROUND = (24, 20, 18)
_COLOURS = ((80, 175, 76), (243, 150, 33), (59, 100, 255), (0, 193, 255), (176, 39, 156), (212, 188, 0))
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_FONT = cv2.FONT_HERSHEY_SIMPLEX
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """What the mosaic needs of one camera: the frame to show, its result if it has one, names and a line of text."""

    stream_id: str
    labels: tuple[str, ...]
    shown: Callable[[], tuple[Frame, Result | None] | None]
    caption: Callable[[], str]


class MosaicSink:
    """Draws until `close`. Either path may be None. `failures` counts pictures that could not be drawn or written."""

    def __init__(
        self,
        views: Callable[[], Sequence[View]],
        *,
        cameras: int,
        video: Path | None,
        image: Path | None,
        fps: float,
    ) -> None:
        """`views` is asked for each picture, the grid is made for so many `cameras`.

        Raises SinkError when the video cannot be created.
        """
        self._views = views
        self._image = image
        self._fps = fps
        self._grid = Grid.of(cameras)
        self._writer = None if video is None else VideoWriter("sinks.mosaic_video", video, self._grid.size_px, fps)
        self.failures = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw_all, name="sink-mosaic", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Draw once more, finish the video and write the picture."""
        self._stop.set()
        self._thread.join()

    def _draw_all(self) -> None:
        started_s, number = time.monotonic(), 0
        while not self._stop.wait(max(0.0, started_s + number / self._fps - time.monotonic())):
            self._guarded(self._write_video, number)
            number = max(number + 1, int((time.monotonic() - started_s) * self._fps))  # a late picture is left out
        self._guarded(self._write_video, number)
        self._guarded(self._finish)

    def _guarded(self, step: Callable[..., None], *arguments: int) -> None:
        try:
            step(*arguments)
        except Exception as error:  # pictures for people never end a run: said once, counted
            self.failures += 1
            if self.failures == 1:
                log.error("sinks.mosaic: %s (further failures are counted)", error)

    def _write_video(self, number: int) -> None:
        if self._writer is not None:
            self._writer.write(self._draw(), number)

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._image is not None:
            self._image.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(self._image), self._draw()):
                raise SinkError(f"{self._image} cannot be written")

    def _draw(self) -> NDArray[np.uint8]:
        views, (width, height) = self._views(), self._grid.size_px
        picture = np.full((height, width, 3), _BACKGROUND, dtype=np.uint8)
        grid = self._grid if len(views) <= self._grid.places else Grid.within((width, height), len(views))
        for index, view in enumerate(views):
            shown = view.shown()
            tile = grid.tile(picture, index)
            if shown is not None:
                draw_camera(tile, *shown, view.labels)
            _text(tile, view.stream_id, view.caption())
        return picture


def draw_camera(tile: NDArray[np.uint8], frame: Frame, result: Result | None, labels: tuple[str, ...]) -> None:
    """Fill a tile, BGR, with a camera's picture, as large as it fits, and the boxes of what was found in it."""
    width, height = frame.picture.size_px
    scale = min(tile.shape[1] / width, tile.shape[0] / height)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    left, top = (tile.shape[1] - size[0]) // 2, (tile.shape[0] - size[1]) // 2
    inner = tile[top : top + size[1], left : left + size[0]]
    inner[:] = frame.picture.to_bgr(*size)
    if result is not None:
        _boxes(inner, result, scale, labels)


@dataclass(frozen=True, slots=True)
class Grid:
    """Tiles of 16:9 side by side, as near to a square as the number allows."""

    columns: int
    rows: int
    tile_px: tuple[int, int]

    @classmethod
    def of(cls, count: int) -> Grid:
        """The grid for `count` cameras."""
        columns = max(1, math.ceil(math.sqrt(count)))
        rows = max(1, math.ceil(count / columns))
        width = max(96, min(640, _WIDTH_PX // columns // 16 * 16))
        return cls(columns, rows, (width, width * 9 // 16))

    @classmethod
    def within(cls, size_px: tuple[int, int], count: int) -> Grid:
        """The grid for `count` cameras in a picture of this (width, height)."""
        columns = max(1, math.ceil(math.sqrt(count)))
        rows = max(1, math.ceil(count / columns))
        return cls(columns, rows, (size_px[0] // columns, size_px[1] // rows))

    @property
    def places(self) -> int:
        """Cameras that fit in."""
        return self.columns * self.rows

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of the whole, even as H.264 needs it."""
        width, height = self.columns * self.tile_px[0], self.rows * self.tile_px[1]
        return width + width % 2, height + height % 2

    def tile(self, picture: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """The part of the picture that belongs to camera `index`, with a pixel of border left free."""
        row, column = divmod(index, self.columns)
        width, height = self.tile_px
        return picture[row * height : (row + 1) * height - 1, column * width : (column + 1) * width - 1]


class VideoWriter:
    """H.264, BT.601 limited and tagged so."""

    def __init__(self, key: str, path: Path, size_px: tuple[int, int], fps: float, *, is_live: bool = False) -> None:
        """`key` is the configuration's. One that `is_live` can be played while it grows, and after a crash.

        Raises SinkError when the file cannot be created.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(path), mode="w", options=dict(_FRAGMENTS) if is_live else {})
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"{key}: {path} cannot be written: {error.strerror}") from error
        rate = Fraction(fps).limit_denominator(1000)
        stream = self._container.add_stream("libx264", rate=rate)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size_px
        stream.pix_fmt = "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast", "crf": "24"}
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.time_base = 1 / rate
        self._stream, self._time_base = stream, 1 / rate
        self._reformatter = VideoReformatter()

    def write(self, picture: NDArray[np.uint8], number: int) -> None:
        """Append one BGR picture, the `number`-th of the video's clock."""
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(picture, format="bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = number, self._time_base
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


def _boxes(tile: NDArray[np.uint8], result: Result, scale: float, labels: tuple[str, ...]) -> None:
    found = result.detections
    corners = np.rint(found.xyxy * scale).astype(int).tolist()
    for (x1, y1, x2, y2), class_id, track_id in zip(corners, found.class_id, result.track_ids, strict=True):
        colour = _COLOURS[int(class_id) % len(_COLOURS)]
        cv2.rectangle(tile, (x1, y1), (x2, y2), colour, 1, cv2.LINE_AA)
        name = f"{label(labels, int(class_id))} {track_id or ''}"
        cv2.putText(tile, name, (x1, max(8, y1 - 3)), _FONT, 0.32, colour, 1, cv2.LINE_AA)


def _text(tile: NDArray[np.uint8], stream_id: str, caption: str) -> None:
    strip = tile[-18:]
    strip[:] = strip // 3
    cv2.putText(strip, stream_id, (5, 13), _FONT, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    (width, _), _ = cv2.getTextSize(caption, _FONT, 0.36, 1)
    cv2.putText(strip, caption, (max(60, tile.shape[1] - width - 5), 13), _FONT, 0.36, (210, 210, 210), 1, cv2.LINE_AA)
