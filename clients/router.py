"""Which tier of YOLO12 each camera gets. Pure: the time is an argument, and everything it looks at is already in hand.

Three policies behind one protocol. `fixed` gives each camera what its configuration says. `article` is the article's
rule: the share of Canny's edge pixels, <= 0.3 n, <= 0.6 m, else x. `budget` spends a budget of GPU-milliseconds per
second where one more of them is expected to buy most.

**budget.** What is known of a camera gives its stake (scene.py): how many objects' worth a better model might find
there. Tier t misses the share `strength_best - strength_t` of it, and the dearer it is, the fewer inferences it leaves.
allocation.py chooses tiers and rates of all cameras together, so that what is lost by both is least for the budget; the
rates themselves are then divided by control.py. The stake is smoothed over seconds, not over frames: a camera inferred
ten times as often does not forget ten times as fast. Another tier must be better by a margin (hysteresis), and after a
change a camera keeps the new tier for `dwell_s`. One thing waits for nothing: when what the cameras have no longer fits
the budget at their least rates, tiers go down at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, Protocol

from clients.allocation import Claim, Option, allocate
from clients.pacing import Pace
from clients.scene import ARTICLE_WIDTH_PX, RouterRules, Scene, article_edges, edge_density, score_of, stake_of
from clients.types import Tier

__all__ = [  # what callers need of the scene comes with the router
    "ARTICLE_WIDTH_PX",
    "AUTHORS_STRENGTH",
    "ArticleRouter",
    "BudgetRouter",
    "FixedRouter",
    "Policy",
    "Router",
    "RouterRules",
    "Scene",
    "TierCost",
    "article_edges",
    "edge_density",
    "router_of",
    "score_of",
    "stake_of",
    "tier_costs",
]

Policy = Literal["fixed", "article", "budget"]

# mAP50-95 on COCO at 640x640 of the weights that Ultralytics ships. Source: YOLO12's authors, their README.
AUTHORS_STRENGTH: Mapping[Tier, float] = MappingProxyType({Tier.N: 40.6, Tier.M: 52.5, Tier.X: 55.2})

_ARTICLE_TIERS = ((0.3, Tier.N), (0.6, Tier.M), (math.inf, Tier.X))  # largest share of edge pixels of each tier


@dataclass(frozen=True, slots=True)
class TierCost:
    """One tier on this card: `ms` GPU-milliseconds of one inference at the usual batch; `strength` mAP50-95 in percent.

    Only differences of strengths count.
    """

    tier: Tier
    ms: float
    strength: float

    def __post_init__(self) -> None:
        if not (0 < self.ms < math.inf and math.isfinite(self.strength)):
            raise ValueError(f"{self.tier}: expected ms > 0 and a finite strength, got {self.ms} and {self.strength}")


def tier_costs(ms: Mapping[Tier, float], strength: Mapping[Tier, float] = AUTHORS_STRENGTH) -> tuple[TierCost, ...]:
    """The costs of the served tiers, by default with the authors' accuracies."""
    return tuple(TierCost(tier, cost, strength[tier]) for tier, cost in ms.items())


class Router(Protocol):
    """Assigns a tier to each camera."""

    def observe(self, stream_id: str, scene: Scene, now_ns: int) -> None:
        """What an inference of this camera has shown."""

    def assign(self, paces: Mapping[str, Pace], budget_ms_per_s: float, now_ns: int) -> dict[str, Tier]:
        """The tier of each camera in `paces`; served tiers only."""

    def forget(self, stream_id: str) -> None:
        """The camera is gone."""


class FixedRouter:
    """Each camera's configured tier, whatever the budget."""

    def __init__(self, wanted: Mapping[str, Tier], costs: Sequence[TierCost]) -> None:
        """`wanted` is read at each `assign`, so cameras may come later. Raises ValueError for a tier not served."""
        self._served = [one.tier for one in _by_cost(costs)]
        self._wanted = wanted
        for stream_id in wanted:
            self._tier_of(stream_id)

    def observe(self, stream_id: str, scene: Scene, now_ns: int) -> None:
        """Changes nothing."""

    def assign(self, paces: Mapping[str, Pace], budget_ms_per_s: float, now_ns: int) -> dict[str, Tier]:  # noqa: ARG002 - the protocol prescribes them
        """Raises ValueError for a camera whose tier is not served."""
        return {stream_id: self._tier_of(stream_id) for stream_id in paces}

    def forget(self, stream_id: str) -> None:
        """Knows nothing that could be forgotten."""

    def _tier_of(self, stream_id: str) -> Tier:
        tier = self._wanted.get(stream_id)
        if tier is None or tier not in self._served:
            raise ValueError(f"{stream_id}: expected one of the served tiers ({', '.join(self._served)}), got {tier}")
        return tier


class ArticleRouter:
    """The article's AdaptiveModelSwitcher: edges <= 0.3 n, <= 0.6 m, else x; no hysteresis, no budget.

    A tier that is not served is replaced by the next cheaper one, or by the cheapest. A camera not yet seen has its
    configured tier, under the same rule.
    """

    def __init__(self, wanted: Mapping[str, Tier], costs: Sequence[TierCost]) -> None:
        self._served = [one.tier for one in _by_cost(costs)]
        self._wanted = wanted
        self._tiers: dict[str, Tier] = {}

    def observe(self, stream_id: str, scene: Scene, now_ns: int) -> None:  # noqa: ARG002 - the protocol prescribes them
        """`scene.edges` must be `article_edges`; nothing else is looked at."""
        self._tiers[stream_id] = next(tier for most, tier in _ARTICLE_TIERS if scene.edges <= most)

    def assign(self, paces: Mapping[str, Pace], budget_ms_per_s: float, now_ns: int) -> dict[str, Tier]:  # noqa: ARG002 - the protocol prescribes them
        """By the last scene alone."""
        return {stream_id: self._nearest(self._tiers.get(stream_id) or self._wanted[stream_id]) for stream_id in paces}

    def forget(self, stream_id: str) -> None:
        """Its next tier is the configured one again."""
        self._tiers.pop(stream_id, None)

    def _nearest(self, tier: Tier) -> Tier:
        sizes = list(Tier)
        smaller = [one for one in self._served if sizes.index(one) <= sizes.index(tier)]
        return max(smaller, key=sizes.index) if smaller else self._served[0]


