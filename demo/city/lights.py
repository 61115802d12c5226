"""Shadows and vehicles' lamps on a picture: they change pixels, but are no part of an object."""

from __future__ import annotations

import cv2
import numpy as np

from demo.city.backdrop import Image, add_glow
from demo.city.cameras import View
from demo.city.shapes import CIRCLES, Floats, Lens
from demo.city.traffic import BICYCLE, BUS, CAR, PERSON
from demo.city.vehicles import length_m
from demo.scenes import Placed

Box = tuple[float, float, float, float]
_SUNLIT_M = {PERSON: 1.7, CAR: 1.3, BUS: 3.0, BICYCLE: 1.5}  # heights that throw shadows
_SHADOW_WAY = (0.5, 0.42)  # metres right and away from the camera for each metre of height
_BITS = 4
_WHITE, _RED = (205, 235, 245), (30, 30, 235)


def outline(length: float, width: float, power: float) -> Floats:
    """An oval (power 1) or a rounded rectangle (0.5) on the ground, metres (16, 3)."""
    c, s = np.array(CIRCLES[16]).T
    x, y = np.sign(c) * np.abs(c) ** power * length / 2, np.sign(s) * np.abs(s) ** power * width / 2
    return np.stack([x, y, np.zeros(16)], axis=1)


_FOOTPRINTS = {
    PERSON: outline(0.5, 0.42, 1.0),
    CAR: outline(4.7, 2.0, 0.5),
    BUS: outline(11.4, 2.8, 0.5),
    BICYCLE: outline(1.7, 0.4, 1.0),
}


def fixed(points: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Pixels as the fixed-point integers that OpenCV draws with; far outside is cut off, they are 32 bits."""
    return np.round(np.clip(points, -20000, 20000) * (1 << _BITS)).astype(np.int32)


def shadow(image: Image, placed: Placed, lens: Lens, view: View) -> Box | None:
    """Darken the ground under an object, in sunshine beside it too; returns where."""
    hx, hy = placed.heading
    turn = np.array([[hx, hy, 0.0], [-hy, hx, 0.0], [0.0, 0.0, 0.0]])
    ground = _FOOTPRINTS[placed.mover.class_id] @ turn + np.array([placed.x, placed.y, 0.0])
    in_sun = view.light == "day" and view.weather == "clear"
    if in_sun:
        tall = _SUNLIT_M[placed.mover.class_id]
        beside = ground + np.array([_SHADOW_WAY[0] * tall, _SHADOW_WAY[1] * tall, 0.0])
        points = lens.project(np.concatenate([ground, beside]))
        points = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    else:
        points = lens.project(ground * np.array([1, 1, 1]) + np.array([0.1, -0.05, 0.0]))
    return _darken(image, points, 105 if in_sun else 78)


def _darken(image: Image, points: Floats, strength: int) -> Box | None:
    height, width = image.shape[:2]
    x1, y1 = np.clip(np.floor(points.min(axis=0)).astype(int), 0, (width, height))
    x2, y2 = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, 0, (width, height))
    if x2 - x1 < 2 or y2 - y1 < 2:
        return None
    mask = np.zeros((y2 - y1, x2 - x1, 3), dtype=np.uint8)
    cv2.fillPoly(mask, [fixed(points - (x1, y1))], (strength, strength, strength), cv2.LINE_AA, _BITS)
    if min(x2 - x1, y2 - y1) > 8:
        mask = cv2.blur(mask, (5, 3))
    area = image[y1:y2, x1:x2]
    cv2.subtract(area, cv2.multiply(area, mask, scale=1 / 255), dst=area)
    return float(x1), float(y1), float(x2), float(y2)


def is_lit(placed: Placed, view: View) -> bool:
    """Whether a vehicle has its lamps on: in the dark, unless it has not moved yet."""
    dim = view.light in ("night", "dusk") or view.weather != "clear"
    return dim and placed.mover.class_id in (CAR, BUS) and placed.travelled_m > 0


def headlight_pool(image: Image, placed: Placed, lens: Lens, view: View) -> Box | None:
    """Light on the road before a vehicle at night; returns where."""
    if view.light != "night" or placed.y < 3:
        return None
    hx, hy = placed.heading
    reach = length_m(placed.mover.class_id) / 2
    ahead = np.array([(reach + 1.0, -1.6, 0), (reach + 1.0, 1.6, 0), (reach + 11, -2.6, 0), (reach + 11, 2.6, 0)])
    ground = ahead @ np.array([[hx, hy, 0.0], [-hy, hx, 0.0], [0.0, 0.0, 1.0]]) + np.array([placed.x, placed.y, 0])
    if ground[:, 1].min() < 2:
        return None
    points = lens.project(ground)
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    add_glow(image, ((x1 + x2) / 2, (y1 + y2) / 2), ((x2 - x1) * 0.6, (y2 - y1) * 0.6 + 2), (95, 120, 130), 0.55)
    return x1, y1, x2, y2


def lamps(image: Image, placed: Placed, lens: Lens, view: View) -> None:
    """The glare of what looks into the camera; in rain also its mirror image on the road."""
    hx, hy = placed.heading
    distance = float(np.hypot(placed.x, placed.y))
    towards = -(hx * placed.x + hy * placed.y) / max(distance, 1e-6)
    if abs(towards) < 0.12 or placed.y < 3:
        return
    reach = length_m(placed.mover.class_id) / 2 * (1 if towards > 0 else -1)
    strength = {"night": 1.0, "dusk": 0.6}.get(view.light, 0.35)
    size = (0.75 if view.weather == "clear" else 1.05) * abs(towards) * (1.0 if towards > 0 else 0.55)
    colour, strength = (_WHITE, strength) if towards > 0 else (_RED, strength * 0.8)
    for side in (-0.65, 0.65):
        lamp = np.array([[placed.x + hx * reach - hy * side, placed.y + hy * reach + hx * side, 0.7]])
        ((x, y),) = lens.project(lamp).tolist()
        radius = lens.focal_px / max(placed.y, 1) * size
        add_glow(image, (x, y), max(radius, 1.5), colour, strength)
        if view.weather == "rain":
            below = lens.focal_px / max(placed.y, 1) * 1.2
            add_glow(image, (x, y + below), (radius * 0.7, radius * 2.2), colour, strength * 0.45)
