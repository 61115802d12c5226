"""Which tier of YOLO12 each camera gets. Pure: the time is an argument, and everything it looks at is already in hand.

Three policies behind one protocol. `fixed` gives each camera what its configuration says. `article` is the article's
rule: the share of Canny's edge pixels, <= 0.3 n, <= 0.6 m, else x. `budget` spends a budget of GPU-milliseconds per
second where one more of them is expected to buy most.

**budget.** From what is known of a camera follows a score in 0..1 (scene.py): how much a stronger model is expected to
find there that the smallest does not. The expected gain of tier t is `score * (strength_t - strength_smallest)`; the
tiers are chosen so that `sum of rate * gain` is as large as it gets within `sum of rate * ms <= budget` (spending.py
has the method and its bound to the optimum). The score is smoothed over seconds, not over frames: a camera inferred ten
times as often does not forget ten times as fast. A tier that a camera has is worth more to it than one that it might
get (hysteresis), and after a change it keeps the new tier for `dwell_s`. One thing waits for nothing: when what the
cameras have no longer fits the budget, tiers go down at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

from clients.scene import ARTICLE_WIDTH_PX, RouterRules, Scene, article_edges, edge_density, score_of
from clients.spending import Bid, Level, Terms, lowest_cost, spend, upper_hull
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

    def assign(self, rates: Mapping[str, float], budget_ms_per_s: float, now_ns: int) -> dict[str, Tier]:
        """The tier of each camera in `rates` (inferences/s of each now); served tiers only."""

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

    def assign(self, rates: Mapping[str, float], budget_ms_per_s: float, now_ns: int) -> dict[str, Tier]:  # noqa: ARG002 - the protocol prescribes them
        """Raises ValueError for a camera whose tier is not served."""
        return {stream_id: self._tier_of(stream_id) for stream_id in rates}

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

    def assign(self, rates: Mapping[str, float], budget_ms_per_s: float, now_ns: int) -> dict[str, Tier]:  # noqa: ARG002 - the protocol prescribes them
        """By the last scene alone."""
        return {stream_id: self._nearest(self._tiers.get(stream_id) or self._wanted[stream_id]) for stream_id in rates}

    def forget(self, stream_id: str) -> None:
        """Its next tier is the configured one again."""
        self._tiers.pop(stream_id, None)

    def _nearest(self, tier: Tier) -> Tier:
        sizes = list(Tier)
        smaller = [one for one in self._served if sizes.index(one) <= sizes.index(tier)]
        return max(smaller, key=sizes.index) if smaller else self._served[0]


@dataclass(slots=True)
class _Camera:
    """Score, when it was last observed, and the level of the hull that it has since when."""

    score: float
    seen_ns: int | None = None
    level: int = 0
    changed_ns: int | None = None


class BudgetRouter:
    """Spends the budget where a GPU-millisecond is expected to buy most; the module's docstring has the rules.

    When even the smallest tier for all exceeds the budget, all get that: rates are the governor's business then.
    """

    def __init__(self, costs: Sequence[TierCost], rules: RouterRules | None = None) -> None:
        """Raises ValueError without costs, or when a tier is given twice."""
        self._rules = rules or RouterRules()
        served = _by_cost(costs)
        levels = [Level(one.ms, one.strength) for one in served]
        on_hull = upper_hull(levels)
        self._tiers = [served[index].tier for index in on_hull]
        self._levels = [levels[index] for index in on_hull]
        self._terms = Terms(1 + self._rules.margin, self._rules.headroom, self._rules.least_score)
        self._cameras: dict[str, _Camera] = {}

    def observe(self, stream_id: str, scene: Scene, now_ns: int) -> None:
        """Moves the camera's score towards the scene's, by the time since it was last observed."""
        camera = self._camera(stream_id)
        score = score_of(scene, self._rules)
        if camera.seen_ns is None:
            camera.score, camera.seen_ns = score, now_ns
            return
        elapsed_s = max(0, now_ns - camera.seen_ns) / 1e9
        camera.score += (score - camera.score) * -math.expm1(-elapsed_s / self._rules.smoothing_s)
        camera.seen_ns = max(now_ns, camera.seen_ns)

    def score(self, stream_id: str) -> float:
        """The camera's smoothed score, 0..1."""
        return self._camera(stream_id).score

    def assign(self, rates: Mapping[str, float], budget_ms_per_s: float, now_ns: int) -> dict[str, Tier]:
        """Raises ValueError for a rate that is negative or not finite, or a budget that is not a number."""
        if math.isnan(budget_ms_per_s) or not all(0 <= rate < math.inf for rate in rates.values()):
            raise ValueError(f"expected rates >= 0 and a budget, got {dict(rates)} and {budget_ms_per_s}")
        names = sorted(rates)  # equal offers are decided by name, not by the order in which cameras came
        chosen = spend(self._levels, self._bids(names, rates, budget_ms_per_s, now_ns), budget_ms_per_s, self._terms)
        for name, level in zip(names, chosen, strict=True):
            camera = self._cameras[name]
            if level != camera.level:
                camera.level, camera.changed_ns = level, now_ns
        return {name: self._tiers[self._cameras[name].level] for name in rates}

    def forget(self, stream_id: str) -> None:
        """A camera that comes again under this name begins anew."""
        self._cameras.pop(stream_id, None)

    def _bids(self, names: Sequence[str], rates: Mapping[str, float], budget: float, now_ns: int) -> list[Bid]:
        """A camera that must dwell keeps its level, unless these levels alone exceed the budget: then it may fall."""
        highest = len(self._levels) - 1
        bids, if_short = [], []
        for name in names:
            camera = self._camera(name)
            rate = max(rates[name], self._rules.least_rate_per_s)
            if self._dwells(camera, now_ns):
                bids.append(Bid(rate, camera.score, camera.level, camera.level, camera.level))
                if_short.append(Bid(rate, camera.score, camera.level, 0, camera.level))
            else:
                bids.append(Bid(rate, camera.score, camera.level, 0, highest))
                if_short.append(bids[-1])
        return bids if lowest_cost(self._levels, bids) <= budget else if_short

    def _dwells(self, camera: _Camera, now_ns: int) -> bool:
        return camera.changed_ns is not None and now_ns - camera.changed_ns < self._rules.dwell_s * 1e9

    def _camera(self, stream_id: str) -> _Camera:
        return self._cameras.setdefault(stream_id, _Camera(self._rules.first_score))


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
