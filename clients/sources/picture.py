"""A decoded picture, and what may be asked of it: a canvas, a JPEG, a thumbnail, a picture to look at.

A picture is scaled only when it is asked; most frames of most cameras never are.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Protocol, cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from clients.errors import SourceError
from clients.sources.colour import Scaler, SourceColour, to_bgr, to_grey, to_nv12
from clients.sources.letterbox import letterbox
from clients.types import Canvas, Geometry

THUMBNAIL_PX = (64, 36)  # width, height
PAD_LUMA, PAD_CHROMA = 114, 128
JPEG_QUALITY = 90
_SAMPLES = (256, 144)  # averaging 16 samples per thumbnail pixel sees what all pixels show, 12 times quicker at 1080p


class Picture(Protocol):
    """What the pipeline needs of a picture. Each call may take milliseconds; none keeps what it is given."""

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of the coded source."""

    def write_canvas(self, canvas: Canvas, out: NDArray[np.uint8]) -> Geometry:
        """Fill `out`, UINT8 `canvas.nv12_shape`, with the letterboxed picture, NV12, BT.601 limited."""

    def encode_jpeg(self, max_size_px: tuple[int, int] | None) -> tuple[bytes, float]:
        """The picture as JPEG, scaled down to fit `max_size_px` (width, height), and the scale it was given."""

    def to_bgr(self, width: int, height: int) -> NDArray[np.uint8]:
        """UINT8 (height, width, 3), BGR, to look at."""

    def thumbnail(self) -> NDArray[np.uint8]:
        """UINT8 (36, 64), luma; made once, when it is first asked for."""


class Scalers:
    """The scalers of one camera, one for each size that is asked for again and again, under one lock."""

    def __init__(self) -> None:
        lock = threading.Lock()
        self.thumbnail = Scaler(lock)
        self.canvas = Scaler(lock)
        self.view = Scaler(lock)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a camera sends, where the decoder has scaled its pictures: coded size in pixels, matrix and range."""

    width: int
    height: int
    colour: SourceColour


class AvPicture:
    """A picture as FFmpeg's decoder delivers it, or NVDEC has scaled it from `origin`; `scalers` are its camera's."""

    __slots__ = ("_colour", "_frame", "_scalers", "_size_px", "_thumbnail")

    def __init__(self, frame: av.VideoFrame, scalers: Scalers, origin: Origin | None = None) -> None:
        self._frame = frame
        self._scalers = scalers
        self._size_px = (frame.width, frame.height) if origin is None else (origin.width, origin.height)
        self._colour = None if origin is None else origin.colour
        self._thumbnail: NDArray[np.uint8] | None = None

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of the coded source."""
        return self._size_px

    def write_canvas(self, canvas: Canvas, out: NDArray[np.uint8]) -> Geometry:
        """Fill `out`, UINT8 `canvas.nv12_shape`.

        Raises ValueError for an array of another shape or type, SourceError for pixels that FFmpeg cannot convert.
        """
        if out.shape != canvas.nv12_shape or out.dtype != np.uint8:
            raise ValueError(f"the canvas must be uint8 {canvas.nv12_shape}, got {out.dtype} {out.shape}")
        fit = letterbox(*self.size_px, canvas)
        scaled = to_nv12(self._frame, fit.width, fit.height, self._scalers.canvas, self._colour)
        left, top = int(fit.geometry.pad_x), int(fit.geometry.pad_y)
        luma, chroma = out[: canvas.height], out[canvas.height :]
        _fill_frame(luma, PAD_LUMA, left, top, fit.width, fit.height)
        _fill_frame(chroma, PAD_CHROMA, left, top // 2, fit.width, fit.height // 2)
        luma[top : top + fit.height, left : left + fit.width] = plane(scaled, 0)
        chroma[top // 2 : (top + fit.height) // 2, left : left + fit.width] = plane(scaled, 1)
        return fit.geometry

    def encode_jpeg(self, max_size_px: tuple[int, int] | None) -> tuple[bytes, float]:
        """JPEG of quality 90 and the scale, one number for both axes, that the picture was given (at most 1).

        Raises SourceError for pixels that FFmpeg cannot convert.
        """
        width, height = self.size_px
        scale = min(1.0, self._frame.width / width, self._frame.height / height)  # never larger than what is there
        if max_size_px is not None:
            scale = min(scale, max_size_px[0] / width, max_size_px[1] / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = to_bgr(self._frame, *size, self._scalers.canvas, self._colour).to_ndarray()
        ok, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not ok:
            raise SourceError(f"OpenCV cannot encode a picture of {size[0]}x{size[1]} pixels as JPEG")
        return data.tobytes(), scale

    def to_bgr(self, width: int, height: int) -> NDArray[np.uint8]:
        """UINT8 (height, width, 3), BGR. Raises SourceError for pixels that FFmpeg cannot convert."""
        shown = to_bgr(self._frame, width, height, self._scalers.view, self._colour)
        return cast("NDArray[np.uint8]", shown.to_ndarray())

    def thumbnail(self) -> NDArray[np.uint8]:
        """UINT8 (36, 64): averaged luma in the camera's own range; it is only ever compared with its own kind."""
        if self._thumbnail is None:
            self._thumbnail = self._averaged()
        return self._thumbnail

    def _averaged(self) -> NDArray[np.uint8]:
        pixels = self._frame.format
        if pixels.is_planar and pixels.components[0].bits == 8 and not pixels.is_rgb:
            samples = cv2.resize(plane(self._frame, 0), _SAMPLES, interpolation=cv2.INTER_LINEAR)
        else:
            samples = plane(to_grey(self._frame, *_SAMPLES, self._scalers.thumbnail), 0)
        return cast("NDArray[np.uint8]", cv2.resize(samples, THUMBNAIL_PX, interpolation=cv2.INTER_AREA))


def plane(frame: av.VideoFrame, index: int) -> NDArray[np.uint8]:
    """One 8-bit plane as UINT8 (rows, bytes per row), a view without the decoder's row padding."""
    data = cast("Any", frame.planes[index])
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, data.line_size)
    bytes_per_row = data.width * (2 if index == 1 and frame.format.name == "nv12" else 1)
    return rows[: data.height, :bytes_per_row]


def _fill_frame(area: NDArray[np.uint8], value: int, left: int, top: int, width: int, height: int) -> None:
    area[:top] = value
    area[top + height :] = value
    area[top : top + height, :left] = value
    area[top : top + height, left + width :] = value
