"""What stands about and hides things: lamp posts, trees, kiosks, shelters, benches, bushes, a fountain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo.city.places import Furniture
from demo.city.shapes import (
    CIRCLES,
    Colour,
    Corner,
    Floats,
    Lens,
    Part,
    Shape,
    Side,
    Solid,
    append,
    hsv,
    solid_shape,
    times,
)
from demo.scenes import Scene

_POST: Colour = (75, 80, 78)
_LAMP: Colour = (150, 150, 150)
_LAMP_LIT: Colour = (330, 420, 500)
_WOOD: Colour = (62, 92, 128)
_GLASS: Colour = (150, 140, 128)
_SWAY_HZ = 0.45
_NEAREST_M = {"shelter": 11.0, "kiosk": 8.0, "post": 6.0}  # nearer ones would fill the picture


@dataclass(frozen=True, slots=True)
class Standing:
    """A drawn piece: its depth in metres, its polygons, and how far (0..1) each corner gives way to the wind."""

    depth_m: float
    shape: Shape
    give: Floats  # (n,)
    phase: float

    def swayed(self, time_s: float, reach_px: float) -> Shape:
        """The same piece in the wind, `reach_px` pixels at most."""
        gust = 0.6 + 0.4 * np.sin(0.31 * time_s + self.phase)
        push = gust * np.sin(2 * np.pi * _SWAY_HZ * time_s + self.phase) + 0.35 * np.sin(7.1 * time_s + 2 * self.phase)
        moved = self.shape.corners.copy()
        moved[:, 0] += reach_px * push * self.give
        return Shape(moved, self.shape.parts)


def standing(scene: Scene, lens: Lens, farthest_m: float) -> list[Standing]:
    """All of a scene's furniture before the camera, farthest first."""
    rng = np.random.default_rng((*scene.seed, 6))
    is_dark = scene.view.light in ("night", "dusk")
    pieces = []
    for item in scene.furniture:
        x, y = scene.to_world(item.s, item.t)
        shape, give = _drawn(item, x, y, scene, lens, rng, is_dark=is_dark)
        if _NEAREST_M.get(item.kind, 5.0) < y < farthest_m:
            pieces.append(Standing(y, shape, give, float(rng.uniform(0, 6))))
    return sorted(pieces, key=lambda piece: -piece.depth_m)


def _drawn(
    item: Furniture, x: float, y: float, scene: Scene, lens: Lens, rng: np.random.Generator, *, is_dark: bool
) -> tuple[Shape, Floats]:
    if item.kind == "post":
        shape = _post(x, y, lens, lit=is_dark)
    elif item.kind == "tree":
        return _tree(x, y, lens, rng)
    elif item.kind in ("bush", "fountain"):
        shape = _bush(x, y, lens, rng) if item.kind == "bush" else _fountain(x, y, lens)
    else:
        solids = {"kiosk": _kiosk, "shelter": _shelter, "bench": _bench}
        side = 1.0 if item.t < 0 else -1.0  # open towards the road, or the square
        (ax, ay), _ = scene.axes
        heading = (ax, ay) if side < 0 else (-ax, -ay)
        shape = solid_shape(solids[item.kind](rng, is_dark), (x, y), heading, lens)
    return shape, np.zeros(len(shape.corners))


def _post(x: float, y: float, lens: Lens, *, lit: bool) -> Shape:
    shaft = [(x - 0.07, y, 0), (x - 0.05, y, 5.6), (x + 0.05, y, 5.6), (x + 0.07, y, 0)]
    base = [(x - 0.12, y, 0), (x - 0.12, y, 0.6), (x + 0.12, y, 0.6), (x + 0.12, y, 0)]
    head = [(x - 0.5, y, 5.55), (x - 0.4, y, 5.75), (x + 0.4, y, 5.75), (x + 0.5, y, 5.55)]
    parts: list[Part] = [(0, 4, _POST), (4, 8, times(_POST, 0.8)), (8, 12, _LAMP_LIT if lit else _LAMP)]
    return Shape(lens.project(np.array(shaft + base + head)), parts)


