"""Places without a street of their own: car parks, squares, park paths; behind the last two runs a distant road."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from demo.city.places import AISLE_T, BAY_M, FAR_ROAD_T, LANE_T, ROW_T, WALL_T, Builder
from demo.city.roads import lane, static_traffic, traffic
from demo.city.traffic import BICYCLE, BUS, CAR, Actor, Clear, Go, Gone, Point, Step, Until, Wait, rounded


def parking(b: Builder) -> None:
    """Rows of bays along two aisles: cars come, turn in, stand, back out and go; people walk between them."""
    rng, aim = b.rng, b.place.aim_s
    moving = b.count(4, 6, 12)
    bays = [(row, number) for row in range(4) for number in range(-8, 9)]
    nearest = sorted(bays, key=lambda bay: abs(bay[1]) + (0 if bay[0] >= 2 else 4) + float(rng.uniform(0, 4)))
    busy_bays = set(nearest[: moving * 2 : 2])
    full = b.count(38, 38, 42)
    filled = set(map(tuple, rng.permutation(bays)[:full].tolist()))
    aisles = {0: AISLE_T[0], 1: AISLE_T[0], 2: AISLE_T[1], 3: AISLE_T[1]}
    for row, number in bays:
        s, t = aim + number * BAY_M, ROW_T[row]
        towards = math.copysign(1.0, aisles[row] - t)
        if (row, number) in busy_bays:
            _bay_user(b, s, t, aisles[row], towards)
        elif (row, number) in filled:
            b.park(s + float(rng.uniform(-0.15, 0.15)), t, (0.0, towards * int(rng.choice([1, -1, -1]))))
    for _ in range(b.count(0, 1, 3)):
        sign = int(rng.choice([-1, 1]))
        line = [(aim - sign * 45, sign * 1.4), (aim + sign * 50, sign * 1.4)]
        b.drive(BUS if rng.random() < 0.2 else CAR, line, 6.0, float(rng.uniform(0, 60)))
    for s in (-19.0, -6.0, 8.0, 21.0):
        b.stand("post", aim + s, -9.2)
    for s in range(-30, 40, 7):
        if rng.random() < 0.8:
            b.stand("tree", aim + s + float(rng.uniform(-1, 1)), -27.3)
    people = b.errands()
    if b.is_static:
        people.static_open(4, (-13, 13), (-9.4, -9.0))
    else:
        people.open_ground(b.count(0, 8, 16), (-15, 15), (-9.3, 3.5), door=(aim, WALL_T + 1))
        b.place.actors += [
            _rider(b, ((aim - 24, -1.0), (aim + 26, -1.5))) for _ in range(b.count(0, 1, 2) * b.bicycles)
        ]


def _bay_user(b: Builder, s: float, t: float, aisle_t: float, towards: float) -> None:
    """A car that stands in its bay, backs out, goes, and later comes back."""
    rng = b.rng
    sign = int(rng.choice([-1, 1]))
    lane_t = aisle_t + sign * 1.4
    back = rounded([(s, t), (s, lane_t), (s - sign * 5.5, lane_t)], 3.5)
    away = ((s - sign * 5.5, lane_t), (b.place.aim_s + sign * 48, lane_t))
    come = rounded([(b.place.aim_s - sign * 46, lane_t), (s, lane_t), (s, t)], 3.8)
    first = b.event_s()
    heading = (0.0, -towards)
    leave: tuple[Step, ...] = (
        Clear((s - sign * 3, lane_t), 6),
        Go(back, 2.6, backwards=True),
        Wait(0.6),
        Go(away, 8.0),
    )
    if b.is_static:
        near = ((s - sign * 5.5, lane_t), (s + sign * 26, lane_t))
        steps: tuple[Step, ...] = (Until(first), Go(back, 4.0, backwards=True), Go(near, 12.0), Gone(1e9))
        b.place.actors.append(Actor(CAR, (s, t), heading, steps))
    elif rng.random() < 0.5:
        steps = (Until(first), *leave, Gone(float(rng.uniform(4, 20))), Clear(come[0], 10), Go(come, 7.0), Wait(1e9))
        b.place.actors.append(Actor(CAR, (s, t), heading, steps))
    else:
        stay = Wait(float(rng.uniform(8, 40)))
        steps = (Gone(max(0.1, first + 20)), Clear(come[0], 10), Go(come, 7.0), stay, *leave, Gone(5.0))
        b.place.actors.append(Actor(CAR, come[0], (float(sign), 0.0), steps, again=1))


def _rider(b: Builder, line: Sequence[Point]) -> Actor:
    """A bicycle along a line of corners, each part at its own speed, there or back."""
    rng = b.rng
    corners = list(line if rng.random() < 0.5 else line[::-1])
    steps: list[Step] = []
    for a, z in itertools.pairwise(corners):
        cut = a[0] + (z[0] - a[0]) * 0.5, a[1] + (z[1] - a[1]) * 0.5 + float(rng.uniform(-0.8, 0.8))
        steps += [Go((a, cut), float(rng.uniform(2.2, 5.5))), Go((cut, z), float(rng.uniform(2.2, 5.5)))]
        if rng.random() < 0.4:
            steps.append(Wait(float(rng.uniform(1, 6))))
    steps += [Gone(float(rng.uniform(0.5, 8))), Clear(corners[0], 2)]
    turn = int(rng.integers(0, len(steps)))
    steps = steps[turn:] + steps[:turn]
    begin = next(step.line[0] for step in steps if isinstance(step, Go))
    return Actor(BICYCLE, begin, (1.0, 0.0), tuple(steps))


def _far_road(b: Builder) -> None:
    """Small distant vehicles behind a square or a park."""

    def far_lane(sign: int) -> list[Point]:
        (s0, _), (s1, _) = lane(b, sign)
        return [(s0, FAR_ROAD_T + sign * LANE_T), (s1, FAR_ROAD_T + sign * LANE_T)]

    if b.is_static:
        static_traffic(b, far_lane, 5)
    else:
        traffic(b, b.count(0, 4, 9), b.count(0, 1, 2), far_lane, 70)
    for step in range(-3, 5):
        b.stand("post", b.place.aim_s + step * 15.0, FAR_ROAD_T + 4.6)


def plaza(b: Builder) -> None:
    """A square with a kiosk and its queue, a fountain, benches; people cross it as they like."""
    rng, aim = b.rng, b.place.aim_s
    _far_road(b)
    kiosk = aim + float(rng.choice([-6.5, 6.5])), -7.0
    b.stand("kiosk", *kiosk)
    b.stand("fountain", aim - (kiosk[0] - aim) * 0.75, -6.0)
    for s in (-11.0, -4.0, 3.5, 11.5):
        b.stand("bench", aim + s, -11.0)
        if rng.random() < 0.75:
            b.stand("tree", aim + s + 2.2, -13.5)
    people = b.errands()
    if b.is_static:
        people.static_open(6, (-10, 10), (-10.0, 5.0))
        people.queue((kiosk[0], kiosk[1] + 1.9), 3, moves=False)
        return
    crowd = 16 if "crowd" in b.view.quirks else 0
    people.queue((kiosk[0], kiosk[1] + 1.9), b.count(0, 4, 8), moves=True)
    people.open_ground(b.count(0, 12, 24), (-17, 17), (-13, 7), door=(aim + 20, -12))
    people.huddles(crowd, (-8, 8), (-9, 4))
    diagonal = ((aim - 20, -9.0), (aim, -2.0), (aim + 20, 3.0))
    b.place.actors += [_rider(b, diagonal) for _ in range(b.count(0, 2, 4) * b.bicycles)]


def path(b: Builder) -> None:
    """A park: one path along it, one that crosses, much grass; runners, riders, people on benches."""
    rng, aim = b.rng, b.place.aim_s
    _far_road(b)
    for place in range(-24, 34, 6):
        t = float(rng.choice([-14.5, -9.5, -6.0, 4.5]))
        if rng.random() < 0.8:
            b.stand("tree", aim + place + float(rng.uniform(-1.5, 1.5)), t)
    for s in (-9.0, 2.0, 12.0):
        b.stand("bench", aim + s, -2.6)
        b.stand("bush", aim + s + 4, -4.2)
    b.stand("post", aim - 5, -2.9)
    b.stand("post", aim + 9, -2.9)
    people = b.errands()
    if b.is_static:
        people.static_open(5, (-12, 12), (-1.3, 1.3))
        return
    people.open_ground(b.count(0, 9, 18), (-20, 22), (-1.5, 1.5), door=(aim + 24, 0.0), runners=0.35)
    lines = (((aim - 24, 0.4), (aim + 28, 0.4)), ((aim - 16, -18.0), (aim - 2, 0.0), (aim + 14, 11.0)))
    b.place.actors += [_rider(b, lines[k % 2]) for k in range(b.count(0, 3, 6) * b.bicycles)]
