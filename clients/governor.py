"""How much may be spent: looks at the load now and then, and orders window, tier budget and rates. Pure.

**Ours.** The window follows the time that requests wait in the server's queue. When results are too old all the same
(p95 age above `age_objective_ms`), quality is sacrificed in this order: tiers (the router's budget, down to all
cameras at the smallest tier), then rates (down to `least_rate_scale`, never below a camera's own minimum). When results
are calm again it is given back in reverse. A sagging clock scales the budget at once, before any result is late. The
levers and what keeps them from oscillating are in levers.py.

**The article's.** Batch 8, between 4 and 32; every 5 s the mean of the last ten utilisations: above 80 % two less,
below 50 % two more; without a GPU 50 is assumed. It has neither a budget nor rates.

What neither knows: how many turns a camera wanted and did not get. A window that is small enough keeps results young
while cameras wait for turns; the scheduler shares those, and the router's budget is what makes them cheaper.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from clients.levers import ClockScale, GovernorRules, Ladder, QueueWindow

__all__ = ["REASONS", "AgeGovernor", "ArticleGovernor", "Governor", "GovernorRules", "Load", "Orders", "governor_of"]

# Why the orders are what they are, for metrics and logs: what was turned at this look, or why nothing was.
REASONS = (
    "age",
    "queue",
    "clock",
    "recovery",
    "decoder",
    "elsewhere",
    "bottom",
    "unknown",
    "waiting",
    "steady",
    "more",
    "less",
)
_DECODER_FULL_PERCENT = 97.0
_IDLE_PERCENT = 50.0
_FALLING = 0.8  # an age below this share of the one before is falling


@dataclass(frozen=True, slots=True)
class Load:
    """What happened since the last look; None is not known.

    `p95_age_ms`: of results; `queue_ms`: mean time of a request in Triton's queue; `busy_percent`: GPU utilisation by
    NVML, on a CPU the engines' own busy time; `work_ms_per_s`: GPU-milliseconds of inferences answered per second, by
    the tiers' costs; `floor_ms_per_s`: what all cameras at the smallest tier cost now, when the rules do not say it.
    `servers` that are alive now, each with the capacity of the rules.
    `memory_percent` is carried for logs: nothing here can give memory back, admission can refuse.
    """

    p95_age_ms: float | None
    queue_ms: float | None
    in_flight: int
    busy_percent: float | None
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    memory_percent: float | None = None
    decoder_percent: float | None = None
    work_ms_per_s: float | None = None
    floor_ms_per_s: float | None = None
    servers: int = 1


@dataclass(frozen=True, slots=True)
class Orders:
    """What may be spent until the next look.

    `window`: requests in flight; `budget_ms_per_s`: for the router; `rate_scale`: 0..1, multiplies each camera's
    max_fps (never below its min_fps); `reason`: one of `REASONS`.
    """

    window: int
    budget_ms_per_s: float
    rate_scale: float
    reason: str


class Governor(Protocol):
    """Turns load into orders."""

    def look(self, load: Load, now_ns: int) -> Orders:
        """The orders from now on. Times must not run backwards."""


class AgeGovernor:
    """Ours: holds the p95 age of results at its objective, at the least sacrifice."""

    def __init__(self, rules: GovernorRules | None = None) -> None:
        self._rules = rules or GovernorRules()
        self._window = QueueWindow(self._rules)
        self._ladder = Ladder(self._rules)
        self._clock = ClockScale(self._rules)
        self._window_was_cut = False
        self._age_before_ms = 0.0

    def look(self, load: Load, now_ns: int) -> Orders:
        """A look at least every few seconds; a shorter interval than `settle_s` makes nothing quicker."""
        clock_moved = self._clock.look(load.sm_clock_mhz, load.sm_clock_max_mhz, load.busy_percent, now_ns)
        full, floor = self._limits(load)
        window_cut = self._window.look(load.queue_ms, load.in_flight, now_ns)
        turned = self._turn_ladder(load, window_cut, now_ns)
        self._window_was_cut = window_cut
        self._age_before_ms = load.p95_age_ms or 0.0
        if turned in ("age", "recovery"):
            reason = turned
        elif window_cut:
            reason = "queue"
        else:
            reason = "clock" if clock_moved else turned
        return Orders(self._window.size, self._ladder.budget(full, floor), self._ladder.rate_scale, reason)

    def _limits(self, load: Load) -> tuple[float, float]:
        """The budget of nothing sacrificed at this clock, and the floor, GPU-milliseconds per second."""
        rules = self._rules
        full = load.servers * rules.capacity_ms_per_s * rules.gpu_utilization_threshold / 100 * self._clock.ratio
        return full, rules.floor_ms_per_s if load.floor_ms_per_s is None else load.floor_ms_per_s

    def _turn_ladder(self, load: Load, window_cut: bool, now_ns: int) -> str:
        """One step of tiers or rates at most; says which, or why none."""
        rules = self._rules
        if load.p95_age_ms is None:
            return "unknown"  # nothing was answered: the requests' time-outs shrink the window, this is no evidence
        if load.p95_age_ms > rules.age_objective_ms:
            return self._sacrifice(load, window_cut, now_ns)
        if self._ladder.at_the_top:
            return "steady"
        calm = load.p95_age_ms <= rules.calm * rules.age_objective_ms
        return "recovery" if calm and self._ladder.up(self._has_room(load), now_ns) else "waiting"

    def _sacrifice(self, load: Load, window_cut: bool, now_ns: int) -> str:
        """One step down, unless there is a reason to wait.

        A full decoder, or whatever makes results late beside a card that is half idle with nothing in its queue (a
        slow client, a camera's own delay), is nothing that tiers or rates mend; a window that was just cut may be all
        that it takes; and where the age is falling already, what was done before is working.
        """
        queue_calm = load.queue_ms is not None and load.queue_ms <= self._rules.queue_objective_ms
        if load.decoder_percent is not None and load.decoder_percent >= _DECODER_FULL_PERCENT and queue_calm:
            return "decoder"
        if load.busy_percent is not None and load.busy_percent < _IDLE_PERCENT and queue_calm:
            return "elsewhere"
        falling = load.p95_age_ms is not None and load.p95_age_ms < _FALLING * self._age_before_ms
        if falling or (window_cut and not self._window_was_cut):
            return "waiting"
        full, floor = self._limits(load)
        if self._ladder.down(full, floor, load.work_ms_per_s, now_ns):
            return "age"
        spent = self._ladder.share * full <= floor and self._ladder.rate_scale <= self._rules.least_rate_scale
        return "bottom" if spent else "waiting"

    def _has_room(self, load: Load) -> bool:
        """Whether a larger budget may be tried: not on a card busier than halfway from its threshold to full."""
        limit = (self._rules.gpu_utilization_threshold + 100) / 2
        return load.busy_percent is None or load.busy_percent <= limit


class ArticleGovernor:
    """The article's AutoScalingProcessor; its window is its batch. Budget and rates are never touched."""

    _INTERVAL_S = 5.0
    _HISTORY = 10
    _FIRST, _LEAST, _MOST, _STEP = 8, 4, 32, 2
    _ABOVE_PERCENT, _BELOW_PERCENT = 80.0, 50.0
    _ASSUMED_PERCENT = 50.0  # without a GPU

    def __init__(self, rules: GovernorRules | None = None) -> None:
        self._capacity_ms_per_s = (rules or GovernorRules()).capacity_ms_per_s
        self._batch = self._FIRST
        self._utilisations: deque[float] = deque(maxlen=self._HISTORY)
        self._looked_ns: int | None = None

    def look(self, load: Load, now_ns: int) -> Orders:
        """Looks every 5 s; what is asked between two looks gets the same orders."""
        reason = "waiting"
        if self._looked_ns is None or now_ns - self._looked_ns >= self._INTERVAL_S * 1e9:
            self._looked_ns = now_ns
            reason = self._scale(self._ASSUMED_PERCENT if load.busy_percent is None else load.busy_percent)
        return Orders(self._batch, load.servers * self._capacity_ms_per_s, 1.0, reason)

    def _scale(self, utilisation: float) -> str:
        self._utilisations.append(utilisation)
        mean = sum(self._utilisations) / len(self._utilisations)
        if mean > self._ABOVE_PERCENT:
            self._batch = max(self._LEAST, self._batch - self._STEP)
            return "less"
        if mean < self._BELOW_PERCENT:
            self._batch = min(self._MOST, self._batch + self._STEP)
            return "more"
        return "steady"


def governor_of(policy: Literal["ours", "article"], rules: GovernorRules) -> Governor:
    """The governor of a policy. Raises ValueError that lists the policies."""
    governors: dict[str, Callable[[GovernorRules], Governor]] = {"ours": AgeGovernor, "article": ArticleGovernor}
    if policy not in governors:
        raise ValueError(f"governor: expected one of {', '.join(governors)}, got {policy!r}")
    return governors[policy](rules)
