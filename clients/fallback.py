"""Which tier a camera's turn really gets: the wanted one, or another while that one is missing or fails. Pure.

    served ──3 model errors in a row──► resting ──30 s──► probing ──answer──► served
                                           ▲                 │
                                           └────── error ────┘

While a tier rests, its cameras use `model.fallback`. After the rest the next camera that gets a turn is the probe: its
turn alone goes to the tier, the others stay where they are until it is answered. Only model errors count. A server that
is away, a full queue and a late answer say nothing about one tier; the pipeline and its window see to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clients.types import Tier

MOST_ERRORS = 3
REST_S = 30.0


@dataclass(slots=True)
class _Health:
    errors: int = 0  # in a row
    rests_until_ns: int | None = None  # None: in service
    prober: str | None = None


class Fallback:
    """The health of the served tiers. One event loop owns it; times are of one monotonic clock."""

    def __init__(self, served: Sequence[Tier], fallback: Tier, *, rest_s: float = REST_S) -> None:
        """Raises ValueError when no tier is served."""
        if not served:
            raise ValueError("expected at least one served tier, got none")
        self._served = tuple(served)
        self._fallback = fallback
        self.rest_s = rest_s
        self._health = {tier: _Health() for tier in served}

    def choose(self, stream_id: str, wanted: Tier, now_ns: int) -> Tier:
        """The tier of this camera's next turn; when the rest of its own is over, it may become the probe."""
        own = resolve_tier(wanted, self._served, self._fallback)
        health = self._health[own]
        if health.rests_until_ns is None:
            return own
        if health.prober is None and now_ns >= health.rests_until_ns:
            health.prober = stream_id
        return own if health.prober == stream_id else self.instead_of(own)

    def answered(self, stream_id: str, tier: Tier) -> bool:
        """A turn of this tier was answered. True when it was the probe's, and the tier is in service again."""
        health = self._health[tier]
        is_probe = health.prober == stream_id
        if health.rests_until_ns is None or is_probe:
            self._health[tier] = _Health()
        return is_probe

    def failed(self, stream_id: str, tier: Tier, now_ns: int) -> bool:
        """A turn of this tier met a model error. True when the tier goes to rest now.

        The only tier, and the fallback itself, never rest: there is nothing to use instead.
        """
        health = self._health[tier]
        health.errors += 1
        if self.instead_of(tier) is tier:
            return False
        if health.rests_until_ns is None:
            if health.errors < MOST_ERRORS:
                return False
        elif health.prober != stream_id:  # sent before the rest began
            return False
        health.rests_until_ns, health.prober = now_ns + round(self.rest_s * 1e9), None
        return True

    def gave_up(self, stream_id: str) -> None:
        """The camera is gone, or its turn is over: if it still is the probe, the next camera may be it."""
        for health in self._health.values():
            if health.prober == stream_id:
                health.prober = None

    def instead_of(self, tier: Tier) -> Tier:
        """What the cameras of a tier that rests use; the tier itself where there is nothing else."""
        return self._fallback if self._fallback in self._served else tier

    @property
    def resting(self) -> tuple[Tier, ...]:
        """The served tiers whose cameras use another one now."""
        return tuple(tier for tier, health in self._health.items() if health.rests_until_ns is not None)


def resolve_tier(wanted: Tier, served: Sequence[Tier], fallback: Tier) -> Tier:
    """The tier that serves a camera: the wanted one, else the fallback, else the smallest that is ready."""
    return next(tier for tier in (wanted, fallback, *served) if tier in served)
