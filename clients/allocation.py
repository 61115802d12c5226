"""Tiers and rates bought together, at one price for a GPU-millisecond. Pure.

What a camera loses, in wrong boxes: by waiting, k / (2 r) at r inferences a second (pacing.py), and by the model, those
of its objects that tier t misses and the best served one would find. At a price p per GPU-millisecond a camera is best
served by the tier and the rate that make

    objects * missed_t  +  k / (2 r)  +  p * r * ms_t

least; for each tier that is r = sqrt(k / (2 p ms_t)), within the camera's bounds. One price for all cameras makes the
sum of their losses least for what they spend together (Everett, Generalized Lagrange Multiplier Method, Operations
Research 11, 1963): whoever would lose less per millisecond leaves it to those who lose more, be it by another tier or
by another rate. The price is found by bisection: as it rises, cameras take cheaper tiers and lower rates.

**Bound.** For what is spent at the price found, nothing less can be lost. Tiers are steps, so a part of the budget may
be left over; whoever calls puts that into rates. What is lost is then within one camera's step of the best (a property
test holds it to all combinations).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.pacing import Pace

Floats = NDArray[np.float64]
Choice = NDArray[np.intp]
_ROUNDS = 60  # halvings of the logarithm of the price's range
_PRICES = (math.log(1e-9), math.log(1e9))  # wrong boxes per GPU-millisecond
_LEAST_FPS = 1e-6  # of a camera without a minimum, lest the loss by waiting be infinite
_ROUNDING = 1e-9  # relative, of a sum that is compared with the budget


@dataclass(frozen=True, slots=True)
class Option:
    """A tier: `ms` GPU-milliseconds of one inference; `missed` 0..1, the share of objects that better ones find."""

    ms: float
    missed: float


@dataclass(frozen=True, slots=True)
class Claim:
    """One camera: what it may have and needs, and `objects`, among which a better model might find more.

    `held` is the option that it has: another is taken only where the loss is smaller by more than the margin. The
    answer lies in `lowest`..`highest`.
    """

    pace: Pace
    objects: float
    held: int
    lowest: int
    highest: int


def allocate(
    options: Sequence[Option], claims: Sequence[Claim], budget_ms_per_s: float, margin: float = 0.0
) -> list[int]:
    """The option of each claim, in order. `options` from the cheapest to the dearest; `margin` 0..1 of a claim's loss.

    Equal claims are served in their order. When not even the cheapest options at the least rates fit, all get those.
    """
    if not claims:
        return []
    market, budget = _Market(options, claims, margin), budget_ms_per_s * (1 + _ROUNDING)
    low, high = _PRICES
    if market.spent(richest := market.at(low), low) <= budget:
        return _as_list(richest)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (low, middle) if market.spent(market.at(middle), middle) <= budget else (middle, high)
    return _as_list(market.filled(market.at(high), market.at(low), high, budget))


def _as_list(chosen: Choice) -> list[int]:
    return [int(option) for option in chosen]


class _Market:
    """All claims (n,) against all options (m,); prices are given by their logarithm."""

    def __init__(self, options: Sequence[Option], claims: Sequence[Claim], margin: float) -> None:
        paces = [one.pace for one in claims]
        self._ms = np.array([one.ms for one in options])
        self._need = np.array([one.weight**2 * one.wrong_per_s for one in paces])[:, None]
        self._least = np.array([max(_LEAST_FPS, one.least_fps) for one in paces])[:, None]
        self._most = np.array([max(_LEAST_FPS, one.most_fps) for one in paces])[:, None]
        self._passes = np.array([one.passes for one in paces])
        worth = np.array([one.pace.weight**2 * one.objects for one in claims])
        self._missed = worth[:, None] * np.array([one.missed for one in options])
        columns = np.arange(len(options))
        self._is_closed = np.array([(columns < one.lowest) | (columns > one.highest) for one in claims])
        self._held = np.array([one.held for one in claims])
        self._rows = np.arange(len(claims))
        self._margin = margin

    def at(self, log_price: float) -> Choice:
        """What each claim takes at this price; of equal losses the cheapest."""
        rates = self._rates(log_price)
        loss = self._missed + self._need / (2 * rates) + math.exp(log_price) * rates * self._ms
        loss[self._rows, self._held] *= 1 - self._margin
        loss[self._is_closed] = np.inf
        return np.asarray(np.argmin(loss, axis=1))

    def spent(self, chosen: Choice, log_price: float) -> float:
        """GPU-milliseconds per second, of what passes the gates."""
        rates = self._rates(log_price)[self._rows, chosen]
        return float(np.sum(rates * self._passes * self._ms[chosen]))

    def filled(self, chosen: Choice, dearer: Choice, log_price: float, budget: float) -> Choice:
        """Those who stand between two options at this price take the dearer one, one after another, while it fits."""
        for row in np.flatnonzero(chosen != dearer):
            trial = chosen.copy()
            trial[row] = dearer[row]
            if self.spent(trial, log_price) <= budget:
                chosen = trial
        return chosen

    def _rates(self, log_price: float) -> Floats:
        free = np.sqrt(self._need / (2 * math.exp(log_price) * self._ms))
        return np.asarray(np.minimum(np.maximum(free, self._least), self._most))
