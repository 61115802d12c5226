"""What drawing is made of: the camera's projection, filled polygons, solids with sides, colours."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Colour = tuple[float, float, float]  # blue, green, red, 0..255; above that for what gives light
Point = tuple[float, float]
Corner = tuple[float, float, float]
Part = tuple[int, int, Colour]  # rows start..stop of an array of corners, and what they are filled with
Figure = list[tuple[list[Point], Colour]]

NEAR_M = 0.8
_SUN = np.array([-0.45, -0.35, 0.82])


@dataclass(frozen=True, slots=True)
class Lens:
    """The camera's projection: focal length and offsets in pixels, height in metres. Verticals stay vertical."""

    focal_px: float
    centre_px: float
    horizon_px: float
    camera_m: float

    def project(self, points: Floats) -> Floats:
        """World metres (n, 3) to pixels (n, 2); what lies behind the camera is moved to just before it."""
        depth = np.maximum(points[:, 1], NEAR_M)
        x = self.centre_px + self.focal_px * points[:, 0] / depth
        y = self.horizon_px + self.focal_px * (self.camera_m - points[:, 2]) / depth
        return np.stack([x, y], axis=1)


@dataclass(frozen=True, slots=True)
class Shape:
    """Filled polygons in the order they are drawn: corners in pixels (n, 2), and (start, stop, colour) of each."""

    corners: Floats
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a solid: where it faces, and outlines in metres with their colours."""

    normal: Corner
    layers: Sequence[tuple[Sequence[Corner], Colour]]


@dataclass(frozen=True, slots=True)
class Solid:
    """Sides in the object's own metres: forward, left, up. One multiplication moves all corners."""

    corners: Floats  # (n, 3)
    normals: Floats  # (sides, 3), of length 1
    centres: Floats  # (sides, 3)
    layers: tuple[tuple[Part, ...], ...]  # of each side, what is painted on it, the bare side first

    @classmethod
    def of(cls, sides: Sequence[Side]) -> Solid:
        """Lay the sides end to end."""
        corners: list[Corner] = []
        layers = [tuple(append(corners, outline, colour) for outline, colour in side.layers) for side in sides]
        normals = np.array([side.normal for side in sides], dtype=float)
        centres = np.array([np.mean(side.layers[0][0], axis=0) for side in sides])
        return cls(np.array(corners), normals / np.linalg.norm(normals, axis=1)[:, None], centres, tuple(layers))


def append(corners: list[Any], outline: Iterable[Any], colour: Colour) -> Part:
    """Add an outline to the corners; returns the part that it makes."""
    start = len(corners)
    corners.extend(outline)
    return start, len(corners), colour


def solid_shape(body: Solid, at: Point, heading: Point, lens: Lens) -> Shape:
    """The sides that the camera sees, farthest first, shaded by the sun."""
    hx, hy = heading
    turn = np.array([[hx, hy, 0.0], [-hy, hx, 0.0], [0.0, 0.0, 1.0]])
    offset = np.array([at[0], at[1], 0.0])
    pixels = lens.project(body.corners @ turn + offset)
    normals = body.normals @ turn
    from_camera = body.centres @ turn + (offset - np.array([0.0, 0.0, lens.camera_m]))
    seen = np.flatnonzero((normals * from_camera).sum(axis=1) < 0)
    distance = (from_camera**2).sum(axis=1)
    shade = (0.68 + 0.37 * np.maximum(0.0, normals @ _SUN)).tolist()
    rows: list[int] = []
    parts: list[Part] = []
    for side in sorted(seen.tolist(), key=lambda i: -distance[i]):
        for start, stop, colour in body.layers[side]:
            parts.append(append(rows, range(start, stop), times(colour, shade[side])))
    return Shape(pixels[rows], parts)


def circle(corners: int) -> list[Point]:
    """Corners of a circle of radius 1."""
    steps = [2 * math.pi * i / corners for i in range(corners)]
    return [(math.cos(a), math.sin(a)) for a in steps]


CIRCLES = {corners: circle(corners) for corners in (8, 12, 14, 16)}


def oval(x: float, y: float, rx: float, ry: float, corners: int = 12) -> list[Point]:
    """An ellipse."""
    return [(x + rx * c, y + ry * s) for c, s in CIRCLES[corners]]


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """All in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return blue * 255, green * 255, red * 255


def times(colour: Colour, factor: float) -> Colour:
    """Lighter or darker; what gives light keeps it."""
    if max(colour) > 255:
        return colour
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def between(a: Point, b: Point, share: float) -> Point:
    """A point on the way from a to b."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
