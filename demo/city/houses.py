"""Rows of houses along walls: walls, roofs, windows, shops, doors; the farthest drawn first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.city.places import CROSS_WALL_M, FACADE_T, WALL_T
from demo.city.shapes import Lens, Point
from demo.scenes import Scene

_NEAR_M = 1.5
_PLASTER = ((120, 150, 175), (150, 165, 170), (95, 105, 150), (165, 170, 165), (130, 140, 140), (110, 150, 190),
            (140, 160, 150), (175, 185, 195), (85, 95, 125))  # fmt: skip
_ROOFS = ((70, 75, 110), (70, 70, 75), (60, 65, 95))

Colour = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Wall:
    """A line of houses' fronts on the place, in metres (s, t)."""

    start: Point
    end: Point

    def at(self, along_m: float) -> Point:
        """The point so far along it."""
        share = along_m / self.length
        return self.start[0] + (self.end[0] - self.start[0]) * share, self.start[1] + (
            self.end[1] - self.start[1]
        ) * share

    @property
    def length(self) -> float:
        """Metres."""
        return math.dist(self.start, self.end)


def walls_of(scene: Scene) -> list[Wall]:
    """The fronts that a place has; the first is the one across from the camera."""
    aim, near = scene.aim_s, scene.view.distance_m
    far = -math.copysign(1.0, near)
    if scene.view.kind == "street":
        walls = [Wall((aim - 72, far * FACADE_T), (aim + 150, far * FACADE_T))]
        if abs(near) < FACADE_T:  # the camera stands before this wall, not behind it
            walls.append(Wall((aim - 72, -far * FACADE_T), (aim + 150, -far * FACADE_T)))
        return walls
    if scene.view.kind == "crossing":
        edges = (aim - CROSS_WALL_M, aim + CROSS_WALL_M)
        walls = [Wall((aim - 80, far * FACADE_T), (edges[0], far * FACADE_T))]
        walls.append(Wall((edges[1], far * FACADE_T), (aim + 150, far * FACADE_T)))
        return walls + [Wall((edge, far * FACADE_T), (edge, far * 90)) for edge in edges]
    return [Wall((aim - 110, WALL_T), (aim + 150, WALL_T))]


def draw_houses(
    image: NDArray[np.uint8],
    scene: Scene,
    lens: Lens,
    tint: Colour,
    haze: Callable[[float], float],
    air: Colour,
    rng: np.random.Generator,
) -> None:
    """All houses of a place."""
    plots: list[tuple[float, Wall, float, float]] = []
    for wall in walls_of(scene):
        at = 0.0
        while at < wall.length:
            end = min(wall.length, at + float(rng.uniform(7, 15)))
            plots.append((-scene.to_world(*wall.at((at + end) / 2))[1], wall, at, end))
            at = end
    for _, wall, a, b in sorted(plots, key=lambda plot: plot[0]):
        _House(image, scene, lens, wall, tint, haze, air, rng).draw(a, b)