def _tree(x: float, y: float, lens: Lens, rng: np.random.Generator) -> tuple[Shape, Floats]:
    """A trunk, two branches and a crown of leafy blobs: dark ones below, light ones where the sun is."""
    tall, hue, fresh = rng.uniform(0.85, 1.2), rng.uniform(0.20, 0.33), rng.uniform(0.32, 0.58)
    corners: list[Corner] = []
    trunk = [(x - 0.15, y, 0.0), (x - 0.09, y, 3.2), (x + 0.09, y, 3.2), (x + 0.15, y, 0.0)]
    parts = [append(corners, trunk, (48, 66, 84))]
    for way in (-1, 1):
        branch = [(x, y, 2.3), (x + way * 0.9, y, 3.6 * tall), (x + way * 0.78, y, 3.7 * tall), (x, y, 2.6)]
        parts.append(append(corners, branch, (44, 60, 76)))
    leafless = len(corners)
    for number in range(22):
        layer = number / 22
        side, up = rng.normal(0, 0.95 - 0.3 * layer), (2.7 + 2.5 * layer + rng.uniform(-0.3, 0.3)) * tall
        size = rng.uniform(0.45, 0.85) * (1.0 - 0.2 * layer)
        if number >= 14:
            side, size = side - 0.3, size * 0.72
        rough = rng.uniform(0.8, 1.2, 12)
        blob = [(x + side + size * k * c, y, up + size * k * s) for (c, s), k in zip(CIRCLES[12], rough, strict=True)]
        light = 0.5 + 0.42 * layer + rng.uniform(-0.05, 0.05)
        parts.append(append(corners, blob, times(hsv(hue, 0.55 - 0.1 * layer, fresh), light * 1.15)))
    give = np.array([0.0] * leafless + [(z / 5.0) ** 2 for _, _, z in corners[leafless:]])
    return Shape(lens.project(np.array(corners)), parts), give


def _bush(x: float, y: float, lens: Lens, rng: np.random.Generator) -> Shape:
    corners: list[Corner] = []
    parts = []
    hue = rng.uniform(0.22, 0.34)
    for number in range(9):
        side, up, size = rng.normal(0, 0.7), rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.5)
        blob = [(x + side + size * c, y, max(0.0, up + size * s)) for c, s in CIRCLES[12]]
        parts.append(append(corners, blob, times(hsv(hue, 0.6, 0.42), 0.65 + 0.05 * number)))
    return Shape(lens.project(np.array(corners)), parts)


def _fountain(x: float, y: float, lens: Lens) -> Shape:
    corners: list[Corner] = []
    parts = []
    for radius, low, colour in ((2.2, 0.0, (120, 124, 128)), (2.2, 0.5, (150, 155, 160)), (1.95, 0.52, (150, 130, 95))):
        parts.append(append(corners, [(x + radius * c, y + radius * s, low) for c, s in CIRCLES[16]], colour))
        if low == 0.0:
            front = [(x - 2.2, y, 0.0), (x - 2.2, y, 0.5), (x + 2.2, y, 0.5), (x + 2.2, y, 0.0)]
            parts.append(append(corners, front, (118, 122, 126)))
    column = [(x - 0.18, y, 0.5), (x - 0.12, y, 1.5), (x + 0.12, y, 1.5), (x + 0.18, y, 0.5)]
    parts.append(append(corners, column, (140, 145, 150)))
    parts.append(append(corners, [(x + 0.6 * c, y, 1.55 + 0.16 * s) for c, s in CIRCLES[12]], (150, 155, 160)))
    parts.append(append(corners, [(x - 0.2, y, 1.6), (x, y, 2.3), (x + 0.2, y, 1.6)], (215, 205, 190)))
    return Shape(lens.project(np.array(corners)), parts)


