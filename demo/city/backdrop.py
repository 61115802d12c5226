"""The part of a picture that never moves: sky, skyline, houses, ground, lamps' light, what is wet; drawn once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.city.cameras import Daylight, View
from demo.city.ground import Floats, Ground, noise_tile
from demo.city.houses import draw_houses, walls_of
from demo.city.shapes import Lens
from demo.scenes import Scene

Image = NDArray[np.uint8]
TINT: dict[Daylight, tuple[float, float, float]] = {  # blue, green, red: what daylight is multiplied by
    "day": (0.95, 1.0, 1.04),
    "overcast": (0.87, 0.85, 0.83),
    "dusk": (0.68, 0.63, 0.74),
    "night": (0.47, 0.41, 0.38),
}
_SKY: dict[Daylight, tuple[tuple[int, int, int], tuple[int, int, int]]] = {  # at the top, at the horizon
    "day": ((222, 158, 92), (238, 222, 205)),
    "overcast": ((172, 166, 158), (208, 205, 202)),
    "dusk": ((128, 82, 70), (105, 148, 228)),
    "night": ((38, 24, 18), (72, 52, 46)),
}
_FOG_M = 42.0
_CLEAR_M, _RAIN_M = 170.0, 85.0


@dataclass(frozen=True, slots=True)
class Air:
    """What lies between the camera and things: its colour (BGR), and the metres after which 63 % of them is gone."""

    colour: tuple[float, float, float]
    reach_m: float

    def haze(self, depth_m: float) -> float:
        """Share, 0..1, of the air's colour in what is seen at that depth."""
        return 1 - math.exp(-max(depth_m, 0.0) / self.reach_m)


def air_of(view: View) -> Air:
    """The air of a camera's weather and light."""
    far = _SKY[view.light][1]
    if view.weather == "fog":
        shade = {"day": 1.0, "overcast": 0.95, "dusk": 0.72, "night": 0.42}[view.light]
        return Air((205 * shade, 203 * shade, 200 * shade), _FOG_M)
    if view.weather == "rain":
        return Air(cast("tuple[float, float, float]", tuple(0.82 * v for v in far)), _RAIN_M)
    return Air(cast("tuple[float, float, float]", tuple(map(float, far))), _CLEAR_M)


