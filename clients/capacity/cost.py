"""What a camera costs, by the price of a card with its part of the machine. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

HOURS_A_MONTH = 730  # of 365 x 24 / 12


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one camera, in the currency of the price."""

    per_hour: float

    @property
    def per_month(self) -> float:
        """Of `HOURS_A_MONTH`."""
        return self.per_hour * HOURS_A_MONTH


def cost_of(price_per_hour: float | None, cards: int, cameras: int) -> Cost | None:
    """Of each of `cameras` on `cards`, at the price of one card; None without a price. Raises ValueError for a price
    that is none."""
    if price_per_hour is None:
        return None
    if not 0 <= price_per_hour < math.inf:
        raise ValueError(f"price: expected at least 0 per hour, got {price_per_hour:g}")
    return Cost(cards * price_per_hour / cameras)


def cost_json(cost: Cost | None) -> dict[str, float | None]:
    """Plain values, by the names that reports have for them."""
    return {
        "cost_per_camera_hour": None if cost is None else round(cost.per_hour, 6),
        "cost_per_camera_month": None if cost is None else round(cost.per_month, 4),
    }
