"""What the objects look like: lists of filled polygons, already projected to pixels.

A vehicle is a solid (a side profile stretched to its width); people and bicycles are flat figures that face the camera.
"""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.scenes import BICYCLE, BUS, CAR, PERSON, Placed

Floats = NDArray[np.float64]
Colour = tuple[float, float, float]  # blue, green, red, 0..255
Point = tuple[float, float]
Corner = tuple[float, float, float]
Part = tuple[int, int, Colour]  # rows start..stop of an array of corners, and what they are filled with
Figure = list[tuple[list[Point], Colour]]

_NEAR_M = 0.8
_GLASS: Colour = (92, 78, 62)
_TYRE: Colour = (28, 26, 26)
_HUB: Colour = (150, 150, 150)
_TRIM: Colour = (225, 228, 228)
_SIGN: Colour = (60, 190, 240)
_POST: Colour = (75, 80, 78)
_LAMP: Colour = (150, 150, 150)
_LAMP_LIT: Colour = (330, 420, 500)
_HAIR: tuple[Colour, ...] = ((30, 32, 38), (40, 60, 95), (120, 165, 190))
_TAIL: Colour = (60.0, 60.0, 330.0)  # above 255: lamps stay bright when the picture is dark
_HEAD: Colour = (480.0, 540.0, 560.0)
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
        depth = np.maximum(points[:, 1], _NEAR_M)
        x = self.centre_px + self.focal_px * points[:, 0] / depth
        y = self.horizon_px + self.focal_px * (self.camera_m - points[:, 2]) / depth
        return np.stack([x, y], axis=1)