def backdrop(scene: Scene, lens: Lens) -> Image:
    """UINT8 (height, width, 3), BGR."""
    view, air = scene.view, air_of(scene.view)
    rng = np.random.default_rng((*scene.seed, 1))
    twice = 2 if view.width <= 640 else 1  # drawn larger and averaged: smooth edges
    width, height = view.width * twice, view.height * twice
    big = Lens(lens.focal_px * twice, lens.centre_px * twice, lens.horizon_px * twice, lens.camera_m)
    picture = _sky(view, width, height, big.horizon_px, rng)
    _skyline(picture, scene, big, air, rng)
    top = max(0, math.ceil(big.horizon_px) + 1)
    ground = Ground(scene, big, (width, height), top, rng)
    picture[top:] = _lit_ground(ground, scene, air)
    image = np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw_houses(image, scene, big, np.array(TINT[view.light]), air.haze, np.array(air.colour), rng)
    if view.weather == "rain":
        _wet(image, scene, big, ground, top)
    if view.light in ("night", "dusk"):
        _lamp_glow(image, scene, big)
    grain = cv2.resize(noise_tile(rng), (width, height), interpolation=cv2.INTER_LINEAR)
    image = np.clip(image * (1 + 0.03 * grain[..., None]), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(image, (view.width, view.height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _sky(view: View, width: int, height: int, horizon: float, rng: np.random.Generator) -> Floats:
    light = "overcast" if view.weather == "rain" and view.light == "day" else view.light
    top, low = (np.array(c, dtype=np.float32) for c in _SKY[light])
    if view.weather == "fog":
        top = low = np.array(air_of(view).colour, dtype=np.float32)
    share = np.clip(np.arange(height, dtype=np.float32) / max(1.0, horizon), 0, 1)[:, None, None]
    sky = np.broadcast_to(top * (1 - share) + low * share, (height, width, 3)).astype(np.float32)
    clouds = cv2.resize(cv2.GaussianBlur(noise_tile(rng), (0, 0), 6), (width, height), interpolation=cv2.INTER_CUBIC)
    strength = 0 if view.weather == "fog" else 62 if light in ("day", "overcast") else 20
    return cast("Floats", sky + np.clip(clouds, -0.1, 0.5)[..., None] * strength)


def _skyline(picture: Floats, scene: Scene, lens: Lens, air: Air, rng: np.random.Generator) -> None:
    """Distant roofs, mostly air."""
    height, width = picture.shape[:2]
    unit, at = height / 360, 0.0
    colour = np.array(air.colour) * (0.72 if scene.view.light != "night" else 0.55)
    while at < width and scene.view.weather != "fog":
        wide, tall = rng.uniform(14, 60) * unit, rng.uniform(3, 22) * unit
        top = max(0, int(lens.horizon_px - tall))
        picture[top : int(lens.horizon_px) + 3, int(at) : int(at + wide)] = colour * rng.uniform(0.92, 1.06)
        at += wide


def _lit_ground(ground: Ground, scene: Scene, air: Air) -> Floats:
    """Daylight or lamps on the ground, and the shadow of a row of houses on it, then the air before it."""
    view = scene.view
    colour = ground.colour()
    if view.light == "day" and view.weather == "clear":
        colour *= (1 - 0.34 * _house_shadow(ground, scene))[..., None]
    if view.weather == "rain":
        colour *= np.where(ground.is_hard, 0.74, 0.9)[..., None].astype(np.float32)
    colour *= np.array(TINT[view.light], dtype=np.float32)
    if view.light == "night":
        lamps = [item for item in scene.furniture if item.kind == "post"]
        spots = [np.exp(-((ground.s - p.s) ** 2 + (ground.t - p.t * 0.85) ** 2) / 42) for p in lamps]
        total = np.minimum(np.sum(spots, axis=0), 1.8) if spots else np.zeros_like(ground.s)
        colour *= 1 + 1.35 * np.asarray(total)[..., None] * np.array((0.62, 0.92, 1.12), dtype=np.float32)
    haze = 1 - np.exp(-ground.depth / air.reach_m)[..., None]
    return np.asarray(colour * (1 - haze) + np.array(air.colour, dtype=np.float32) * haze, dtype=np.float32)


def _house_shadow(ground: Ground, scene: Scene) -> Floats:
    """0..1: the shadow of the houses behind the camera, where the sun is."""
    rng = np.random.default_rng((*scene.seed, 7))
    if scene.view.kind not in ("street", "crossing") or rng.random() < 0.4:
        return np.zeros_like(ground.s)
    roofs = np.repeat(rng.uniform(1.0, 6.5, 40), 9).astype(np.float32)
    reach = roofs[np.floor(ground.s + ground.t * 0.4).astype(np.int64) % len(roofs)]
    from_wall = 11.5 - math.copysign(1.0, scene.view.distance_m) * ground.t
    shade: Floats = np.clip((reach - from_wall) / 0.25, 0, 1)
    return shade


def _wet(image: Image, scene: Scene, lens: Lens, ground: Ground, top: int) -> None:
    """What stands at the far edge, mirrored in wet ground, blurred, stronger where one looks flat over it."""
    height, width = image.shape[:2]
    (_, _), (nx, ny) = scene.axes
    rays = (np.arange(width) - lens.centre_px) / lens.focal_px
    depth = np.full(width, 90.0)
    for level in {wall.start[1] for wall in walls_of(scene)}:  # of the fronts along the place, the nearest
        with np.errstate(divide="ignore"):
            reach = (level - scene.view.distance_m) / (nx * rays + ny)
        depth = np.where((reach > 2) & (reach < depth), reach, depth)
    base = (lens.horizon_px + lens.focal_px * lens.camera_m / depth).astype(np.float32)[None]
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.broadcast_to(np.arange(width, dtype=np.float32)[None], (height, width))
    mirrored = cv2.remap(image, columns, np.clip(2 * base - rows, 0, height - 1), cv2.INTER_LINEAR)
    blurred = cv2.blur(cv2.blur(mirrored, (max(5, width // 45), height // 12)), (max(3, width // 60), height // 16))
    share = np.zeros((height, width), dtype=np.float32)
    share[top:] = np.clip(0.16 + ground.depth / 60, 0, 0.5) * ground.is_hard
    share *= rows > base
    mixed = image * (1 - share[..., None]) + np.maximum(blurred, image * 0.6) * share[..., None]
    image[:] = np.clip(mixed, 0, 255).astype(np.uint8)


def _lamp_glow(image: Image, scene: Scene, lens: Lens) -> None:
    """Light around the lamps, wider in rain and fog."""
    wide = 2.6 if scene.view.weather != "clear" else 1.5
    strength = 0.85 if scene.view.light == "night" else 0.35
    for item in scene.furniture:
        x, y = scene.to_world(item.s, item.t)
        if item.kind == "post" and 4 < y < 85:
            ((px, py),) = lens.project(np.array([[x, y, 5.6]])).tolist()
            add_glow(image, (px, py), lens.focal_px / y * wide, (120, 175, 215), strength)


def _disc(size: int = 64) -> Floats:
    at = np.linspace(-1, 1, size, dtype=np.float32)
    reach = np.hypot(at[:, None], at[None])
    return cast("Floats", np.clip(1 - reach, 0, 1) ** 2.2)


_DISC = _disc()


def add_glow(
    image: Image, at: tuple[float, float], radius: tuple[float, float] | float, colour: Any, strength: float
) -> None:
    """Add light around a pixel, `radius` (x, y) pixels wide."""
    rx, ry = radius if isinstance(radius, tuple) else (radius, radius)
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (round(v) for v in (at[0] - rx, at[1] - ry, at[0] + rx, at[1] + ry))
    if x2 - x1 < 2 or y2 - y1 < 2 or x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height or x2 - x1 > 3 * width:
        return
    patch = cv2.resize(_DISC, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
    left, up = max(0, -x1), max(0, -y1)
    area = image[max(0, y1) : y2, max(0, x1) : x2]
    patch = patch[up : up + area.shape[0], left : left + area.shape[1], None]
    light = (patch * (np.array(colour, dtype=np.float32) * strength)).astype(np.uint8)
    cv2.add(area, light, dst=area)
