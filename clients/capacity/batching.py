"""How large the batches become, and how busy a card is with them. Pure.

Triton's dynamic batcher sends what has arrived once the oldest request has waited for `delay`, or as soon as the tier's
one instance is free. So of a tier with `rate` requests a second a batch holds

    b = max(1 + rate * delay, rate * (t(b) + w))

the first while the card has time, the second when it has not; t(b) is the batch's time on the card, w the wait for a
batch of another tier that is on it: each is there for the share of time that it takes, half of it being left on
average. It is solved by going round until nothing changes. The card's share is the sum of rate * t(b) / b. Held
against the simulator's card in a test: within 10 %.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from clients.data_sheet import ModelProfile
from clients.types import Tier

DELAY_MS: Mapping[str, float] = {"card": 2.0, "cpu": 5.0}  # as export/spec.py says of tensorrt and openvino
_ROUNDS, _STILL = 60, 1e-3  # going round ends when no mean batch changes by more than this


@dataclass(frozen=True, slots=True)
class Batches:
    """The card's busy share at a load, 0 up to 1 and above where it cannot keep up, and each tier's mean batch.

    `full_share` is what the load would take in largest batches: what is left below 1 is what the card can still do.
    """

    share: float
    full_share: float
    mean_batch: Mapping[Tier, float]


def latency_ms(model: ModelProfile, batch: float) -> float:
    """Of one batch; between two sizes interpolated, beyond the last carried on."""
    sizes = list(model.latency)
    at = bisect_left(sizes, batch)
    if at == len(sizes):
        return model.latency[sizes[-1]].p50_ms * batch / sizes[-1]
    high = model.latency[sizes[at]].p50_ms
    if at == 0:
        return high
    low = model.latency[sizes[at - 1]].p50_ms
    return low + (high - low) * (batch - sizes[at - 1]) / (sizes[at] - sizes[at - 1])


def batches(rates: Mapping[Tier, float], models: Mapping[Tier, ModelProfile], delay_ms: float) -> Batches:
    """Of tiers with so many inferences a second, on one card."""
    mean = dict.fromkeys(rates, 1.0)
    for _ in range(_ROUNDS):
        before = dict(mean)
        for tier, rate in rates.items():
            model, per_ms = models[tier], rate / 1000
            others = sum(_left(rates[other], models[other], mean[other]) for other in rates if other is not tier)
            wanted = max(1 + per_ms * delay_ms, per_ms * (latency_ms(model, mean[tier]) + others))
            mean[tier] = (mean[tier] + min(max(model.latency), wanted)) / 2
        if all(abs(mean[tier] - before[tier]) < _STILL for tier in rates):
            break
    return Batches(
        share=sum(rate / 1000 * latency_ms(models[tier], mean[tier]) / mean[tier] for tier, rate in rates.items()),
        full_share=sum(rate / 1000 * _cheapest_ms(models[tier]) for tier, rate in rates.items()),
        mean_batch=mean,
    )


def _left(rate: float, model: ModelProfile, batch: float) -> float:
    """Milliseconds that one waits for a batch of another tier: how often it is there, and half of its time."""
    duration_ms = latency_ms(model, batch)
    return min(1.0, rate / 1000 * duration_ms / batch) * duration_ms / 2


def _cheapest_ms(model: ModelProfile) -> float:
    largest = max(model.latency)
    return model.latency[largest].p50_ms / largest
