"""Object ids of one camera, and where the objects are between two inferences. Pure; time is seconds, not frames.

Boxes are predicted to the moment of the inference (motion.py) and matched to detections of the same class by overlap,
weighted with the detection's confidence, with the assignment that is best in all. A camera that is inferred at
irregular intervals is the normal case here, so a lost track dies after seconds.

What is matched keeps its id. What is not may be a new object, and has to show it: a box that overlaps a matched or a
surer one is taken for a second box of the same object, and a detection of little confidence has to be seen twice. Until
then its id is 0. Measured against published trackers in docs/decisions/0003.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clients.tracking.motion import Index, Motion, MotionRules, born, corrected, moved
from clients.tracking.overlap import generalised_iou, iou, pairwise_iou
from clients.types import Detections

Ids = NDArray[np.int64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class TrackerRules:
    """`min_similarity` is the least overlap (generalised IoU, -1..1) of a match, `max_birth_overlap` the largest (IoU)
    of a new track with another object of its class. A track is confirmed, and given an id, by two detections or by one
    of `sure_confidence`. Of more than `max_tracks`, those longest unseen are given up. A box that is off by less than
    `jitter` (1 - IoU) was not wrong: so much do two detections of one still object differ."""

    min_similarity: float = -0.3
    max_birth_overlap: float = 0.4
    sure_confidence: float = 0.5
    max_lost_s: float = 2.0
    max_tracks: int = 600
    jitter: float = 0.4
    motion: MotionRules = field(default_factory=MotionRules)

    def __post_init__(self) -> None:
        if not -1 <= self.min_similarity <= 1:
            raise ValueError(f"min_similarity must lie in -1..1, got {self.min_similarity}")
        for name in ("max_birth_overlap", "sure_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must lie in 0..1, below 1, got {self.jitter}")
        if not (self.max_lost_s > 0 and self.max_tracks > 0):
            raise ValueError(f"max_lost_s and max_tracks must be positive, got {self.max_lost_s} and {self.max_tracks}")


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """All tracks of a camera at one time; arrays are (n,). `track_id` is 0 for a track that is not confirmed yet.

    `time_s` is when they are there, `seen_s` when each was last detected, `is_fresh` whether by the last update.
    """

    time_s: float
    motion: Motion
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int32]
    track_id: Ids
    seen_s: NDArray[np.float64]
    is_fresh: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.track_id)

    @property
    def xyxy(self) -> NDArray[np.float32]:
        """FP32 (n, 4): corners in source pixels, beyond the picture's edges too."""
        return self.motion.xyxy

    def only(self, chosen: Index) -> Tracks:
        """Some of the tracks."""
        return Tracks(
            self.time_s,
            self.motion.only(chosen),
            self.confidence[chosen],
            self.class_id[chosen],
            self.track_id[chosen],
            self.seen_s[chosen],
            self.is_fresh[chosen],
        )


