"""Tiers and rates for one price: nothing better is to be had for what is spent."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.allocation import Claim, Option, allocate
from clients.pacing import Pace, paces

OPTIONS = (Option(1.0, 0.15), Option(3.0, 0.03), Option(7.0, 0.0))


def claim(wrong_per_s: float, objects: float, *, least: float = 0.0, most: float = 1e6, weight: float = 1.0) -> Claim:
    """A camera free to choose, held at the cheapest."""
    return Claim(Pace(least, most, weight, wrong_per_s), objects, 0, 0, len(OPTIONS) - 1)


CLAIMS = st.lists(
    st.builds(
        lambda wrong, objects, weight: claim(wrong, objects, weight=weight),
        st.floats(0.1, 100),
        st.floats(0, 60),
        st.sampled_from((0.5, 1.0, 3.0)),
    ),
    min_size=1,
    max_size=4,
)


def rates_of(claims: Sequence[Claim], chosen: Sequence[int], budget: float) -> list[float]:
    """The budget divided at these tiers, as control.py does it."""
    at_their_cost = {
        str(row): Pace(
            one.pace.least_fps, one.pace.most_fps, one.pace.weight, one.pace.wrong_per_s, cost=OPTIONS[option].ms
        )
        for row, (one, option) in enumerate(zip(claims, chosen, strict=True))
    }
    return list(paces(at_their_cost, budget).values())


def lost(claims: Sequence[Claim], chosen: Sequence[int], rates: Sequence[float]) -> float:
    """Wrong boxes of all cameras, by waiting and by the model."""
    return sum(
        one.pace.weight**2 * (one.objects * OPTIONS[option].missed + one.pace.wrong_per_s / (2 * rate))
        for one, option, rate in zip(claims, chosen, rates, strict=True)
    )


@given(CLAIMS, st.floats(1, 500))
def test_no_other_tiers_lose_less(claims: list[Claim], budget: float) -> None:
    """Against all combinations of tiers, each with its best rates: within the step of one camera of the best."""
    chosen = allocate(OPTIONS, claims, budget)
    ours = lost(claims, chosen, rates_of(claims, chosen, budget))
    best = min(
        lost(claims, other, rates_of(claims, other, budget))
        for other in itertools.product(range(len(OPTIONS)), repeat=len(claims))
    )
    step = max(one.pace.weight**2 * one.objects * OPTIONS[0].missed for one in claims)
    assert ours <= best + step + 1e-6 * best


def test_a_small_budget_buys_inferences_and_a_large_one_models() -> None:
    """The same cameras: the cheapest tier while each inference counts, the best when there is time for it."""
    claims = [claim(5.0, 10.0)] * 4
    assert allocate(OPTIONS, claims, 4) == [0, 0, 0, 0]
    assert set(allocate(OPTIONS, claims, 60)) == {1}
    assert allocate(OPTIONS, claims, 5000) == [2, 2, 2, 2]


@pytest.mark.parametrize(("passes", "turn_ms"), [(1.0, 6.34), (0.5, 3.17)])
def test_the_price_at_which_one_camera_changes(passes: float, turn_ms: float) -> None:
    """By hand: 1.2 objects more for sqrt(2 k p) (sqrt 3 - 1) at p = 0.224; there the dearer tier spends 6.34 ms/s, or
    half of that where the gate lets half through."""
    one = Claim(Pace(0.0, 1e6, 1.0, 6.0, passes), 10.0, 0, 0, 1)
    assert allocate(OPTIONS, [one], turn_ms * 0.98) == [0]
    assert allocate(OPTIONS, [one], turn_ms * 1.02) == [1]


def test_weight_counts_in_both_losses() -> None:
    """Of two equal cameras the heavier has the better model, where there is time for one."""
    assert allocate(OPTIONS[:2], [claim_of_two(1.0), claim_of_two(3.0)], 11.0) == [0, 1]


def claim_of_two(weight: float) -> Claim:
    return Claim(Pace(0.0, 1e6, weight, 6.0), 10.0, 0, 0, 1)


def test_who_stands_still_gets_the_better_model_and_who_moves_the_inferences() -> None:
    """Equally many objects; where nothing changes a dear inference a second is well spent."""
    still, moving = claim(0.25, 20.0), claim(60.0, 20.0)
    chosen = allocate(OPTIONS, [still, moving], 60)
    assert chosen[0] > chosen[1]


def test_nothing_at_stake_gets_the_cheapest() -> None:
    """However much time is left."""
    assert allocate(OPTIONS, [claim(1.0, 0.0, most=25)], 1e6) == [0]


def test_least_rates_are_paid_first() -> None:
    """Where the cheapest tiers at the least rates exceed the budget all get those; else one after another what fits."""
    claims = [claim(1.0, 30.0, least=10.0, most=25.0)] * 3
    assert allocate(OPTIONS, claims, 29.0) == [0, 0, 0]
    assert allocate(OPTIONS, claims, 51.0) == [1, 0, 0], "in their order, while it fits"


@pytest.mark.parametrize(("margin", "option"), [(0.0, 1), (0.9, 0)])
def test_what_is_held_is_kept_within_the_margin(margin: float, option: int) -> None:
    """Another tier would lose less, but not by so much."""
    assert allocate(OPTIONS, [claim(5.0, 10.0)], 15, margin) == [option]


def test_closed_options_are_not_taken() -> None:
    """A camera that dwells has one choice."""
    dwelling = Claim(Pace(0.0, 25.0, 1.0, 1.0), 50.0, 1, 1, 1)
    assert allocate(OPTIONS, [dwelling], 1e6) == [1]
    assert allocate(OPTIONS, [dwelling], 0.0) == [1]
    assert allocate(OPTIONS, [], 10.0) == []
