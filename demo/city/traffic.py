"""Who is where, and when: actors follow their scripts, brake for one another and for red lights. Pure numbers.

Everything happens on a place's own ground, in metres: s along it, t across it, t growing towards the right hand of
whoever walks along s. The world is played once, in steps of a fifth of a second, and kept as a table: any moment can be
looked up. Vehicles keep their distance by the intelligent driver model (Treiber, Hennecke, Helbing, Congested traffic
states in empirical observations and microscopic simulations, 2000), but see only what lies ahead of them.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

STEP_S = 0.2
HORIZON_S = 120.0  # after that the table begins anew, with a jump
WARM_UP_S = 24.0

Point = tuple[float, float]
Floats = NDArray[np.float64]
PERSON, CAR, BUS, BICYCLE = range(4)
_HALF_LENGTH_M, _HALF_WIDTH_M = (0.25, 2.2, 5.6, 0.9), (0.3, 0.9, 1.25, 0.3)  # by class
_START_M_S2, _BRAKE_M_S2 = (2.5, 2.6, 1.4, 1.6), (4.0, 4.0, 2.6, 3.2)
_HARDEST_BRAKE_M_S2 = 7.5
_HEADWAY_S, _STANDSTILL_M = 0.9, 1.6
_PATIENCE_S = 5.0  # after standing so long before somebody on foot, a driver goes on


@dataclass(frozen=True, slots=True)
class Go:
    """Follow a line of corners at `speed` m/s at most; `backwards`: tail first; `start_m`: where on it one begins."""

    line: tuple[Point, ...]
    speed: float
    backwards: bool = False
    start_m: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Stand for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Until:
    """Stand until this second of the clip."""

    time_s: float


@dataclass(frozen=True, slots=True)
class Gone:
    """Not in the world, for so many seconds: behind a door, inside a car."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Clear:
    """Stand, or stay away, until no vehicle is within `radius` metres of the point."""

    at: Point
    radius: float


@dataclass(frozen=True, slots=True)
class WhenRed:
    """Stand until the light is red for vehicles, and will be for three more seconds."""

    light: Light


@dataclass(frozen=True, slots=True)
class WhenStanding:
    """Stand until that actor, by its place in the list, stands too."""

    actor: int


Step = Go | Wait | Until | Gone | Clear | WhenRed | WhenStanding


@dataclass(frozen=True, slots=True)
class Light:
    """A traffic light: red for `red_s` of every `period_s`; always green where `red_s` is 0."""

    period_s: float
    red_s: float
    phase_s: float

    def red_for_s(self, time_s: float) -> float:
        """Seconds that it stays red; 0 while it is green."""
        within = (time_s + self.phase_s) % self.period_s
        return max(0.0, self.red_s - within)


@dataclass(frozen=True, slots=True)
class StopLine:
    """Where vehicles that come along `heading` wait for their light."""

    at: Point
    heading: Point
    light: Light


@dataclass(frozen=True, slots=True)
class Actor:
    """One object and its script; after the last step it goes on with number `again`. `start` is where it stands."""

    class_id: int
    start: Point
    heading: Point
    steps: tuple[Step, ...]
    again: int = 0