class Tracker:
    """One camera's tracks. `update` after each inference, `predict` at any time; ids begin at 1."""

    def __init__(self, rules: TrackerRules | None = None) -> None:
        self._rules = rules or TrackerRules()
        self._tracks = _no_tracks(self._rules)
        self._next_id = 1
        self.wrong = 0.0

    def update(self, detections: Detections, time_s: float) -> Ids:
        """Take over the detections of time `time_s` and return their ids, INT64 (n,), in their order.

        `wrong` is then how many boxes it has corrected: 1 for each object that came or went, up to 1 for each that was
        further from where it was predicted than detectors' own jitter (`TrackerRules.jitter`).

        0 is no id (yet): a second box of an object, or one that has to be seen again. Time that runs backwards (a
        camera's clock jumped, a file began anew) starts all tracks over.
        """
        predicted = self._alive(time_s) if time_s >= self._tracks.time_s else _no_tracks(self._rules)
        old, new = self._match(predicted, detections)
        found = np.concatenate((new, self._births(detections, new)))
        matched = predicted.only(old)
        self.wrong = self._corrections(predicted, matched, detections.xyxy[new], len(found) - len(new))
        seen = self._seen(matched, detections, found, time_s)
        self._tracks = self._bounded(_with_unseen(seen, predicted, old))
        ids = np.zeros(len(detections), dtype=np.int64)
        ids[found] = seen.track_id
        return ids

    def predict(self, time_s: float) -> Tracks:
        """Where the confirmed tracks are at `time_s`, those included that were not seen for up to `max_lost_s`.

        A time before the last update is that of the last update.
        """
        alive = self._alive(time_s)
        is_confirmed = alive.track_id > 0
        return alive if is_confirmed.all() else alive.only(is_confirmed)

    def _alive(self, time_s: float) -> Tracks:
        tracks = self._tracks  # replaced whole by update, so another thread may predict
        is_recent = tracks.seen_s >= time_s - self._rules.max_lost_s
        recent = tracks if is_recent.all() else tracks.only(is_recent)
        elapsed_s = max(0.0, time_s - tracks.time_s) if len(recent) else 0.0
        return replace(
            recent, time_s=max(time_s, tracks.time_s), motion=moved(recent.motion, elapsed_s, self._rules.motion)
        )

    def _match(self, tracks: Tracks, detections: Detections) -> tuple[Rows, Rows]:
        """Tracks and the detections that they get."""
        if not len(tracks) or not len(detections):
            return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
        gain = generalised_iou(tracks.xyxy, detections.xyxy) - np.float32(self._rules.min_similarity)
        gain *= detections.confidence
        gain[tracks.class_id[:, np.newaxis] != detections.class_id] = 0
        np.maximum(gain, 0, out=gain)  # a pair that must not be is worth no more than none
        old, new = linear_sum_assignment(gain, maximize=True)
        good = gain[old, new] > 0
        return old[good], new[good]

    def _births(self, detections: Detections, matched: Rows) -> Rows:
        """The detections that begin a track."""
        is_matched = np.zeros(len(detections), dtype=bool)
        is_matched[matched] = True
        free = np.flatnonzero(~is_matched)
        if not len(free):
            return free
        overlap = iou(detections.xyxy[free], detections.xyxy)
        rank = np.empty(len(detections), dtype=np.intp)  # matched first, then by confidence
        rank[np.lexsort((-detections.confidence, ~is_matched))] = np.arange(len(detections))
        is_rival = (rank < rank[free, np.newaxis]) & (detections.class_id == detections.class_id[free, np.newaxis])
        alone: NDArray[np.bool_] = np.where(is_rival, overlap, 0).max(axis=1) <= self._rules.max_birth_overlap
        return free[alone]

    def _seen(self, matched: Tracks, detections: Detections, found: Rows, time_s: float) -> Tracks:
        """The matched tracks and the new ones after the detections `found`, which begin with those of the matched."""
        rules, count = self._rules.motion, len(matched)
        motion = corrected(matched.motion, detections.xyxy[found[:count]], rules)
        if len(found) > count:
            motion = motion.joined(born(detections.xyxy[found[count:]], rules))
        confidence = detections.confidence[found]
        ids = np.zeros(len(found), dtype=np.int64)
        ids[:count] = matched.track_id
        is_confirmed = confidence >= self._rules.sure_confidence
        is_confirmed[:count] = True
        due = np.flatnonzero(is_confirmed & (ids == 0))
        ids[due] = np.arange(self._next_id, self._next_id + len(due))
        self._next_id += len(due)
        return Tracks(
            time_s,
            motion,
            confidence,
            detections.class_id[found],
            ids,
            np.full(len(found), time_s),
            np.ones(len(found), dtype=bool),
        )

    def _corrections(self, predicted: Tracks, matched: Tracks, xyxy: NDArray[np.float32], births: int) -> float:
        jitter = self._rules.jitter
        beyond = np.maximum(1 - pairwise_iou(matched.xyxy, xyxy) - jitter, 0)
        moved_on = float(np.sum(beyond)) / (1 - jitter)
        gone = int(np.count_nonzero(predicted.is_fresh)) - int(np.count_nonzero(matched.is_fresh))
        return moved_on + births + gone

    def _bounded(self, tracks: Tracks) -> Tracks:
        if len(tracks) <= self._rules.max_tracks:
            return tracks
        newest = np.lexsort((-tracks.confidence, -tracks.seen_s))
        return tracks.only(newest[: self._rules.max_tracks])


def _no_tracks(rules: TrackerRules) -> Tracks:
    nothing = Detections.empty()
    motion = born(nothing.xyxy, rules.motion)
    ids, seen_s = np.zeros(0, dtype=np.int64), np.zeros(0)
    return Tracks(-np.inf, motion, nothing.confidence, nothing.class_id, ids, seen_s, np.zeros(0, dtype=bool))


def _with_unseen(a: Tracks, predicted: Tracks, old: Rows) -> Tracks:
    """Those seen now, then those of the predicted that are not among the rows `old`."""
    if len(old) == len(predicted):
        return a
    is_unseen = np.ones(len(predicted), dtype=bool)
    is_unseen[old] = False
    b = predicted.only(is_unseen)
    return Tracks(
        a.time_s,
        a.motion.joined(b.motion),
        np.concatenate((a.confidence, b.confidence)),
        np.concatenate((a.class_id, b.class_id)),
        np.concatenate((a.track_id, b.track_id)),
        np.concatenate((a.seen_s, b.seen_s)),
        np.concatenate((a.is_fresh, np.zeros(len(b), dtype=bool))),
    )
