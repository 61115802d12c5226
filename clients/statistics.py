"""What the run did, in numbers: ages as a histogram, the summary as one JSON object."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clients.audit import AuditReport, merged
from clients.types import Tier, Verdict

_LEAST_MS, _MOST_MS = 0.1, 100_000.0
_BINS_PER_DOUBLING = 70  # a bin is 1 % wide


class Histogram:
    """Milliseconds in bins 1 % wide, from 0.1 ms to 100 s: quantiles of any number of values in 12 KB."""

    def __init__(self) -> None:
        self._bins = np.zeros(_bin(_MOST_MS) + 1, dtype=np.int64)
        self.sum_ms = 0.0

    def __len__(self) -> int:
        return int(self._bins.sum())

    def add(self, value_ms: float) -> None:
        """Count one value; what lies outside the range is counted at its end."""
        self._bins[_bin(min(max(value_ms, _LEAST_MS), _MOST_MS))] += 1
        self.sum_ms += value_ms

    def merge(self, other: Histogram) -> None:
        """Count all values of another histogram too."""
        self._bins += other._bins
        self.sum_ms += other.sum_ms

    def as_counts(self) -> list[list[int]]:
        """[bin, values in it] of every bin that is not empty, for another process; `of_counts` reads it."""
        return [[int(index), int(self._bins[index])] for index in np.flatnonzero(self._bins)]

    @classmethod
    def of_counts(cls, counts: Sequence[Sequence[int]], sum_ms: float) -> Histogram:
        """The histogram that `as_counts` told of. Raises ValueError for a bin that there is not."""
        histogram = cls()
        for index, values in counts:
            if not (0 <= index < len(histogram._bins) and values >= 0):
                raise ValueError(f"a histogram has bins 0..{len(histogram._bins) - 1}, got {values} in {index}")
            histogram._bins[index] = values
        histogram.sum_ms = sum_ms
        return histogram

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process only what is not empty travels: a few hundred bytes in place of 12 KB."""
        return Histogram.of_counts, (self.as_counts(), self.sum_ms)

    def cumulative(self, bounds_ms: Sequence[float]) -> list[int]:
        """How many values do not exceed each of the bounds, to 1 %."""
        sums = np.cumsum(self._bins)
        return [int(sums[_bin(bound_ms)]) for bound_ms in bounds_ms]

    def quantile(self, share: float) -> float | None:
        """The value that `share` (0..1) of all values do not exceed, to 1 %; None without values."""
        total = len(self)
        if not total:
            return None
        index = int(np.searchsorted(np.cumsum(self._bins), math.ceil(share * total)))
        return float(_LEAST_MS * 2 ** ((index + 0.5) / _BINS_PER_DOUBLING))

    def summary(self) -> dict[str, float | None]:
        """p50, p95 and p99, rounded to a tenth of a millisecond."""
        quantiles = {name: self.quantile(share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
        return {name: None if value is None else round(value, 1) for name, value in quantiles.items()}


def _bin(value_ms: float) -> int:
    return int(math.log2(value_ms / _LEAST_MS) * _BINS_PER_DOUBLING)


SKIPPED = tuple(verdict for verdict in Verdict if verdict is not Verdict.INFERRED)


@dataclass(frozen=True, slots=True)
class CameraReport:
    """One camera's share of the summary. `states` counts how often each state was entered.

    `packets_skipped` of its `packets` were not decoded, counted by reason (`Skip`); `decoder` is cpu or cuda, and why,
    None before the camera was opened. `tier` serves it now, `wanted` is what it was to have; `fallbacks` counts
    inferences by another one because that is missing or fails, `inferred` all by tier. `is_down`: it has failed, or was
    lost and has not come back.
    """

    stream_id: str
    state: str
    tier: Tier
    decoded: int
    verdicts: dict[Verdict, int]
    objects: int
    ages: Histogram
    longest_gap_s: float | None
    states: dict[str, int] = field(default_factory=dict)
    last_problem: str | None = None
    decoder: str | None = None
    decoder_reason: str | None = None
    packets: int = 0
    packets_held_back: int = 0
    packets_skipped: dict[str, int] = field(default_factory=dict)
    wanted: Tier | None = None
    fallbacks: int = 0
    inferred: Mapping[Tier, int] = field(default_factory=dict)
    is_down: bool = False
    audit: AuditReport = field(default_factory=lambda: AuditReport(0, 0, 0, 0))

    @property
    def is_on_fallback(self) -> bool:
        """Whether another tier than its own serves it now."""
        return self.wanted is not None and self.tier is not self.wanted

    def as_json(self, seconds: float) -> dict[str, Any]:
        """Plain values, `seconds` being the length of the run."""
        inferences = self.verdicts.get(Verdict.INFERRED, 0)
        return {
            "state": self.state,
            "states": self.states,
            "last_problem": self.last_problem,
            "tier": self.tier.value,
            "fallbacks": self.fallbacks,
            "decoder": self.decoder,
            "decoder_reason": self.decoder_reason,
            "packets": self.packets,
            "packets_held_back": self.packets_held_back,
            "packets_skipped": self.packets_skipped,
            "frames_decoded": self.decoded,
            "frames_skipped": {verdict.value: self.verdicts.get(verdict, 0) for verdict in SKIPPED},
            "inferences": inferences,
            "inferences_per_s": round(inferences / seconds, 2),
            "longest_gap_s": None if self.longest_gap_s is None else round(self.longest_gap_s, 3),
            "objects": self.objects,
            "result_age_ms": self.ages.summary(),
            "audit": self.audit.as_json(),
        }


class Totals:
    """Sums over cameras: those that were removed while the fleet ran, or all of them."""

    def __init__(self) -> None:
        self.cameras = self.decoded = self.fallbacks = self.down = 0
        self.verdicts: Counter[Verdict] = Counter()
        self.ages = Histogram()

    def add(self, camera: CameraReport) -> None:
        """Count one camera too."""
        self.cameras += 1
        self.decoded += camera.decoded
        self.fallbacks += camera.fallbacks
        self.down += camera.is_down
        self.verdicts.update(camera.verdicts)
        self.ages.merge(camera.ages)

    def merge(self, other: Totals) -> None:
        """Count the cameras of other sums too."""
        self.cameras += other.cameras
        self.decoded += other.decoded
        self.fallbacks += other.fallbacks
        self.down += other.down
        self.verdicts.update(other.verdicts)
        self.ages.merge(other.ages)

    def with_cameras(self, cameras: Sequence[CameraReport]) -> Totals:
        """These and those, in a new object."""
        both = Totals()
        both.merge(self)
        for camera in cameras:
            both.add(camera)
        return both


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole run, or the run so far: the cameras that are there, and `removed`, what the others had done.

    `errors` counts failed requests, and cameras that failed or were lost and did not return.
    """

    seconds: float
    cameras: tuple[CameraReport, ...]
    mean_batch: float | None
    precision: str
    transport: str
    client_cpu_s: float
    errors: int
    dropped: dict[str, int] = field(default_factory=dict)
    removed: Totals = field(default_factory=Totals)

    @property
    def inferences(self) -> int:
        """Frames that were inferred, those of removed cameras too."""
        return self.removed.with_cameras(self.cameras).verdicts[Verdict.INFERRED]

    def as_json(self) -> dict[str, Any]:
        """The object that `python -m clients run` prints on its last line."""
        totals = self.removed.with_cameras(self.cameras)
        inferences = totals.verdicts[Verdict.INFERRED]
        return {
            "cameras": len(self.cameras),
            "cameras_removed": self.removed.cameras,
            "seconds": round(self.seconds, 2),
            "frames_decoded": totals.decoded,
            "frames_skipped": {verdict.value: totals.verdicts[verdict] for verdict in SKIPPED},
            "inferences": inferences,
            "inferences_per_s": round(inferences / self.seconds, 2),
            "mean_batch": None if self.mean_batch is None else round(self.mean_batch, 2),
            "precision": self.precision,
            "transport": self.transport,
            "fallbacks": totals.fallbacks,
            "audit": merged([camera.audit for camera in self.cameras]).as_json(),
            "result_age_ms": totals.ages.summary(),
            "client_cpu_ms_per_inference": round(self.client_cpu_s * 1000 / inferences, 2) if inferences else None,
            "per_camera": {camera.stream_id: camera.as_json(self.seconds) for camera in self.cameras},
            "results_dropped": self.dropped,
            "errors": self.errors,
        }
