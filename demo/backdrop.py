"""The part of a picture that never moves: sky, facades, street, drawn once per camera."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.scenes import CYCLE_T, FACADE_T, KERB_T, ZEBRA_HALF_M, Light, Scene
from demo.sprites import Lens

Image = NDArray[np.uint8]
Floats = NDArray[Any]  # 32-bit pictures; NumPy's own types change with every operation
TINT: dict[Light, tuple[float, float, float]] = {  # blue, green, red: what daylight is multiplied by
    "day": (0.95, 1.0, 1.04),
    "overcast": (0.86, 0.84, 0.82),
    "dusk": (0.66, 0.62, 0.74),
    "night": (0.46, 0.40, 0.36),
}
_SKY: dict[Light, tuple[tuple[int, int, int], tuple[int, int, int]]] = {  # at the top, at the horizon
    "day": ((215, 160, 105), (235, 220, 205)),
    "overcast": ((175, 168, 160), (205, 202, 198)),
    "dusk": ((120, 80, 75), (110, 150, 225)),
    "night": ((40, 25, 18), (70, 50, 45)),
}
_HAZE_M = 150.0
_TILE = 512


def backdrop(scene: Scene, lens: Lens) -> Image:
    """UINT8 (height, width, 3), BGR."""
    view = scene.view
    rng = np.random.default_rng((*scene.seed, 1))
    twice = 2 if view.width <= 640 else 1  # drawn larger and averaged: smooth edges
    width, height = view.width * twice, view.height * twice
    big = Lens(lens.focal_px * twice, lens.centre_px * twice, lens.horizon_px * twice, lens.camera_m)
    picture = _sky(view.light, width, height, big.horizon_px, rng)
    ground_top = max(0, math.ceil(big.horizon_px) + 1)
    picture[ground_top:] = _ground(scene, big, width, height, ground_top, rng)
    image = np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8))
    for side in (-1, 1):
        if side * view.distance_m < FACADE_T:  # the camera stands before this wall, not behind it
            _facades(image, scene, big, side, rng)
    image = cv2.resize(image, (view.width, view.height), interpolation=cv2.INTER_AREA)
    size = view.height / 360
    text = f"CAM {scene.seed[2] + 1:02d}"
    for colour, offset in (((20, 20, 20), 1), ((235, 235, 235), 0)):
        at = (int((8 + offset) * size), int((18 + offset) * size))
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45 * size, colour, round(size), cv2.LINE_AA)
    return cast("Image", image)


def _noise(rng: np.random.Generator) -> Floats:
    """A tile in about -1..1 with coarse and fine grain."""
    total = np.zeros((_TILE, _TILE), dtype=np.float32)
    for cells, weight in ((8, 0.5), (32, 0.3), (128, 0.4), (_TILE, 0.45)):
        grain = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        total += weight * cv2.resize(grain, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
    return total


def _sky(light: Light, width: int, height: int, horizon: float, rng: np.random.Generator) -> Floats:
    top, low = (np.array(c, dtype=np.float32) for c in _SKY[light])
    share = np.clip(np.arange(height, dtype=np.float32) / max(1.0, horizon), 0, 1)[:, None, None]
    sky = np.broadcast_to(top * (1 - share) + low * share, (height, width, 3)).astype(np.float32)
    clouds = cv2.resize(cv2.GaussianBlur(_noise(rng), (0, 0), 6), (width, height), interpolation=cv2.INTER_CUBIC)
    return cast("Floats", sky + np.clip(clouds, -0.1, 0.5)[..., None] * (60 if light in ("day", "overcast") else 18))


def _ground(scene: Scene, lens: Lens, width: int, height: int, top: int, rng: np.random.Generator) -> Floats:
    """Each pixel looked up in the street's own coordinates."""
    rows = np.arange(top, height, dtype=np.float32)[:, None]
    depth = lens.focal_px * lens.camera_m / (rows - lens.horizon_px)
    x = (np.arange(width, dtype=np.float32)[None] - lens.centre_px) * depth / lens.focal_px
    (ax, ay), (nx, ny) = scene.axes
    s = x * ax + depth * ay
    t = x * nx + depth * ny + scene.view.distance_m
    side = np.abs(t)
    grain = _lookup(_noise(rng), s * 9, t * 9)
    coarse = _lookup(_noise(rng), s * 1.5, t * 1.5)
    fade = np.clip(1.4 - depth / 45, 0.1, 1)
    value = 88 + 9 * coarse + 13 * grain * fade
    colour = value[..., None] * np.array([1.02, 1.0, 0.99], dtype=np.float32)
    lane = (side > 3.5) & (side < 5.0)
    colour[lane] = colour[lane] * np.array([0.82, 0.88, 1.12], dtype=np.float32)
    pavement = side > KERB_T
    tiles = 1 - 0.14 * (((s % 1.2) < 0.07) | ((t % 1.2) < 0.07)) * fade
    colour[pavement] = ((148 + 8 * coarse + 9 * grain * fade) * tiles)[pavement][:, None] * _bgr([0.96, 0.99, 1])
    colour[(side > KERB_T) & (side < KERB_T + 0.22)] *= 1.2
    colour[side > FACADE_T + 2] *= _bgr([0.62, 0.85, 0.72])  # grass behind the camera's pavement
    colour[_marked(s, t, side, scene.zebra_s)] = _bgr([205, 208, 208])
    colour *= _bgr(TINT[scene.view.light])
    if scene.view.light == "night":
        pools = sum(np.exp(-((s - ps) ** 2 + (t - pt * 0.8) ** 2) / 22) for ps, pt in scene.posts)
        colour *= 1 + 1.1 * np.asarray(pools)[..., None] * _bgr([0.6, 0.9, 1.1])
    haze = 1 - np.exp(-depth / _HAZE_M)[..., None]
    return np.asarray(colour * (1 - haze) + _bgr(_SKY[scene.view.light][1]) * haze, dtype=np.float32)


