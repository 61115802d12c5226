"""What the ground looks like: asphalt, paint, paving, grass, looked up for every pixel in the place's own metres."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.city.places import (
    AISLE_T,
    BAY_M,
    CROSS_HALF_M,
    CROSS_WALL_M,
    CYCLE_T,
    FACADE_T,
    FAR_ROAD_T,
    KERB_T,
    ROW_T,
    ZEBRA_HALF_M,
)
from demo.city.shapes import Lens
from demo.scenes import Scene

Floats = NDArray[Any]  # 32-bit pictures; NumPy's own types change with every operation
Mask = NDArray[np.bool_]
_TILE = 512
_PAINT = (205, 208, 208)


def noise_tile(rng: np.random.Generator) -> Floats:
    """FP32 (512, 512) in about -1..1 with coarse and fine grain."""
    total = np.zeros((_TILE, _TILE), dtype=np.float32)
    for cells, weight in ((8, 0.5), (32, 0.3), (128, 0.4), (_TILE, 0.45)):
        grain = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        total += weight * cv2.resize(grain, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
    return total


class Ground:
    """The ground below the horizon from row `top` on: every pixel's place and depth in metres, then its colour."""

    def __init__(self, scene: Scene, lens: Lens, size_px: tuple[int, int], top: int, rng: np.random.Generator) -> None:
        width, height = size_px
        rows = np.arange(top, height, dtype=np.float32)[:, None]
        self.depth = lens.focal_px * lens.camera_m / (rows - np.float32(lens.horizon_px))
        x = (np.arange(width, dtype=np.float32)[None] - lens.centre_px) * self.depth / lens.focal_px
        (ax, ay), (nx, ny) = scene.axes
        self.s = np.asarray(x * ax + self.depth * ay, dtype=np.float32)
        self.t = np.asarray(x * nx + self.depth * ny + scene.view.distance_m, dtype=np.float32)
        self._aim, self._kind = scene.aim_s, scene.view.kind
        self._fade = np.clip(1.4 - self.depth / 45, 0.1, 1)
        self._grain = _lookup(noise_tile(rng), self.s * 9, self.t * 9)
        self._coarse = _lookup(noise_tile(rng), self.s * 1.5, self.t * 1.5)
        self._patches = _lookup(noise_tile(rng), self.s * 0.5 + 90, self.t * 2.2)
        self.is_hard: Mask = np.zeros(self.s.shape, dtype=np.bool_)  # asphalt and paving: gets wet, shines

    def colour(self) -> Floats:
        """FP32 (rows, columns, 3), BGR in daylight."""
        self.is_hard[:] = True
        if self._kind == "street":
            return self._street()
        if self._kind == "crossing":
            return self._crossing()
        return self._parking() if self._kind == "parking" else self._open()

    def _asphalt(self) -> Floats:
        value = 86 + 7 * self._coarse + 12 * self._grain * self._fade
        value -= 13 * (self._patches > 0.55)  # where it was mended
        value -= 9 * np.exp(-(((np.abs(self.t) % 3.5) - 1.75) ** 2) / 0.5) * (np.abs(self.t) < 3.5)  # worn by wheels
        return cast("Floats", value[..., None] * _bgr(1.03, 1.0, 0.99))

    def _paving(self, size: float, value: float) -> Floats:
        joints = ((self.s % size) < 0.06 * size) | ((self.t % size) < 0.06 * size)
        tone = _lookup_cells(self.s, self.t, size) * 9
        grey = (value + tone + 6 * self._coarse + 8 * self._grain * self._fade) * (1 - 0.15 * joints * self._fade)
        return cast("Floats", grey[..., None] * _bgr(0.95, 0.99, 1.01))

    def _grass(self) -> Floats:
        value = 92 + 16 * self._coarse + 22 * self._grain * self._fade
        return cast("Floats", value[..., None] * _bgr(0.52, 1.0, 0.72))

    def _street(self) -> Floats:
        colour, side = self._asphalt(), np.abs(self.t)
        lane = (side > 3.5) & (side < 5.0)
        colour[lane] *= _bgr(0.80, 0.86, 1.16)
        self._pavements(colour, side > KERB_T)
        from_zebra = np.abs(self.s - self._aim)
        middle = (side < 0.08) & (self.s % 6 < 3) & (from_zebra > 4)
        edge = (np.abs(side - 3.5) < 0.06) | (np.abs(side - CYCLE_T - 0.8) < 0.05) & (self.s % 2 < 1.2)
        bays = (np.abs(self.s % 6.4 - 3.2) < 0.05) & (side > 5.1) & (side < KERB_T) & (from_zebra > 5)
        stripes = (from_zebra < ZEBRA_HALF_M) & (self.t % 1.0 < 0.5) & (side < KERB_T - 0.3)
        stop = (np.abs(from_zebra - 3.0) < 0.2) & (side < 3.4) & ((self.t > 0) == (self.s < self._aim))
        self._paint((middle | edge | bays) & (from_zebra > ZEBRA_HALF_M) | stripes | stop, colour)
        return colour

    def _crossing(self) -> Floats:
        colour, side, cross = self._asphalt(), np.abs(self.t), np.abs(self.s - self._aim)
        on_other = cross < CROSS_HALF_M
        colour[(side > 3.5) & (side < 5.0) & ~on_other] *= _bgr(0.80, 0.86, 1.16)
        self._pavements(colour, (side > KERB_T) & ~on_other)
        away, beyond = cross > 8.2, side > 11.0
        lines = (side < 0.08) & (self.s % 6 < 3) & away | (cross < 0.08) & (self.t % 6 < 3) & beyond
        lines |= (np.abs(side - 3.5) < 0.06) & (cross > 9.4) | (np.abs(cross - CROSS_HALF_M + 0.3) < 0.06) & beyond
        stripes = (np.abs(cross - 6.2) < 1.6) & (self.t % 1.0 < 0.5) & (side < KERB_T - 0.3)
        stripes |= (np.abs(side - 9.0) < 1.5) & (self.s % 1.0 < 0.5) & (cross < CROSS_HALF_M - 0.2)
        stop = (np.abs(cross - 9.0) < 0.2) & (side < 3.4) & ((self.t > 0) == (self.s < self._aim))
        stop |= (np.abs(side - 11.3) < 0.2) & (cross < 3.4) & ((self.s > self._aim) == (self.t > 0))
        self._paint(lines | stripes | stop, colour)
        return colour

    def _parking(self) -> Floats:
        colour = self._asphalt()
        paint = np.zeros(self.s.shape, dtype=np.bool_)
        from_line = np.abs((self.s - self._aim) / BAY_M % 1.0 - 0.5)
        for row in ROW_T:
            paint |= (np.abs(self.t - row) < 2.6) & (from_line < 0.022)
        paint |= np.abs(self.t - (ROW_T[1] + ROW_T[2]) / 2) < 0.08
        arrows = np.abs(self.s % 9.0 - 4.5) < 0.9
        for aisle in AISLE_T:
            for way in (-1, 1):
                body = (np.abs(self.t - aisle - way * 1.4) < 0.1) & arrows
                paint |= body | (np.abs(self.t - aisle - way * 1.4) < 0.5 - way * (self.s % 9.0 - 4.5) - 0.3) & arrows
        self._paint(paint, colour)
        outside = (self.t < ROW_T[0] - 3) | (self.t > ROW_T[3] + 3)
        self._soft(colour, outside & (self.t > -28.0))
        self._pavements(colour, self.t < -28.0)
        island = np.abs(self.t - (ROW_T[1] + ROW_T[2]) / 2) < 0.35
        self._soft(colour, island)
        return colour

    def _open(self) -> Floats:
        road = np.abs(self.t - FAR_ROAD_T) < 3.6
        if self._kind == "plaza":
            colour = self._paving(0.8, 142)
            ring = np.hypot(self.s - self._aim, (self.t + 2) * 1.3) % 7.0
            colour[(ring < 0.5) & ~road] *= 0.84
            colour[np.abs(self.t - 8.2) < 0.3] *= 0.8
        else:
            colour = self._paving(0.9, 150)
            winding = self.t - 1.2 * np.sin((self.s - self._aim) / 9.0)
            diagonal = self.t + 9.0 - (self.s - self._aim + 8.0) * 1.05
            trodden = (np.abs(winding * 0.35 + self.t * 0.65) < 1.9) | (np.abs(diagonal) < 1.9)
            self._soft(colour, ~trodden & (self.t > FAR_ROAD_T + 5.2))
        asphalt = self._asphalt()
        colour[road] = asphalt[road]
        marks = (np.abs(self.t - FAR_ROAD_T) < 0.1) & (self.s % 6 < 3) | (
            np.abs(np.abs(self.t - FAR_ROAD_T) - 3.4) < 0.1
        )
        self._paint(marks, colour)
        return colour

    def _pavements(self, colour: Floats, where: Mask) -> None:
        paving = self._paving(1.2, 146)
        colour[where] = paving[where]
        side = np.abs(self.t)
        colour[where & (side > KERB_T) & (side < KERB_T + 0.22)] *= 1.18
        self._soft(colour, side > FACADE_T + 2 if self._kind == "street" else np.zeros_like(where))
        if self._kind == "crossing":
            self._soft(colour, (self.t > FACADE_T + 2) & (np.abs(self.s - self._aim) > CROSS_WALL_M))

    def _soft(self, colour: Floats, where: Mask) -> None:
        grass = self._grass()
        colour[where] = grass[where]
        self.is_hard &= ~where

    def _paint(self, where: Mask, colour: Floats) -> None:
        worn = np.clip(1.05 + 0.35 * self._grain, 0.6, 1.0)[..., None]
        painted = colour * (1 - worn) + _bgr(*_PAINT) * worn
        colour[where] = painted[where]


def _bgr(*values: float) -> Floats:
    return np.array(values, dtype=np.float32)


def _lookup(tile: Floats, s: Floats, t: Floats) -> Floats:
    found: Floats = tile[np.floor(s).astype(np.int64) % _TILE, np.floor(t).astype(np.int64) % _TILE]
    return found


def _lookup_cells(s: Floats, t: Floats, size: float) -> Floats:
    """-1..1, one value for each paving stone."""
    a, b = np.floor(s / size).astype(np.int64), np.floor(t / size).astype(np.int64)
    cells: Floats = (((a * 73856093) ^ (b * 19349663)) % 1000).astype(np.float32) / 500 - 1
    return cells
