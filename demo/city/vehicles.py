"""Cars, vans, taxis and buses: a side profile stretched to the vehicle's width, with what is painted on it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from demo.city.shapes import CIRCLES, Colour, Corner, Point, Side, Solid, between, hsv, times
from demo.city.traffic import BUS

_GLASS: Colour = (92, 78, 62)
_GLASS_LIGHT: Colour = (138, 122, 104)
_TYRE: Colour = (28, 26, 26)
_HUB: Colour = (150, 150, 150)
_TRIM: Colour = (225, 228, 228)
_SEAM: Colour = (52, 50, 50)
_SIGN: Colour = (60.0, 215.0, 290.0)  # above 255: lamps stay bright when the picture is dark
_TAIL: Colour = (50.0, 50.0, 330.0)
_HEAD: Colour = (480.0, 540.0, 560.0)


def solid(class_id: int, looks: tuple[float, ...]) -> Solid:
    """The solid of a car or a bus with these looks."""
    if class_id == BUS:
        return _bus(looks)
    return _van(looks) if looks[8] < 0.14 else _car(looks)


def length_m(class_id: int) -> float:
    """From bumper to bumper, about."""
    return 11.0 if class_id == BUS else 4.4


def _paint(looks: tuple[float, ...]) -> Colour:
    """A car's colour: often grey, black or white, else anything."""
    if looks[0] < 0.6:
        grey = (38.0, 100.0, 168.0, 222.0)[int(looks[1] * 4)]
        return grey * 1.02, grey, grey * 0.97
    hue = (0.0, 0.02, 0.09, 0.14, 0.36, 0.56, 0.6, 0.63, looks[1])[int(looks[1] * 9)]
    return hsv(hue, 0.35 + 0.4 * looks[2], 0.3 + 0.5 * looks[3])


def _strip(a: Point, b: Point, left: float, right: float) -> list[Corner]:
    """A quad across the vehicle between two points (forward, up) of its profile."""
    return [(a[0], left, a[1]), (b[0], left, b[1]), (b[0], right, b[1]), (a[0], right, a[1])]


def _flank(profile: Sequence[Point], side: float) -> list[Corner]:
    return [(forward, side, up) for forward, up in profile]


def _wheel(forward: float, side: float, radius: float, share: float = 1.0) -> list[Corner]:
    """A wheel standing on the ground, or the `share` of it around its hub."""
    reach = radius * share
    return [(forward + reach * c, side, radius + reach * s) for c, s in CIRCLES[14 if share == 1 else 8]]


def _lamps(a: Point, b: Point, half: float, colour: Colour) -> list[tuple[list[Corner], Colour]]:
    """Two lamps in the upper part of the strip between two points of the profile."""
    low, high = (between(a, b, 0.55), b) if b[1] > a[1] else (b, a)
    return [(_strip(low, high, s * half * 0.97, s * half * 0.6), colour) for s in (1, -1)]


def _plate(a: Point, b: Point) -> tuple[list[Corner], Colour]:
    return _strip(between(a, b, 0.15), between(a, b, 0.4), 0.26, -0.26), (200, 214, 214)


def _car(looks: tuple[float, ...]) -> Solid:
    """A saloon, a hatchback or something higher; some are taxis."""
    long, tall, half = 0.9 + 0.22 * looks[4], 0.97 + 0.33 * looks[5] ** 2, 0.86 + 0.1 * looks[6]
    boot = -1.6 if looks[7] < 0.6 else -2.0  # saloon or hatchback
    raw = [(-2.1, 0.3), (-2.16, 0.92), (boot, 1.0), (boot * 0.45 - 0.4, 1.44), (0.45, 1.46)]
    raw += [(1.15, 0.98), (2.02, 0.84), (2.16, 0.6), (2.1, 0.3)]
    profile = [(forward * long, up * tall) for forward, up in raw]
    is_taxi = looks[8] > 0.93
    paint: Colour = (70, 205, 235) if is_taxi else _paint(looks)
    sides = []
    for number, (a, b) in enumerate(itertools.pairwise(profile)):
        layers = [(_strip(a, b, half, -half), times(paint, 1.08 if number in (3, 5) else 1.0))]
        if number in (2, 4):  # rear window, windscreen
            low, high = (between(a, b, 0.1), between(a, b, 0.9))
            layers.append((_strip(low, high, half * 0.86, -half * 0.86), _GLASS))
            layers.append((_strip(low, between(low, high, 0.45), half * 0.8, -half * 0.1), _GLASS_LIGHT))
        if number in (0, 6):
            layers += _lamps(a, b, half, _TAIL if number == 0 else _HEAD)
        if number == 7:
            layers.append((_strip(a, b, half * 0.55, -half * 0.55), _SEAM))
        if number == 0:
            layers.append(_plate(a, b))
        sides.append(Side((a[1] - b[1], 0.0, b[0] - a[0]), layers))
    sides += [_car_flank(profile, paint, y, tall, long) for y in (half, -half)]
    if is_taxi:
        sides += _box(-0.45, 0.05, 0.34, 1.46 * tall, 1.46 * tall + 0.2, _SIGN)
    return Solid.of(sides)


