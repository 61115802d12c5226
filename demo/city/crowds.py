"""Scripts of people on foot. They stop, turn round, run, wait, queue, vanish behind doors and step out of buses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from demo.city.cameras import View
from demo.city.traffic import BUS, PERSON, Actor, Go, Gone, Light, Point, Step, Until, Wait, WhenRed, WhenStanding

_DOOR_T, _PAVEMENT_T = 11.3, (7.9, 10.6)
_LIVELY_S, _FIRST_S = 23.0, 3.0  # static cameras: something happens every so often


class _Place(Protocol):
    """What a script needs to know of its place."""

    aim_s: float
    light: Light
    actors: list[Actor]


class Errands:
    """Adds people to a place."""

    def __init__(self, place: _Place, view: View, rng: np.random.Generator) -> None:
        self._place, self._rng = place, rng
        self._near_side = 1 if view.distance_m > 0 else -1  # of the place: where the camera stands
        self._spread = 9.0 + 0.35 * abs(view.distance_m)

    # --- streets ---------------------------------------------------------------------------------------------

    def street(self, count: int, zebra_s: float) -> None:
        """Walkers on both pavements, some over the crossing, some over the road where there is none, pairs."""
        for number in range(count):
            kind = number % 7
            if kind in (0, 4):
                self._over_the_zebra(zebra_s)
            elif kind == 2:
                self._over_the_road()
            else:
                self._stroller(self._side(), with_doors=kind == 5, company=kind == 6)

    def crossing(self, count: int, aim_s: float, main: Light, other: Light) -> None:
        """Walkers who cross either road when its vehicles have red, and walk on along the pavements."""
        for number in range(count):
            if number % 3 == 0:
                self._over_the_zebra(aim_s + float(self._rng.choice([-6.2, 6.2])), main)
            elif number % 3 == 1:
                self._over_the_other_road(aim_s, other)
            else:
                self._stroller(self._side(), with_doors=number % 2 == 0, company=number % 9 == 2)

    def static_street(self, count: int) -> None:
        """Some stand all the time; in a lively moment one of them walks to a door, or one comes out of it."""
        rng = self._rng
        for number in range(count):
            side = self._side()
            s, t = self._somewhere(7.0), side * float(rng.uniform(*_PAVEMENT_T))
            due = _FIRST_S + _LIVELY_S * (number % 5) + float(rng.uniform(0, 0.8))
            door = (s + float(rng.uniform(-4, 4)), side * _DOOR_T)
            self._leaver((s, t), door, due) if number % 2 else self._comer(door, (s, t), due)
        for _ in range(3):
            self._stander((self._somewhere(8.0), self._side() * float(rng.uniform(*_PAVEMENT_T))))

    def bus_stop(self, at: Point, count: int) -> None:
        """People wait for a bus that stops here, and board it; one gets out."""
        rng = self._rng
        buses = [number for number, actor in enumerate(self._place.actors) if actor.class_id == BUS and _stops(actor)]
        for number in range(count):
            place = (
                at[0] + 0.8 * (number - count / 2) + float(rng.uniform(-0.2, 0.2)),
                at[1] + float(rng.uniform(0, 1.2)),
            )
            if not buses:
                self._stander(place)
                continue
            bus = buses[number % len(buses)]
            door = (at[0] + 1.0, at[1] - 1.6)
            if number % 3 == 2:  # gets out
                go = (
                    self._go(door, (door[0] + 3, at[1] + 0.8)),
                    self._go((door[0] + 3, at[1] + 0.8), (door[0] + 25, at[1])),
                )
                steps: tuple[Step, ...] = (Gone(float(rng.uniform(0, 3))), WhenStanding(bus), Gone(1.0), *go)
                self._add(door, (1, 0), steps)
            else:
                steps = (Wait(float(rng.uniform(0, 2))), WhenStanding(bus), Wait(0.8), self._go(place, door), Gone(6))
                come = (at[0] + 22, at[1] + 0.6)
                self._add(place, (-1, 0), (*steps, self._go(come, place)))

    # --- open ground -----------------------------------------------------------------------------------------

    def open_ground(self, count: int, along: Point, across: Point, *, door: Point, runners: float = 0.1) -> None:
        """People who walk from point to point, stop, turn; a fifth of them leave through a door and come back."""
        rng = self._rng
        for number in range(count):
            points = [self._in(along, across) for _ in range(int(rng.integers(3, 7)))]
            is_runner = rng.random() < runners
            steps: list[Step] = []
            for a, z in zip(points, [*points[1:], points[0]], strict=True):
                steps.append(Go((a, z), float(rng.uniform(2.4, 3.8) if is_runner else rng.uniform(0.7, 1.8))))
                if rng.random() < 0.55 and not is_runner:
                    steps.append(Wait(float(rng.choice([rng.uniform(0.4, 3), rng.uniform(4, 25)]))))
            if number % 5 == 4:
                steps += [Go((points[0], door), 1.4), Gone(float(rng.uniform(2, 9))), Go((door, points[0]), 1.4)]
            turn = int(rng.integers(0, len(steps)))
            self._add_cycle(points[0], steps[turn:] + steps[:turn])

    def huddles(self, count: int, along: Point, across: Point) -> None:
        """Groups that stand close together for long, and then walk off one after the other."""
        rng = self._rng
        while count > 0:
            size = min(count, int(rng.integers(3, 7)))
            count -= size
            middle, leaves = self._in(along, across), float(rng.uniform(-10, 100))
            target = self._in((along[0] - 12, along[1] + 12), across)
            for _ in range(size):
                at = middle[0] + float(rng.normal(0, 0.8)), middle[1] + float(rng.normal(0, 0.6))
                to = target[0] + float(rng.normal(0, 1)), target[1] + float(rng.normal(0, 1))
                go = Until(leaves + float(rng.uniform(0, 5))), self._go(at, to), Wait(float(rng.uniform(2, 20)))
                self._add(at, self._any_way(), (*go, self._go(to, at), Wait(1e9)))

    def queue(self, head: Point, count: int, *, moves: bool) -> None:
        """A queue to the right of `head`; from time to time all move up by one place."""
        rng = self._rng
        pace, first = float(rng.uniform(6, 11)), float(rng.uniform(0, 6))
        for number in range(count):
            x = [head[0] + 0.85 * k + float(rng.uniform(-0.12, 0.12)) for k in range(count + 1)]
            y = head[1] + float(rng.uniform(-0.15, 0.15))
            if not moves:
                self._add((x[number], y), (-1, 0), (Wait(1e9),))
                continue
            steps: list[Step] = []
            for k in range(number, 0, -1):
                steps += [Until(first + (number - k) * pace + 0.35 * k), Go(((x[k], y), (x[k - 1], y)), 1.1)]
            away = (head[0] - 16, head[1] + float(rng.uniform(0, 4)))
            steps += [Until(first + number * pace), Go(((x[0], y), away), float(rng.uniform(1, 1.7))), Gone(1e9)]
            self._add((x[number], y), (-1, 0), tuple(steps))

    def static_open(self, count: int, along: Point, across: Point) -> None:
        """Some stand all the time; in a lively moment one walks on a few metres, or runs through the picture."""
        rng = self._rng
        for number in range(count):
            at = self._in(along, across)
            due = _FIRST_S + _LIVELY_S * (number % 5) + float(rng.uniform(0, 0.8))
            to = at[0] + float(rng.choice([-1, 1]) * rng.uniform(3, 6.5)), at[1] + float(rng.uniform(-0.6, 0.6))
            self._add(at, self._any_way(), (Until(due), self._brisk(at, to), Wait(1e9)))
        for _ in range(2):
            self._stander(self._in(along, across))
        edge = self._place.aim_s + float(rng.choice([-1, 1])) * 14
        other = 2 * self._place.aim_s - edge
        run = Go(((edge, across[1] - 0.4), (other, across[1] - 0.4)), 5.5)
        self._add(
            (edge, 500.0), (1, 0), (Gone(0.1), Until(_FIRST_S + float(rng.choice([0, _LIVELY_S]))), run, Gone(1e9))
        )

    # --- one of them -----------------------------------------------------------------------------------------

    def _stroller(self, side: int, *, with_doors: bool, company: bool) -> None:
        rng = self._rng
        s, t = self._somewhere(self._spread), side * float(rng.uniform(*_PAVEMENT_T))
        at, steps = (s, t), list[Step]()
        home = at
        for _ in range(int(rng.integers(3, 8))):
            to = (s + float(rng.normal(0, self._spread)), side * float(rng.uniform(*_PAVEMENT_T)))
            steps.append(self._go(at, to))
            at = to
            if rng.random() < 0.45:
                steps.append(Wait(float(rng.choice([rng.uniform(0.5, 2.5), rng.uniform(4, 20)]))))
        if with_doors:
            door = (at[0] + float(rng.uniform(-2, 2)), side * _DOOR_T)
            steps += [self._go(at, door), Gone(float(rng.uniform(2, 8)))]
            at = door
        steps.append(self._go(at, home))
        turn = int(rng.integers(0, len(steps)))
        self._add_cycle(home, steps[turn:] + steps[:turn])
        if company:
            self._add_cycle((home[0] + 0.3, home[1] + 0.5), _shifted(steps[turn:] + steps[:turn], 0.3, 0.55))

    def _over_the_zebra(self, zebra_s: float, light: Light | None = None) -> None:
        """Waits at the kerb for the vehicles' red, crosses, walks about, comes back."""
        rng, light = self._rng, light or self._place.light
        s = zebra_s + float(rng.uniform(-1.4, 1.4))
        steps: list[Step] = []
        for side in (1, -1):
            kerb, far = (s, side * 7.9), (s + float(rng.uniform(-0.4, 0.4)), -side * 7.9)
            aside = (s + float(rng.normal(0, self._spread * 0.7)), -side * float(rng.uniform(*_PAVEMENT_T)))
            steps += [WhenRed(light), Wait(float(rng.uniform(0, 2.5))), Go((kerb, far), float(rng.uniform(1.2, 2.6)))]
            back = (s, -side * 7.9)
            steps += [self._go(far, aside), Wait(float(rng.uniform(0, 8))), self._go(aside, back)]
        turn = int(rng.integers(0, 2)) * 6
        steps = steps[turn:] + steps[:turn]
        self._add_cycle((s, 7.9 if turn == 0 else -7.9), steps)

    def _over_the_other_road(self, aim_s: float, light: Light) -> None:
        rng = self._rng
        t = self._side() * float(rng.uniform(7.9, 10.2))
        a, z = (aim_s - 4.6, t), (aim_s + 4.6, t + float(rng.uniform(-0.5, 0.5)))
        out = [(p[0] + way * abs(float(rng.normal(4, self._spread * 0.6))), t) for p, way in ((a, -1), (z, 1))]
        steps: list[Step] = [WhenRed(light), Wait(float(rng.uniform(0, 3))), Go((a, z), float(rng.uniform(1.2, 2.4)))]
        steps += [self._go(z, out[1]), Wait(float(rng.uniform(0, 9))), self._go(out[1], z)]
        steps += [WhenRed(light), Wait(float(rng.uniform(0, 3))), Go((z, a), float(rng.uniform(1.2, 2.4)))]
        steps += [self._go(a, out[0]), Wait(float(rng.uniform(0, 9))), self._go(out[0], a)]
        turn = int(rng.integers(0, 2)) * 6
        self._add_cycle(a if turn == 0 else z, steps[turn:] + steps[:turn])

    def _over_the_road(self) -> None:
        """Steps out between parked cars, hurries over the road, comes back later."""
        rng = self._rng
        s = self._somewhere(8.0)
        side = self._side()
        a, z = (s, side * 8.0), (s + float(rng.uniform(-3, 3)), -side * 8.0)
        aside = (s + float(rng.normal(0, 8)), z[1] * 1.2)
        steps: list[Step] = [Wait(float(rng.uniform(1, 14))), Go((a, z), float(rng.uniform(1.6, 3.6)))]
        steps += [self._go(z, aside), Wait(float(rng.uniform(1, 12))), self._go(aside, z)]
        steps += [Go((z, a), float(rng.uniform(1.6, 3.6))), Wait(float(rng.uniform(1, 8)))]
        self._add_cycle(a, steps)

    def _leaver(self, at: Point, door: Point, due_s: float) -> None:
        self._add(at, self._any_way(), (Until(due_s), self._brisk(at, door), Gone(1e9)))

    def _comer(self, door: Point, at: Point, due_s: float) -> None:
        self._add((door[0], 500.0), (1, 0), (Gone(0.1), Until(due_s), self._brisk(door, at), Wait(1e9)))

    def _stander(self, at: Point) -> None:
        self._add(at, self._any_way(), (Wait(1e9),))

    # --- what they have in common ----------------------------------------------------------------------------

    def _add(self, at: Point, heading: Point, steps: Sequence[Step]) -> None:
        self._place.actors.append(Actor(PERSON, at, heading, tuple(steps)))

    def _add_cycle(self, at: Point, steps: Sequence[Step]) -> None:
        """Starts where its first way begins, whatever stands before that in the script."""
        first = next((step.line[0] for step in steps if isinstance(step, Go)), at)
        self._add(first, self._any_way(), steps)

    def _go(self, a: Point, z: Point) -> Go:
        rng = self._rng
        return Go((a, z), float(rng.uniform(2.6, 4.0) if rng.random() < 0.14 else rng.uniform(0.8, 1.8)))

    def _brisk(self, a: Point, z: Point) -> Go:
        return Go((a, z), float(self._rng.uniform(1.4, 2.0)))

    def _any_way(self) -> Point:
        angle = float(self._rng.uniform(0, 2 * np.pi))
        return float(np.cos(angle)), float(np.sin(angle))

    def _side(self) -> int:
        """More often on the far side: what is near the camera is soon out of the picture."""
        return int(self._rng.choice([-self._near_side, self._near_side], p=(0.62, 0.38)))

    def _somewhere(self, spread: float) -> float:
        return self._place.aim_s + float(self._rng.normal(0, spread))

    def _in(self, along: Point, across: Point) -> Point:
        return self._place.aim_s + float(self._rng.uniform(*along)), float(self._rng.uniform(*across))


def _stops(actor: Actor) -> bool:
    return any(isinstance(step, Wait) for step in actor.steps) and actor.heading[0] > 0


def _shifted(steps: Sequence[Step], ds: float, dt: float) -> list[Step]:
    """The same script beside it."""
    moved = [tuple((s + ds, t + dt) for s, t in step.line) if isinstance(step, Go) else () for step in steps]
    return [Go(line, step.speed) if isinstance(step, Go) else step for step, line in zip(steps, moved, strict=True)]
