"""Crowded canvases to try a suppression on: busy frames, several pictures pasted into one, objects packed side by side.

Made from labelled pictures, the same ones every time. Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.types import Canvas
from export.calibration import canvas_of
from export.errors import ExportError
from export.labelled import Labelled

GRIDS = (2, 3)  # pictures per side of a pasted canvas
CUT_PX = (14, 48)  # least and largest height, on the canvas, of an object that is packed
SPACING = (0.85, 1.0)  # of an object's size, from one packed object to the next
_LEAST_WIDTH_PX, _MARGIN_PX, _GREY = 10, 3, 114


def crowds(pictures: Sequence[Labelled], canvas: Canvas, count: int) -> dict[str, list[NDArray[np.uint8]]]:
    """`count` NV12 canvases of each kind, the most crowded pictures first. Raises ExportError: nothing to pack."""
    busiest = sorted(pictures, key=lambda one: -int((~one.ignored).sum()))[:count]
    cuts = _cuts(pictures, canvas)
    rng = np.random.default_rng(0)
    return {
        "street": [one.frames for one in busiest],
        "pasted": [_pasted(pictures, GRIDS[index % len(GRIDS)], canvas, rng) for index in range(count)],
        "packed": [_packed(cuts, pictures, canvas, rng) for _ in range(count)],
    }


def _pasted(pictures: Sequence[Labelled], side: int, canvas: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`side` x `side` pictures on one canvas: as many times the objects, each that much smaller."""
    width, height = canvas.width // side, canvas.height // side
    result = _blank(canvas)
    for cell, index in enumerate(rng.integers(0, len(pictures), side * side)):
        top, left = cell // side * height, cell % side * width
        part = cv2.resize(pictures[index].picture, (width, height), interpolation=cv2.INTER_AREA)
        result[top : top + height, left : left + width] = part
    return canvas_of(result, canvas)[0]


def _packed(
    cuts: Sequence[NDArray[np.uint8]], pictures: Sequence[Labelled], canvas: Canvas, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Rows of objects that touch or overlap a little, over a street, until the canvas is full."""
    ground = pictures[int(rng.integers(len(pictures)))].picture
    result = np.asarray(cv2.resize(ground, (canvas.width, canvas.height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    spacing = rng.uniform(*SPACING)
    top = 0
    while top < canvas.height:
        left, heights = 0, []
        while left < canvas.width:
            cut = cuts[int(rng.integers(len(cuts)))][: canvas.height - top, : canvas.width - left]
            result[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
            left += max(1, int(cut.shape[1] * spacing))
            heights.append(cut.shape[0])
        top += max(1, int(np.mean(heights) * spacing))
    return canvas_of(result, canvas)[0]


def _cuts(pictures: Sequence[Labelled], canvas: Canvas) -> list[NDArray[np.uint8]]:
    """Objects cut out of the pictures, BGR, at the size that they have on the canvas."""
    found = []
    for one in pictures:
        height, width = one.picture.shape[:2]
        scale = min(canvas.width / width, canvas.height / height)
        scaled = cv2.resize(one.picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for x1, y1, x2, y2 in one.boxes[~one.ignored, 1:] * scale:
            left, top = max(0, int(x1) - _MARGIN_PX), max(0, int(y1) - _MARGIN_PX)
            cut = np.asarray(scaled[top : int(y2) + _MARGIN_PX, left : int(x2) + _MARGIN_PX], dtype=np.uint8)
            if CUT_PX[0] <= cut.shape[0] <= CUT_PX[1] and cut.shape[1] >= _LEAST_WIDTH_PX:
                found.append(cut)
    if not found:
        raise ExportError(f"no labelled object is {CUT_PX[0]} to {CUT_PX[1]} px high on the canvas: nothing to pack")
    return found


def _blank(canvas: Canvas) -> NDArray[np.uint8]:
    return np.full((canvas.height, canvas.width, 3), _GREY, dtype=np.uint8)
