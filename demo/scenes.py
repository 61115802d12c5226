"""What stands and moves in front of a camera, as plain numbers: no pixel is drawn here.

World: metres, the camera above the origin; X to the right, Y away from it, Z up. A street is a strip of ground with its
own axes: s along it, t across it. Every position is a formula of the time, so any frame can be drawn on its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

CLASSES = ("person", "car", "bus", "bicycle")
PERSON, CAR, BUS, BICYCLE = range(4)

LANE_T, CYCLE_T, PARKING_T, KERB_T, FACADE_T = 1.75, 4.25, 6.1, 7.3, 11.5  # metres from the street's middle
ZEBRA_HALF_M = 1.8
_ALONG_M, _ACROSS_M = 190.0, 20.0  # length of a path, beyond which its movers come round again
_RAMP_S = 1.2  # time to reach full speed and to stop

Light = Literal["day", "overcast", "dusk", "night"]
Density = Literal["static", "calm", "busy"]
LIGHTS: tuple[Light, ...] = ("day", "overcast", "dusk", "night")


class Purpose(IntEnum):
    """What pictures are for. It is the first word of every seed, so no camera ever serves two purposes."""

    CLIPS = 1
    TRAINING = 2
    VALIDATION = 3


@dataclass(frozen=True, slots=True)
class View:
    """Where a camera stands: sizes in pixels, `angle_deg` of the street to its line of sight (0 away, 90 across)."""

    width: int
    height: int
    fps: int
    angle_deg: float
    distance_m: float  # from the camera to the street's middle, at right angles; its sign is the angle's
    camera_m: float  # height above the ground
    horizon: float  # share of the picture's height
    focal: float  # in picture heights
    light: Light
    density: Density
    b_frames: int = 0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Go for `go_s` of every `period_s`, stand still for the rest. `speed` in m/s."""

    speed: float
    period_s: float
    go_s: float
    phase_s: float

    def travelled(self, time_s: float) -> float:
        """Metres since the start of the first period."""
        periods, within = divmod(time_s + self.phase_s, self.period_s)
        rest = max(0.0, within - self.go_s)
        up, down = min(within, _RAMP_S), min(rest, _RAMP_S)
        steady = max(0.0, min(within, self.go_s) - _RAMP_S)
        ramps = up * up / (2 * _RAMP_S) + down - down * down / (2 * _RAMP_S)
        return self.speed * (periods * self.go_s + steady + ramps)


@dataclass(frozen=True, slots=True)
class Mover:
    """One object. `path` is "along" or "across" (both ways over the zebra crossing); a parked one has speed 0."""

    object_id: int
    class_id: int
    path: Literal["along", "across"]
    start_m: float
    side_m: float  # the coordinate it keeps: t on a path along the street, s on one across it
    direction: int  # +1 or -1
    rhythm: Rhythm
    looks: tuple[float, ...]  # numbers in 0..1 that a sprite turns into colours and shapes