def _car_flank(profile: Sequence[Point], paint: Colour, y: float, tall: float, long: float) -> Side:
    sill, roof = profile[2][1], 1.38 * tall
    window = [(profile[2][0] * 0.85, sill), (profile[3][0] + 0.05, roof), (profile[4][0] - 0.02, roof)]
    window.append((profile[5][0] * 0.85, sill))
    low = [(p[0], min(p[1], 0.5 * tall)) for p in profile]
    pillar = [(-0.28, 0.98 * tall), (-0.28, 1.4 * tall), (-0.18, 1.4 * tall), (-0.18, 0.98 * tall)]
    seam = [(-0.25, 0.42 * tall), (-0.25, 0.97 * tall), (-0.21, 0.97 * tall), (-0.21, 0.42 * tall)]
    layers = [(_flank(profile, y), times(paint, 0.97)), (_flank(low, y), times(paint, 0.8))]
    layers += [(_flank(window, y), _GLASS), (_flank(pillar, y), paint), (_flank(seam, y), times(paint, 0.7))]
    layers += [(_wheel(at * long, y, 0.36), times(_TYRE, 0.75)) for at in (-1.32, 1.35)]
    layers += [(_wheel(at * long, y, 0.33, 0.6), _HUB) for at in (-1.32, 1.35)]
    return Side((0.0, math.copysign(1, y), 0.0), layers)


def _van(looks: tuple[float, ...]) -> Solid:
    """A delivery van: a car to the network, higher than others."""
    tall, half = 1.0 + 0.12 * looks[5], 0.98
    raw = [(-2.5, 0.35), (-2.52, 2.1), (0.9, 2.15), (1.65, 1.25), (2.45, 1.05), (2.5, 0.35)]
    profile = [(forward, up * tall) for forward, up in raw]
    paint = _TRIM if looks[0] < 0.6 else _paint(looks)
    sides = []
    for number, (a, b) in enumerate(itertools.pairwise(profile)):
        layers = [(_strip(a, b, half, -half), paint)]
        if number == 2:
            layers.append((_strip(between(a, b, 0.12), between(a, b, 0.92), half * 0.88, -half * 0.88), _GLASS))
        if number == 0:
            layers += [(_strip((-2.51, 1.25 * tall), (-2.52, 1.85 * tall), s * half * 0.85, s * half * 0.1), _GLASS)
                       for s in (1, -1)]  # fmt: skip
            layers += [(_strip((-2.5, 0.8), (-2.5, 1.15), s * half * 0.98, s * half * 0.78), _TAIL) for s in (1, -1)]
        if number == 4:
            layers += _lamps(b, (b[0], b[1] + 0.55), half, _HEAD)
        sides.append(Side((a[1] - b[1], 0.0, b[0] - a[0]), layers))
    for y in (half, -half):
        window = [(0.35, 1.3 * tall), (0.35, 1.95 * tall), (0.88, 1.95 * tall), (1.4, 1.3 * tall)]
        band = [(-2.4, 0.95 * tall), (-2.4, 1.15 * tall), (0.1, 1.15 * tall), (0.1, 0.95 * tall)]
        layers = [(_flank(profile, y), times(paint, 0.96)), (_flank(window, y), _GLASS)]
        layers.append((_flank(band, y), hsv(looks[1], 0.7, 0.6)))
        layers += [(_wheel(at, y, 0.38), _TYRE) for at in (-1.6, 1.6)]
        layers += [(_wheel(at, y, 0.38, 0.5), _HUB) for at in (-1.6, 1.6)]
        sides.append(Side((0.0, math.copysign(1, y), 0.0), layers))
    return Solid.of(sides)


