"""What a place is made of, and the measures that those who draw it and those who move in it share.

All metres are a place's own: s along it, t across it. The places themselves are in roads.py and squares.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from demo.city.cameras import View
from demo.city.crowds import Errands
from demo.city.traffic import CAR, Actor, Clear, Go, Gone, Light, Point, StopLine, Wait

LANE_T, CYCLE_T, PARKING_T, KERB_T, FACADE_T = 1.75, 4.25, 6.1, 7.3, 11.5  # metres from a street's middle
ZEBRA_HALF_M = 1.8
CROSS_HALF_M, CROSS_WALL_M = 3.7, 7.5  # a crossing's second road: half its width, and where its houses begin
BAY_M, ROW_T, AISLE_T = 2.75, (-23.0, -12.4, -6.0, 6.0), (-17.7, 0.0)  # car parks
FAR_ROAD_T = -21.5  # the road behind squares and parks
WALL_T = -29.0  # and the houses behind it
FROM_M, TO_M = -62.0, 96.0  # traffic comes and goes so far from where the camera looks

FurnitureKind = Literal["post", "tree", "kiosk", "shelter", "bench", "fountain", "bush"]


@dataclass(frozen=True, slots=True)
class Furniture:
    """Something that stands there and may hide what moves."""

    kind: FurnitureKind
    s: float
    t: float


@dataclass(slots=True)
class Place:
    """What stands and who moves around `aim_s`; `light` is the traffic light of the place's main road."""

    aim_s: float
    light: Light
    furniture: list[Furniture] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    stop_lines: list[StopLine] = field(default_factory=list)


@dataclass(slots=True)
class Builder:
    """Adds actors and furniture to a place."""

    place: Place
    view: View
    rng: np.random.Generator
    bicycles: int  # factor
    events: int = 0  # so many have happened

    def count(self, static: int, calm: int, busy: int) -> int:
        """How many, by the camera's density."""
        return {"static": static, "calm": calm, "busy": busy}[self.view.density]

    @property
    def is_static(self) -> bool:
        """Whether hardly anything may move."""
        return self.view.density == "static"

    def errands(self) -> Errands:
        """The scripts of people on foot."""
        return Errands(self.place, self.view, self.rng)

    def stand(self, kind: FurnitureKind, s: float, t: float) -> None:
        """Put a piece of furniture there."""
        self.place.furniture.append(Furniture(kind, s, t))

    def drive(self, class_id: int, line: Sequence[Point], speed: float, start_m: float) -> None:
        """Come along the line again and again, at first from `start_m` metres on it."""
        pause = Gone(float(self.rng.uniform(0, 3)))
        steps = (Go(tuple(line), speed, start_m=start_m), pause, Clear(line[0], 10))
        self.place.actors.append(Actor(class_id, line[0], direction(line), steps))

    def park(self, s: float, t: float, heading: Point) -> None:
        """Stand there all the time."""
        self.place.actors.append(Actor(CAR, (s, t), heading, (Wait(1e9),)))

    def event_s(self) -> float:
        """When something happens that happens once: in one of a static camera's few lively moments, else any time."""
        if self.is_static:
            self.events += 1
            return 3 + 23.0 * (self.events % 5) + float(self.rng.uniform(0, 1.2))
        return float(self.rng.uniform(-20, 100))


def direction(line: Sequence[Point]) -> Point:
    """The way a line begins, of length 1."""
    (a, b), (c, d) = line[0], line[1]
    length = max(math.hypot(c - a, d - b), 1e-9)
    return (c - a) / length, (d - b) / length