@dataclass(frozen=True, slots=True)
class Shape:
    """Filled polygons in the order they are drawn: corners in pixels (n, 2), and (start, stop, colour) of each."""

    corners: Floats
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Solid:
    """A vehicle's sides in its own metres: forward, left, up. One multiplication moves all corners."""

    corners: Floats  # (n, 3)
    normals: Floats  # (sides, 3), of length 1
    centres: Floats  # (sides, 3)
    layers: tuple[tuple[Part, ...], ...]  # of each side, what is painted on it, the bare side first

    @classmethod
    def of(cls, sides: Sequence[Side]) -> Solid:
        """Lay the sides end to end."""
        corners: list[Corner] = []
        layers = [tuple(_append(corners, outline, colour) for outline, colour in side.layers) for side in sides]
        normals = np.array([side.normal for side in sides], dtype=float)
        centres = np.array([np.mean(side.layers[0][0], axis=0) for side in sides])
        return cls(np.array(corners), normals / np.linalg.norm(normals, axis=1)[:, None], centres, tuple(layers))


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a solid: where it faces, and outlines in metres with their colours."""

    normal: Corner
    layers: Sequence[tuple[Sequence[Corner], Colour]]


def _append(corners: list[Any], outline: Iterable[Any], colour: Colour) -> Part:
    start = len(corners)
    corners.extend(outline)
    return start, len(corners), colour


def solid(class_id: int, looks: tuple[float, ...]) -> Solid:
    """The solid of a car or a bus with these looks."""
    return _bus(looks) if class_id == BUS else _car(looks)


def solid_shape(body: Solid, placed: Placed, lens: Lens) -> Shape:
    """The sides that the camera sees, farthest first, shaded by the sun."""
    hx, hy = placed.heading
    turn = np.array([[hx, hy, 0.0], [-hy, hx, 0.0], [0.0, 0.0, 1.0]])
    offset = np.array([placed.x, placed.y, 0.0])
    pixels = lens.project(body.corners @ turn + offset)
    normals = body.normals @ turn
    from_camera = body.centres @ turn + (offset - np.array([0.0, 0.0, lens.camera_m]))
    seen = np.flatnonzero((normals * from_camera).sum(axis=1) < 0)
    distance = (from_camera**2).sum(axis=1)
    shade = (0.72 + 0.33 * np.maximum(0.0, normals @ _SUN)).tolist()
    rows: list[int] = []
    parts: list[Part] = []
    for side in sorted(seen.tolist(), key=lambda i: -distance[i]):
        for start, stop, colour in body.layers[side]:
            parts.append(_append(rows, range(start, stop), _times(colour, shade[side])))
    return Shape(pixels[rows], parts)


def figure_shape(placed: Placed, lens: Lens) -> Shape:
    """A person, or a bicycle with its rider."""
    outlines, tall = _person(placed) if placed.mover.class_id == PERSON else _bicycle(placed)
    corners: list[Point] = []
    parts = [_append(corners, outline, colour) for outline, colour in outlines]
    foot = lens.project(np.array([[placed.x, placed.y, 0.0]]))[0]
    scale = lens.focal_px / max(placed.y, _NEAR_M) * tall
    return Shape(foot + np.array(corners) * (scale, -scale), parts)


def footprint(placed: Placed, lens: Lens) -> Floats:
    """The shadow on the ground, pixels (n, 2)."""
    hx, hy = placed.heading
    ground = _FOOTPRINTS[placed.mover.class_id] @ np.array([[hx, hy, 0.0], [-hy, hx, 0.0], [0.0, 0.0, 0.0]])
    return lens.project(ground + np.array([placed.x + 0.18, placed.y - 0.1, 0.0]))


def post_shape(x: float, y: float, lens: Lens, *, lit: bool) -> Shape:
    """A lamp post."""
    shaft = [(x - 0.07, y, 0), (x - 0.05, y, 5.6), (x + 0.05, y, 5.6), (x + 0.07, y, 0)]
    head = [(x - 0.5, y, 5.55), (x - 0.4, y, 5.75), (x + 0.4, y, 5.75), (x + 0.5, y, 5.55)]
    return Shape(lens.project(np.array(shaft + head)), [(0, 4, _POST), (4, 8, _LAMP_LIT if lit else _LAMP)])


def tree_shape(x: float, y: float, lens: Lens, rng: np.random.Generator) -> Shape:
    """A trunk and a crown of leafy blobs, the lower ones darker."""
    tall, hue, fresh = rng.uniform(0.85, 1.15), rng.uniform(0.22, 0.34), rng.uniform(0.35, 0.6)
    corners: list[Corner] = []
    trunk = [(x - 0.13, y, 0.0), (x - 0.09, y, 3.2), (x + 0.09, y, 3.2), (x + 0.13, y, 0.0)]
    parts = [_append(corners, trunk, (48, 66, 84))]
    for _ in range(11):
        side, up, size = rng.normal(0, 0.75), rng.uniform(2.5, 4.9) * tall, rng.uniform(0.5, 0.95)
        rough = rng.uniform(0.85, 1.15, 16)
        blob = [(x + side + size * k * c, y, up + size * k * s) for (c, s), k in zip(_CIRCLES[16], rough, strict=True)]
        light = 0.55 + 0.13 * up / tall
        parts.append(_append(corners, blob, _times(_hsv(hue, 0.55, fresh), light)))
    return Shape(lens.project(np.array(corners)), parts)


def _circle(corners: int) -> list[Point]:
    steps = [2 * math.pi * i / corners for i in range(corners)]
    return [(math.cos(a), math.sin(a)) for a in steps]


def _outline(length: float, width: float, power: float) -> Floats:
    """An oval (power 1) or a rounded rectangle (0.5) on the ground, metres (16, 3)."""
    c, s = np.array(_circle(16)).T
    x, y = np.sign(c) * np.abs(c) ** power * length / 2, np.sign(s) * np.abs(s) ** power * width / 2
    return np.stack([x, y, np.zeros(16)], axis=1)


_CIRCLES = {corners: _circle(corners) for corners in (8, 12, 14, 16)}
_FOOTPRINTS = {
    PERSON: _outline(0.55, 0.5, 1.0),
    CAR: _outline(4.7, 2.0, 0.5),
    BUS: _outline(11.4, 2.8, 0.5),
    BICYCLE: _outline(1.7, 0.5, 1.0),
}


def _paint(looks: tuple[float, ...]) -> Colour:
    """A car's colour: often grey, black or white, else anything."""
    if looks[0] < 0.45:
        grey = (45.0, 110.0, 175.0, 225.0)[int(looks[1] * 4)]
        return grey, grey, grey * 0.98
    return _hsv(looks[1], 0.55 + 0.4 * looks[2], 0.45 + 0.5 * looks[3])


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return blue * 255, green * 255, red * 255


