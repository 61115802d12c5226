"""The world of the demo: who moves how, who gives way, and why a tracker of constant speed must be wrong."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from demo.city.cameras import BASE_VIEWS
from demo.city.traffic import (
    CAR,
    HORIZON_S,
    PERSON,
    STEP_S,
    Actor,
    Clear,
    Go,
    Gone,
    Light,
    StopLine,
    Until,
    Wait,
    WhenRed,
    WhenStanding,
    play,
    rounded,
)
from demo.render import Renderer
from demo.scenes import Purpose, Scene, scene

GREEN = Light(20.0, 0.0, 0.0)


def car(*steps: object, at: tuple[float, float] = (0.0, 0.0)) -> Actor:
    """A car with a script, looking along s."""
    return Actor(CAR, at, (1.0, 0.0), steps)  # type: ignore[arg-type]


def row(time_s: float) -> int:
    """The table's row of a moment."""
    return round(time_s / STEP_S)


def test_a_car_starts_goes_brakes_and_stands_where_it_was_told() -> None:
    """Up to its speed and no further, never backwards, and it stops at the end of its line."""
    table = play([car(Until(0.0), Go(((0.0, 0.0), (60.0, 0.0)), 10.0), Wait(1e9))], [])[:, 0]
    speed = np.diff(table[:, 0]) / STEP_S
    assert speed.min() >= -1e-9
    assert 8.5 < speed.max() <= 10.3
    assert np.abs(np.diff(speed)).max() / STEP_S <= 7.6, "as hard as a car brakes"
    assert table[-1, 0] == pytest.approx(60.0, abs=0.05)
    assert table[-1, 4] == pytest.approx(60.0, abs=0.05), "metres travelled"


def test_nobody_drives_into_the_one_ahead() -> None:
    """A car behind one that stops in its lane stops too, and goes on when it does."""
    line = ((0.0, 0.0), (200.0, 0.0))
    first = car(Go(((30.0, 0.0), (60.0, 0.0)), 10.0), Until(15.0), Go(((60.0, 0.0), (300.0, 0.0)), 10.0), Gone(1e9))
    second = car(Go(line, 12.0), Gone(1e9))
    table = play([dataclasses.replace(first, start=(30.0, 0.0)), second], [])
    both = (table[:, 0, 5] > 0) & (table[:, 1, 5] > 0)
    gap = table[both, 0, 0] - table[both, 1, 0] - 4.4
    assert gap.min() > 0.5
    assert gap.min() < 4, "it does come close"
    assert table[row(30), 1, 0] > 60


def test_red_stops_vehicles_and_lets_people_cross() -> None:
    """No car passes the line while the light is red; who waits for it to be red goes only then."""
    light = Light(20.0, 10.0, 0.0)
    line = StopLine((50.0, 0.0), (1.0, 0.0), light)
    cars = [
        car(Go(((-40.0 - 12 * k, 0.0), (120.0, 0.0)), 11.0), Gone(0.1), Clear((-40.0 - 12 * k, 0.0), 9))
        for k in range(4)
    ]
    walker = Actor(PERSON, (54.0, 8.0), (0.0, -1.0), (WhenRed(light), Go(((54.0, 8.0), (54.0, -8.0)), 2.0), Wait(1e9)))
    table = play([*cars, walker], [line])
    red = np.array([light.red_for_s(k * STEP_S) > 0 for k in range(len(table))])
    for number in range(len(cars)):
        passed = (np.diff(table[:, number, 0] > 50.0 - 1.0)) & (table[1:, number, 5] > 0) & (table[:-1, number, 5] > 0)
        going = np.flatnonzero(passed & (np.diff(table[:, number, 0]) > 0))
        assert not any(red[max(0, k - 8) : k].all() and red[k] for k in going), "well into red"
    moving = np.flatnonzero(np.abs(np.diff(table[:, -1, 1])) > 1e-6)
    assert red[moving[0]] if len(moving) else True


def test_who_waits_for_a_bus_goes_when_it_stands() -> None:
    """A passenger moves only after the bus has stopped; who is gone is not in the world."""
    bus = Actor(2, (-60.0, 0.0), (1.0, 0.0), (Until(2.0), Go(((-60.0, 0.0), (0.0, 0.0)), 8.0), Wait(8.0), Gone(1e9)))
    passenger = Actor(PERSON, (0.0, 5.0), (0.0, -1.0), (WhenStanding(0), Go(((0.0, 5.0), (0.0, 2.0)), 1.5), Gone(1e9)))
    table = play([bus, passenger], [])
    moves = np.flatnonzero(np.abs(np.diff(table[:, 1, 1])) > 1e-6)
    assert np.abs(np.diff(table[moves[0] : moves[0] + 2, 0, 0])).max() < 1e-6
    assert table[-1, 1, 5] == 0
    assert table[-1, 0, 5] == 0


