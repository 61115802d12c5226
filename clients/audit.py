"""The gate's own error, measured while it runs: how often a skipped frame showed something that the user did not. Pure.

A small share of the frames that the gate calls similar is inferred all the same, chosen by chance and only while there
is room, so nobody waits for it. Its answer is compared with what the user was shown at that moment. A frame is *missed*
when an object of it, surely detected, had no box of its class there. The rate stands for all skipped frames, with
Wilson's interval (Wilson, Probable Inference, JASA 1927).

It judges by the same network that it audits: what the network does not see, nobody misses here. And a detection that
flickers counts, though no gate could help it; so the rate is an upper bound of what the gate costs.
"""

from __future__ import annotations

import math
import random
import threading
from dataclasses import dataclass

import numpy as np

from clients.tracking.overlap import iou
from clients.types import Detections

_Z = 1.96  # of the normal distribution, for 95 %


@dataclass(frozen=True, slots=True)
class AuditRules:
    """`share` 0..1 of similar frames is inferred; `sure` is the least score of an object that may be missed, `overlap`
    the least IoU of a box that shows it."""

    share: float = 0.02
    sure: float = 0.5
    overlap: float = 0.5

    def __post_init__(self) -> None:
        for name in ("share", "sure", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class AuditReport:
    """`missed` of `frames` audited frames showed an object that the user did not see; `low` to `high` holds the true
    rate with 95 % confidence. Rates 0..1, None before the first audit. `objects_missed` of `objects` were not shown."""

    frames: int
    missed: int
    objects: int
    objects_missed: int

    @property
    def rate(self) -> float | None:
        """Of frames."""
        return self.missed / self.frames if self.frames else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's, 95 %."""
        return wilson(self.missed, self.frames) if self.frames else None

    def as_json(self) -> dict[str, float | int | list[float] | None]:
        """Plain values."""
        interval = self.interval
        return {
            "miss_rate": None if self.rate is None else round(self.rate, 4),
            "interval_95": None if interval is None else [round(bound, 4) for bound in interval],
            "frames": self.frames,
            "objects": self.objects,
            "objects_missed": self.objects_missed,
        }


class Audit:
    """One camera's. `wants` is asked by the decoder's thread, the rest by the event loop."""

    def __init__(self, stream_id: str, rules: AuditRules | None = None) -> None:
        self.rules = rules or AuditRules()
        self._chance = random.Random(stream_id)  # the same frames every time: a run can be repeated
        self._lock = threading.Lock()
        self._frames = self._missed = self._objects = self._objects_missed = 0

    def wants(self) -> bool:
        """Whether this similar frame is to be inferred all the same."""
        return self._chance.random() < self.rules.share

    def judged(self, shown: Detections, found: Detections) -> int:
        """Count an audited frame: what the user was shown, what is there. Returns how many objects were missed."""
        objects, missed = misses(shown, found, self.rules)
        with self._lock:
            self._frames += 1
            self._missed += bool(missed)
            self._objects += objects
            self._objects_missed += missed
        return missed

    def report(self) -> AuditReport:
        """So far."""
        with self._lock:
            return AuditReport(self._frames, self._missed, self._objects, self._objects_missed)


def misses(shown: Detections, found: Detections, rules: AuditRules) -> tuple[int, int]:
    """Surely detected objects of `found`, and how many of them `shown` has no box for."""
    sure = found.confidence >= rules.sure
    count = int(np.count_nonzero(sure))
    if not count or not len(shown):
        return count, count
    overlap = iou(found.xyxy[sure], shown.xyxy)
    overlap[found.class_id[sure][:, np.newaxis] != shown.class_id] = 0
    return count, int(np.count_nonzero(overlap.max(axis=1) < rules.overlap))


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The interval of a share, 95 %: low and high, 0..1. Raises ValueError without trials."""
    if not 0 <= hits <= trials or not trials:
        raise ValueError(f"expected 0 <= hits <= trials and trials > 0, got {hits} of {trials}")
    share, spread = hits / trials, _Z * _Z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def merged(reports: list[AuditReport]) -> AuditReport:
    """Of all cameras together."""
    return AuditReport(
        sum(one.frames for one in reports),
        sum(one.missed for one in reports),
        sum(one.objects for one in reports),
        sum(one.objects_missed for one in reports),
    )