def _bgr(values: Sequence[float]) -> Floats:
    return np.array(values, dtype=np.float32)


def _lookup(tile: Floats, s: Floats, t: Floats) -> Floats:
    return tile[np.floor(s).astype(np.int64) % _TILE, np.floor(t).astype(np.int64) % _TILE]


def _marked(s: Floats, t: Floats, side: Floats, zebra_s: float) -> NDArray[np.bool_]:
    """Where there is white paint."""
    from_zebra = np.abs(s - zebra_s)
    middle = (side < 0.08) & (s % 6 < 3) & (from_zebra > 4)
    edge = (np.abs(side - 3.5) < 0.06) | (np.abs(side - CYCLE_T - 0.8) < 0.05) & (s % 2 < 1.2)
    stripes = (from_zebra < ZEBRA_HALF_M) & (t % 1.0 < 0.5) & (side < KERB_T - 0.3)
    stop = (np.abs(from_zebra - 3.0) < 0.2) & (side < 3.4) & ((t > 0) == (s > zebra_s))
    return np.asarray((middle | edge) & (from_zebra > ZEBRA_HALF_M) | stripes | stop)


def _facades(image: Image, scene: Scene, lens: Lens, side: int, rng: np.random.Generator) -> None:
    """A row of houses along one side, the farthest drawn first."""
    starts = [-70.0]
    while starts[-1] < 150:
        starts.append(starts[-1] + float(rng.uniform(7, 15)))
    houses = list(itertools.pairwise(starts))
    houses.sort(key=lambda h: -scene.to_world((h[0] + h[1]) / 2, 0)[1])
    for a, b in houses:
        _house(image, scene, lens, a, b, side * FACADE_T, rng)


def _house(image: Image, scene: Scene, lens: Lens, a: float, b: float, t: float, rng: np.random.Generator) -> None:
    light = scene.view.light
    tint = np.array(TINT[light]) * rng.uniform(0.75, 1.0)
    wall = np.array(
        [(120, 150, 175), (150, 165, 170), (95, 105, 150), (165, 170, 165), (130, 140, 140), (110, 150, 190)]
    )[rng.integers(6)]
    floors = int(rng.integers(3, 6))
    top = floors * 3.1 + 1.2
    depth = scene.to_world((a + b) / 2, t)[1]
    haze = 1 - math.exp(-max(depth, 0) / _HAZE_M)
    far = np.array(_SKY[light][1])

    def panel(s0: float, s1: float, z0: float, z1: float, colour: NDArray[np.float64]) -> None:
        ends = _before_camera(scene, s0, s1, t)
        if ends is None:
            return
        corners = [(*scene.to_world(s, t), z) for s, z in ((ends[0], z0), (ends[0], z1), (ends[1], z1), (ends[1], z0))]
        pixels = np.clip(np.round(lens.project(np.array(corners)) * 16), -400000, 400000).astype(np.int32)
        mixed = colour * (1 - haze) + far * haze
        cv2.fillConvexPoly(image, pixels, tuple(float(v) for v in mixed), cv2.LINE_AA, 4)

    panel(a, b, 0, top, wall * tint)
    panel(a, b, top - 0.35, top, wall * tint * 0.7)
    panel(a, b, 0, 0.5, wall * tint * 0.6)
    shop = bool(rng.random() < 0.5)
    if shop:
        panel(a + 0.5, b - 0.5, 2.6, 3.2, np.array([rng.uniform(40, 190) for _ in range(3)]) * tint)
        panel(a + 0.7, b - 0.7, 0.5, 2.5, np.array((110, 120, 110)) * tint * (2.2 if light == "night" else 1))
    count = max(2, round((b - a) / 2.3))
    step = (b - a) / count
    for floor in range(1 if shop else 0, floors):
        for number in range(count):
            middle, low = a + step * (number + 0.5), floor * 3.1 + 1.1
            lit = light in ("night", "dusk") and rng.random() < 0.35
            glass = np.array((110, 190, 235)) if lit else np.array((105, 92, 80)) * tint * rng.uniform(0.8, 1.15)
            panel(middle - 0.62, middle + 0.62, low - 0.1, low + 1.7, wall * tint * 1.15)
            panel(middle - 0.5, middle + 0.5, low, low + 1.6, glass)


def _before_camera(scene: Scene, s0: float, s1: float, t: float) -> tuple[float, float] | None:
    """The part of a wall between s0 and s1 that lies at least 1.5 m before the camera."""
    y0, y1 = scene.to_world(s0, t)[1], scene.to_world(s1, t)[1]
    near = 1.5
    if max(y0, y1) <= near:
        return None
    crossing = s0 + (s1 - s0) * (near - y0) / (y1 - y0) if y0 != y1 else s0
    return (crossing if y0 < near else s0), (crossing if y1 < near else s1)
