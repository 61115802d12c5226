"""How many requests of each tier may be in flight: shares of one window, in GPU-milliseconds. Pure.

One request of x holds the card as long as seven of n. Counted in requests, a window that lets n fill its batches would
let x queue up most of a second of work in front of them; so what is shared is the time that the requests in flight will
take. Each tier gets an equal part of it, and what a tier does not need goes to the others (max-min). A tier has room
for one request always, and never for more than its own limit: what is beyond a few batches only grows old in a queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from clients.types import Tier

# Milliseconds of a T4 per inference at 640x640, TensorRT FP16, batch 1. Source: YOLO12's authors, their README.
# Only their ratios matter here, until a profile measured on the card replaces them.
T4_COST_MS: Mapping[Tier, float] = MappingProxyType({Tier.N: 1.64, Tier.M: 4.86, Tier.X: 11.79})
_ROUNDING = 1e-9  # of a quotient, before its floor is taken


@dataclass(frozen=True, slots=True)
class TierLimits:
    """What one inference of a tier costs, in milliseconds of the card, and how many may be in flight at most."""

    cost_ms: float
    most: int

    def __post_init__(self) -> None:
        if not (self.cost_ms > 0 and self.most >= 1):
            raise ValueError(f"cost_ms must be positive and most at least 1, got {self.cost_ms} and {self.most}")


class TierShares:
    """Counts the requests in flight of the served tiers and says which tier has room for one more.

    `window` is what may be in flight, counted in requests of the cheapest tier; it may be changed at any time.
    """

    def __init__(self, limits: Mapping[Tier, TierLimits], window: int) -> None:
        if not limits:
            raise ValueError("expected the limits of at least one tier, got none")
        if window < 1:
            raise ValueError(f"the in-flight window must be at least 1, got {window}")
        self.window = window
        self._limits = dict(limits)
        self._unit_ms = min(one.cost_ms for one in limits.values())
        self._in_flight = dict.fromkeys(limits, 0)

    @property
    def in_flight(self) -> int:
        """Requests in flight, all tiers together."""
        return sum(self._in_flight.values())

    def in_flight_of(self, tier: Tier) -> int:
        """Requests in flight of one tier."""
        return self._in_flight[tier]

    def room(self, tier: Tier, waiting: Mapping[Tier, int]) -> bool:
        """Whether one more request of `tier` may leave, when so many cameras of each tier wait for a turn."""
        return self._in_flight[tier] < self.share(tier, waiting)

    def share(self, tier: Tier, waiting: Mapping[Tier, int]) -> int:
        """Requests of `tier` that may be in flight while so many wait; at least 1."""
        wanted_ms = {
            one: limits.cost_ms * min(self._in_flight[one] + waiting.get(one, 0), limits.most)
            for one, limits in self._limits.items()
        }
        given_ms = max_min(self.window * self._unit_ms, wanted_ms)
        return max(1, int(given_ms[tier] / self._limits[tier].cost_ms + _ROUNDING))

    def take(self, tier: Tier) -> None:
        """A request of this tier leaves."""
        self._in_flight[tier] += 1

    def give_back(self, tier: Tier) -> None:
        """A request of this tier is over. Raises ValueError when none was in flight."""
        if not self._in_flight[tier]:
            raise ValueError(f"no request of {tier} is in flight")
        self._in_flight[tier] -= 1


def max_min(amount: float, wanted: Mapping[Tier, float]) -> dict[Tier, float]:
    """Divide an amount: nobody gets more than wanted, and what one leaves goes to the others in equal parts."""
    given: dict[Tier, float] = {}
    for done, (tier, wish) in enumerate(sorted(wanted.items(), key=lambda item: item[1])):
        given[tier] = min(wish, amount / (len(wanted) - done))
        amount -= given[tier]
    return given
