"""How a budget of GPU-milliseconds is divided among cameras that may each have one of several tiers. Pure.

This is the multiple-choice knapsack problem: of each camera exactly one tier, the sum of their values as large as
possible, the sum of their costs within the budget. It is solved greedily (Sinha and Zoltners, The Multiple-Choice
Knapsack Problem, Operations Research 27, 1979): only tiers on the upper hull of (cost, value) can be worth their cost;
from one level of the hull to the next each millisecond buys less than before, so taking all cameras' steps by what a
millisecond buys, the best first, never takes a step before the one below it.

**Bound.** Were the first step that no longer fits divisible, the result would be the optimum of the relaxed problem. So
what is lost against the true optimum is less than the value of that *one* step of *one* camera, however many cameras
there are; nothing is lost when all steps fit. The tests hold it to brute force.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_ROUNDING = 1e-9  # relative, of a sum that is compared with the budget


@dataclass(frozen=True, slots=True)
class Level:
    """One choice: what one inference costs, in GPU-milliseconds, and its value. Only differences of values count."""

    cost_ms: float
    value: float


@dataclass(frozen=True, slots=True)
class Bid:
    """What one camera may get.

    `rate` inferences per second, `worth` multiplies the values of the levels; `held` is the level that it has now, and
    the answer lies in `lowest`..`highest`. Below `lowest` nothing is for sale: that part is paid first.
    """

    rate: float
    worth: float
    held: int
    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What keeps choices from changing for little.

    A step that is held already counts `held_bonus` times what it is worth, so another must be better by that factor to
    take its place. A step that is not held is taken only below (1 - `headroom`) of the budget. Steps of a camera that
    is worth less than `least_worth` (its bonus included) are not taken, even when nobody else wants the time.
    """

    held_bonus: float = 1.0
    headroom: float = 0.0
    least_worth: float = 0.0


def upper_hull(levels: Sequence[Level]) -> list[int]:
    """Indices of the levels on the upper hull of (cost, value), the cheapest first.

    A level that is left out costs more than a mixture of others of the same value. Raises ValueError without levels.
    """
    if not levels:
        raise ValueError("expected at least one level, got none")
    order = sorted(range(len(levels)), key=lambda index: (levels[index].cost_ms, -levels[index].value))
    hull = order[:1]
    for index in order[1:]:
        if levels[index].value <= levels[hull[-1]].value:
            continue
        while len(hull) > 1 and _slope(levels, hull[-1], index) >= _slope(levels, hull[-2], hull[-1]):
            hull.pop()
        hull.append(index)
    return hull


def spend(hull: Sequence[Level], bids: Sequence[Bid], budget_ms_per_s: float, terms: Terms) -> list[int]:
    """The level of `hull` (concave, the cheapest first) that each bid gets, in the order of the bids.

    Equal offers are decided by the order of the bids. When not even the lowest levels fit, that is what all get.
    """
    slopes = [_slope(hull, index, index + 1) for index in range(len(hull) - 1)]
    extra_ms = [hull[index + 1].cost_ms - hull[index].cost_ms for index in range(len(hull) - 1)]
    chosen = [bid.lowest for bid in bids]
    spent = sum(bid.rate * hull[bid.lowest].cost_ms for bid in bids)
    limit = budget_ms_per_s * (1 + _ROUNDING)
    limit_of_new = limit * (1 - terms.headroom)
    for _, index, step in sorted(_offers(slopes, bids, terms)):
        bid = bids[index]
        cost = bid.rate * extra_ms[step]
        fits = spent + cost <= (limit if step < bid.held else limit_of_new)
        if fits and chosen[index] == step:
            chosen[index] = step + 1
            spent += cost
    return chosen


def lowest_cost(hull: Sequence[Level], bids: Sequence[Bid]) -> float:
    """GPU-milliseconds per second of all bids at their lowest levels."""
    return sum(bid.rate * hull[bid.lowest].cost_ms for bid in bids)


def _offers(slopes: Sequence[float], bids: Sequence[Bid], terms: Terms) -> list[tuple[float, int, int]]:
    """All steps for sale: (minus the value that a millisecond buys, index of the bid, step), to be sorted."""
    offers = []
    for index, bid in enumerate(bids):
        for step in range(bid.lowest, bid.highest):
            worth = bid.worth * terms.held_bonus if step < bid.held else bid.worth
            if worth <= 0 or worth < terms.least_worth:
                break
            offers.append((-worth * slopes[step], index, step))
    return offers


def _slope(levels: Sequence[Level], low: int, high: int) -> float:
    """Value per additional millisecond from one level to another."""
    return (levels[high].value - levels[low].value) / (levels[high].cost_ms - levels[low].cost_ms)