@dataclass(slots=True)
class _Camera:
    """Stake, when it was last observed, and the tier that it has since when, by its place."""

    stake: float
    seen_ns: int | None = None
    level: int = 0
    changed_ns: int | None = None


class BudgetRouter:
    """Spends the budget where a GPU-millisecond is expected to buy most; the module's docstring has the rules.

    When even the smallest tier for all exceeds it, all get that: rates are the governor's business then.
    """

    def __init__(self, costs: Sequence[TierCost], rules: RouterRules | None = None) -> None:
        """Raises ValueError without costs, or when a tier is given twice."""
        self._rules = rules or RouterRules()
        served = _by_cost(costs)
        best = max(one.strength for one in served)
        self._tiers = [one.tier for one in served]
        self._options = [Option(one.ms, (best - one.strength) / 100) for one in served]
        self._cameras: dict[str, _Camera] = {}

    def observe(self, stream_id: str, scene: Scene, now_ns: int) -> None:
        """Moves the camera's stake towards the scene's, by the time since it was last observed."""
        camera = self._camera(stream_id)
        stake = stake_of(scene, self._rules)
        if camera.seen_ns is None:
            camera.stake, camera.seen_ns = stake, now_ns
            return
        elapsed_s = max(0, now_ns - camera.seen_ns) / 1e9
        camera.stake += (stake - camera.stake) * -math.expm1(-elapsed_s / self._rules.smoothing_s)
        camera.seen_ns = max(now_ns, camera.seen_ns)

    def stake(self, stream_id: str) -> float:
        """The camera's smoothed stake, in objects."""
        return self._camera(stream_id).stake

    def assign(self, paces: Mapping[str, Pace], budget_ms_per_s: float, now_ns: int) -> dict[str, Tier]:
        """Raises ValueError for a budget that is not a number."""
        if math.isnan(budget_ms_per_s):
            raise ValueError("expected a budget, got nan")
        names = sorted(paces)  # equal offers are decided by name, not by the order in which cameras came
        chosen = allocate(
            self._options, self._claims(names, paces, budget_ms_per_s, now_ns), budget_ms_per_s, self._rules.margin
        )
        for name, level in zip(names, chosen, strict=True):
            camera = self._cameras[name]
            if level != camera.level:
                camera.level, camera.changed_ns = level, now_ns
        return {name: self._tiers[self._cameras[name].level] for name in paces}

    def forget(self, stream_id: str) -> None:
        """A camera that comes again under this name begins anew."""
        self._cameras.pop(stream_id, None)

    def _claims(self, names: Sequence[str], paces: Mapping[str, Pace], budget: float, now_ns: int) -> list[Claim]:
        """A camera that must dwell keeps its level, unless these levels alone exceed the budget: then it may fall."""
        highest = len(self._options) - 1
        claims, if_short = [], []
        for name in names:
            camera, pace = self._camera(name), paces[name]
            waits = replace(pace, wrong_per_s=pace.wrong_per_s * self._rules.waiting)
            free = Claim(waits, camera.stake, camera.level, 0, highest)
            if self._dwells(camera, now_ns):
                claims.append(replace(free, lowest=camera.level, highest=camera.level))
                if_short.append(replace(free, highest=camera.level))
            else:
                claims.append(free)
                if_short.append(free)
        least = sum(one.pace.least_fps * one.pace.passes * self._options[one.lowest].ms for one in claims)
        return claims if least <= budget else if_short

    def _dwells(self, camera: _Camera, now_ns: int) -> bool:
        return camera.changed_ns is not None and now_ns - camera.changed_ns < self._rules.dwell_s * 1e9

    def _camera(self, stream_id: str) -> _Camera:
        return self._cameras.setdefault(stream_id, _Camera(self._rules.first_stake))


def router_of(policy: Policy, wanted: Mapping[str, Tier], costs: Sequence[TierCost]) -> Router:
    """The router of a policy. Raises ValueError that lists the policies.

    `wanted`: each camera's configured tier (`budget` does not look at it); `costs`: the served tiers.
    """
    routers: dict[str, Callable[[], Router]] = {
        "fixed": lambda: FixedRouter(wanted, costs),
        "article": lambda: ArticleRouter(wanted, costs),
        "budget": lambda: BudgetRouter(costs),
    }
    if policy not in routers:
        raise ValueError(f"router: expected one of {', '.join(routers)}, got {policy!r}")
    return routers[policy]()


def _by_cost(costs: Sequence[TierCost]) -> list[TierCost]:
    """The cheapest first. Raises ValueError without costs, or when a tier is given twice."""
    if not costs or len({one.tier for one in costs}) < len(costs):
        raise ValueError(f"expected each served tier once, at least one, got {[str(one.tier) for one in costs]}")
    return sorted(costs, key=lambda one: (one.ms, one.tier))