class _House:
    """One house between two points of a wall."""

    def __init__(
        self,
        image: NDArray[np.uint8],
        scene: Scene,
        lens: Lens,
        wall: Wall,
        tint: Colour,
        haze: Callable[[float], float],
        air: Colour,
        rng: np.random.Generator,
    ) -> None:
        self._image, self._scene, self._lens, self._wall = image, scene, lens, wall
        self._haze, self._air, self._rng = haze, air, rng
        self._tint = tint * rng.uniform(0.78, 1.0)
        self._is_dark = scene.view.light in ("night", "dusk")

    def draw(self, a: float, b: float) -> None:
        """Wall, roof, then what is on it."""
        rng = self._rng
        wall = np.array(_PLASTER[int(rng.integers(len(_PLASTER)))], dtype=float)
        floors = int(rng.integers(3, 6))
        top = floors * 3.1 + 1.2
        self._panel(a, b, top, top + float(rng.choice([0.0, 1.4, 2.2])), np.array(_ROOFS[int(rng.integers(3))]))
        self._panel(a, b, 0, top, wall)
        self._panel(a, b, top - 0.35, top, wall * 0.7)
        self._panel(a, b, 0, 0.6, wall * 0.62)
        self._panel(b - 0.25, b, 0, top, wall * 0.86)
        is_shop = bool(rng.random() < 0.5)
        if is_shop:
            self._shop(a, b, wall)
        else:
            door = a + (b - a) * float(rng.uniform(0.2, 0.8))
            self._panel(door - 0.6, door + 0.6, 0, 2.4, wall * 1.15)
            self._panel(door - 0.48, door + 0.48, 0, 2.25, np.array([rng.uniform(30, 120) for _ in range(3)]))
        self._windows(a, b, floors, wall, first=1 if is_shop else 0)

    def _shop(self, a: float, b: float, wall: Colour) -> None:
        rng = self._rng
        sign = np.array([rng.uniform(40, 190) for _ in range(3)])
        self._panel(a + 0.5, b - 0.5, 2.6, 3.2, sign, lit=0.5 if self._is_dark else 0)
        glass = np.array((150, 200, 225)) if self._is_dark else np.array((112, 122, 112))
        self._panel(a + 0.7, b - 0.7, 0.5, 2.5, glass, lit=0.8 if self._is_dark else 0)
        shelf = a + 0.9
        while shelf < b - 1.4:  # things in the window
            wide, tall = float(rng.uniform(0.3, 0.9)), float(rng.uniform(0.4, 1.3))
            goods = np.array([rng.uniform(40, 170) for _ in range(3)])
            self._panel(shelf, shelf + wide, 0.55, 0.55 + tall, goods, lit=0.35 if self._is_dark else 0)
            shelf += wide + float(rng.uniform(0.2, 0.8))
        self._panel((a + b) / 2 - 0.55, (a + b) / 2 + 0.55, 0.1, 2.4, wall * 0.5)

    def _windows(self, a: float, b: float, floors: int, wall: Colour, first: int) -> None:
        rng = self._rng
        count = max(2, round((b - a) / 2.3))
        step = (b - a) / count
        has_balconies = rng.random() < 0.25
        for floor in range(first, floors):
            for number in range(count):
                middle, low = a + step * (number + 0.5), floor * 3.1 + 1.1
                is_lit = self._is_dark and rng.random() < 0.35
                glass = np.array((110, 190, 235)) if is_lit else np.array((108, 94, 80)) * rng.uniform(0.8, 1.15)
                self._panel(middle - 0.62, middle + 0.62, low - 0.12, low + 1.7, wall * 1.15)
                self._panel(middle - 0.5, middle + 0.5, low, low + 1.6, glass, lit=0.9 if is_lit else 0)
                if not is_lit:  # a piece of sky in the upper half
                    self._panel(middle - 0.5, middle + 0.5, low + 0.95, low + 1.6, glass * 1.3)
                self._panel(middle - 0.03, middle + 0.03, low, low + 1.6, wall * 1.05)
                if has_balconies and floor > 0 and number % 2 == 0:
                    self._panel(middle - 0.95, middle + 0.95, low - 0.45, low + 0.45, wall * 0.8)

    def _panel(self, a: float, b: float, low: float, top: float, colour: Colour, lit: float = 0.0) -> None:
        """A rectangle on the wall; `lit` 0..1: how much of its light is its own."""
        ends = self._before_camera(a, b)
        if ends is None or top <= low:
            return
        places = [self._scene.to_world(*self._wall.at(along)) for along in ends]
        share = self._haze((places[0][1] + places[1][1]) / 2)
        if share > 0.985:
            return
        (x0, y0), (x1, y1) = places
        corners = np.array([(x0, y0, low), (x0, y0, top), (x1, y1, top), (x1, y1, low)])
        pixels = np.clip(np.round(self._lens.project(corners) * 16), -400000, 400000).astype(np.int32)
        shone = colour * (self._tint * (1 - lit) + lit)
        mixed = shone * (1 - share) + self._air * share
        cv2.fillConvexPoly(self._image, pixels, tuple(float(v) for v in mixed), cv2.LINE_AA, 4)

    def _before_camera(self, a: float, b: float) -> tuple[float, float] | None:
        """The part of the wall between a and b that lies at least 1.5 m before the camera."""
        y0, y1 = (self._scene.to_world(*self._wall.at(along))[1] for along in (a, b))
        if max(y0, y1) <= _NEAR_M:
            return None
        crossing = a + (b - a) * (_NEAR_M - y0) / (y1 - y0) if y0 != y1 else a
        return (crossing if y0 < _NEAR_M else a), (crossing if y1 < _NEAR_M else b)