def _walls(half_x: float, half_y: float, low: float, top: float, colour: Colour) -> dict[str, Side]:
    """A box around the origin: front is the left, towards +y."""
    a, b = half_x, half_y
    quads = {
        "front": ((0.0, 1.0, 0.0), [(-a, b), (a, b)]),
        "back": ((0.0, -1.0, 0.0), [(a, -b), (-a, -b)]),
        "right": ((1.0, 0.0, 0.0), [(a, b), (a, -b)]),
        "left": ((-1.0, 0.0, 0.0), [(-a, -b), (-a, b)]),
    }
    sides = {}
    for name, (normal, ((x0, y0), (x1, y1))) in quads.items():
        quad = [(x0, y0, low), (x0, y0, top), (x1, y1, top), (x1, y1, low)]
        sides[name] = Side(normal, [(quad, colour)])
    roof = [(-a, -b, top), (-a, b, top), (a, b, top), (a, -b, top)]
    sides["roof"] = Side((0.0, 0.0, 1.0), [(roof, colour)])
    return sides


def _face(side: Side, low: float, top: float, margin: float, colour: Colour) -> tuple[list[Corner], Colour]:
    """A rectangle on a side, between two heights, `margin` (share) from its edges."""
    (x0, y0, _), _, (x1, y1, _), _ = side.layers[0][0]
    ax, ay = x0 + (x1 - x0) * margin, y0 + (y1 - y0) * margin
    bx, by = x1 - (x1 - x0) * margin, y1 - (y1 - y0) * margin
    return [(ax, ay, low), (ax, ay, top), (bx, by, top), (bx, by, low)], colour


def _kiosk(rng: np.random.Generator, is_dark: bool) -> Solid:
    paint = hsv(float(rng.random()), 0.5, 0.55)
    sides = _walls(1.7, 1.2, 0.0, 2.5, paint)
    glow: Colour = (300, 380, 430) if is_dark else (118, 128, 130)
    for name in ("front", "right", "left", "back"):
        side = sides[name]
        layers = [*side.layers, _face(side, 2.15, 2.45, 0.02, times(paint, 0.6))]
        if name in ("front", "back"):
            layers += [_face(side, 1.05, 2.0, 0.12, glow), _face(side, 0.95, 1.05, 0.08, _WOOD)]
        else:
            layers.append(_face(side, 0.6, 1.9, 0.25, hsv(float(rng.random()), 0.6, 0.7)))
        sides[name] = Side(side.normal, layers)
    roof = _walls(2.0, 1.6, 2.5, 2.68, (70, 74, 80))
    return Solid.of([*sides.values(), *roof.values()])


def _shelter(rng: np.random.Generator, is_dark: bool) -> Solid:
    """A bus stop: a back of glass, an advertisement at one end, a flat roof."""
    back = _walls(2.0, 0.03, 0.15, 2.2, _GLASS)
    poster: Colour = (240, 300, 320) if is_dark else hsv(float(rng.random()), 0.55, 0.8)
    end = _walls(0.08, 0.65, 0.15, 2.1, (90, 92, 95))
    moved = []
    for side in end.values():
        layers = [([(x + 1.9, y, z) for x, y, z in corners], colour) for corners, colour in side.layers]
        if side.normal[0]:
            face, colour = _face(Side(side.normal, layers), 0.4, 1.9, 0.12, poster)
            layers.append((face, colour))
        moved.append(Side(side.normal, layers))
    roof = _walls(2.2, 0.8, 2.25, 2.37, (85, 90, 92))
    return Solid.of([*back.values(), *moved, *roof.values()])


def _bench(rng: np.random.Generator, is_dark: bool) -> Solid:
    del is_dark
    wood = times(_WOOD, float(rng.uniform(0.85, 1.15)))
    seat = _walls(0.9, 0.25, 0.38, 0.46, wood)
    legs = _walls(0.8, 0.05, 0.0, 0.38, (70, 70, 72))
    rest = _walls(0.9, 0.03, 0.5, 0.85, wood)
    behind = [Side(s.normal, [([(x, y - 0.22, z) for x, y, z in c], k) for c, k in s.layers]) for s in rest.values()]
    return Solid.of([*legs.values(), *seat.values(), *behind])
