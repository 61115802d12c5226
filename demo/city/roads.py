"""Places with a street: the street itself, and the crossing of two. On the roads one drives on the right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from demo.city.places import CYCLE_T, FROM_M, KERB_T, LANE_T, PARKING_T, TO_M, Builder, direction
from demo.city.traffic import (
    BICYCLE,
    BUS,
    CAR,
    Actor,
    Clear,
    Go,
    Gone,
    Light,
    Point,
    Step,
    StopLine,
    Until,
    Wait,
    rounded,
)


def traffic(b: Builder, cars: int, buses: int, lane: Callable[[int], list[Point]], stop_m: float) -> None:
    """Vehicles in both directions; buses stand at their stop, now and then a driver stops where nobody should."""
    rng = b.rng
    kinds = rng.permutation([CAR] * cars + [BUS] * buses).tolist()
    for sign in (-1, 1):
        mine = kinds[0::2] if sign < 0 else kinds[1::2]
        line = lane(sign)
        length = sum(math.dist(p, q) for p, q in itertools.pairwise(line))
        spacing = length / max(1, len(mine))
        for place, kind in enumerate(mine):
            start = place * spacing + float(rng.uniform(0, max(0.1, spacing - 14)))
            speed = float(rng.uniform(7.5, 10) if kind == BUS else rng.uniform(8, 13.5))
            if kind == BUS and len(line) == 2:
                _with_stop(b, kind, line, speed, start, stop_m, float(rng.uniform(7, 12)))
            elif rng.random() < 0.12 and len(line) == 2:
                _with_stop(b, kind, line, speed, start, stop_m + float(rng.uniform(-14, 14)), float(rng.uniform(4, 9)))
            else:
                b.drive(kind, line, speed, start)


def _with_stop(
    b: Builder, kind: int, line: Sequence[Point], speed: float, start: float, at_m: float, for_s: float
) -> None:
    """Along the line with a halt `at_m` metres from its beginning."""
    (s0, t0), (s1, t1) = line
    share = at_m / math.dist(*line)
    halt = s0 + (s1 - s0) * share, t0 + (t1 - t0) * share
    parts: list[Step] = [Go((line[0], halt), speed), Wait(for_s), Go((halt, line[1]), speed)]
    rest: list[Step] = [Gone(1.0), Clear(line[0], 11)]
    if start < at_m:
        steps = (Go((line[0], halt), speed, start_m=start), *parts[1:], *rest)
        b.place.actors.append(Actor(kind, line[0], direction(line), steps))
    else:
        steps = (Go((halt, line[1]), speed, start_m=start - at_m), *rest, *parts[:2], *parts[2:], *rest)
        b.place.actors.append(Actor(kind, halt, direction(line), steps, again=3))


def lane(b: Builder, sign: int, offset: float = LANE_T) -> list[Point]:
    ends = (b.place.aim_s + FROM_M, b.place.aim_s + TO_M)
    a, z = ends if sign > 0 else ends[::-1]
    return [(a, sign * offset), (z, sign * offset)]


def _bicycle_lane(b: Builder, count: int, keep_off_s: float | None = None) -> None:
    """Bicycles at changing speed; some stop for no reason that a tracker could know."""
    rng = b.rng
    for _ in range(count * b.bicycles):
        sign = int(rng.choice([-1, 1]))
        (s0, t), (s1, _t) = lane(b, sign, CYCLE_T + float(rng.uniform(-0.4, 0.4)))
        s0, s1 = (b.place.aim_s - sign * 32, b.place.aim_s + sign * 45)
        marks = sorted(rng.uniform(0.1, 0.9, int(rng.integers(1, 4))).tolist())
        corners = [(s0 + (s1 - s0) * share, t + float(rng.uniform(-0.35, 0.35))) for share in (0, *marks, 1)]
        steps: list[Step] = []
        for a, z in itertools.pairwise(corners):
            steps.append(Go((a, z), float(rng.uniform(2.5, 6.5))))
            at_zebra = keep_off_s is not None and abs(z[0] - keep_off_s) < 4
            if rng.random() < 0.3 and z != corners[-1] and not at_zebra:
                steps.append(Wait(float(rng.uniform(1, 5))))
        first = steps[0]
        assert isinstance(first, Go)
        turn = int(rng.integers(0, len(steps)))
        steps += [Gone(float(rng.uniform(0, 6))), Clear(corners[0], 2.5)]
        steps = steps[turn:] + steps[:turn]
        begin = next(step.line[0] for step in steps if isinstance(step, Go))
        b.place.actors.append(Actor(BICYCLE, begin, (float(sign), 0.0), tuple(steps)))


def static_traffic(b: Builder, lane: Callable[[int], list[Point]], count: int) -> None:
    """Now and then a vehicle passes, quickly; then the street is empty."""
    rng = b.rng
    for number in range(count):
        sign = int(rng.choice([-1, 1]))
        line = lane(sign)
        middle = b.place.aim_s
        near = [(middle - sign * 34, line[0][1]), (middle + sign * 36, line[0][1])]
        due = [3 + 23.0 * k + float(rng.uniform(0, 0.6)) for k in range(5) if (k + number) % count == 0]
        steps: list[Step] = [Gone(0.1)]
        for due_s in due:
            steps += [Until(due_s), Go((near[0], near[1]), float(rng.uniform(11.5, 13.5))), Gone(0.2)]
        kind = BUS if rng.random() < 0.15 else CAR
        b.place.actors.append(Actor(kind, (near[0][0] - 300, near[0][1]), (float(sign), 0.0), (*steps, Gone(1e9))))


def _kerb_parking(b: Builder, count: int, keep_off: Callable[[float], bool]) -> None:
    """Parked cars at both kerbs; a few of them pull out, after minutes, and join the traffic."""
    rng = b.rng
    leaving = b.count(2, 2, 3)
    for place in rng.permutation(18)[:count].tolist():
        side = int(rng.choice([-1, 1]))
        s = (place - 8) * 6.4 + b.place.aim_s + float(rng.uniform(-0.4, 0.4))
        t = side * PARKING_T
        if keep_off(s) or any(
            a.class_id == CAR and abs(a.start[0] - s) < 6 and a.start[1] == t for a in b.place.actors
        ):
            continue
        if leaving and abs(s - b.place.aim_s) < 18:
            leaving -= 1
            s_end = b.place.aim_s + (TO_M if side > 0 else FROM_M)
            line = rounded([(s, t), (s + side * 3.5, t), (s + side * 11, side * LANE_T), (s_end, side * LANE_T)], 3)
            steps: tuple[Step, ...] = (Until(b.event_s()), Clear((s, side * LANE_T), 12), Go(line, 11), Gone(1e9))
            b.place.actors.append(Actor(CAR, (s, t), (float(side), 0.0), steps))
        else:
            b.park(s, t, (float(side), 0.0))


def _roadside(b: Builder, keep_off: Callable[[float], bool]) -> None:
    """Lamp posts, trees, a bus stop's shelter."""
    rng, aim = b.rng, b.place.aim_s
    for step in range(-2, 4):
        for side in (-7.9, 7.9):
            if not keep_off(aim + step * 22.0 + 5.0):
                b.stand("post", aim + step * 22.0 + 5.0, side)
    far = -math.copysign(KERB_T + 1.0, b.view.distance_m)
    for step in range(-4, 8):
        s = aim + 4.0 + 9.5 * step + float(rng.uniform(-2, 2))
        if rng.random() < 0.62 and not keep_off(s):
            b.stand("tree", s, far)