def _times(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _strip(a: Point, b: Point, left: float, right: float) -> list[Corner]:
    """A quad across the vehicle between two points (forward, up) of its profile."""
    return [(a[0], left, a[1]), (b[0], left, b[1]), (b[0], right, b[1]), (a[0], right, a[1])]


def _flank(profile: Sequence[Point], side: float) -> list[Corner]:
    return [(forward, side, up) for forward, up in profile]


def _wheel(forward: float, side: float, radius: float, share: float = 1.0) -> list[Corner]:
    """A wheel standing on the ground, or the `share` of it around its hub."""
    reach = radius * share
    return [(forward + reach * c, side, radius + reach * s) for c, s in _CIRCLES[14 if share == 1 else 8]]


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _lamps(a: Point, b: Point, half: float, colour: Colour) -> list[tuple[list[Corner], Colour]]:
    """Two lamps in the upper part of the strip between two points of the profile."""
    low, high = (_between(a, b, 0.55), b) if b[1] > a[1] else (b, a)
    return [(_strip(low, high, s * half * 0.97, s * half * 0.6), colour) for s in (1, -1)]


def _car(looks: tuple[float, ...]) -> Solid:
    long, tall, half = 0.9 + 0.22 * looks[4], 0.95 + 0.35 * looks[5] ** 2, 0.86 + 0.1 * looks[6]
    boot = -1.6 if looks[7] < 0.6 else -2.0  # saloon or hatchback
    raw = [(-2.1, 0.3), (-2.16, 0.92), (boot, 1.0), (boot * 0.45 - 0.4, 1.46), (0.45, 1.46)]
    raw += [(1.15, 0.98), (2.02, 0.84), (2.16, 0.6), (2.1, 0.3)]
    profile = [(forward * long, up * tall) for forward, up in raw]
    paint = _paint(looks)
    sides = []
    for number, (a, b) in enumerate(itertools.pairwise(profile)):
        layers = [(_strip(a, b, half, -half), paint)]
        if number in (2, 4):  # rear window, windscreen
            pane = _strip(_between(a, b, 0.1), _between(a, b, 0.9), half * 0.86, -half * 0.86)
            layers.append((pane, _GLASS))
        if number in (0, 6):
            layers += _lamps(a, b, half, _TAIL if number == 0 else _HEAD)
        sides.append(Side((a[1] - b[1], 0.0, b[0] - a[0]), layers))
    sill, roof = profile[2][1], 1.38 * tall
    window = [(profile[2][0] * 0.85, sill), (profile[3][0] + 0.05, roof), (profile[4][0] - 0.02, roof)]
    window.append((profile[5][0] * 0.85, sill))
    pillar = [(-0.28, 0.98 * tall), (-0.28, 1.4 * tall), (-0.18, 1.4 * tall), (-0.18, 0.98 * tall)]
    for y in (half, -half):
        layers = [(_flank(profile, y), _times(paint, 0.96)), (_flank(window, y), _GLASS), (_flank(pillar, y), paint)]
        layers += [(_wheel(at * long, y, 0.34), _TYRE) for at in (-1.32, 1.35)]
        layers += [(_wheel(at * long, y, 0.34, 0.5), _HUB) for at in (-1.32, 1.35)]
        sides.append(Side((0.0, math.copysign(1, y), 0.0), layers))
    return Solid.of(sides)


def _bus(looks: tuple[float, ...]) -> Solid:
    half, length, top = 1.27, 5.0 + 0.9 * looks[4], 3.05 + 0.2 * looks[5]
    paint = _hsv(looks[1], 0.75, 0.55 + 0.4 * looks[2])
    low, waist, sill = 0.35, 1.35, 2.55
    front = [
        (_strip((length, low), (length, top), half, -half), paint),
        (_strip((length, 1.15), (length, sill + 0.1), half * 0.94, -half * 0.94), _GLASS),
        (_strip((length, sill + 0.18), (length, top - 0.08), half * 0.6, -half * 0.6), _SIGN),
        *_lamps((length, 0.95), (length, 0.6), half, _HEAD),
    ]
    rear = [
        (_strip((-length, low), (-length, top), half, -half), _times(paint, 0.95)),
        (_strip((-length, 1.7), (-length, sill), half * 0.8, -half * 0.8), _GLASS),
        *_lamps((-length, 0.9), (-length, 1.3), half, _TAIL),
    ]
    roof = [(_strip((-length, top), (length, top), half, -half), _TRIM)]
    sides = [Side((1, 0, 0), front), Side((-1, 0, 0), rear), Side((0, 0, 1), roof)]
    band = sill + 0.15
    for y in (half, -half):
        layers = [(_flank([(-length, low), (-length, top), (length, top), (length, low)], y), paint)]
        layers.append((_flank([(-length, band), (-length, top), (length, top), (length, band)], y), _TRIM))
        for number in range(6):
            a, b = -length + length / 3 * number + 0.12, -length + length / 3 * (number + 1) - 0.12
            bottom = 0.5 if y < 0 and number in (2, 5) else waist  # doors on the kerb's side
            layers.append((_flank([(a, bottom), (a, sill), (b, sill), (b, bottom)], y), _GLASS))
        layers += [(_wheel(at, y, 0.48), _TYRE) for at in (-length * 0.6, length * 0.62)]
        sides.append(Side((0.0, math.copysign(1, y), 0.0), layers))
    return Solid.of(sides)


def _limb(a: Point, b: Point, thick: float) -> list[Point]:
    """A bar between two points, metres."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    n = math.hypot(dx, dy) or 1.0
    ox, oy = -dy / n * thick / 2, dx / n * thick / 2
    return [(a[0] + ox, a[1] + oy), (b[0] + ox, b[1] + oy), (b[0] - ox, b[1] - oy), (a[0] - ox, a[1] - oy)]


def _oval(x: float, y: float, rx: float, ry: float, corners: int = 12) -> list[Point]:
    return [(x + rx * c, y + ry * s) for c, s in _CIRCLES[corners]]


def _skin(looks: tuple[float, ...]) -> Colour:
    return 95 + 90 * looks[5], 125 + 90 * looks[5], 165 + 75 * looks[5]


def _person(placed: Placed) -> tuple[Figure, float]:
    """Outlines in metres (x to the right, y up) around the feet, and what to multiply them by.

    Legs and arms swing with the way travelled.
    """
    looks = placed.mover.looks
    e = placed.heading[0]  # how much of its walk is sideways to the camera
    swing = math.sin(placed.travelled_m * 2 * math.pi / 1.4 + looks[7] * 6) * (
        1.0 if placed.mover.rhythm.speed else 0.1
    )
    stride, wide = 0.26 * swing * e, 0.13 + 0.1 * (1 - e * e)
    lift = 0.05 * swing * (1 - e * e)
    shirt = _hsv(looks[0], 0.3 + 0.6 * looks[1], 0.35 + 0.6 * looks[2])
    trousers = _hsv(0.55 + 0.15 * looks[3], 0.15 + 0.4 * looks[1], 0.18 + 0.45 * looks[3])
    gap, shoulder = wide * 0.45, (wide * 0.95, 1.38)
    torso = [
        (-wide, 1.42),
        (-wide * 0.5, 1.5),
        (wide * 0.5, 1.5),
        (wide, 1.42),
        (wide * 0.85, 0.85),
        (-wide * 0.85, 0.85),
    ]
    figure: Figure = [
        (_limb((gap, 0.88), (gap - stride, max(0.0, lift)), 0.15), _times(trousers, 0.8)),
        (_limb(shoulder, (wide * 1.1 + stride * 0.9, 0.85), 0.09), _times(shirt, 0.75)),
        (_limb((-gap, 0.88), (-gap + stride, max(0.0, -lift)), 0.15), trousers),
        (torso, shirt),
        (_limb((-shoulder[0], shoulder[1]), (-wide * 1.1 - stride * 0.9, 0.85), 0.09), _times(shirt, 0.88)),
        (_oval(0.02 * e, 1.63, 0.105, 0.13), _skin(looks)),
        (_oval(-0.02 * e, 1.69, 0.11, 0.09), _HAIR[int(looks[6] * 3)]),
    ]
    return figure, 0.92 + 0.16 * looks[4]


def _ring(x: float, squeeze: float, radius: float) -> list[Point]:
    """A wheel's rim as one outline, out and back."""
    outer = _oval(x, radius, radius * squeeze + 0.02, radius, 16)
    inner = _oval(x, radius, max(0.01, radius * squeeze - 0.05), radius - 0.055, 16)
    return [*outer, outer[0], inner[0], *reversed(inner)]


def _bicycle(placed: Placed) -> tuple[Figure, float]:
    """Outlines around the point between the wheels, as `_person` gives them; the rider belongs to the bicycle."""
    looks = placed.mover.looks
    e = math.copysign(max(abs(placed.heading[0]), 0.12), placed.heading[0])
    front = 1 - abs(e)
    frame = _hsv(looks[0], 0.8, 0.35 + 0.5 * looks[1])
    shirt = _hsv(looks[2], 0.35 + 0.6 * looks[3], 0.45 + 0.5 * looks[1])
    figure: Figure = [(_ring(x * e, abs(e), 0.35), _TYRE) for x in (-0.53, 0.53)]
    bars = [((-0.53, 0.35), (0.0, 0.3)), ((0.0, 0.3), (-0.2, 0.88)), ((-0.2, 0.8), (0.4, 0.82))]
    bars += [((0.0, 0.3), (0.4, 0.82)), ((0.4, 1.0), (0.53, 0.35)), ((-0.53, 0.35), (-0.2, 0.8))]
    figure += [(_limb((a[0] * e, a[1]), (b[0] * e, b[1]), 0.06), frame) for a, b in bars]
    figure.append((_limb((0.42 * e - 0.3 * front, 1.02), (0.42 * e + 0.3 * front, 1.02), 0.05), _TYRE))
    hip, neck = (-0.22 * e, 1.0), (0.2 * e, 1.45)
    figure += _pedalling(placed, e, hip, _hsv(0.6, 0.3, 0.2 + 0.3 * looks[4]))
    wide = 0.12 + 0.1 * front
    torso = [(hip[0] - wide, 0.95), (neck[0] - wide, 1.4), (neck[0] + wide * 0.7, 1.48), (neck[0] + wide, 1.3)]
    figure.append(([*torso, (hip[0] + wide, 0.92)], shirt))
    figure.append((_limb((neck[0], 1.36), (0.42 * e + 0.2 * front, 1.04), 0.08), _times(shirt, 0.85)))
    figure.append((_oval(neck[0] + 0.07 * e, 1.62, 0.11, 0.13), _skin(looks)))
    figure.append((_oval(neck[0] + 0.05 * e, 1.69, 0.13, 0.09), _hsv(looks[5], 0.6, 0.7)))  # helmet
    return figure, 1.0


def _pedalling(placed: Placed, e: float, hip: Point, trousers: Colour) -> Figure:
    """Both legs, the far one first and darker."""
    turn = placed.travelled_m * 2.2
    legs: Figure = []
    for way, shade in ((-1, 0.75), (1, 1.0)):
        foot = way * 0.16 * math.cos(turn) * e, 0.3 + way * 0.16 * math.sin(turn)
        knee = 0.12 * e - 0.1 * (1 - abs(e)) * way, 0.78 + 0.5 * (foot[1] - 0.3)
        legs.append((_limb(hip, knee, 0.15), _times(trousers, shade)))
        legs.append((_limb(knee, foot, 0.11), _times(trousers, shade)))
    return legs
