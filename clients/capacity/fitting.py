"""How many cameras such as those that are asked for fit on a machine. Pure, and projected, as the plan is."""

from __future__ import annotations

from dataclasses import replace

from clients.capacity.demand import Demand, Host
from clients.capacity.limits import all_kept, limits
from clients.data_sheet import GpuProfile

MOST = 10_000


def most_cameras(demand: Demand, card: GpuProfile, host: Host, *, cards: int = 1) -> int:
    """The largest number that keeps all limits, in the mixture of the demand; 0 where not even one does.

    Raises ConfigError as `limits` does.
    """
    low, high = 0, MOST
    while low < high:
        middle = (low + high + 1) // 2
        found = limits(_scaled(demand, middle), card, host, cards)
        low, high = (middle, high) if all_kept(found) else (low, middle - 1)
    return low


def _scaled(demand: Demand, count: int) -> Demand:
    """So many cameras in the same proportions; what is left over by rounding goes to the first groups."""
    shares = [group.count * count // demand.cameras for group in demand.groups]
    for index in range(count - sum(shares)):
        shares[index] += 1
    pairs = zip(demand.groups, shares, strict=True)
    return replace(demand, groups=tuple(replace(group, count=share) for group, share in pairs if share))
