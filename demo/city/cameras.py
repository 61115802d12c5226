"""Where cameras stand, what light and weather they have, and how they send: the base cameras and any number by seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["street", "crossing", "parking", "plaza", "path"]
Daylight = Literal["day", "overcast", "dusk", "night"]
Density = Literal["static", "calm", "busy"]
Weather = Literal["clear", "rain", "fog"]
Quirk = Literal["crowd", "far", "shake", "wind", "exposure", "occluder"]
Colour = Literal["bt601", "bt709", "bt601-full", "bt709-full", "untagged"]
Codec = Literal["h264", "h265"]
KINDS: tuple[Kind, ...] = ("street", "crossing", "parking", "plaza", "path")
LIGHTS: tuple[Daylight, ...] = ("day", "overcast", "dusk", "night")
DENSITIES: tuple[Density, ...] = ("static", "calm", "busy")
COLOURS: tuple[Colour, ...] = ("bt601", "bt709", "bt601-full", "bt709-full", "untagged")

_CHANCES: tuple[tuple[Quirk, float], ...] = (("shake", 0.12), ("wind", 0.3), ("exposure", 0.2), ("occluder", 0.2))


@dataclass(frozen=True, slots=True)
class View:
    """Where a camera stands: sizes in pixels, `angle_deg` of the place to its line of sight (0 away, 90 across)."""

    width: int
    height: int
    fps: int
    kind: Kind
    angle_deg: float
    distance_m: float  # from the camera to the place's middle, at right angles; its sign is the angle's
    camera_m: float  # height above the ground
    horizon: float  # share of the picture's height
    focal: float  # in picture heights
    light: Daylight
    density: Density
    weather: Weather = "clear"
    quirks: tuple[Quirk, ...] = ()
    codec: Codec = "h264"
    colour: Colour = "bt601"
    b_frames: int = 0
    gop_s: int = 2

    @property
    def conditions(self) -> tuple[str, ...]:
        """What makes this camera hard, in words: its light, weather and quirks, `clear` where there is nothing."""
        words = [self.light, *(() if self.weather == "clear" else (self.weather,)), *self.quirks]
        return tuple(words if words != ["day"] else ["day", "clear"])

    @property
    def aim_s(self) -> float:
        """Where along the place the camera looks, at most 22 m away."""
        reach = 55.0 if "far" in self.quirks else 22.0
        return min(reach, self.distance_m / math.tan(math.radians(self.angle_deg)))


# `make demo` runs the first eight; all eighteen are six static, six calm and six busy ones.
BASE_VIEWS = (
    View(640, 360, 25, "street", 90, 20, 5.5, 0.20, 1.25, "day", "busy"),
    View(640, 360, 15, "street", 14, 9, 6.0, 0.20, 1.15, "overcast", "busy"),
    View(640, 360, 25, "crossing", 56, 20, 7.5, 0.16, 1.10, "dusk", "busy", b_frames=2),
    View(640, 360, 20, "parking", 90, 17, 7.0, 0.10, 1.10, "night", "static"),
    View(1280, 720, 25, "plaza", 78, 15, 6.0, 0.16, 1.15, "day", "calm", colour="bt709", b_frames=2),
    View(640, 360, 25, "street", -18, -9, 5.5, 0.22, 1.15, "dusk", "calm", "rain", codec="h265"),
    View(640, 360, 25, "crossing", -66, -19, 7.0, 0.16, 1.15, "night", "calm", "rain", colour="bt601-full"),
    View(640, 360, 15, "path", 62, 13, 5.0, 0.20, 1.20, "day", "static", "fog", colour="untagged"),
    View(1920, 1080, 25, "plaza", 90, 15, 6.5, 0.15, 1.15, "day", "busy", quirks=("crowd",), colour="bt709"),
    View(1280, 720, 15, "parking", 116, 17, 7.5, 0.10, 1.15, "day", "static", codec="h265", colour="bt709"),
    View(1280, 720, 25, "street", 60, 18, 6.5, 0.18, 1.15, "night", "busy", "rain", colour="bt709", gop_s=8),
    View(640, 360, 20, "crossing", 34, 17, 7.0, 0.17, 1.15, "overcast", "calm", "fog", colour="bt709-full"),
    View(640, 360, 25, "path", 138, 12, 5.5, 0.18, 1.20, "overcast", "static", quirks=("wind", "shake")),
    View(1280, 720, 30, "street", -72, -19, 6.0, 0.18, 1.2, "day", "busy", quirks=("occluder",), colour="bt709-full",
         b_frames=2, gop_s=10),
    View(1920, 1080, 15, "parking", 78, 17, 8.0, 0.08, 1.10, "dusk", "calm", codec="h265", colour="bt709"),
    View(1920, 1080, 20, "street", 48, 27, 13.0, 0.08, 1.15, "overcast", "calm", quirks=("far", "wind"),
         colour="bt709"),
    View(640, 360, 20, "plaza", 100, 15, 6.0, 0.16, 1.15, "night", "static", "rain", colour="bt601-full"),
    View(640, 360, 25, "street", 42, 15, 6.0, 0.19, 1.15, "day", "static", quirks=("exposure", "occluder"), b_frames=2),
)  # fmt: skip


def random_view(rng: np.random.Generator) -> View:
    """Like the base cameras, but anywhere between them."""
    kind = KINDS[int(rng.choice(5, p=(0.34, 0.22, 0.16, 0.16, 0.12)))]
    angle = float(rng.choice([rng.uniform(62, 92), rng.uniform(28, 62), rng.uniform(8, 26)])) * int(rng.choice([-1, 1]))
    if kind in ("parking", "plaza", "path"):
        angle = float(rng.uniform(42, 90))
    across = abs(angle) / 90
    if kind in ("parking", "plaza", "path") and rng.random() < 0.5:
        angle = 180 - angle  # these have a front and a back
    width, height = ((640, 360), (1280, 720))[int(rng.random() < 0.15)]
    distance = (9 + 10 * across) * rng.uniform(0.85, 1.2)
    camera_m, horizon = float(rng.uniform(5.0, 8.0)), float(rng.uniform(0.10, 0.22))
    quirks: list[Quirk] = [name for name, chance in _CHANCES if rng.random() < chance]
    if kind == "plaza" and rng.random() < 0.4:
        quirks.insert(0, "crowd")
    if kind in ("street", "crossing") and rng.random() < 0.12:
        quirks.insert(0, "far")
        distance, camera_m, horizon = distance * 1.7, camera_m * 2, 0.1
    return View(
        width=width,
        height=height,
        fps=int(rng.choice([15, 20, 25, 30])),
        kind=kind,
        angle_deg=angle,
        distance_m=float(math.copysign(distance, angle)),
        camera_m=camera_m,
        horizon=horizon,
        focal=float(rng.uniform(1.05, 1.3)),
        light=LIGHTS[int(rng.choice(4, p=(0.34, 0.22, 0.2, 0.24)))],
        density=DENSITIES[int(rng.integers(3))],
        weather=("clear", "rain", "fog")[int(rng.choice(3, p=(0.64, 0.2, 0.16)))],
        quirks=tuple(quirks),
        codec="h264",
        colour=COLOURS[int(rng.integers(len(COLOURS)))] if height == 360 else "bt709",
        b_frames=int(rng.choice([0, 2])),
    )
