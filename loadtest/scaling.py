"""What more cameras need, and what more cameras on a card cost: the rows of docs/benchmarks/scaling.md.

**Cards** are the planner's: each card has a machine of its own, since a second card in the same machine does not decode
or receive more. **Load** is the fleet in virtual time: so many of the demo's cameras per card, everything as in
config.yaml, n, m and x stood in for by the demo's yolo12n on three canvases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clients.capacity.alternatives import MOST_CARDS
from clients.capacity.cost import cost_of
from clients.capacity.demand import Cameras, Demand, Host, Source, parse_source, parse_tiers
from clients.capacity.limits import Limit, limits
from clients.data_sheet import GpuProfile
from clients.types import Tier
from loadtest.recordings import Recording
from loadtest.simulate import STAND_INS, judged, run, tier_timings
from loadtest.simulation.run import Scenario

GPUS = ("t4", "l4")
COUNTS = (25, 50, 100, 200, 300, 400, 500)
MACHINE = Host(cores=4, network_mbit_per_s=1000)  # of each card
LOADS = ((1, 25), (1, 50), (1, 75), (1, 100), (1, 150), (1, 200), (4, 50), (4, 100))  # cards, cameras of each
_WARM_UP_S = 3.0
_SCORED = 3  # of the frames that a single run judges, one in so many
_PRICE_PER_HOUR = 1.0  # of a card with its machine, in any currency
Row = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """Cameras that are alike: what each sends, inferences per second of each and by which tiers."""

    name: str
    source: Source
    rate_fps: float
    tiers: str

    def demand(self, count: int) -> Demand:
        """So many of them, decoded on the card."""
        return Demand((Cameras(count, self.source, self.rate_fps, parse_tiers(self.tiers)),))

    def __str__(self) -> str:
        return f"{self.source}, {self.rate_fps:g} inferences/s of {self.tiers}"


KINDS = (
    Kind("full HD, H.264", parse_source("1920x1080@25/h264", 4e6), 5.0, "n"),
    Kind("720p, H.265", parse_source("1280x720@25/h265", 2e6), 5.0, "n:0.8,m:0.15,x:0.05"),
)


def cards_needed(demand: Demand, card: GpuProfile, machine: Host) -> tuple[int, Limit]:
    """The fewest cards that keep all limits, each in such a machine, and the limit that one card less would break.

    Where it would break several it is the first of them; of a single card it is the one that is nearest to it. Raises
    ConfigError as the planner does, ValueError when MOST_CARDS are not enough.
    """
    before: Limit | None = None
    for cards in range(1, MOST_CARDS + 1):
        host = Host(machine.cores * cards, machine.network_mbit_per_s * cards)
        found = limits(demand, card, host, cards)
        worst = max(found, key=lambda limit: limit.load)
        if worst.load <= 1:
            return cards, before or worst
        before = worst
    raise ValueError(f"{demand.cameras} cameras need more than {MOST_CARDS} cards")


def planned(kind: Kind, card: GpuProfile, count: int) -> Row:
    """One point of the planner's curve."""
    demand = kind.demand(count)
    cards, limit = cards_needed(demand, card, MACHINE)
    cost = cost_of(_PRICE_PER_HOUR, cards, count)
    assert cost is not None
    return {
        "gpu": card.gpu,
        "kind": kind.name,
        "cameras": count,
        "cards": cards,
        "breaks_first": limit.name,
        "cameras_per_card": round(count / cards, 1),
        "cost_per_camera_month": round(cost.per_month, 2),
    }


def simulated(card: GpuProfile, found: Sequence[Recording], cards: int, per_card: int, run_s: float) -> Row:
    """One fleet in virtual time."""
    cameras = cards * per_card
    scenario = Scenario(
        cameras,
        run_s,
        25.0,
        policy="budget",
        canvases=STAND_INS,
        judge_every=_SCORED * judged(cameras, run_s),
        warm_up_s=_WARM_UP_S,
        cards=cards,
    )
    told = run(scenario, found, tier_timings(card, "budget", Tier.N))
    return {
        "cards": cards,
        "cameras_per_card": per_card,
        "streaming_ap": told["streaming_ap"],
        "inferences_per_camera_s": told["inferences_per_camera_s"],
        "gpu_ms_per_camera_s": told["gpu_ms_per_camera_s"],
        "tiers": " / ".join(f"{told['tier_share'][tier.value]:.0%}" for tier in Tier),
        "age_p50_ms": told["age_ms"]["p50"],
        "age_p95_ms": told["age_ms"]["p95"],
        "busy_share_min": told["busy_share_min"],
        "busy_share_max": told["busy_share_max"],
    }