def street(b: Builder) -> None:
    """Two lanes, two cycle lanes, parked cars, pavements, a zebra crossing with a light, a bus stop."""
    rng, place = b.rng, b.place
    zebra = place.aim_s = place.aim_s + float(rng.uniform(-4, 4))
    for sign in (-1, 1):
        place.stop_lines.append(StopLine((zebra - sign * 3.0, sign * LANE_T), (float(sign), 0.0), place.light))

    def near_zebra(s: float) -> bool:
        return abs(s - zebra) < 5.5

    stop_m = 62.0 + 13.0
    if b.is_static:
        static_traffic(b, lambda sign: lane(b, sign), 5)
    else:
        traffic(b, b.count(0, 8, 17), b.count(0, 1, 3), lambda sign: lane(b, sign), stop_m)
    _kerb_parking(b, b.count(9, 8, 10), lambda s: near_zebra(s) or abs(s - zebra - 13) < 9 or abs(s - zebra + 13) < 9)
    _bicycle_lane(b, b.count(0, 3, 7), zebra)
    _roadside(b, near_zebra)
    b.stand("shelter", zebra + 15, KERB_T + 2.2)
    b.stand("shelter", zebra - 15, -KERB_T - 2.2)
    people = b.errands()
    people.static_street(5) if b.is_static else people.street(b.count(0, 11, 28), zebra)
    if not b.is_static:
        people.bus_stop((zebra + 12, KERB_T + 1.0), b.count(0, 3, 6))


def crossing(b: Builder) -> None:
    """Two roads, four crossings on foot, lights in turn; some vehicles turn right."""
    rng, place, aim = b.rng, b.place, b.place.aim_s
    half = place.light.period_s / 2
    place.light = main = Light(place.light.period_s, half + 2.5 if not b.is_static else 0.0, place.light.phase_s)
    other = Light(main.period_s, main.red_s, main.phase_s + half)
    for sign in (-1, 1):
        place.stop_lines.append(StopLine((aim - sign * 9.0, sign * LANE_T), (float(sign), 0.0), main))
        place.stop_lines.append(StopLine((aim - sign * LANE_T, -sign * 11.4), (0.0, float(sign)), other))

    def across(sign: int) -> list[Point]:
        ends = (-70.0, 38.0)
        a, z = ends if sign > 0 else ends[::-1]
        return [(aim - sign * LANE_T, a), (aim - sign * LANE_T, z)]

    def turning(sign: int) -> list[Point]:
        (s0, t0), _ = lane(b, sign)
        return list(rounded([(s0, t0), (aim - sign * LANE_T, t0), (aim - sign * LANE_T, sign * 45.0)], 4.5))

    def near(s: float) -> bool:
        return abs(s - aim) < 13

    if b.is_static:
        static_traffic(b, lambda sign: lane(b, sign), 5)
    else:
        traffic(b, b.count(0, 5, 11), b.count(0, 1, 2), lambda sign: lane(b, sign), 84)
        traffic(b, b.count(0, 3, 6), b.count(0, 0, 1), across, 30)
        for sign in (-1, 1):
            for _ in range(b.count(0, 1, 2)):
                b.drive(CAR, turning(sign), 6.5, float(rng.uniform(0, 30)))
    _kerb_parking(b, b.count(7, 5, 7), near)
    _bicycle_lane(b, b.count(0, 2, 5), aim)
    _roadside(b, near)
    people = b.errands()
    people.static_street(5) if b.is_static else people.crossing(b.count(0, 14, 32), aim, main, other)
