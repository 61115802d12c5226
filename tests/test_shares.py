"""Room in flight for each tier, in milliseconds of the card."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.shares import TierLimits, TierShares, max_min
from clients.types import Tier

WISHES = st.dictionaries(st.sampled_from(Tier), st.floats(0, 1000), min_size=1)
LIMITS = {Tier.N: TierLimits(1.0, 48), Tier.M: TierLimits(3.0, 12), Tier.X: TierLimits(7.0, 6)}


@given(st.floats(0, 1000), WISHES)
def test_max_min_gives_all_there_is_and_nobody_too_much(amount: float, wanted: dict[Tier, float]) -> None:
    """Nobody gets more than wanted, the sum is all that is there or wanted, who gets less has no smaller part."""
    given_ms = max_min(amount, wanted)
    assert all(0 <= given_ms[tier] <= wish for tier, wish in wanted.items())
    assert sum(given_ms.values()) == pytest.approx(min(amount, sum(wanted.values())), abs=1e-6)
    short = [given_ms[tier] for tier, wish in wanted.items() if given_ms[tier] < wish - 1e-6]
    assert all(part >= max(given_ms.values()) - 1e-6 for part in short)


def test_a_tier_alone_has_the_whole_window() -> None:
    """Nobody else wants anything: all of the window, up to the tier's own limit."""
    assert TierShares(LIMITS, 40).share(Tier.N, {Tier.N: 100}) == 40
    assert TierShares(LIMITS, 60).share(Tier.N, {Tier.N: 100}) == 48
    assert TierShares(LIMITS, 42).share(Tier.X, {Tier.X: 100}) == 6


def test_a_heavy_tier_leaves_a_light_one_half_of_the_time() -> None:
    """42 ms for n and x: 21 ms each, which is 21 requests of n and 3 of x."""
    shares, waiting = TierShares(LIMITS, 42), {Tier.N: 40, Tier.X: 40}
    assert (shares.share(Tier.N, waiting), shares.share(Tier.X, waiting)) == (21, 3)


def test_what_one_tier_does_not_need_the_others_get() -> None:
    """Two cameras of n need 2 ms of 30; m has the rest."""
    assert TierShares(LIMITS, 30).share(Tier.M, {Tier.N: 2, Tier.M: 40}) == 9


@given(st.integers(1, 100), st.lists(st.tuples(st.sampled_from(Tier), st.booleans()), max_size=80))
def test_what_is_in_flight_never_exceeds_the_window(window: int, steps: list[tuple[Tier, bool]]) -> None:
    """Whatever leaves and comes back, with everybody waiting: the window in time, or one request of each tier."""
    shares, waiting = TierShares(LIMITS, window), dict.fromkeys(Tier, 100)
    for tier, leaves in steps:
        if leaves and shares.room(tier, waiting):
            shares.take(tier)
        elif not leaves and shares.in_flight_of(tier):
            shares.give_back(tier)
        beyond = {one: max(0, shares.in_flight_of(one) - 1) * LIMITS[one].cost_ms for one in Tier}
        assert sum(beyond.values()) <= window
        assert all(shares.in_flight_of(one) <= LIMITS[one].most for one in Tier)
    assert shares.in_flight == sum(shares.in_flight_of(one) for one in Tier)


def test_a_tier_has_room_for_one_always() -> None:
    """A window smaller than one request of x does not shut x out."""
    shares = TierShares(LIMITS, 1)
    assert shares.room(Tier.X, {Tier.N: 50, Tier.X: 1})
    shares.take(Tier.X)
    assert not shares.room(Tier.X, {Tier.N: 50, Tier.X: 1})


def test_mistakes_are_errors() -> None:
    """No tier, a window of none, a cost of none, giving back what was never taken."""
    with pytest.raises(ValueError, match="at least one tier, got none"):
        TierShares({}, 1)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        TierShares(LIMITS, 0)
    with pytest.raises(ValueError, match="got 0 and 1"):
        TierLimits(0, 1)
    with pytest.raises(ValueError, match="no request of yolo12m is in flight"):
        TierShares(LIMITS, 1).give_back(Tier.M)
