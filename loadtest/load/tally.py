"""What became of the frames: counts per camera, ages of the answers, what is sent from worker to master, fairness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from clients.statistics import Histogram


class Fate(StrEnum):
    """What became of a frame that came due. Each frame has exactly one."""

    GOOD = "good"  # answered within the deadline
    LATE = "late"  # answered after it, or not yet when the test ended and the deadline had passed
    FAILED = "failed"  # the server refused it, did not answer, or answered with something that is not the contract
    SUPERSEDED = "superseded"  # a newer frame came due while the one before was in flight
    STALE = "stale"  # reached the client too old to be sent; asks nothing of the server


_ASKED = (Fate.GOOD, Fate.LATE, Fate.FAILED, Fate.SUPERSEDED)
CROSS_TALK = "cross_talk"


class Tally:
    """Frames by camera and fate, ages in card milliseconds, failures by reason. Tallies can be merged."""

    def __init__(self) -> None:
        self.frames: dict[str, Counter[str]] = {}
        self.ages = Histogram()
        self.problems: Counter[str] = Counter()

    def count(self, camera: str, fate: Fate, frames: int = 1) -> None:
        """So many frames of a camera had this fate."""
        self.frames.setdefault(camera, Counter())[fate.value] += frames

    def answered(self, camera: str, age_ms: float, deadline_ms: float) -> Fate:
        """A frame was answered at this age; whether that was in time."""
        fate = Fate.GOOD if age_ms <= deadline_ms else Fate.LATE
        self.count(camera, fate)
        self.ages.add(age_ms)
        return fate

    def total(self, *fates: Fate) -> int:
        """Frames of all cameras with one of these fates."""
        return sum(counts[fate.value] for counts in self.frames.values() for fate in fates)

    @property
    def asked(self) -> int:
        """Frames that the server was to answer."""
        return self.total(*_ASKED)

    @property
    def goodput(self) -> float | None:
        """The share of them that was answered within the deadline; None without any."""
        return self.total(Fate.GOOD) / self.asked if self.asked else None

    def shares(self) -> list[float]:
        """Of each camera that asked: the share of its frames that was answered within the deadline."""
        asked = [
            (counts[Fate.GOOD.value], sum(counts[fate.value] for fate in _ASKED)) for counts in self.frames.values()
        ]
        return [good / all_ for good, all_ in asked if all_]

    def merge(self, other: Tally) -> None:
        """Count everything of another tally too."""
        for camera, counts in other.frames.items():
            self.frames.setdefault(camera, Counter()).update(counts)
        self.ages.merge(other.ages)
        self.problems.update(other.problems)

    def as_message(self) -> dict[str, Any]:
        """Plain values that `of_message` reads."""
        return {
            "frames": {camera: dict(counts) for camera, counts in self.frames.items()},
            "ages": self.ages.as_counts(),
            "sum_ms": self.ages.sum_ms,
            "problems": dict(self.problems),
        }

    @classmethod
    def of_message(cls, told: Mapping[str, Any]) -> Tally:
        """What another process has counted. Raises KeyError, TypeError, ValueError for anything else."""
        tally = cls()
        tally.frames = {camera: Counter(counts) for camera, counts in told["frames"].items()}
        tally.ages = Histogram.of_counts(told["ages"], float(told["sum_ms"]))
        tally.problems = Counter(told["problems"])
        return tally