def _box(back: float, front: float, half: float, low: float, top: float, colour: Colour) -> list[Side]:
    """A box without a bottom."""
    sides = [Side((1, 0, 0), [(_strip((front, low), (front, top), half, -half), colour)])]
    sides.append(Side((-1, 0, 0), [(_strip((back, low), (back, top), half, -half), times(colour, 0.9))]))
    sides.append(Side((0, 0, 1), [(_strip((back, top), (front, top), half, -half), colour)]))
    corners = [(back, low), (back, top), (front, top), (front, low)]
    return sides + [Side((0, s, 0), [(_flank(corners, s * half), times(colour, 0.95))]) for s in (1, -1)]


def _bus(looks: tuple[float, ...]) -> Solid:
    half, length, top = 1.27, 5.0 + 0.9 * looks[4], 3.05 + 0.2 * looks[5]
    paint = hsv(looks[1], 0.7, 0.5 + 0.35 * looks[2])
    low, waist, sill = 0.35, 1.35, 2.55
    front = [
        (_strip((length, low), (length, top), half, -half), paint),
        (_strip((length, 1.15), (length, sill + 0.1), half * 0.94, -half * 0.94), _GLASS),
        (_strip((length, 1.7), (length, sill), half * 0.9, half * 0.15), _GLASS_LIGHT),
        (_strip((length, sill + 0.18), (length, top - 0.08), half * 0.6, -half * 0.6), _SIGN),
        *_lamps((length, 0.95), (length, 0.6), half, _HEAD),
        _plate((length, 0.4), (length, 0.9)),
    ]
    rear = [
        (_strip((-length, low), (-length, top), half, -half), times(paint, 0.95)),
        (_strip((-length, 1.7), (-length, sill), half * 0.8, -half * 0.8), _GLASS),
        *_lamps((-length, 0.9), (-length, 1.3), half, _TAIL),
        _plate((-length, 0.5), (-length, 1.0)),
    ]
    roof = [(_strip((-length, top), (length, top), half, -half), _TRIM)]
    roof.append((_strip((-length * 0.5, top), (length * 0.1, top), half * 0.6, -half * 0.6), (185, 188, 188)))
    sides = [Side((1, 0, 0), front), Side((-1, 0, 0), rear), Side((0, 0, 1), roof)]
    return Solid.of(sides + [_bus_flank(y, (length, top, low, waist, sill), paint, looks) for y in (half, -half)])


def _bus_flank(y: float, sizes: tuple[float, ...], paint: Colour, looks: tuple[float, ...]) -> Side:
    length, top, low, waist, sill = sizes
    band = sill + 0.15
    layers = [(_flank([(-length, low), (-length, top), (length, top), (length, low)], y), paint)]
    layers.append((_flank([(-length, band), (-length, top), (length, top), (length, band)], y), _TRIM))
    stripe = [(-length, 0.75), (-length, 1.0), (length, 1.0), (length, 0.75)]
    layers.append((_flank(stripe, y), _TRIM if looks[3] < 0.5 else times(paint, 0.65)))
    for number in range(6):
        a, b = -length + length / 3 * number + 0.12, -length + length / 3 * (number + 1) - 0.12
        bottom = 0.5 if y < 0 and number in (2, 5) else waist  # doors on the kerb's side
        layers.append((_flank([(a, bottom), (a, sill), (b, sill), (b, bottom)], y), _GLASS))
        layers.append((_flank([(a, waist), (a, sill), (a + 0.5, sill), (a + 0.2, waist)], y), _GLASS_LIGHT))
    layers += [(_wheel(at, y, 0.48), _TYRE) for at in (-length * 0.6, length * 0.62)]
    layers += [(_wheel(at, y, 0.48, 0.5), _HUB) for at in (-length * 0.6, length * 0.62)]
    return Side((0.0, math.copysign(1, y), 0.0), layers)
