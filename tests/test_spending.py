"""How a budget is divided among cameras."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.spending import Bid, Level, Terms, lowest_cost, spend, upper_hull

LEVELS = st.lists(st.builds(Level, st.floats(0.5, 30), st.floats(0, 60)), min_size=1, max_size=4)
HULL = [Level(1.64, 40.6), Level(4.86, 52.5), Level(11.79, 55.2)]


@st.composite
def markets(draw: st.DrawFn) -> tuple[list[Level], list[Bid], float]:
    """Any levels, up to five bids that hold something, and a budget from nothing to more than enough."""
    levels = draw(LEVELS)
    highest = len(upper_hull(levels)) - 1
    bids = [
        Bid(draw(st.floats(0.1, 25)), draw(st.floats(0, 1)), draw(st.integers(0, highest)), 0, highest)
        for _ in range(draw(st.integers(1, 5)))
    ]
    return levels, bids, draw(st.floats(0, 1.2)) * sum(bid.rate for bid in bids) * max(one.cost_ms for one in levels)


def value(levels: list[Level], bids: list[Bid], chosen: tuple[int, ...] | list[int]) -> float:
    """What a choice is worth beyond the cheapest level."""
    cheapest = levels[upper_hull(levels)[0]]
    return sum(
        bid.rate * bid.worth * (levels[index].value - cheapest.value) for bid, index in zip(bids, chosen, strict=True)
    )


def cost(levels: list[Level], bids: list[Bid], chosen: tuple[int, ...] | list[int]) -> float:
    """GPU-milliseconds per second of a choice."""
    return sum(bid.rate * levels[index].cost_ms for bid, index in zip(bids, chosen, strict=True))


def best(levels: list[Level], bids: list[Bid], budget: float) -> float:
    """The optimum over *all* levels, by trying every choice."""
    choices = product(range(len(levels)), repeat=len(bids))
    return max(
        (value(levels, bids, choice) for choice in choices if cost(levels, bids, choice) <= budget), default=-1.0
    )


@given(markets())
def test_what_is_lost_is_less_than_one_step_of_one_camera(market: tuple[list[Level], list[Bid], float]) -> None:
    """The docstring's bound, against brute force over all levels, not those of the hull only."""
    levels, bids, budget = market
    order = upper_hull(levels)
    hull = [levels[index] for index in order]
    chosen = spend(hull, bids, budget, Terms())
    steps = [bid.rate * bid.worth * (high.value - low.value) for bid in bids for low, high in pairwise(hull)]
    mine = value(levels, bids, [order[index] for index in chosen])
    optimum = best(levels, bids, budget)
    assert mine <= optimum + 1e-6 or cost(hull, bids, chosen) > budget
    assert optimum <= mine + max(steps, default=0.0) + 1e-6
    everything = [bid.highest if bid.worth else 0 for bid in bids]
    if cost(hull, bids, everything) <= budget:
        assert chosen == everything, "nothing is lost when all steps fit"


@given(markets(), st.floats(1, 2), st.floats(0, 0.3), st.floats(0, 0.5))
def test_the_budget_is_kept_whatever_the_terms(
    market: tuple[list[Level], list[Bid], float], held_bonus: float, headroom: float, least_worth: float
) -> None:
    """Within the budget, or everybody at the cheapest; every answer within the limits of its bid."""
    levels, bids, budget = market
    hull = [levels[index] for index in upper_hull(levels)]
    chosen = spend(hull, bids, budget, Terms(held_bonus, headroom, least_worth))
    if lowest_cost(hull, bids) <= budget:
        assert cost(hull, bids, chosen) <= budget * (1 + 1e-6)
    else:
        assert chosen == [0] * len(bids)
    assert all(bid.lowest <= level <= bid.highest for bid, level in zip(bids, chosen, strict=True))


