"""How evenly something is shared."""

from __future__ import annotations

from collections.abc import Iterable


def jain(shares: Iterable[float]) -> float | None:
    """Jain's index of fairness, 1/n..1: (sum x)^2 / (n sum x^2), x each camera's share.

    None when nobody got anything. Source: Jain, Chiu, Hawe, DEC-TR-301, 1984.
    """
    values = list(shares)
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else None
