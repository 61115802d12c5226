"""Routers and governors against each other, in virtual time: the article's rules, ours, and what is left out of ours.

**Routers** run at equal GPU time. n, m and x are stood in for by the demo's yolo12n at three canvas sizes with the
times of the real tiers on the card: weak and cheap, strong and dear. **Governors** meet a card that is 1590 / 900 times
as slow for a third of the run, as a T4's clock sags, with all cameras asking for all they can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from clients.router import Policy
from clients.types import Tier
from loadtest.profile import GpuProfile
from loadtest.recordings import Recording
from loadtest.simulate import STAND_INS, run, tier_timings
from loadtest.simulation.run import Scenario

_SAG = 1590 / 900
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy's run."""

    name: str
    told: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What the tables show."""
        keys = ("streaming_ap", "ap", "gpu_ms_per_camera_s", "inferences_per_camera_s", "tier_share", "age_ms")
        more = ("in_time_per_camera_s", "in_time_share")
        return {"name": self.name} | {key: self.told[key] for key in (*keys, *more)}


def routers(
    profile: GpuProfile, found: Sequence[Recording], plain: Scenario, gpu_ms_per_camera_s: float, progress: Progress
) -> list[Outcome]:
    """Each fixed tier, the article's rule, ours; the same GPU time for all, as far as they can spend it."""
    told = replace(
        plain,
        demand_fps=25.0,
        similarity=0.95,
        tracks=True,
        canvases=STAND_INS,
        capacity_ms_per_s=gpu_ms_per_camera_s * plain.cameras,
        threshold_percent=100.0,
    )
    planned: list[tuple[str, Policy, Tier]] = [
        ("fixed n", "fixed", Tier.N),
        ("fixed m", "fixed", Tier.M),
        ("fixed x", "fixed", Tier.X),
        ("article", "article", Tier.N),
        ("budget", "budget", Tier.N),
    ]
    outcomes = []
    for number, (name, policy, tier) in enumerate(planned):
        progress(f"router {name}", number / len(planned))
        scenario = replace(told, policy=policy, tier=tier)
        outcomes.append(Outcome(name, run(scenario, found, tier_timings(profile, policy, tier))))
    return outcomes


def governors(profile: GpuProfile, found: Sequence[Recording], plain: Scenario, progress: Progress) -> list[Outcome]:
    """On a card that sags for the middle third, loaded with twice what it can do; all of it may be used, since the
    article's rule knows no limit of its own."""
    tiers = tier_timings(profile, "fixed", Tier.N)
    per_camera = 1000 / tiers[Tier.N].per_inference_ms / plain.cameras
    cards = max(1.0, 2 * per_camera / 25)  # few cameras ask for less than a card gives: a smaller card then
    slow = (plain.seconds / 3, 2 * plain.seconds / 3, _SAG)
    told = replace(
        plain, demand_fps=25.0, similarity=0.95, tracks=True, policy="fixed", slow=slow, threshold_percent=100.0
    )
    shrunk = {
        tier: replace(one, latencies_ms=tuple(ms * cards for ms in one.latencies_ms)) for tier, one in tiers.items()
    }
    names: tuple[Literal["article", "ours"], ...] = ("article", "ours")
    outcomes = []
    for number, name in enumerate(names):
        progress(f"governor {name}", number / len(names))
        outcomes.append(Outcome(f"governor {name}", run(replace(told, governor=name), found, shrunk)))
    return outcomes
