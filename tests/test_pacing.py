"""How inferences are divided among cameras."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.pacing import Need, NeedRules, Pace, paces

cameras = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.builds(
        Pace,
        least_fps=st.floats(0, 2),
        most_fps=st.floats(2, 30),
        weight=st.floats(0.1, 10),
        wrong_per_s=st.floats(0.1, 100),
        passes=st.floats(0.1, 1),
    ),
    min_size=1,
)


def spent(told: dict[str, Pace], rates: dict[str, float]) -> float:
    return sum(rates[name] * one.passes for name, one in told.items())


@given(told=cameras, budget=st.floats(0, 400))
def test_the_budget_is_spent_and_no_limit_broken(told: dict[str, Pace], budget: float) -> None:
    """Every rate lies within its limits; all that can be spent is, and no more unless the minima alone are more."""
    rates = paces(told, budget)
    assert rates.keys() == told.keys()
    for name, one in told.items():
        assert one.least_fps <= rates[name] <= one.most_fps
    least = sum(one.least_fps * one.passes for one in told.values())
    most = sum(one.most_fps * one.passes for one in told.values())
    assert spent(told, rates) == pytest.approx(min(most, max(least, budget)), rel=1e-6, abs=1e-6)


def test_rates_grow_with_the_root_of_what_goes_wrong() -> None:
    """Four times the wrong boxes are worth twice the rate, twice the weight twice the rate too."""
    told = {
        "still": Pace(0, 30, 1, 1),
        "busy": Pace(0, 30, 1, 4),
        "heavy": Pace(0, 30, 2, 1),
    }
    rates = paces(told, 10)
    assert rates == pytest.approx({"still": 2, "busy": 4, "heavy": 4})


@given(
    wrong=st.lists(st.floats(0.2, 50), min_size=2, max_size=6),
    budget=st.floats(2, 40),
    shift=st.floats(0.01, 0.5),
)
def test_no_other_division_shows_fewer_wrong_boxes(wrong: list[float], budget: float, shift: float) -> None:
    """Taking from any camera and giving to another makes the sum of k / (2 r) no smaller."""
    told = {str(number): Pace(0, 1000, 1, k) for number, k in enumerate(wrong)}
    rates = np.array(list(paces(told, budget).values()))

    def loss(some: np.ndarray) -> float:
        return float(np.sum(np.array(wrong) / (2 * some)))

    for giver in range(len(wrong)):
        for taker in range(len(wrong)):
            other = rates.copy()
            amount = shift * other[giver]
            other[giver] -= amount
            other[taker] += amount
            assert loss(rates) <= loss(other) * (1 + 1e-9)


def test_a_dear_tier_counts_as_many() -> None:
    """An inference that costs four gets half the rate, and the sum is kept in inferences of the cheapest."""
    rates = paces({"n": Pace(0, 100, 1, 1), "x": Pace(0, 100, 1, 1, cost=4)}, 12)
    assert rates == pytest.approx({"n": 4, "x": 2})


def test_what_a_gate_saves_goes_to_the_others() -> None:
    """A camera of which a fifth passes costs a fifth: both get more than half."""
    rates = paces({"gated": Pace(0, 100, 1, 1, passes=0.2), "open": Pace(0, 100, 1, 1)}, 12)
    assert rates == pytest.approx({"gated": 10, "open": 10})


def test_needs_follow_what_is_corrected() -> None:
    """Three wrong boxes a second are learnt whatever the rate; a quiet camera falls to the least, never below."""
    slow, quick = Need(), Need()
    for _ in range(40):
        slow.corrected(1.5, 0.5)
    for _ in range(400):
        quick.corrected(0.15, 0.05)
    assert slow.wrong_per_s == pytest.approx(3, rel=0.05)
    assert quick.wrong_per_s == pytest.approx(3, rel=0.05)
    for _ in range(100):
        slow.corrected(0, 0.5)
    assert slow.wrong_per_s == NeedRules().least
    slow.corrected(1, 0)
    assert slow.wrong_per_s == NeedRules().least, "nothing was waited for, nothing can be said"


def test_the_estimate_forgets_in_seconds() -> None:
    """After one time constant without corrections 1 / e of it is left."""
    need = Need(NeedRules(memory_s=4, least=0.01, first=10))
    for _ in range(40):
        need.corrected(0, 0.1)
    assert need.wrong_per_s == pytest.approx(10 / math.e)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ((2, 1, 1, 1), "expected 0 <= least_fps <= most_fps, got 2 and 1"),
        ((0, 1, 0, 1), "expected weight, wrong_per_s and cost > 0"),
        ((0, 1, 1, 0), "expected weight, wrong_per_s and cost > 0"),
    ],
)
def test_a_pace_that_cannot_be_is_refused(wrong: tuple[float, float, float, float], told: str) -> None:
    """Limits the wrong way round, no weight, no need."""
    with pytest.raises(ValueError, match=told):
        Pace(*wrong)
    with pytest.raises(ValueError, match="memory_s, least and first must be positive"):
        NeedRules(memory_s=0)