@dataclass(frozen=True, slots=True)
class Placed:
    """A mover at one moment: ground position in metres, heading as a unit vector, metres travelled."""

    mover: Mover
    x: float
    y: float
    heading: tuple[float, float]
    travelled_m: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A camera, its street and all that moves there."""

    name: str
    seed: tuple[int, ...]
    view: View
    zebra_s: float
    posts: tuple[tuple[float, float], ...]  # (s, t) of lamp posts
    trees: tuple[tuple[float, float], ...]  # (s, t), on the far pavement
    movers: tuple[Mover, ...]

    def to_world(self, s: float, t: float) -> tuple[float, float]:
        """Street metres to ground metres (x, y)."""
        (ax, ay), (nx, ny) = self.axes
        near = self.view.distance_m
        return s * ax + (t - near) * nx, s * ay + (t - near) * ny

    @property
    def axes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Unit vectors, in ground metres, along the street and across it (towards the camera's side)."""
        a = math.radians(self.view.angle_deg)
        return (math.sin(a), math.cos(a)), (math.cos(a), -math.sin(a))

    def at(self, time_s: float) -> list[Placed]:
        """Everything at one moment, farthest from the camera first."""
        placed = [self._place(mover, time_s) for mover in self.movers]
        return sorted(placed, key=lambda p: (-p.y, p.mover.object_id))

    def _place(self, mover: Mover, time_s: float) -> Placed:
        travelled = mover.rhythm.travelled(time_s)
        direction = mover.direction
        if mover.path == "along":
            s = (mover.start_m + direction * travelled) % _ALONG_M - _ALONG_M / 4
            t = mover.side_m
        else:
            there_and_back = (mover.start_m + travelled) % (2 * _ACROSS_M)
            direction = 1 if there_and_back < _ACROSS_M else -1
            t = min(there_and_back, 2 * _ACROSS_M - there_and_back) - _ACROSS_M / 2
            s = mover.side_m
        x, y = self.to_world(s, t)
        axis = self.axes[0 if mover.path == "along" else 1]
        return Placed(mover, x, y, (axis[0] * direction, axis[1] * direction), travelled)


# The base cameras of the demo, in order; further ones are drawn from the seed.
_BASE_VIEWS = (
    View(640, 360, 25, 90, 21, 5.5, 0.20, 1.25, "day", "busy"),
    View(640, 360, 15, 12, 8.5, 6.0, 0.22, 1.20, "overcast", "static"),
    View(640, 360, 25, 52, 17, 6.5, 0.18, 1.15, "dusk", "busy"),
    View(640, 360, 20, 90, 18, 5.0, 0.22, 1.20, "night", "static"),
    View(1280, 720, 25, -48, -17, 7.0, 0.16, 1.20, "day", "busy", 2),
    View(640, 360, 25, -15, -8.5, 5.5, 0.24, 1.15, "dusk", "calm", 2),
    View(1920, 1080, 20, 78, 20, 6.5, 0.17, 1.15, "overcast", "busy"),
    View(640, 360, 15, 35, 14, 6.0, 0.20, 1.20, "day", "static"),
)
_COUNTS: dict[Density, tuple[int, int, int, int, int]] = {  # cars, buses, bicycles, people, parked cars
    "static": (5, 1, 2, 7, 6),
    "calm": (8, 1, 4, 10, 6),
    "busy": (18, 3, 9, 26, 8),
}


def scene(purpose: Purpose, seed: int, index: int) -> Scene:
    """Camera number `index`, from 0, of a purpose and a seed: the same arguments give the same scene for ever."""
    words = (int(purpose), seed, index)
    rng = np.random.default_rng(words)
    is_base = purpose is Purpose.CLIPS and index < len(_BASE_VIEWS)
    view = _BASE_VIEWS[index] if is_base else _random_view(rng)
    zebra = float(rng.uniform(-6, 6)) + _look_at_s(view)
    posts = tuple((_look_at_s(view) + step * 24.0 + 5.0, side) for step in (-1, 0, 1, 2) for side in (-7.9, 7.9))
    far = -math.copysign(KERB_T + 1.0, view.distance_m)
    trees = tuple(
        (zebra + 7.0 + 10.5 * step + float(rng.uniform(-2, 2)), far) for step in range(-4, 7) if rng.random() < 0.6
    )
    return Scene(f"cam{index + 1:02d}", words, view, zebra, posts, trees, tuple(_movers(rng, view, zebra, purpose)))


def _random_view(rng: np.random.Generator) -> View:
    """Like the base cameras, but anywhere between them."""
    angle = float(rng.choice([rng.uniform(68, 92), rng.uniform(25, 62), rng.uniform(4, 24)])) * int(rng.choice([-1, 1]))
    across = abs(angle) / 90
    width, height = ((640, 360), (1280, 720))[int(rng.random() < 0.15)]
    distance = (7.5 + 13 * across) * rng.uniform(0.85, 1.2)
    return View(
        width=width,
        height=height,
        fps=int(rng.choice([15, 20, 25])),
        angle_deg=angle,
        distance_m=float(math.copysign(distance, angle)),
        camera_m=float(rng.uniform(4.5, 7.5)),
        horizon=float(rng.uniform(0.14, 0.26)),
        focal=float(rng.uniform(1.05, 1.4)),
        light=LIGHTS[int(rng.integers(len(LIGHTS)))],
        density=("calm", "busy", "busy", "static")[int(rng.integers(4))],
        b_frames=int(rng.choice([0, 2])),
    )


