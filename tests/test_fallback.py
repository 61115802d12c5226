"""Which tier a turn gets when tiers are missing or fail: pure, with the time as an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.fallback import MOST_ERRORS, REST_S, Fallback, resolve_tier
from clients.types import Tier

SECOND = 1_000_000_000
REST_NS = round(REST_S * SECOND)


def failing(tiers: str = "nmx", fallback: Tier = Tier.N) -> Fallback:
    """Tier x has just failed three times at 0 s."""
    health = Fallback([Tier[name.upper()] for name in tiers], fallback)
    outcomes = [health.failed("a", Tier.X, 0) for _ in range(MOST_ERRORS)]
    assert outcomes == [False, False, True]
    return health


@pytest.mark.parametrize(
    ("wanted", "served", "used"),
    [("m", "nmx", "m"), ("m", "nx", "n"), ("x", "m", "m")],
    ids=["its own", "the fallback", "what there is"],
)
def test_a_missing_tier_is_replaced(wanted: str, served: str, used: str) -> None:
    """The wanted tier, else the fallback, else the smallest that is ready, whoever asks and whenever."""
    tiers = [Tier[name.upper()] for name in served]
    assert resolve_tier(Tier[wanted.upper()], tiers, Tier.N) == Tier[used.upper()]
    assert Fallback(tiers, Tier.N).choose("a", Tier[wanted.upper()], 0) == Tier[used.upper()]


def test_an_answer_in_between_begins_the_count_anew() -> None:
    """Two errors, an answer, two errors: the tier stays in service."""
    health = Fallback(list(Tier), Tier.N)
    for _ in range(2):
        assert [health.failed("a", Tier.X, 0) for _ in range(2)] == [False, False]
        assert not health.answered("a", Tier.X)
    assert health.choose("a", Tier.X, 1) is Tier.X
    assert health.resting == ()


def test_cameras_of_a_failing_tier_use_the_fallback_until_one_has_tried() -> None:
    """Nobody tries before the rest is over; then one camera alone does, and its answer brings all back."""
    health = failing()
    assert health.resting == (Tier.X,)
    assert health.choose("a", Tier.X, REST_NS - 1) is Tier.N
    assert health.choose("b", Tier.M, REST_NS - 1) is Tier.M, "another tier is not concerned"
    assert health.choose("b", Tier.X, REST_NS) is Tier.X, "the probe"
    assert health.choose("a", Tier.X, REST_NS) is Tier.N
    assert health.choose("b", Tier.X, REST_NS + 1) is Tier.X, "the probe still is"
    assert health.answered("b", Tier.X)
    assert health.resting == ()
    assert health.choose("a", Tier.X, REST_NS + 2) is Tier.X


def test_a_probe_that_fails_begins_the_rest_anew() -> None:
    """Thirty seconds from then on, whatever turns that were sent earlier bring meanwhile."""
    health = failing()
    assert not health.failed("c", Tier.X, 5 * SECOND), "sent before the rest began"
    assert not health.answered("d", Tier.X), "so was this"
    assert health.choose("b", Tier.X, REST_NS) is Tier.X
    assert health.failed("b", Tier.X, REST_NS + SECOND)
    assert health.choose("a", Tier.X, 2 * REST_NS) is Tier.N
    assert health.choose("a", Tier.X, 2 * REST_NS + SECOND) is Tier.X


def test_a_probe_that_goes_away_makes_room_for_another() -> None:
    """Its camera was removed, or its turn timed out: the next camera is the probe."""
    health = failing()
    assert health.choose("b", Tier.X, REST_NS) is Tier.X
    health.gave_up("a")
    assert health.choose("a", Tier.X, REST_NS) is Tier.N
    health.gave_up("b")
    assert health.choose("a", Tier.X, REST_NS) is Tier.X


@pytest.mark.parametrize(("tiers", "fallback"), [("x", Tier.N), ("mx", Tier.N), ("nx", Tier.X)])
def test_where_there_is_nothing_else_a_failing_tier_is_used_on(tiers: str, fallback: Tier) -> None:
    """The only tier, one whose fallback is not served, and the fallback itself never rest."""
    health = Fallback([Tier[name.upper()] for name in tiers], fallback)
    assert not any(health.failed("a", Tier.X, 0) for _ in range(10))
    assert health.choose("a", Tier.X, 1) is Tier.X


def test_no_tier_at_all_is_refused() -> None:
    """A fleet without a tier cannot be."""
    with pytest.raises(ValueError, match="at least one served tier"):
        Fallback([], Tier.N)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["error", "answer", "late"]), st.integers(0, 20))))
def test_whatever_happens_a_resting_tier_is_tried_by_one_camera_at_a_time(events: list[tuple[str, str, int]]) -> None:
    """Any history of turns: in service all cameras use the tier, at rest at most one does, and only after the rest."""
    health, now_s, rest_began_s = Fallback(list(Tier), Tier.N), 0, 0
    for camera, event, later_s in events:
        now_s += later_s
        now_ns = now_s * SECOND
        tier = health.choose(camera, Tier.X, now_ns)
        if tier is Tier.X:
            if event == "error" and health.failed(camera, tier, now_ns):
                rest_began_s = now_s
            elif event == "answer":
                health.answered(camera, tier)
            health.gave_up(camera)
        using = [name for name in "abc" if health.choose(name, Tier.X, now_ns) is Tier.X]
        if health.resting:
            assert len(using) == (now_s - rest_began_s >= REST_S)
        else:
            assert using == list("abc")
        for name in using:
            health.gave_up(name)