def rounded(corners: Sequence[Point], radius: float) -> tuple[Point, ...]:
    """The same line with its corners rounded off."""
    line = [corners[0]]
    for before, at, after in zip(corners, corners[1:], corners[2:], strict=False):
        cut = [min(radius, math.dist(at, end) / 2) / max(math.dist(at, end), 1e-9) for end in (before, after)]
        a = _between(at, before, cut[0])
        b = _between(at, after, cut[1])
        line += [_between(_between(a, at, k), _between(at, b, k), k) for k in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    return (*line, corners[-1])


def play(actors: Sequence[Actor], stop_lines: Sequence[StopLine]) -> Floats:
    """FP64 (steps, actors, 6): s, t, heading (s, t), metres travelled, and 1 for who is in the world, else 0."""
    world = _World(actors, stop_lines)
    table = np.zeros((round(HORIZON_S / STEP_S) + 1, len(actors), 6))
    for number in range(-round(WARM_UP_S / STEP_S), len(table)):
        if number >= 0:
            table[number] = world.state
        world.advance(number * STEP_S)
    return table


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


@dataclass(slots=True)
class _Mind:
    """What one actor has in mind."""

    actor: Actor
    number: int = -1  # of the step
    since_s: float = -1e9  # when it began
    along_m: float = 0.0
    ends_m: list[float] = field(default_factory=list)  # of the line, at each corner
    stood_s: float = 0.0

    @property
    def step(self) -> Step:
        return self.actor.steps[self.number]

    def next_speed(self) -> float:
        """What the step after this one begins with."""
        following = self.number + 1 if self.number + 1 < len(self.actor.steps) else self.actor.again
        step = self.actor.steps[following]
        if isinstance(step, Gone):
            return 1e9
        now = self.step
        if not (isinstance(step, Go) and isinstance(now, Go)) or step.backwards or now.backwards:
            return 0.0
        return step.speed if step.line[0] == now.line[-1] else 0.0


class _World:
    """All actors, advanced together."""

    def __init__(self, actors: Sequence[Actor], stop_lines: Sequence[StopLine]) -> None:
        self.state = np.array([(*a.start, *a.heading, 0.0, 1.0) for a in actors]).reshape(-1, 6)
        self._speed = np.zeros(len(actors))
        self._minds = [_Mind(actor) for actor in actors]
        classes = np.array([a.class_id for a in actors], dtype=int)
        self._classes = classes
        self._half_length, self._half_width = np.array(_HALF_LENGTH_M)[classes], np.array(_HALF_WIDTH_M)[classes]
        self._drivers = np.flatnonzero(classes != PERSON)
        self._lines = stop_lines
        for index in range(len(actors)):
            self._begin(index, 0, -WARM_UP_S)

    def advance(self, time_s: float) -> None:
        """To `time_s` + STEP_S."""
        gap, ahead_speed = self._leaders(time_s)
        for index, mind in enumerate(self._minds):
            step = mind.step
            if isinstance(step, Go):
                free = 1e3 if step.backwards else float(gap[index])
                self._move(index, mind, step, free, float(ahead_speed[index]), time_s)
            elif self._is_over(index, mind, time_s):
                self._begin(index, mind.number + 1, time_s)

    def _begin(self, index: int, number: int, time_s: float) -> None:
        mind = self._minds[index]
        mind.number = number if number < len(mind.actor.steps) else mind.actor.again
        mind.since_s, step = time_s, mind.step
        self._speed[index] = self._speed[index] if isinstance(step, Go) else 0.0
        if isinstance(step, Gone):
            self.state[index, 5] = 0.0
        if not isinstance(step, Go):
            return
        self.state[index, 5] = 1.0
        lengths = [math.dist(a, b) for a, b in zip(step.line, step.line[1:], strict=False)]
        mind.ends_m = np.cumsum(lengths).tolist()
        mind.along_m = step.start_m if time_s < -WARM_UP_S + STEP_S / 2 else 0.0
        self._put(index, mind, step)

    def _is_over(self, index: int, mind: _Mind, time_s: float) -> bool:
        step = mind.step
        match step:
            case Wait(seconds) | Gone(seconds):
                return time_s - mind.since_s >= seconds
            case Until(due_s):
                return time_s >= due_s
            case WhenRed(light):
                return light.red_for_s(time_s) >= 3
            case WhenStanding(actor):
                other = self._minds[actor]
                return isinstance(other.step, Wait) and bool(self._speed[actor] == 0)
            case Clear(at, radius):
                others = self._drivers[(self._drivers != index) & (self.state[self._drivers, 5] > 0)]
                away = np.abs(self.state[others, :2] - at).max(axis=1) - self._half_length[others]
                return bool((away > radius).all())
            case Go():
                return False

    def _move(self, index: int, mind: _Mind, step: Go, gap: float, ahead: float, time_s: float) -> None:
        kind = self._classes[index]
        start, brake = _START_M_S2[kind], _BRAKE_M_S2[kind]
        speed, left = float(self._speed[index]), mind.ends_m[-1] - mind.along_m
        wanted = min(step.speed, math.sqrt(mind.next_speed() ** 2 + 2 * brake * 0.6 * max(left, 0.0)) + 0.1)
        if kind == PERSON:
            change = float(np.clip((wanted - speed) / STEP_S, -brake, start))
        else:
            keep = _STANDSTILL_M + max(
                0.0, speed * _HEADWAY_S + speed * (speed - ahead) / (2 * math.sqrt(start * brake))
            )
            change = start * (1 - (speed / max(wanted, 0.1)) ** 4 - (keep / max(gap, 0.1)) ** 2)
            change = max(-_HARDEST_BRAKE_M_S2, min(start, change))
        speed = max(0.0, min(speed + change * STEP_S, step.speed + 2))
        mind.stood_s = mind.stood_s + STEP_S if speed < 0.1 else 0.0
        moved = min(speed * STEP_S, max(left, 0.0))
        mind.along_m += moved
        self._speed[index] = speed
        self.state[index, 4] += moved
        self._put(index, mind, step)
        if mind.ends_m[-1] - mind.along_m < 0.02:
            self._begin(index, mind.number + 1, time_s)

    def _put(self, index: int, mind: _Mind, step: Go) -> None:
        """On its line; the heading turns with the line, and never jumps in a vehicle."""
        part = min(bisect.bisect_right(mind.ends_m, mind.along_m), len(mind.ends_m) - 1)
        a, b = step.line[part], step.line[part + 1]
        length = max(math.dist(a, b), 1e-9)
        share = 1 - (mind.ends_m[part] - mind.along_m) / length
        sign = -1 if step.backwards else 1
        row = self.state[index]
        row[0], row[1] = _between(a, b, share)
        row[2], row[3] = sign * (b[0] - a[0]) / length, sign * (b[1] - a[1]) / length

    def _leaders(self, time_s: float) -> tuple[Floats, Floats]:
        """For every driver the metres to what it must not touch ahead, and that one's speed."""
        gap, ahead = np.full(len(self._minds), 1e3), np.zeros(len(self._minds))
        mine = self._drivers
        if not len(mine):
            return gap, ahead
        place, heading = self.state[mine, :2], self.state[mine, 2:4]
        away = self.state[None, :, :2] - place[:, None]
        forward = (away * heading[:, None]).sum(axis=2)
        aside = np.abs(away[..., 0] * heading[:, None, 1] - away[..., 1] * heading[:, None, 0])
        same = (self.state[None, :, 2:4] * heading[:, None]).sum(axis=2)
        stood = np.array([self._minds[i].stood_s for i in mine])[:, None]
        on_foot = (self._classes == PERSON)[None]
        minded = (self.state[None, :, 5] > 0) & (forward > 0.3) & (forward < 40)
        minded &= aside < self._half_width[mine][:, None] + self._half_width[None] + 0.35
        minded &= np.where(on_foot, stood < _PATIENCE_S, same > -0.2)
        minded &= on_foot | (same > 0.5) | (mine[:, None] > np.arange(len(self._minds))[None])
        free = np.where(minded, forward - self._half_length[mine][:, None] - self._half_length[None], 1e3)
        nearest = free.argmin(axis=1)
        rows = np.arange(len(mine))
        gap[mine] = free[rows, nearest]
        ahead[mine] = np.maximum(0, same[rows, nearest]) * self._speed[nearest]
        for line in self._lines:
            if line.light.red_for_s(time_s) > 0:
                self._stop_at(line, mine, gap, ahead)
        return gap, ahead

    def _stop_at(self, line: StopLine, mine: NDArray[np.intp], gap: Floats, ahead: Floats) -> None:
        """A red light is something that stands on its line, for whoever can still brake."""
        away = np.array(line.at) - self.state[mine, :2]
        heading = self.state[mine, 2:4]
        forward = (away * heading).sum(axis=1) - self._half_length[mine] + 1.2
        aside = np.abs(away[:, 0] * heading[:, 1] - away[:, 1] * heading[:, 0])
        stops = (heading @ np.array(line.heading) > 0.8) & (aside < 1.6) & (forward > 0)
        stops &= (forward > self._speed[mine] ** 2 / (2 * _HARDEST_BRAKE_M_S2)) & (forward < gap[mine])
        gap[mine[stops]], ahead[mine[stops]] = forward[stops], 0.0
