"""What the objects look like: lists of filled polygons, already projected to pixels.

A vehicle is a solid (a side profile stretched to its width); people and bicycles are flat figures that face the camera.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.scenes import BICYCLE, BUS, CAR, PERSON, Placed

Colour = tuple[float, float, float]  # blue, green, red, 0..255
Points = NDArray[np.float64]  # (n, 2) pixels, or (n, 3) metres where said
Polygon = tuple[Points, Colour]

_NEAR_M = 0.8
_GLASS: Colour = (92, 78, 62)
_TYRE: Colour = (28, 26, 26)
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

    def project(self, points: NDArray[np.float64]) -> Points:
        """World metres (n, 3) to pixels (n, 2); what lies behind the camera is moved to just before it."""
        depth = np.maximum(points[:, 1], _NEAR_M)
        x = self.centre_px + self.focal_px * points[:, 0] / depth
        y = self.horizon_px + self.focal_px * (self.camera_m - points[:, 2]) / depth
        return np.stack([x, y], axis=1)


@dataclass(frozen=True, slots=True)
class Face:
    """One side of a solid with what is painted on it; corners in metres (n, 3): forward, left, up."""

    normal: tuple[float, float, float]
    layers: tuple[tuple[NDArray[np.float64], Colour], ...]


@dataclass(frozen=True, slots=True)
class Solid:
    """Faces laid end to end, so that one multiplication moves all corners."""

    corners: NDArray[np.float64]
    normals: NDArray[np.float64]
    centres: NDArray[np.float64]
    layers: tuple[tuple[tuple[int, int, Colour], ...], ...]

    @classmethod
    def of(cls, faces: Sequence[Face]) -> Solid:
        """Pack the faces."""
        corners: list[NDArray[np.float64]] = []
        layers = []
        for face in faces:
            packed = []
            for points, colour in face.layers:
                start = sum(len(c) for c in corners)
                corners.append(points)
                packed.append((start, start + len(points), colour))
            layers.append(tuple(packed))
        normals = np.array([face.normal for face in faces], dtype=float)
        centres = np.array([face.layers[0][0].mean(axis=0) for face in faces])
        return cls(np.concatenate(corners), normals / np.linalg.norm(normals, axis=1)[:, None], centres, tuple(layers))


def solid(class_id: int, looks: tuple[float, ...]) -> Solid:
    """The solid of a car or a bus with these looks."""
    return _bus(looks) if class_id == BUS else _car(looks)


def solid_polygons(body: Solid, placed: Placed, lens: Lens) -> list[Polygon]:
    """The faces that the camera sees, farthest first, shaded by the sun."""
    hx, hy = placed.heading
    turn = np.array([[hx, hy, 0.0], [-hy, hx, 0.0], [0.0, 0.0, 1.0]])
    offset = np.array([placed.x, placed.y, 0.0])
    pixels = lens.project(body.corners @ turn + offset)
    normals = body.normals @ turn
    centres = body.centres @ turn + offset
    to_camera = np.array([0.0, 0.0, lens.camera_m]) - centres
    seen = np.flatnonzero((normals * to_camera).sum(axis=1) > 0)
    distance = (to_camera**2).sum(axis=1)
    shade = 0.72 + 0.33 * np.maximum(0.0, normals @ _SUN)
    polygons: list[Polygon] = []
    for face in sorted(seen, key=lambda i: -distance[i]):
        k = float(shade[face])
        polygons += [(pixels[a:b], (c[0] * k, c[1] * k, c[2] * k)) for a, b, c in body.layers[face]]
    return polygons


def footprint(placed: Placed, lens: Lens) -> Points:
    """The shadow on the ground, pixels (n, 2)."""
    length, width = {CAR: (4.7, 2.0), BUS: (11.4, 2.8), BICYCLE: (1.7, 0.5), PERSON: (0.55, 0.5)}[placed.mover.class_id]
    hx, hy = placed.heading
    angles = np.linspace(0, 2 * math.pi, 16, endpoint=False)
    squarish = 0.5 if placed.mover.class_id in (CAR, BUS) else 1.0
    forward = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** squarish * length / 2
    left = np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** squarish * width / 2
    x = placed.x + forward * hx - left * hy + 0.18
    y = placed.y + forward * hy + left * hx - 0.1
    return lens.project(np.stack([x, y, np.zeros_like(x)], axis=1))


def figure_polygons(placed: Placed, lens: Lens) -> list[Polygon]:
    """A person or a bicycle with its rider."""
    parts = _person(placed) if placed.mover.class_id == PERSON else _bicycle(placed)
    foot = lens.project(np.array([[placed.x, placed.y, 0.0]]))[0]
    scale = lens.focal_px / max(placed.y, _NEAR_M)
    return [(np.column_stack([foot[0] + p[:, 0] * scale, foot[1] - p[:, 1] * scale]), colour) for p, colour in parts]


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


def _strip(a: tuple[float, float], b: tuple[float, float], left: float, right: float) -> NDArray[np.float64]:
    """A quad across the vehicle between two points (forward, up) of its profile."""
    return np.array([(a[0], left, a[1]), (b[0], left, b[1]), (b[0], right, b[1]), (a[0], right, a[1])])


def _flank(profile: Sequence[tuple[float, float]], side: float) -> NDArray[np.float64]:
    return np.array([(forward, side, up) for forward, up in profile])


def _wheel(forward: float, side: float, radius: float, corners: int = 14) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    return np.stack(
        [forward + radius * np.cos(angles), np.full(corners, side), radius * (1 + np.sin(angles))], axis=1
    )


def _car(looks: tuple[float, ...]) -> Solid:
    long, tall, half = 0.9 + 0.22 * looks[4], 0.95 + 0.35 * looks[5] ** 2, 0.86 + 0.1 * looks[6]
    boot = -1.6 if looks[7] < 0.6 else -2.0  # saloon or hatchback
    raw = [(-2.1, 0.3), (-2.16, 0.92), (boot, 1.0), (boot * 0.45 - 0.4, 1.46), (0.45, 1.46)]
    raw += [(1.15, 0.98), (2.02, 0.84), (2.16, 0.6), (2.1, 0.3)]
    profile = [(forward * long, up * tall) for forward, up in raw]
    paint = _paint(looks)
    faces = []
    for number, (a, b) in enumerate(zip(profile, profile[1:], strict=False)):
        normal = (a[1] - b[1], 0.0, b[0] - a[0])
        layers = [(_strip(a, b, half, -half), paint)]
        if number in (2, 4):  # rear window, windscreen
            layers.append((_inner(a, b, half * 0.86), _GLASS))
        if number == 0:
            layers += _lamps(a, b, half, _TAIL)
        if number == 6:
            layers += _lamps(a, b, half, _HEAD)
        faces.append(Face(normal, tuple(layers)))
    front, rear = profile[5], profile[2]
    roof = profile[3][0], profile[4][0]
    window = [
        (rear[0] * 0.85, rear[1]), (roof[0] + 0.05, 1.38 * tall), (roof[1] - 0.02, 1.38 * tall), (front[0] * 0.85, rear[1])
    ]
    for side in (half, -half):
        layers = [(_flank(profile, side), _times(paint, 0.96)), (_flank(window, side), _GLASS)]
        layers.append((_flank([(-0.28, 0.98 * tall), (-0.28, 1.4 * tall), (-0.18, 1.4 * tall), (-0.18, 0.98 * tall)], side),
                       paint))
        layers += [(_wheel(at * long, side, 0.34), _TYRE) for at in (-1.32, 1.35)]
        layers += [(_wheel(at * long, side, 0.34)[:, :] * (1, 1, 1), _TYRE) for at in ()]
        layers += [(_hub(at * long, side), (150.0, 150.0, 150.0)) for at in (-1.32, 1.35)]
        faces.append(Face((0.0, math.copysign(1, side), 0.0), tuple(layers)))
    return Solid.of(faces)


def _hub(forward: float, side: float) -> NDArray[np.float64]:
    hub = _wheel(forward, side, 0.17, 8)
    hub[:, 2] += 0.17
    return hub


def _inner(a: tuple[float, float], b: tuple[float, float], half: float) -> NDArray[np.float64]:
    """A pane inside the strip between two profile points."""
    def between(share: float) -> tuple[float, float]:
        return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share

    return _strip(between(0.1), between(0.9), half, -half)


def _lamps(a: tuple[float, float], b: tuple[float, float], half: float, colour: Colour) -> list[
    tuple[NDArray[np.float64], Colour]
]:
    """Two lamps in the upper part of the strip between two profile points."""
    low = (a[0] + (b[0] - a[0]) * 0.55, a[1] + (b[1] - a[1]) * 0.55) if b[1] > a[1] else b
    high = b if b[1] > a[1] else a
    return [(_strip(low, high, s * half * 0.97, s * half * 0.6), colour) for s in (1, -1)]


def _bus(looks: tuple[float, ...]) -> Solid:
    half, length, top = 1.27, 5.0 + 0.9 * looks[4], 3.05 + 0.2 * looks[5]
    paint = _hsv(looks[1], 0.75, 0.55 + 0.4 * looks[2])
    trim: Colour = (225.0, 228.0, 228.0)
    low, waist, sill = (0.35, 1.35, 2.55)
    front = Face((1, 0, 0), (
        (_strip((length, low), (length, top), half, -half), paint),
        (_strip((length, 1.15), (length, sill + 0.1), half * 0.94, -half * 0.94), _GLASS),
        (_strip((length, sill + 0.18), (length, top - 0.08), half * 0.6, -half * 0.6), (60.0, 190.0, 240.0)),
        *_lamps((length, 0.95), (length, 0.6), half, _HEAD),
    ))
    rear = Face((-1, 0, 0), (
        (_strip((-length, low), (-length, top), half, -half), _times(paint, 0.95)),
        (_strip((-length, 1.7), (-length, sill), half * 0.8, -half * 0.8), _GLASS),
        *_lamps((-length, 0.9), (-length, 1.3), half, _TAIL),
    ))
    roof = Face((0, 0, 1), ((_strip((-length, top), (length, top), half, -half), trim),))
    faces = [front, rear, roof]
    for side in (half, -half):
        layers = [(_flank([(-length, low), (-length, top), (length, top), (length, low)], side), paint)]
        layers.append((_flank([(-length, sill + 0.15), (-length, top), (length, top), (length, sill + 0.15)], side), trim))
        pane = 2 * length / 6
        for number in range(6):
            a, b = -length + pane * number + 0.12, -length + pane * (number + 1) - 0.12
            bottom = 0.5 if side < 0 and number in (2, 5) else waist  # doors on the kerb's side
            layers.append((_flank([(a, bottom), (a, sill), (b, sill), (b, bottom)], side), _GLASS))
        layers += [(_wheel(at, side, 0.48), _TYRE) for at in (-length * 0.6, length * 0.62)]
        faces.append(Face((0.0, math.copysign(1, side), 0.0), tuple(layers)))
    return Solid.of(faces)


def _limb(a: tuple[float, float], b: tuple[float, float], thick: float) -> Points:
    """A bar between two points, metres."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    n = math.hypot(dx, dy) or 1.0
    ox, oy = -dy / n * thick / 2, dx / n * thick / 2
    return np.array([(a[0] + ox, a[1] + oy), (b[0] + ox, b[1] + oy), (b[0] - ox, b[1] - oy), (a[0] - ox, a[1] - oy)])


