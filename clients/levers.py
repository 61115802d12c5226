"""What the governor turns, each lever with its own memory of when it was turned last. Pure; times in nanoseconds.

`QueueWindow`: requests in flight, by the time they wait in the server's queue (additive increase, multiplicative
decrease). `Ladder`: first the tier budget, then the rates, down by factors while answers are late and up again by steps
in the reverse order. `ClockScale`: what is left of the card's speed.

Three things keep them from oscillating. Between "too late" and "calm" lies a band in which nothing moves. Down goes
quickly, up slowly and only after a hold. And a step up that made answers late is remembered: the ladder goes to the
level before it and no higher until its patience is over, which doubles each time that level fails again.
"""

from __future__ import annotations

from dataclasses import dataclass

_ROUNDING = 1e-9  # relative, of a budget that is compared with the floor that it was set to


@dataclass(frozen=True, slots=True)
class GovernorRules:
    """Objectives, limits and paces of a governor."""

    age_objective_ms: float = 200.0  # p95 of the age of results; above it something is sacrificed
    queue_objective_ms: float = 20.0  # mean time in the server's queue; above it the window shrinks
    capacity_ms_per_s: float = 1000.0  # GPU-milliseconds that one card gives per second at full clock
    gpu_utilization_threshold: float = 80.0  # percent of the capacity that the budget starts from
    floor_ms_per_s: float = 0.0  # the budget never falls below: all cameras at the smallest tier (Load may say it anew)
    least_rate_scale: float = 0.2  # rates never fall below this share
    first_window: int = 16  # requests in flight: at the start, at least and at most
    least_window: int = 1
    largest_window: int = 48
    calm: float = 0.7  # share of an objective below which there is room to recover
    cut: float = 0.8  # one step down multiplies by this
    deepest_cut: float = 0.5  # or by this, when much less work is done than the budget allows
    step: float = 0.05  # one step up adds this share
    window_step: int = 2  # one step up of the window
    settle_s: float = 1.0  # after a change, before the next one down: its effect must have shown
    hold_s: float = 10.0  # after a change down, before the first one up
    raise_s: float = 5.0  # between two changes up
    patience_s: float = 30.0  # how long a level that failed is not tried again, at first and at most
    longest_patience_s: float = 600.0

    def __post_init__(self) -> None:
        for name in ("age_objective_ms", "queue_objective_ms", "capacity_ms_per_s", "patience_s", "window_step"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("floor_ms_per_s", "settle_s", "hold_s", "raise_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.gpu_utilization_threshold <= 100:
            raise ValueError(f"gpu_utilization_threshold is a percentage, got {self.gpu_utilization_threshold}")
        for name in ("least_rate_scale", "calm", "cut", "deepest_cut", "step"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if not 1 <= self.least_window <= self.first_window <= self.largest_window:
            windows = f"{self.least_window}, {self.first_window} and {self.largest_window}"
            raise ValueError(f"expected 1 <= least_window <= first_window <= largest_window, got {windows}")


def _passed(since_ns: int | None, seconds: float, now_ns: int) -> bool:
    """Whether so much time has passed since then; always when it never was."""
    return since_ns is None or now_ns - since_ns >= seconds * 1e9


class QueueWindow:
    """The in-flight window, by the mean time that requests wait in the server's queue."""

    def __init__(self, rules: GovernorRules) -> None:
        self.size = rules.first_window
        self._rules = rules
        self._cut_ns: int | None = None

    def look(self, queue_ms: float | None, in_flight: int, now_ns: int) -> bool:
        """Adjusts the size; True when it has shrunk. A queue grows with the window, so the excess says by how much."""
        rules = self._rules
        if queue_ms is None:
            return False
        if queue_ms > rules.queue_objective_ms:
            return self._shrink(rules.queue_objective_ms / queue_ms, now_ns)
        used = 2 * in_flight >= self.size  # a window that nobody fills says nothing about a larger one
        if queue_ms <= rules.calm * rules.queue_objective_ms and used and _passed(self._cut_ns, rules.hold_s, now_ns):
            self.size = min(rules.largest_window, self.size + rules.window_step)
        return False

    def _shrink(self, ratio: float, now_ns: int) -> bool:
        """By half at most, and into the middle of the band in which nothing moves."""
        rules = self._rules
        if self.size == rules.least_window or not _passed(self._cut_ns, rules.settle_s, now_ns):
            return False
        factor = max(0.5, ratio * (1 + rules.calm) / 2)
        self.size = max(rules.least_window, min(self.size - 1, int(self.size * factor)))
        self._cut_ns = now_ns
        return True


class Ladder:
    """Tiers, then rates: `share` of the full budget and `rate_scale`, both 1 at the top.

    The full budget changes with the clock and the floor with the cameras, so both are given at each turn.
    """

    def __init__(self, rules: GovernorRules) -> None:
        self.share = 1.0
        self.rate_scale = 1.0
        self._rules = rules
        self._cut_ns: int | None = None
        self._raised_ns: int | None = None
        self._before_raise = (1.0, 1.0)
        self._ceiling = (1.0, 1.0)
        self._ceiling_until_ns = 0
        self._failed_ns: int | None = None
        self._patience_s = rules.patience_s

    @property
    def at_the_top(self) -> bool:
        """Nothing is sacrificed."""
        return self.share >= 1 and self.rate_scale >= 1

    def budget(self, full_ms_per_s: float, floor_ms_per_s: float) -> float:
        """What the router may spend. While rates are reduced it is the floor at these rates, and recovery begins there:
        time that was freed by fewer inferences must not buy tiers."""
        if self.rate_scale < 1:
            self.share = min(self.share, floor_ms_per_s / full_ms_per_s)
            return floor_ms_per_s * self.rate_scale
        return max(floor_ms_per_s, self.share * full_ms_per_s)

    def down(self, full_ms_per_s: float, floor_ms_per_s: float, work_ms_per_s: float | None, now_ns: int) -> bool:
        """One step down, when the last one has settled and something is left; True when it was done."""
        if not _passed(self._last_ns(), self._rules.settle_s, now_ns):
            return False
        before = self.share, self.rate_scale
        self._remember_failure(now_ns)
        budget = self.share * full_ms_per_s
        if budget > floor_ms_per_s * (1 + _ROUNDING):
            self.share = max(floor_ms_per_s, budget * self._factor(budget, work_ms_per_s)) / full_ms_per_s
        else:
            self.rate_scale = max(self._rules.least_rate_scale, self.rate_scale * self._rules.cut)
        if (self.share, self.rate_scale) == before:
            return False
        self._cut_ns = now_ns
        return True

    def up(self, room: bool, now_ns: int) -> bool:
        """One step up, when holds and patience allow; rates first. `room`: whether a larger budget may be tried."""
        rules = self._rules
        rested = _passed(self._cut_ns, rules.hold_s, now_ns) and _passed(self._raised_ns, rules.raise_s, now_ns)
        if self.at_the_top or not rested:
            return False
        if self.rate_scale < 1:
            level = min(1.0, self.rate_scale + rules.step), self.share
        elif room:
            level = 1.0, min(1.0, self.share + rules.step)
        else:
            return False
        if level > self._ceiling and now_ns < self._ceiling_until_ns:
            return False
        self._before_raise = self.rate_scale, self.share
        self.rate_scale, self.share = level
        self._raised_ns = now_ns
        return True

    def _last_ns(self) -> int | None:
        return max((at for at in (self._cut_ns, self._raised_ns) if at is not None), default=None)

    def _factor(self, budget: float, work_ms_per_s: float | None) -> float:
        """A budget that is not used up is cut from what is used: less of a cut would change nothing."""
        cut = self._rules.cut
        if work_ms_per_s is None or budget <= 0:
            return cut
        return max(self._rules.deepest_cut, min(cut, cut * work_ms_per_s / budget))

    def _remember_failure(self, now_ns: int) -> None:
        """When the last turn was upwards and not long ago, that level is too high for a while."""
        rules = self._rules
        if self._raised_ns is None or (self._cut_ns is not None and self._cut_ns > self._raised_ns):
            return
        if _passed(self._raised_ns, rules.patience_s, now_ns):
            return
        if _passed(self._failed_ns, 2 * rules.longest_patience_s, now_ns):
            self._patience_s = rules.patience_s
        self._ceiling = self._before_raise
        self._ceiling_until_ns = now_ns + round(self._patience_s * 1e9)
        self._patience_s = min(rules.longest_patience_s, 2 * self._patience_s)
        self._failed_ns = now_ns


class ClockScale:
    """The SM clock as a share of its maximum: down at once, up when it has not fallen for `hold_s`.

    An idle card lowers its clock because nobody needs it; so the clock counts only while the card is busy.
    """

    _LEAST_BUSY_PERCENT = 30.0
    _NOISE = 0.02  # steps of the clock that small are no news

    def __init__(self, rules: GovernorRules) -> None:
        self.ratio = 1.0
        self._rules = rules
        self._fell_ns: int | None = None

    def look(self, clock_mhz: int | None, max_mhz: int | None, busy_percent: float | None, now_ns: int) -> bool:
        """Takes a reading; True when the ratio has changed."""
        if not clock_mhz or not max_mhz or clock_mhz < 0 or max_mhz < 0:
            return False
        if busy_percent is not None and busy_percent < self._LEAST_BUSY_PERCENT:
            return False
        ratio = min(1.0, clock_mhz / max_mhz)
        if ratio <= self.ratio - self._NOISE:
            self.ratio, self._fell_ns = ratio, now_ns
            return True
        if ratio >= self.ratio + self._NOISE and _passed(self._fell_ns, self._rules.hold_s, now_ns):
            self.ratio = ratio
            return True
        return False
