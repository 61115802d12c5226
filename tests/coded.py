"""Pictures that carry two numbers in their pixels, robust enough for JPEG: for the echo engine and its test."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.types import Canvas, Geometry

SQUARE, BITS, COLUMNS, TOP = 32, 24, 12, 96
SIZE_PX = (640, 384)  # the canvas itself, so that a square is a square in every transport


class CodedPicture:
    """A picture in which camera (0..255) and number (0..65535) are 24 bright or dark squares."""

    def __init__(self, camera: int, number: int) -> None:
        value = camera << 16 | number
        bits = np.array([value >> bit & 1 for bit in range(BITS)], np.uint8).reshape(2, COLUMNS)
        luma = np.full((SIZE_PX[1], SIZE_PX[0]), 128, np.uint8)
        squares = np.where(bits, 220, 30).astype(np.uint8).repeat(SQUARE, axis=0).repeat(SQUARE, axis=1)
        luma[TOP : TOP + 2 * SQUARE, : COLUMNS * SQUARE] = squares
        self._luma = luma

    @property
    def size_px(self) -> tuple[int, int]:
        """The canvas's size."""
        return SIZE_PX

    def write_canvas(self, canvas: Canvas, out: NDArray[np.uint8]) -> Geometry:
        """Luma as it is, no colour."""
        out[: canvas.height] = self._luma
        out[canvas.height :] = 128
        return Geometry(1, 1, 0, 0)

    def encode_jpeg(self, max_size_px: tuple[int, int] | None) -> tuple[bytes, float]:
        """A grey JPEG."""
        return cv2.imencode(".jpg", self._luma)[1].tobytes(), 1.0

    def to_bgr(self, width: int, height: int) -> NDArray[np.uint8]:
        """The luma as grey."""
        return cv2.cvtColor(cv2.resize(self._luma, (width, height)), cv2.COLOR_GRAY2BGR)