def _look_at_s(view: View) -> float:
    """Where along the street the camera looks (at most 22 m away): movers and the zebra crossing are put around it."""
    return min(22.0, view.distance_m / math.tan(math.radians(view.angle_deg)))


def _movers(rng: np.random.Generator, view: View, zebra_s: float, purpose: Purpose) -> list[Mover]:
    cars, buses, bicycles, people, parked = _COUNTS[view.density]
    if purpose is Purpose.TRAINING:
        bicycles *= 3  # rarest in the streets and hardest to learn
    rhythm = {sign: _rhythm(rng, view.density, rng.uniform(7, 12)) for sign in (-1, 1)}
    movers: list[Mover] = []

    def add(class_id: int, path: Literal["along", "across"], start: float, side: float, way: int, beat: Rhythm) -> None:
        looks = tuple(float(v) for v in rng.random(8))
        movers.append(Mover(len(movers) + 1, class_id, path, start, side, way, beat, looks))

    kinds = rng.permutation([CAR] * cars + [BUS] * buses)
    for sign in (-1, 1):  # traffic keeps to the right
        lane = kinds[0::2] if sign < 0 else kinds[1::2]
        spacing = _ALONG_M / max(1, len(lane))
        for place, kind in enumerate(lane):
            jitter = rng.uniform(-0.5, 0.5) * max(0.0, spacing - 13.5)
            add(int(kind), "along", place * spacing + jitter, -LANE_T * sign, sign, rhythm[sign])
    for _ in range(bicycles):
        sign = int(rng.choice([-1, 1]))
        beat = _rhythm(rng, view.density, rng.uniform(3, 5.5))
        add(BICYCLE, "along", rng.uniform(0, _ALONG_M), -CYCLE_T * sign + rng.uniform(-0.5, 0.5), sign, beat)
    still = Rhythm(0.0, 60.0, 30.0, 0.0)
    for place in rng.permutation(16)[:parked]:
        side = PARKING_T * int(rng.choice([-1, 1]))
        s = (int(place) - 8) * 6.6 + _look_at_s(view)
        if abs(s - zebra_s) > 5.5:
            add(CAR, "along", s + _ALONG_M / 4, side, 1 if side < 0 else -1, still)
    for number in range(people):
        sign = int(rng.choice([-1, 1]))
        beat = _rhythm(rng, view.density, rng.uniform(0.9, 1.8))
        if number % 4 == 3:
            add(PERSON, "across", rng.uniform(0, 40), zebra_s + rng.uniform(-1.5, 1.5), 1, beat)
        else:
            side = float(rng.uniform(KERB_T + 0.5, FACADE_T - 0.9)) * int(rng.choice([-1, 1]))
            start = _ALONG_M / 4 + _look_at_s(view) + rng.normal(0, 16)
            add(PERSON, "along", start, side, sign, still if view.density == "static" and number % 2 else beat)
    return movers


def _rhythm(rng: np.random.Generator, density: Density, speed: float) -> Rhythm:
    """Static cameras: all go together for 5 s of 20, then nothing moves at all. Busy ones hardly ever stand."""
    if density == "static":
        return Rhythm(speed, 20.0, 4.0, 17.0)
    period = float(rng.uniform(14, 24))
    share = rng.uniform(0.55, 0.75) if density == "calm" else rng.uniform(0.75, 0.9)
    return Rhythm(speed, period, period * float(share), float(rng.uniform(0, period)))
