"""Persons, and bicycles with their riders: flat figures that face the camera and move with the way travelled."""

from __future__ import annotations

import math

import numpy as np

from demo.city.shapes import NEAR_M, Colour, Figure, Floats, Lens, Part, Point, Shape, append, hsv, oval, times
from demo.city.traffic import PERSON
from demo.scenes import Placed

_HAIR: tuple[Colour, ...] = ((30, 32, 38), (40, 60, 95), (120, 165, 190), (150, 150, 150))
_TYRE: Colour = (28, 26, 26)


def figure_shape(placed: Placed, lens: Lens, ground: Floats, *, in_rain: bool) -> Shape:
    """A person, or a bicycle with its rider, on the ground's pixel (2,)."""
    outlines, tall = _person(placed, in_rain=in_rain) if placed.mover.class_id == PERSON else _bicycle(placed)
    corners: list[Point] = []
    parts: list[Part] = [append(corners, outline, colour) for outline, colour in outlines]
    scale = lens.focal_px / max(placed.y, NEAR_M) * tall
    points = [(ground[0] + x * scale, ground[1] - y * scale) for x, y in corners]
    return Shape(_array(points), parts)


def _array(points: list[Point]) -> Floats:
    return np.array(points)


def _limb(a: Point, b: Point, thick: float) -> list[Point]:
    """A bar between two points, metres."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    n = math.hypot(dx, dy) or 1.0
    ox, oy = -dy / n * thick / 2, dx / n * thick / 2
    return [(a[0] + ox, a[1] + oy), (b[0] + ox, b[1] + oy), (b[0] - ox, b[1] - oy), (a[0] - ox, a[1] - oy)]


def _skin(looks: tuple[float, ...]) -> Colour:
    return 95 + 90 * looks[5], 125 + 90 * looks[5], 165 + 75 * looks[5]


def _person(placed: Placed, *, in_rain: bool) -> tuple[Figure, float]:
    """Outlines in metres (x to the right, y up) around the feet, and what to multiply them by.

    Legs and arms swing with the way travelled, wider in who runs; who stands shifts a little, by its looks.
    """
    looks = placed.mover.looks
    e = placed.heading[0]  # how much of its walk is sideways to the camera
    pace = min(1.0, placed.speed / 0.6)
    reach = 1.4 if placed.speed < 2.3 else 2.1
    swing = math.sin(placed.travelled_m * 2 * math.pi / reach + looks[7] * 6) * (0.1 + 0.9 * pace)
    running = 1.45 if placed.speed > 2.3 else 1.0
    stride, wide = 0.27 * running * swing * e, 0.14 + 0.1 * (1 - e * e)
    lift = 0.05 * running * swing * (1 - e * e)
    lean = 0.07 * e * (running - 1) * 2.2
    shirt = hsv(looks[0], 0.1 + 0.65 * looks[1] ** 1.5, 0.22 + 0.62 * looks[2])
    trousers = hsv(0.55 + 0.15 * looks[3], 0.15 + 0.4 * looks[1], 0.16 + 0.45 * looks[3])
    gap, shoulder = wide * 0.45, (wide * 0.95 + lean, 1.38)
    hem = 0.85 if looks[8] < 0.6 else 0.58  # a coat
    torso = [(-wide + lean, 1.42), (-wide * 0.5 + lean, 1.5), (wide * 0.5 + lean, 1.5), (wide + lean, 1.42)]
    torso += [(wide * (0.85 if hem > 0.6 else 1.02), hem), (-wide * (0.85 if hem > 0.6 else 1.02), hem)]
    hand = 0.85 if running == 1 else 1.0
    figure: Figure = [
        (_limb((gap, 0.88), (gap - stride, max(0.04, lift)), 0.15), times(trousers, 0.78)),
        (_limb((gap - stride - 0.03, 0.05), (gap - stride + 0.1 * (e or 1), 0.04), 0.08), _TYRE),
        (_limb(shoulder, (wide * 1.1 + stride * 0.9, hand), 0.09), times(shirt, 0.72)),
        (_limb((-gap, 0.88), (-gap + stride, max(0.04, -lift)), 0.15), trousers),
        (_limb((-gap + stride - 0.03, 0.05), (-gap + stride + 0.1 * (e or 1), 0.04), 0.08), _TYRE),
    ]
    if looks[9] < 0.2:  # a rucksack, behind
        figure.append((_limb((lean - 0.17 * e, 1.42), (lean - 0.17 * e, 1.0), 0.22), hsv(looks[4], 0.6, 0.4)))
    figure += [
        (torso, shirt),
        ([torso[2], torso[3], torso[4], (wide * 0.2, hem), (wide * 0.3 + lean, 1.3)], times(shirt, 0.88)),
        (_limb((-shoulder[0] + 2 * lean, shoulder[1]), (-wide * 1.1 - stride * 0.9, hand), 0.09), times(shirt, 0.84)),
        (oval(0.02 * e + lean * 1.3, 1.63, 0.105, 0.13), _skin(looks)),
        (oval(-0.02 * e + lean * 1.3, 1.69, 0.112, 0.09), _HAIR[int(looks[6] * 4)]),
    ]
    if 0.2 <= looks[9] < 0.36:  # a bag in one hand
        figure.append((_limb((wide * 1.2, 0.82), (wide * 1.2, 0.52), 0.24), hsv(looks[4], 0.35, 0.45)))
    if in_rain and looks[9] > 0.55:
        figure += _umbrella(wide, hsv(looks[4], 0.7 * looks[1], 0.25 + 0.6 * looks[2]))
    return figure, 0.92 + 0.16 * looks[4]


def _umbrella(wide: float, colour: Colour) -> Figure:
    arc = [(0.52 * math.cos(a), 1.82 + 0.3 * math.sin(a)) for a in (k * math.pi / 8 for k in range(9))]
    half = [*arc[4:], (0.0, 1.84)]
    return [(_limb((wide * 0.6, 1.15), (0.03, 1.95), 0.03), _TYRE), (arc, colour), (half, times(colour, 0.8))]


def _ring(x: float, squeeze: float, radius: float) -> list[Point]:
    """A wheel's rim as one outline, out and back."""
    outer = oval(x, radius, radius * squeeze + 0.02, radius, 16)
    inner = oval(x, radius, max(0.01, radius * squeeze - 0.05), radius - 0.055, 16)
    return [*outer, outer[0], inner[0], *reversed(inner)]


