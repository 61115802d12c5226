"""How the inferences that there are are divided among cameras: by what each would lose without them. Pure.

Between two inferences a tracker predicts, and is wrong by more the longer it has to: things turn, stop, appear and go.
Call k the boxes that go wrong per second of waiting. A camera inferred r times a second shows on average k / (2 r)
wrong boxes. To make the sum of that least for a given sum of rates, each rate must be in proportion to the square root
of its k (Lagrange; Cauchy-Schwarz shows that it is the minimum). A camera where nothing happens thus gives its share
to those where much does, but never falls below its minimum. An inference of a dearer tier counts as many: the rate then
goes with the root of k / cost, by the same argument.

`Need` estimates k from what each inference corrects. `paces` divides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_ROUNDS = 50  # halvings of the interval in which the common factor is looked for


@dataclass(frozen=True, slots=True)
class NeedRules:
    """`memory_s`: time constant of the estimate; `least`: wrong boxes per second that every camera is credited with."""

    memory_s: float = 4.0
    least: float = 0.25
    first: float = 2.0

    def __post_init__(self) -> None:
        if not min(self.memory_s, self.least, self.first) > 0:
            raise ValueError(f"memory_s, least and first must be positive, got {self}")


class Need:
    """One camera's wrong boxes per second of waiting, smoothed over seconds."""

    def __init__(self, rules: NeedRules | None = None) -> None:
        self._rules = rules or NeedRules()
        self._wrong_per_s = self._rules.first

    @property
    def wrong_per_s(self) -> float:
        """The estimate; never below the rules' least."""
        return max(self._rules.least, self._wrong_per_s)

    def corrected(self, wrong: float, waited_s: float) -> None:
        """An inference after `waited_s` corrected so many boxes (a box half wrong counts as half)."""
        if waited_s > 0:
            share = -math.expm1(-waited_s / self._rules.memory_s)
            self._wrong_per_s += share * (wrong / waited_s - self._wrong_per_s)


@dataclass(frozen=True, slots=True)
class Pace:
    """What one camera may have and needs: inferences/s; `passes`: the share 0..1 of them that its gate lets through;
    `cost`: of one inference, in inferences of the cheapest tier."""

    least_fps: float
    most_fps: float
    weight: float
    wrong_per_s: float
    passes: float = 1.0
    cost: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.least_fps <= self.most_fps:
            raise ValueError(f"expected 0 <= least_fps <= most_fps, got {self.least_fps} and {self.most_fps}")
        if not (self.weight > 0 and self.wrong_per_s > 0 and 0 < self.passes <= 1 and self.cost > 0):
            raise ValueError(f"expected weight, wrong_per_s and cost > 0, passes above 0 and up to 1, got {self}")


def paces(cameras: Mapping[str, Pace], inferences_per_s: float) -> dict[str, float]:
    """Each camera's rate, so that those which pass the gates sum up to `inferences_per_s`.

    In proportion to weight x sqrt(wrong_per_s) between each camera's least and most; all at their most when there is
    enough, all at their least when there is not even that.
    """
    shares = {name: one.weight * math.sqrt(one.wrong_per_s / one.cost) for name, one in cameras.items()}

    def rates(factor: float) -> dict[str, float]:
        return {name: min(one.most_fps, max(one.least_fps, factor * shares[name])) for name, one in cameras.items()}

    def spent(factor: float) -> float:
        return sum(rate * cameras[name].passes * cameras[name].cost for name, rate in rates(factor).items())

    low, high = 0.0, max((one.most_fps / shares[name] for name, one in cameras.items()), default=0.0)
    if spent(high) <= inferences_per_s:
        return rates(high)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) <= inferences_per_s else (low, middle)
    return rates(low)
