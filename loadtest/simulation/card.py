"""A GPU in virtual time with Triton's dynamic batchers in front of it: one model instance per tier, one card for all.

A batcher sends when its instance is free and the largest batch, or a preferred size, or the longest allowed wait is
reached; the card works on one batch at a time, first come, first served. So does the engine of the emulator, which
holds against it in a test. Source of the rules: Triton's documentation of `dynamic_batching`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from clients.types import Tier
from export.spec import RUNTIMES, Spec
from loadtest.profile import GpuProfile
from loadtest.simulation.clock import VirtualClock

Answer = Callable[[], None]


@dataclass(frozen=True, slots=True)
class TierTiming:
    """One tier on a card: milliseconds by batch size, ascending; its batcher's sizes and longest wait."""

    sizes: tuple[int, ...]
    latencies_ms: tuple[float, ...]
    largest: int
    preferred: tuple[int, ...]
    delay_ms: float

    def latency_ms(self, batch: int) -> float:
        """Of one batch; between two sizes interpolated, beyond the last carried on."""
        if batch > self.sizes[-1]:
            return self.latencies_ms[-1] * batch / self.sizes[-1]
        return float(np.interp(batch, self.sizes, self.latencies_ms))

    @property
    def per_inference_ms(self) -> float:
        """Of the card, for one inference of the largest batch: what an inference costs when there is much to do."""
        return self.latency_ms(self.largest) / self.largest


def timings(profile: GpuProfile, tiers: Mapping[Tier, str] | None = None) -> dict[Tier, TierTiming]:
    """Of every tier that the profile knows; `tiers` names other entries of the profile for them."""
    spec, runtime = Spec(), RUNTIMES["tensorrt"]
    names = tiers or {tier: tier.value for tier in Tier}
    found = {}
    for tier, name in names.items():
        if (model := profile.models.get(name)) is not None:
            sizes = tuple(model.latency)
            latencies = tuple(one.p50_ms for one in model.latency.values())
            batching = spec.tier(tier)
            delay_ms = runtime.engine_delay_us / 1000
            found[tier] = TierTiming(sizes, latencies, batching.max_batch, batching.preferred, delay_ms)
    return found


class VirtualCard:
    """Takes requests, answers them later. `slowness` of 2 makes every batch take twice as long; it may be changed."""

    def __init__(self, clock: VirtualClock, tiers: Mapping[Tier, TierTiming]) -> None:
        self.slowness = 1.0
        self.busy_ms = 0.0
        self.batches = 0
        self.inferences = 0
        self._clock = clock
        self._free_ns = 0
        self._taken_ms = 0.0
        self._queued_ms, self._left = 0.0, 0
        self._batchers = {tier: _Batcher(self, clock, timing) for tier, timing in tiers.items()}

    def send(self, tier: Tier, answer: Answer) -> None:
        """A request arrives now; `answer` is called when its batch is done."""
        self._batchers[tier].arrived(answer)

    def work(self, latency_ms: float, batch: int) -> int:
        """Reserve the card; returns when it will be done."""
        duration_ms = latency_ms * self.slowness
        self.busy_ms += duration_ms
        self.batches += 1
        self.inferences += batch
        self._free_ns = max(self._free_ns, self._clock.now_ns) + round(duration_ms * 1e6)
        return self._free_ns

    @property
    def waiting(self) -> int:
        """Requests in the queues of all tiers."""
        return sum(len(batcher.queue) for batcher in self._batchers.values())

    def left_queue(self, waited_ns: int) -> None:
        """A request goes to the card after so long in a queue."""
        self._queued_ms += waited_ns / 1e6
        self._left += 1

    def take_waits(self) -> tuple[float, int]:
        """Milliseconds that requests waited which left the queues since this was last asked, and their number."""
        waits, self._queued_ms, self._left = (self._queued_ms, self._left), 0.0, 0
        return waits

    def take_work_ms(self) -> float:
        """Milliseconds of work given to the card since this was last asked."""
        spent_ms, self._taken_ms = self.busy_ms - self._taken_ms, self.busy_ms
        return spent_ms


class _Batcher:
    def __init__(self, card: VirtualCard, clock: VirtualClock, timing: TierTiming) -> None:
        self.queue: deque[tuple[int, Answer]] = deque()
        self._card, self._clock, self._timing = card, clock, timing
        self._busy = False

    def arrived(self, answer: Answer) -> None:
        self.queue.append((self._clock.now_ns, answer))
        self._look()

    def _look(self) -> None:
        if self._busy or not self.queue:
            return
        waiting = len(self.queue)
        size = next((s for s in sorted(self._timing.preferred, reverse=True) if s <= waiting), 0)
        due_ns = self.queue[0][0] + round(self._timing.delay_ms * 1e6)
        if not size and self._clock.now_ns >= due_ns:
            size = min(waiting, self._timing.largest)
        if size:
            self._send(size)
        else:
            self._clock.at(due_ns, self._look)

    def _send(self, size: int) -> None:
        leaving = [self.queue.popleft() for _ in range(size)]
        for arrived_ns, _ in leaving:
            self._card.left_queue(self._clock.now_ns - arrived_ns)
        answers = [answer for _, answer in leaving]
        self._busy = True
        self._clock.at(self._card.work(self._timing.latency_ms(size), size), lambda: self._done(answers))

    def _done(self, answers: list[Answer]) -> None:
        self._busy = False
        for answer in answers:
            answer()
        self._look()
