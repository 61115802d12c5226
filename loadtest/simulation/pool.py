"""Several cards behind one fleet in virtual time: each request goes where the client's own balance sends it.

All cards are of one kind, on the same network, and none dies: what a death costs is measured on real servers
(loadtest/pool.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from clients.inference.balance import Balance
from clients.shares import T4_COST_MS
from clients.types import Tier
from loadtest.simulation.card import Answer, TierTiming, VirtualCard
from loadtest.simulation.clock import VirtualClock


class CardPool:
    """Takes requests for `count` cards and answers them later."""

    def __init__(self, clock: VirtualClock, tiers: Mapping[Tier, TierTiming], count: int) -> None:
        """Raises ValueError for no card."""
        self.cards = tuple(VirtualCard(clock, tiers) for _ in range(count))
        self._clock = clock
        self._looked_ns = 0
        self._balance = Balance(count, T4_COST_MS)
        for index in range(count):
            self._balance.begin(index, tiers)

    def send(self, tier: Tier, way_ns: int, answer: Answer) -> None:
        """A request leaves now, for the card with the least in flight; it and its answer each take `way_ns` more.

        Raises ValueError for a tier that is not served.
        """
        index = self._balance.take(tier)
        if index is None:
            raise ValueError(f"{tier} is not served")
        clock, card = self._clock, self.cards[index]

        def answered() -> None:
            self._balance.over(index, tier, answered=True)
            answer()

        def done() -> None:
            clock.at(clock.now_ns + way_ns, answered)

        clock.at(clock.now_ns + way_ns, partial(card.send, tier, done))

    def slow_down(self, slowness: float) -> None:
        """From now on every batch of every card takes so many times as long."""
        for card in self.cards:
            card.slowness = slowness

    @property
    def busy_ms(self) -> float:
        """Work given to all cards."""
        return sum(card.busy_ms for card in self.cards)

    @property
    def inferences(self) -> int:
        """Of all cards."""
        return sum(card.inferences for card in self.cards)

    @property
    def mean_batch(self) -> float | None:
        """Of all cards; None when none has worked."""
        batches = sum(card.batches for card in self.cards)
        return self.inferences / batches if batches else None

    def busy_shares(self, run_s: float) -> list[float]:
        """Each card's share of a run, at most 1."""
        return [min(1.0, card.busy_ms / 1000 / run_s) for card in self.cards]

    def take_queue_ms(self) -> float | None:
        """Mean wait in all cards' queues since this was last asked; None when nothing left them."""
        waits = [card.take_waits() for card in self.cards]
        left = sum(count for _, count in waits)
        return sum(waited_ms for waited_ms, _ in waits) / left if left else None

    def take_busy(self) -> tuple[float, float | None]:
        """Milliseconds of work given to all cards since this was last asked, and their share of the time.

        The share is 100 % at most, and None when no time has passed.
        """
        there_ms = (self._clock.now_ns - self._looked_ns) / 1e6 * len(self.cards)
        self._looked_ns = self._clock.now_ns
        spent_ms = sum(card.take_work_ms() for card in self.cards)
        return spent_ms, min(100.0, spent_ms / there_ms * 100) if there_ms else None