def _oval(x: float, y: float, rx: float, ry: float, corners: int = 12) -> Points:
    angles = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def _skin_hair(looks: tuple[float, ...]) -> tuple[Colour, Colour]:
    skin = (95 + 90 * looks[5], 125 + 90 * looks[5], 165 + 75 * looks[5])
    return skin, ((30, 32, 38), (40, 60, 95), (120, 165, 190))[int(looks[6] * 3)]


def _person(placed: Placed) -> list[Polygon]:
    """Metres (x to the right, y up) around the feet; legs and arms swing with the way travelled."""
    looks = placed.mover.looks
    e = placed.heading[0]  # how much of its walk is sideways to the camera
    tall = 0.92 + 0.16 * looks[4]
    swing = math.sin(placed.travelled_m * 2 * math.pi / 1.4 + looks[7] * 6) * (1.0 if placed.mover.rhythm.speed else 0.1)
    stride, wide = 0.26 * swing * e, 0.13 + 0.1 * (1 - e * e)
    lift = 0.05 * swing * (1 - e * e)
    shirt = _hsv(looks[0], 0.3 + 0.6 * looks[1], 0.35 + 0.6 * looks[2])
    trousers = _hsv(0.55 + 0.15 * looks[3], 0.15 + 0.4 * looks[1], 0.18 + 0.45 * looks[3])
    skin, hair = _skin_hair(looks)
    gap = wide * 0.45
    parts: list[Polygon] = [
        (_limb((gap, 0.88), (gap - stride, max(0.0, lift)), 0.15), _times(trousers, 0.8)),
        (_limb((wide * 0.95, 1.38), (wide * 1.1 + stride * 0.9, 0.85), 0.09), _times(shirt, 0.75)),
        (_limb((-gap, 0.88), (-gap + stride, max(0.0, -lift)), 0.15), trousers),
        (np.array([(-wide, 1.42), (-wide * 0.5, 1.5), (wide * 0.5, 1.5), (wide, 1.42), (wide * 0.85, 0.85), (-wide * 0.85, 0.85)]), shirt),
        (_limb((-wide * 0.95, 1.38), (-wide * 1.1 - stride * 0.9, 0.85), 0.09), _times(shirt, 0.88)),
        (_oval(0.02 * e, 1.63, 0.105, 0.13), skin),
        (_oval(-0.02 * e, 1.69, 0.11, 0.09), hair),
    ]
    return [(points * tall, colour) for points, colour in parts]


