"""What stands and moves in front of a camera, as plain numbers: no pixel is drawn here.

World: metres, the camera above the origin; X to the right, Y away from it, Z up. A place is a piece of ground with its
own axes: s along it, t across it. All movement is played once (demo/city/traffic.py), so any frame can be drawn alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np

from demo.city.cameras import BASE_VIEWS, View, random_view
from demo.city.places import Builder, Furniture, Place
from demo.city.roads import crossing, street
from demo.city.squares import parking, path, plaza
from demo.city.traffic import STEP_S, Floats, Light, play

CLASSES = ("person", "car", "bus", "bicycle")
_PLACES = {"street": street, "crossing": crossing, "parking": parking, "plaza": plaza, "path": path}


class Purpose(IntEnum):
    """What pictures are for. It is the first word of every seed, so no camera ever serves two purposes."""

    CLIPS = 1
    TRAINING = 2
    VALIDATION = 3


@dataclass(frozen=True, slots=True, eq=False)
class Mover:
    """One object. `track` FP64 (steps, 6) is its part of the table that `demo.traffic.play` returns."""

    object_id: int
    class_id: int
    looks: tuple[float, ...]  # numbers in 0..1 that a sprite turns into colours and shapes
    track: Floats


@dataclass(frozen=True, slots=True)
class Placed:
    """A mover at one moment: ground position in metres, heading as a unit vector, metres travelled, metres a second."""

    mover: Mover
    x: float
    y: float
    heading: tuple[float, float]
    travelled_m: float
    speed: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A camera, its place and all that moves there."""

    name: str
    seed: tuple[int, ...]
    view: View
    aim_s: float  # where along the place the camera looks: what matters is put around it
    furniture: tuple[Furniture, ...]
    movers: tuple[Mover, ...]
    light: Light

    def to_world(self, s: float, t: float) -> tuple[float, float]:
        """The place's metres to ground metres (x, y)."""
        (ax, ay), (nx, ny) = self.axes
        near = self.view.distance_m
        return s * ax + (t - near) * nx, s * ay + (t - near) * ny

    @cached_property
    def axes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Unit vectors, in ground metres, along the place and across it (towards the right of its direction)."""
        a = math.radians(self.view.angle_deg)
        return (math.sin(a), math.cos(a)), (math.cos(a), -math.sin(a))

    def at(self, time_s: float) -> list[Placed]:
        """Everything that is in the world at one moment, farthest from the camera first."""
        if not self.movers:
            return []
        steps = len(self.movers[0].track) - 1
        number, share = divmod(time_s / STEP_S, 1.0)
        first = int(number) % steps
        placed = [self._placed(mover, first, share) for mover in self.movers]
        return sorted((p for p in placed if p is not None), key=lambda p: (-p.y, p.mover.object_id))

    def _placed(self, mover: Mover, first: int, share: float) -> Placed | None:
        s, t, hs, ht, travelled, there = mover.track[first].tolist()
        s2, t2, hs2, ht2, travelled2, there2 = mover.track[first + 1].tolist()
        if not there:
            return None
        speed = 0.0
        if there2 and abs(s2 - s) + abs(t2 - t) < 8:
            speed = (travelled2 - travelled) / STEP_S
            s, t, travelled = s + (s2 - s) * share, t + (t2 - t) * share, travelled + (travelled2 - travelled) * share
            hs, ht = hs + (hs2 - hs) * share, ht + (ht2 - ht) * share
        x, y = self.to_world(s, t)
        (ax, ay), (nx, ny) = self.axes
        hx, hy = hs * ax + ht * nx, hs * ay + ht * ny
        length = math.hypot(hx, hy)
        heading = (hx / length, hy / length) if length > 1e-3 else (ax, ay)
        return Placed(mover, x, y, heading, travelled, speed)


def camera_name(index: int) -> str:
    """Of camera number `index`, from 0."""
    return f"cam{index + 1:02d}"


def words_of(purpose: Purpose, seed: int, index: int) -> tuple[int, int, int]:
    """What seeds everything that is drawn at random of a camera."""
    return int(purpose), seed, index


def view_of(purpose: Purpose, seed: int, index: int) -> View:
    """The view of a camera, without its scene."""
    return _view(purpose, index, np.random.default_rng(words_of(purpose, seed, index)))


def _view(purpose: Purpose, index: int, rng: np.random.Generator) -> View:
    is_base = purpose is Purpose.CLIPS and index < len(BASE_VIEWS)
    return BASE_VIEWS[index] if is_base else random_view(rng)


def scene(purpose: Purpose, seed: int, index: int) -> Scene:
    """Camera number `index`, from 0, of a purpose and a seed: the same arguments give the same scene for ever."""
    words = words_of(purpose, seed, index)
    rng = np.random.default_rng(words)
    view = _view(purpose, index, rng)
    red_s = 0.0 if view.density == "static" else float(rng.uniform(9, 13))
    place = Place(view.aim_s, Light(float(rng.uniform(24, 32)), red_s, float(rng.uniform(0, 24))))
    bicycles = 3 if purpose is Purpose.TRAINING else 1  # rarest, and hardest to learn
    _PLACES[view.kind](Builder(place, view, rng, bicycles))
    table = play(place.actors, place.stop_lines)
    movers = tuple(
        Mover(number + 1, actor.class_id, tuple(float(v) for v in rng.random(10)), table[:, number])
        for number, actor in enumerate(place.actors)
    )
    return Scene(camera_name(index), words, view, place.aim_s, tuple(place.furniture), movers, place.light)
