"""Small JPEGs of cameras, made only for who looks, shared by all who look at the same.

A preview is the newest *inferred* frame, so that the boxes sent beside it lie where the objects are; before the first
answer it is the newest decoded one. Nothing is decoded for it: the frame is already there. At most `MOST_PER_S` are
made a second for all viewers together, so fifty tiles get fewer each than eight. One thread makes them.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.errors import SourceError
from clients.lane import Lane
from clients.result import Result
from clients.sinks.mosaic import draw_camera
from clients.sources.frame import Frame
from clients.sources.picture import Picture

WIDTHS_PX = (160, 240, 320, 480, 640, 960, 1280)
MOST_PER_S = 60.0
SHORTEST_S = 0.15  # between two of one camera
_QUALITY = 70
_FORGET_S = 5.0
_COUNT_S = 0.5


@dataclass(frozen=True, slots=True)
class Preview:
    """A JPEG, and what was found in its frame; `captured_ns` tells two previews apart."""

    captured_ns: int
    jpeg: bytes
    result: Result | None
    size_px: tuple[int, int]  # (width, height) of the coded source


@dataclass(slots=True)
class _Kept:
    lane: Lane
    preview: Preview | None = None
    made_s: float = 0.0
    asked_s: float = 0.0
    making: asyncio.Lock = field(default_factory=asyncio.Lock)


class Previews:
    """To be used in one event loop; `close` ends its thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "preview")
        self._kept: dict[tuple[str, int], _Kept] = {}
        self._interval_s, self._counted_s = SHORTEST_S, 0.0
        self.made = 0

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._kept.clear()

    async def newest(self, lane: Lane, width: int) -> Preview | None:
        """The camera's newest preview of about this width; None before it has shown anything.

        Raises SourceError for a picture that cannot be converted.
        """
        width, now_s = fitting(width), time.monotonic()
        key = (lane.spec.stream_id, width)
        kept = self._kept.get(key)
        if kept is None or kept.lane is not lane:  # another camera of the same name
            kept = self._kept[key] = _Kept(lane)
        kept.asked_s = now_s
        self._share_out(now_s)
        async with kept.making:
            shown = lane.shown()
            if shown is None or self._is_fresh(kept, shown[0], now_s):
                return kept.preview
            kept.made_s = now_s
            loop = asyncio.get_running_loop()
            kept.preview = await loop.run_in_executor(self._thread, _made, *shown, width)
            self.made += 1
        return kept.preview

    def _is_fresh(self, kept: _Kept, frame: Frame, now_s: float) -> bool:
        if kept.preview is None:
            return False
        return kept.preview.captured_ns == frame.captured_ns or now_s - kept.made_s < self._interval_s

    def _share_out(self, now_s: float) -> None:
        """How often each may be made, by how many are asked for; looked at twice a second."""
        if now_s - self._counted_s < _COUNT_S:
            return
        self._counted_s = now_s
        for key in [key for key, kept in self._kept.items() if now_s - kept.asked_s > _FORGET_S]:
            del self._kept[key]
        self._interval_s = max(SHORTEST_S, len(self._kept) / MOST_PER_S)

    async def annotated(self, lane: Lane, labels: tuple[str, ...], width: int | None) -> bytes | None:
        """The camera's picture with its boxes drawn in, full size unless a width is asked for; None as above."""
        shown = lane.shown()
        if shown is None:
            return None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _annotated, *shown, labels, width)


def fitting(width: int) -> int:
    """The width that is made: the next larger one of `WIDTHS_PX`."""
    return next((one for one in WIDTHS_PX if one >= width), WIDTHS_PX[-1])


def _made(frame: Frame, result: Result | None, width: int) -> Preview:
    size = _size(frame.picture, width)
    return Preview(frame.captured_ns, _jpeg(frame.picture.to_bgr(*size)), result, frame.picture.size_px)


def _annotated(frame: Frame, result: Result | None, labels: tuple[str, ...], width: int | None) -> bytes:
    own_width, _ = frame.picture.size_px
    picture = frame.picture.to_bgr(*_size(frame.picture, min(own_width, width or own_width)))
    draw_camera(picture, frame, result, labels)
    return _jpeg(picture, 85)


def _size(picture: Picture, width: int) -> tuple[int, int]:
    own_width, own_height = picture.size_px
    return width, max(2, round(own_height * width / own_width / 2) * 2)


def _jpeg(picture: NDArray[np.uint8], quality: int = _QUALITY) -> bytes:
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise SourceError("OpenCV cannot encode a preview as JPEG")
    return bytes(data)
