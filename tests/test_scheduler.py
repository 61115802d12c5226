"""Whose turn it is."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.scheduler import Scheduler

SECOND = 1_000_000_000
RATES = st.lists(st.floats(0.5, 30), min_size=1, max_size=20)


def fleet(rates: list[float], window: int = 1, weights: list[float] | None = None) -> Scheduler:
    """A scheduler with a camera per rate."""
    scheduler = Scheduler(window)
    for index, rate in enumerate(rates):
        scheduler.add(f"c{index}", max_fps=rate, weight=weights[index] if weights else 1.0, now_ns=0)
    return scheduler


def test_nobody_waits_nobody_is_granted() -> None:
    """Without a frame waiting there is no turn."""
    assert fleet([1, 2]).grant(0) is None


def test_a_camera_in_flight_is_not_granted_again() -> None:
    """One request in flight per camera, however large the window."""
    scheduler = fleet([10], window=8)
    scheduler.ready("c0")
    assert scheduler.grant(0) == "c0"
    scheduler.ready("c0")
    assert scheduler.grant(0) is None
    scheduler.finish("c0")
    assert scheduler.grant(0) == "c0"


@given(RATES, st.integers(1, 6), st.data())
def test_the_window_is_never_exceeded(rates: list[float], window: int, data: st.DataObject) -> None:
    """Whatever is called in whatever order, at most `window` turns are open and each camera has at most one."""
    scheduler, open_turns = fleet(rates, window), set()
    for now in range(60):
        name = f"c{data.draw(st.integers(0, len(rates) - 1))}"
        scheduler.ready(name)
        granted = scheduler.grant(now)
        if granted is not None:
            assert granted not in open_turns
            open_turns.add(granted)
        assert scheduler.in_flight == len(open_turns) <= window
        if open_turns and data.draw(st.booleans()):
            scheduler.finish(open_turns.pop())


@given(RATES, st.floats(0.001, 1), st.integers(0, 100), st.data())
def test_the_wait_is_bounded_by_the_stated_formula(
    rates: list[float], service_s: float, warm_up: int, data: st.DataObject
) -> None:
    """With every other camera always waiting, a camera is granted within max_turns_before turns of others."""
    scheduler = fleet(rates)
    probe = f"c{data.draw(st.integers(0, len(rates) - 1))}"
    others = [f"c{index}" for index in range(len(rates)) if f"c{index}" != probe]
    now = 0
    for _ in range(warm_up):  # any history: the probe is served now and then, the others all the time
        for name in [*others, *([probe] if data.draw(st.booleans()) else [])]:
            scheduler.ready(name)
        now = turn(scheduler, now, service_s)[1]
    scheduler.ready(probe)
    bound = scheduler.max_turns_before(probe, now)
    for turns in count():
        for name in others:
            scheduler.ready(name)
        granted, now = turn(scheduler, now, service_s)
        if granted == probe:
            break
        assert turns < bound, f"{turns + 1} turns of others, the bound is {bound}"


def turn(scheduler: Scheduler, now: int, service_s: float) -> tuple[str | None, int]:
    """One turn, begun and finished."""
    granted = scheduler.grant(now)
    if granted is not None:
        scheduler.finish(granted)
    return granted, now + round(service_s * SECOND)


def test_under_overload_equal_cameras_share_equally() -> None:
    """Fifty cameras that always wait, and too few turns: nobody gets more than one turn more than another."""
    scheduler = fleet([25.0] * 50)
    grants = overload(scheduler, 50, turns=1010, service_s=0.01)
    assert max(grants.values()) - min(grants.values()) <= 1


def overload(scheduler: Scheduler, cameras: int, turns: int, service_s: float) -> dict[str, int]:
    """Everybody always waits; how many turns each camera gets."""
    grants = {f"c{index}": 0 for index in range(cameras)}
    now = 0
    for _ in range(turns):
        for name in grants:
            scheduler.ready(name)
        granted, now = turn(scheduler, now, service_s)
        assert granted is not None
        grants[granted] += 1
    return grants


def test_a_faster_camera_gets_more_when_there_is_room_for_it() -> None:
    """With turns for all demands, 10 per second against 2 shows as five times the turns."""
    scheduler = fleet([10.0, 2.0])
    grants = overload(scheduler, 2, turns=1200, service_s=1 / 12)
    assert grants["c0"] / grants["c1"] == pytest.approx(5, rel=0.05)


def test_a_turn_that_was_not_used_costs_nothing() -> None:
    """A camera whose frame was stale keeps its place before the others."""
    scheduler = fleet([1.0, 1.0])
    scheduler.ready("c0")
    assert scheduler.grant(5) == "c0"
    scheduler.withdraw("c0")
    scheduler.ready("c0")
    scheduler.ready("c1")
    assert scheduler.grant(6) == "c0"


@pytest.mark.parametrize(("rate", "weight"), [(0, 1), (-1, 1), (1, 0)])
def test_a_rate_that_is_not_positive_is_refused(rate: float, weight: float) -> None:
    """Rates and weights are positive, and the message shows what came."""
    with pytest.raises(ValueError, match=f"got {rate} and {weight}"):
        Scheduler(1).add("a", max_fps=rate, weight=weight, now_ns=0)


def test_what_was_not_granted_cannot_finish() -> None:
    """Finishing twice, adding twice, a window of none: errors, not silence."""
    scheduler = fleet([1.0])
    with pytest.raises(ValueError, match="'c0' has no turn"):
        scheduler.finish("c0")
    with pytest.raises(ValueError, match="'c0' is scheduled already"):
        scheduler.add("c0", max_fps=1, weight=1, now_ns=0)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Scheduler(0)
