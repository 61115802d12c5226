"""Whether cameras fit on a card, which limit breaks first, and the nearest plans that fit. Pure.

The one entry for whoever asks: `python -m loadtest plan`, and code beside the cameras. A plan is *projected*:
arithmetic on a data sheet, no better than the sheet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clients.capacity.alternatives import Change, nearest
from clients.capacity.cost import Cost, cost_json, cost_of
from clients.capacity.demand import Demand, Host
from clients.capacity.limits import Limit, all_kept, limits, on_one_card
from clients.data_sheet import GpuProfile
from clients.types import Tier


@dataclass(frozen=True, slots=True)
class Alternative:
    """A plan that fits: what is changed, what the limits then are, and what a camera costs."""

    change: str
    levers: tuple[str, ...]
    cards: int
    limits: tuple[Limit, ...]
    cost: Cost | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "change": self.change,
            "levers": list(self.levers),
            "cards": self.cards,
            "limits": {one.name: round(one.share, 4) for one in self.limits},
            **cost_json(self.cost),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What the cameras take of the cards and the machine. `breaks_first` is the limit nearest to, or most above, what
    may be planned. `full_share` is the kernels' share were all batches the largest: what is left is still to be had.
    """

    gpu: str
    kind: str
    cameras: int
    cards: int
    limits: tuple[Limit, ...]
    mean_batch: Mapping[Tier, float]
    full_share: float
    alternatives: tuple[Alternative, ...]
    cost: Cost | None

    @property
    def fits(self) -> bool:
        """All limits are kept, headroom included."""
        return all_kept(self.limits)

    @property
    def breaks_first(self) -> str:
        """The name of the limit with the largest part of what may be planned."""
        return max(self.limits, key=lambda limit: limit.load).name

    def as_json(self) -> dict[str, Any]:
        """Plain values, as the command prints them."""
        return {
            "fits": self.fits,
            "limits": {limit.name: limit.as_json() for limit in self.limits},
            "breaks_first": self.breaks_first,
            "alternatives": [one.as_json() for one in self.alternatives],
            **cost_json(self.cost),
            "gpu": self.gpu,
            "cards": self.cards,
            "cameras": self.cameras,
            "mean_batch": {tier.value: round(size, 2) for tier, size in self.mean_batch.items()},
            "gpu_share_in_largest_batches": round(self.full_share, 4),
            "kind": f"projected from a data sheet that is {self.kind}",
        }


def plan(demand: Demand, card: GpuProfile, host: Host, *, cards: int = 1, price_per_hour: float | None = None) -> Plan:
    """Hold a demand against so many cards of one kind in one machine.

    `price_per_hour` is that of one card with its part of the machine, in any currency. Raises ValueError: no card, or a
    price that is none; ConfigError, one line: the sheet lacks a number that is needed, is for another canvas, has no
    times of a tier, or the card cannot decode a codec that it is to decode.
    """
    if cards < 1:
        raise ValueError(f"cards: expected at least 1, got {cards}")

    def costs(count: int) -> Cost | None:
        return cost_of(price_per_hour, count, demand.cameras)

    def alternative(change: Change) -> Alternative:
        found = change.situation
        names = tuple(lever for lever, _ in change.steps)
        text = "; ".join(step for _, step in change.steps)
        told = limits(found.demand, card, found.host, found.cards)
        return Alternative(text, names, found.cards, told, costs(found.cards))

    cost_now = costs(cards)
    found = limits(demand, card, host, cards)
    batching = on_one_card(demand, card, cards)
    fits = all_kept(found)
    others = () if fits else tuple(alternative(change) for change in nearest(demand, card, host, cards))
    return Plan(
        card.gpu,
        card.kind,
        demand.cameras,
        cards,
        found,
        batching.mean_batch,
        batching.full_share,
        others,
        cost_now,
    )
