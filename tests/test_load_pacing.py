"""When a camera's frames come due, how many cameras there are, which tier each asks for."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.data_sheet import sheet
from clients.errors import ConfigError
from clients.types import Tier
from loadtest.load.camera_clock import CameraClock, phase_of
from loadtest.load.stages import length_s, users_at
from loadtest.load.wanted import Objective, Plan, Wanted, capacity_per_s, parse_mix, plan, tier_of

CLOCKS = st.builds(
    CameraClock,
    fps=st.floats(0.1, 60),
    phase=st.floats(0, 0.99),
    origin_s=st.floats(-1e6, 1e6),
    burst_s=st.just(0.0) | st.floats(0.05, 10),
)


@given(CLOCKS, st.floats(-1e6, 1e6))
def test_the_newest_frame_is_the_last_that_is_due(clock: CameraClock, now_s: float) -> None:
    """It is due, its successor is not, and time goes forward from one frame to the next."""
    newest = clock.newest(now_s)
    assert clock.time_of(newest) <= now_s < clock.time_of(newest + 1)
    assert clock.newest(clock.time_of(newest)) == newest


@given(CLOCKS, st.integers(-1000, 1000))
def test_a_camera_keeps_its_rate(clock: CameraClock, first: int) -> None:
    """Frames come no closer than their interval; where key frames are common, a period holds what fits into it."""
    gaps = [clock.time_of(first + n + 1) - clock.time_of(first + n) for n in range(20)]
    if clock.burst_s:
        assert clock.per_burst <= clock.burst_s * clock.fps + 2
        starts = clock.time_of(first * clock.per_burst) - clock.origin_s
        assert starts == pytest.approx(first * clock.burst_s, abs=1e-6)
    else:
        assert gaps == pytest.approx([1 / clock.fps] * 20, abs=1e-6)
    assert min(gaps) >= 0


def test_key_frames_come_together() -> None:
    """Cameras of any phase have the first frame of each period in common, and no other."""
    clocks = [CameraClock(5, phase_of(number), 100.0, 2.0) for number in range(20)]
    times = Counter(round(clock.time_of(index), 6) for clock in clocks for index in range(clock.per_burst * 3))
    assert {time for time, cameras in times.items() if cameras == 20} == {100.0, 102.0, 104.0}
    assert sum(cameras > 1 for cameras in times.values()) == 3


def test_phases_are_spread() -> None:
    """However many cameras there are, none is far from the place that equal distances would give it."""
    for count in (10, 50, 200):
        phases = sorted(phase_of(number) for number in range(count))
        assert max(after - before for before, after in pairwise(phases)) < 2.7 / count


def test_a_bad_clock_is_refused() -> None:
    """No rate, a phase of a whole interval, a negative period."""
    for bad in ({"fps": 0}, {"fps": 5, "phase": 1.0}, {"fps": 5, "burst_s": -1}):
        with pytest.raises(ValueError, match="expected a positive rate, a phase in"):
            CameraClock(**bad)


def test_shapes() -> None:
    """A ramp goes up a fifth a step, a step quarter by quarter; a flash crowd stays for the middle third."""
    assert [users_at("ramp", at, 50, math.inf, 10) for at in (0, 9.9, 10, 25)] == [50, 50, 60, 70]
    assert [users_at("step", at, 50, 40, 10) for at in (0, 10, 20, 39)] == [13, 25, 38, 50]
    assert [users_at("flash", at, 50, 30, 10) for at in (0, 10, 19.9, 20)] == [10, 50, 50, 10]
    assert users_at("soak", 1e5, 50, 3600, 10) == 50
    assert [length_s(shape, None) for shape in ("constant", "ramp", "soak", "flash")] == [math.inf, math.inf, 3600, 120]
    assert length_s("soak", 60) == 60


def test_tiers_are_shared_as_asked() -> None:
    """Of the first N cameras each tier has its share of N, to one camera."""
    mix = parse_mix("n:0.8,m:0.15,x:0.05")
    for count in (1, 7, 20, 50, 200):
        given_ = Counter(tier_of(number, mix) for number in range(count))
        assert all(abs(given_[tier] - share * count) < 1 for tier, share in mix.items())
    assert parse_mix("yolo12m") == {Tier.M: 1.0}
    assert parse_mix("n:3,x:1") == {Tier.N: 0.75, Tier.X: 0.25}


def test_the_load_is_a_share_of_the_capacity() -> None:
    """Sixty percent of 1886 inferences a second for fifty cameras; a rate that is given is taken as it is."""
    t4 = sheet("t4")
    assert capacity_per_s(t4, {Tier.N: 1.0}) == pytest.approx(16 / 8.484 * 1000)
    assert capacity_per_s(t4, {Tier.N: 0.5, Tier.M: 0.5}) == pytest.approx(2000 / (8.484 / 16 + 10.716 / 4))
    assert plan(Wanted(), 50, t4, 10, emulated=True).fps == pytest.approx(0.6 * 16 / 8.484 * 1000 / 50)
    assert plan(Wanted(fps=7), 50, t4, 10, emulated=True).fps == 7
    assert plan(Wanted(fps=7), 50, None, 1, emulated=False) == Plan(Wanted(fps=7), 7)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"load": 0.0}, "--load must be a positive number, got 0"),
        ({"fps": -1.0}, "--fps must not be negative, got -1"),
        ({"deadline_ms": float("nan")}, "--deadline-ms must be a positive number, got nan"),
        ({"stale": 1.0}, "--stale must be a share from 0 up to less than 1, got 1"),
        ({"path": "shm"}, "--path must be one of ensemble, jpeg, got 'shm'"),
        ({"shape": "wave"}, "--shape must be one of constant, ramp, step, soak, flash, got 'wave'"),
    ],
)
def test_an_impossible_wish_names_its_option(bad: dict[str, float | str], told: str) -> None:
    """One line, with what came."""
    with pytest.raises(ConfigError) as caught:
        Wanted(**bad)  # type: ignore[arg-type]
    assert str(caught.value) == told


def test_an_impossible_objective_is_refused() -> None:
    """No share at all, more than all, an age that an idle card alone takes, a server that nobody knows."""
    for goodput in (0.0, 1.1):
        with pytest.raises(ConfigError, match="--slo-goodput must lie above 0 and be 1 at most"):
            Objective(goodput=goodput)
    with pytest.raises(ConfigError, match="--slo-age-p95-ms must be a positive number"):
        Objective(age_p95_ms=0)
    wanted = Wanted(mix={Tier.N: 0.9, Tier.X: 0.1}, objective=Objective(age_p95_ms=5))
    with pytest.raises(ConfigError, match=r"--slo-age-p95-ms 5 cannot be met: yolo12x alone takes 7\.074 ms"):
        plan(wanted, 50, sheet("t4"), 1, emulated=True)
    with pytest.raises(ConfigError, match="give --fps, or --gpu with the name of its data sheet"):
        plan(Wanted(), 50, None, 1, emulated=False)
    for text in ("q:1", "n:0", "n:0.5,n:0.5", "n:much", "n:-1", ""):
        with pytest.raises(ConfigError, match=r"^--tier-mix: expected"):
            parse_mix(text)