def _ring(x: float, squeeze: float, radius: float) -> Points:
    """A wheel's rim as one outline, out and back: metres."""
    outer = _oval(x, radius, radius * squeeze + 0.02, radius, 16)
    inner = _oval(x, radius, max(0.01, radius * squeeze - 0.05), radius - 0.055, 16)
    return np.concatenate([outer, outer[:1], inner[::-1][-1:], inner[::-1]])


def _bicycle(placed: Placed) -> list[Polygon]:
    """Metres around the point between the wheels; the rider belongs to it."""
    looks = placed.mover.looks
    e = placed.heading[0]
    e = math.copysign(max(abs(e), 0.12), e)
    front = 1 - abs(e)
    frame = _hsv(looks[0], 0.8, 0.35 + 0.5 * looks[1])
    shirt = _hsv(looks[2], 0.35 + 0.6 * looks[3], 0.45 + 0.5 * looks[1])
    skin, _ = _skin_hair(looks)
    trousers = _hsv(0.6, 0.3, 0.2 + 0.3 * looks[4])
    turn = placed.travelled_m * 2.2
    pedal = (0.16 * math.cos(turn) * e, 0.3 + 0.16 * math.sin(turn))
    other = (-0.16 * math.cos(turn) * e, 0.3 - 0.16 * math.sin(turn))
    hip, neck = (-0.22 * e, 1.0), (0.2 * e, 1.45)
    parts: list[Polygon] = [(_ring(x * e, abs(e), 0.35), _TYRE) for x in (-0.53, 0.53)]
    bars = [((-0.53 * e, 0.35), (0.0, 0.3)), ((0.0, 0.3), (-0.2 * e, 0.88)), ((-0.2 * e, 0.8), (0.4 * e, 0.82))]
    bars += [((0.0, 0.3), (0.4 * e, 0.82)), ((0.4 * e, 1.0), (0.53 * e, 0.35)), ((-0.53 * e, 0.35), (-0.2 * e, 0.8))]
    parts += [(_limb(a, b, 0.06), frame) for a, b in bars]
    parts.append((_limb((0.42 * e - 0.3 * front, 1.02), (0.42 * e + 0.3 * front, 1.02), 0.05), _TYRE))
    knee = [((0.12 * e + 0.1 * front * s, 0.78 + 0.5 * (p[1] - 0.3)), p) for s, p in ((1, other), (-1, pedal))]
    for (joint, foot), shade in zip(knee, (0.75, 1.0), strict=True):
        parts += [(_limb(hip, joint, 0.15), _times(trousers, shade)), (_limb(joint, foot, 0.11), _times(trousers, shade))]
    wide = 0.12 + 0.1 * front
    parts.append((np.array([(hip[0] - wide, 0.95), (neck[0] - wide, 1.4), (neck[0] + wide * 0.7, 1.48), (neck[0] + wide, 1.3), (hip[0] + wide, 0.92)]), shirt))
    parts.append((_limb((neck[0], 1.36), (0.42 * e + 0.2 * front, 1.04), 0.08), _times(shirt, 0.85)))
    parts.append((_oval(neck[0] + 0.07 * e, 1.62, 0.11, 0.13), skin))
    parts.append((_oval(neck[0] + 0.05 * e, 1.69, 0.13, 0.09), _hsv(looks[5], 0.6, 0.7)))  # helmet
    return parts