def test_corners_are_rounded_and_keep_their_ends() -> None:
    """A right angle becomes a curve that starts and ends where the line did and never jumps by more than its radius."""
    line = rounded([(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)], 4.0)
    assert (line[0], line[-1]) == ((0.0, 0.0), (10.0, 10.0))
    turns = [math.atan2(d[1] - c[1], d[0] - c[0]) for c, d in itertools.pairwise(line)]
    assert max(abs(b - a) for a, b in itertools.pairwise(turns)) < math.radians(35)


def moves(shown: Scene, seconds: float) -> np.ndarray:
    """BOOL per tenth of a second: whether anything moves that could be seen."""
    renderer = Renderer(dataclasses.replace(shown, furniture=()))
    result = []
    before: dict[int, tuple[float, ...]] = {}
    for tenth in range(int(seconds * 10)):
        seen = {
            one.placed.mover.object_id: (one.placed.x, one.placed.y) for one in renderer.drawable(tenth / 10) if one.box
        }
        result.append(bool(before) and any(math.dist(at, before.get(k, at)) > 1e-3 for k, at in seen.items()))
        before = seen
    return np.array(result)


STATIC, BUSY = ([k for k, view in enumerate(BASE_VIEWS) if view.density == name] for name in ("static", "busy"))


@pytest.mark.parametrize("number", STATIC)
def test_static_cameras_stand_still_for_long(number: int) -> None:
    """In 46 s something happens, but for most of the time, and for 12 s on end, nothing moves at all."""
    moved = moves(scene(Purpose.CLIPS, 0, number), 46)
    still = max((len(list(run)) for is_moving, run in itertools.groupby(moved) if not is_moving), default=0)
    assert still >= 120
    assert 0.02 < moved.mean() < 0.45


@pytest.mark.parametrize("number", BUSY[:3])
def test_busy_cameras_hardly_ever_rest(number: int) -> None:
    """Something moves nearly always."""
    assert moves(scene(Purpose.CLIPS, 0, number), 20).mean() > 0.95


@pytest.mark.parametrize("number", BUSY)
def test_a_tracker_of_constant_speed_must_be_wrong(number: int) -> None:
    """Of the objects that move, at least a fifth change their speed by more than half a metre a second within one."""
    shown = scene(Purpose.CLIPS, 0, number)
    table = np.stack([mover.track for mover in shown.movers], axis=1)[: row(30)]
    there = (table[:-1, :, 5] > 0) & (table[1:, :, 5] > 0)
    velocity = np.diff(table[:, :, :2], axis=0) / STEP_S
    speed = np.where(there, np.linalg.norm(velocity, axis=2), np.nan)
    second = row(1.0)
    change = np.linalg.norm(velocity[second:] - velocity[:-second], axis=2)
    usable = there[second:] & there[:-second] & (speed[second:] < 20) & (speed[:-second] < 20)
    moving = usable & ((speed[second:] > 0.3) | (speed[:-second] > 0.3))
    assert (change[moving] > 0.5).mean() > 0.2


@pytest.mark.parametrize("number", range(len(BASE_VIEWS)))
def test_vehicles_hardly_ever_stand_in_one_another(number: int) -> None:
    """In the table of a place the middles of two vehicles are nearly never within a car's width."""
    shown = scene(Purpose.CLIPS, 0, number)
    vehicles = [m for m in shown.movers if m.class_id in (1, 2)]
    table = np.stack([mover.track for mover in vehicles], axis=1)[::5]
    close = seen = 0
    for frame in table:
        here = frame[frame[:, 5] > 0, :2]
        away = np.linalg.norm(here[:, None] - here[None], axis=2)
        close += np.count_nonzero(away[np.triu_indices(len(here), 1)] < 1.5)
        seen += len(here)
    assert close <= 0.01 * seen


def test_the_table_begins_anew_after_its_end() -> None:
    """A moment beyond the horizon is the same as one horizon earlier."""
    shown = scene(Purpose.CLIPS, 0, 0)
    first, later = shown.at(3.3), shown.at(3.3 + HORIZON_S)
    assert [(p.mover.object_id, p.x) for p in first] == [(p.mover.object_id, pytest.approx(p.x)) for p in later]