def _bicycle(placed: Placed) -> tuple[Figure, float]:
    """Outlines around the point between the wheels, as `_person` gives them; the rider belongs to the bicycle."""
    looks = placed.mover.looks
    e = math.copysign(max(abs(placed.heading[0]), 0.12), placed.heading[0])
    front = 1 - abs(e)
    frame = hsv(looks[0], 0.8, 0.35 + 0.5 * looks[1])
    shirt = hsv(looks[2], 0.35 + 0.6 * looks[3], 0.45 + 0.5 * looks[1])
    figure: Figure = [(_ring(x * e, abs(e), 0.35), _TYRE) for x in (-0.53, 0.53)]
    bars = [((-0.53, 0.35), (0.0, 0.3)), ((0.0, 0.3), (-0.2, 0.88)), ((-0.2, 0.8), (0.4, 0.82))]
    bars += [((0.0, 0.3), (0.4, 0.82)), ((0.4, 1.0), (0.53, 0.35)), ((-0.53, 0.35), (-0.2, 0.8))]
    figure += [(_limb((a[0] * e, a[1]), (b[0] * e, b[1]), 0.06), frame) for a, b in bars]
    figure.append((_limb((0.42 * e - 0.3 * front, 1.02), (0.42 * e + 0.3 * front, 1.02), 0.05), _TYRE))
    hip, neck = (-0.22 * e, 1.0), (0.2 * e, 1.45)
    figure += _pedalling(placed, e, hip, hsv(0.6, 0.3, 0.2 + 0.3 * looks[4]))
    wide = 0.12 + 0.1 * front
    torso = [(hip[0] - wide, 0.95), (neck[0] - wide, 1.4), (neck[0] + wide * 0.7, 1.48), (neck[0] + wide, 1.3)]
    figure.append(([*torso, (hip[0] + wide, 0.92)], shirt))
    figure.append((_limb((neck[0], 1.36), (0.42 * e + 0.2 * front, 1.04), 0.08), times(shirt, 0.85)))
    figure.append((oval(neck[0] + 0.07 * e, 1.62, 0.11, 0.13), _skin(looks)))
    figure.append((oval(neck[0] + 0.05 * e, 1.69, 0.13, 0.09), hsv(looks[5], 0.6, 0.7)))  # helmet
    return figure, 1.0


def _pedalling(placed: Placed, e: float, hip: Point, trousers: Colour) -> Figure:
    """Both legs, the far one first and darker."""
    turn = placed.travelled_m * 2.2
    legs: Figure = []
    for way, shade in ((-1, 0.75), (1, 1.0)):
        foot = way * 0.16 * math.cos(turn) * e, 0.3 + way * 0.16 * math.sin(turn)
        knee = 0.12 * e - 0.1 * (1 - abs(e)) * way, 0.78 + 0.5 * (foot[1] - 0.3)
        legs.append((_limb(hip, knee, 0.15), times(trousers, shade)))
        legs.append((_limb(knee, foot, 0.11), times(trousers, shade)))
    return legs