@given(LEVELS)
def test_the_hull_is_concave_and_begins_with_the_cheapest(levels: list[Level]) -> None:
    """Each further millisecond buys less than the one before, and no level lies above the hull."""
    hull = [levels[index] for index in upper_hull(levels)]
    assert hull[0].cost_ms == min(one.cost_ms for one in levels)
    assert hull[-1].value == max(one.value for one in levels)
    slopes = [(high.value - low.value) / (high.cost_ms - low.cost_ms) for low, high in pairwise(hull)]
    assert all(slope > 0 for slope in slopes)
    assert slopes == sorted(slopes, reverse=True)
    for one in levels:
        for low, high, slope in zip(hull, hull[1:], slopes, strict=False):
            if low.cost_ms <= one.cost_ms <= high.cost_ms:
                assert one.value <= low.value + slope * (one.cost_ms - low.cost_ms) + 1e-6


def test_a_tier_below_the_hull_is_never_bought() -> None:
    """A middle tier that buys less per millisecond than the large one does is passed over."""
    assert upper_hull([Level(1, 40), Level(5, 41), Level(6, 55)]) == [0, 2]
    assert upper_hull([Level(2, 40), Level(1, 45), Level(1, 44)]) == [1], "dearer and weaker"


def test_a_millisecond_goes_where_it_buys_most() -> None:
    """One upgrade to m fits: the better camera gets it; two m before one x, which would leave the other with n."""
    bids = [Bid(10, 0.3, 0, 0, 2), Bid(10, 0.9, 0, 0, 2)]
    low = 2 * 16.4
    assert spend(HULL, bids, low + 32.3, Terms()) == [0, 1]
    assert spend(HULL, bids, low + 64.5, Terms()) == [1, 1]
    assert spend(HULL, bids, low + 32.3 + 69.4, Terms()) == [1, 1]
    assert spend(HULL, bids, low + 64.5 + 69.4, Terms()) == [1, 2]


def test_a_step_that_does_not_fit_leaves_room_for_smaller_ones() -> None:
    """A camera with a high rate cannot have it; the next best with a low rate can."""
    assert spend(HULL, [Bid(25, 0.9, 0, 0, 2), Bid(1, 0.5, 0, 0, 2)], 26 * 1.64 + 5, Terms()) == [0, 1]


def test_no_step_is_taken_without_the_one_below_it() -> None:
    """From n to m does not fit, from m to x would: the camera stays at n."""
    hull = [Level(1, 0), Level(10, 9), Level(11, 9.5)]
    assert spend(hull, [Bid(1, 1.0, 0, 0, 2)], 5, Terms()) == [0]


def test_what_is_worth_nothing_is_not_bought() -> None:
    """Not even with time that nobody else wants and no least worth."""
    assert spend(HULL, [Bid(1, 0.0, 1, 0, 2)], 1e6, Terms()) == [0]


@pytest.mark.parametrize(("challenger", "winner"), [(0.57, [1, 0]), (0.58, [0, 1])])
def test_a_challenger_must_be_better_by_the_margin(challenger: float, winner: list[int]) -> None:
    """0.5 that holds m yields to 0.58, not to 0.57, when holding counts 1.15 times."""
    bids = [Bid(10, 0.5, 1, 0, 2), Bid(10, challenger, 0, 0, 2)]
    assert spend(HULL, bids, 2 * 16.4 + 32.3, Terms(held_bonus=1.15)) == winner


def test_upgrades_leave_the_headroom_free_and_what_is_held_may_use_it() -> None:
    """At 96 % of the budget an upgrade is not begun, and one that is there stays."""
    budget = 48.6 / 0.96
    assert spend(HULL, [Bid(10, 0.5, 0, 0, 1)], budget, Terms(headroom=0.05)) == [0]
    assert spend(HULL, [Bid(10, 0.5, 1, 0, 1)], budget, Terms(headroom=0.05)) == [1]


def test_a_camera_worth_too_little_gets_nothing_even_when_time_is_left() -> None:
    """Below least_worth the smallest tier is enough; one that holds more keeps it within the margin."""
    terms = Terms(held_bonus=1.15, least_worth=0.05)
    bids = [Bid(1, 0.049, 0, 0, 2), Bid(1, 0.051, 0, 0, 2), Bid(1, 0.044, 1, 0, 2), Bid(1, 0.043, 1, 0, 2)]
    assert spend(HULL, bids, 1e6, terms) == [0, 2, 1, 0]


def test_no_levels_are_refused() -> None:
    """There is nothing to choose from."""
    with pytest.raises(ValueError, match="at least one level"):
        upper_hull([])
