"""Object ids of one camera, and where the objects are between two inferences. Pure; time is seconds, not frames.

Boxes are predicted with constant velocity (an alpha-beta filter per track) and matched to detections of the same
class by overlap, with the assignment that is best in all. A camera that is inferred at irregular intervals is the
normal case here, so a velocity is pixels per second and a lost track dies after seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clients.types import Detections


@dataclass(frozen=True, slots=True)
class TrackerRules:
    """`min_similarity` is the least overlap (generalised IoU, -1..1) of a match."""

    min_similarity: float = -0.2
    max_lost_s: float = 2.0
    velocity_gain: float = 0.5

    def __post_init__(self) -> None:
        if not -1 <= self.min_similarity <= 1:
            raise ValueError(f"min_similarity must lie in -1..1, got {self.min_similarity}")
        if not (self.max_lost_s > 0 and 0 < self.velocity_gain <= 1):
            raise ValueError("max_lost_s must be positive and velocity_gain in 0..1")


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """All tracks of a camera at one time: `xyxy` FP32 (n, 4), `velocity` FP32 (n, 4) in px/s, the rest (n,)."""

    time_s: float
    xyxy: NDArray[np.float32]
    velocity: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int32]
    track_id: NDArray[np.int64]
    seen_s: NDArray[np.float64]


class Tracker:
    """One camera's tracks. `update` after each inference, `predict` at any time; ids begin at 1."""

    def __init__(self, rules: TrackerRules | None = None) -> None:
        self._rules = rules or TrackerRules()
        self._tracks = _no_tracks()
        self._next_id = 1

    def update(self, detections: Detections, time_s: float) -> NDArray[np.int64]:
        """Take over the detections of time `time_s` and return their ids, INT64 (n,), in their order.

        Time that runs backwards (a camera's clock jumped, a file began anew) starts all tracks over.
        """
        predicted = self._alive(time_s) if time_s >= self._tracks.time_s else _no_tracks()
        old, new = self._match(predicted, detections)
        ids = np.zeros(len(detections), dtype=np.int64)
        ids[new] = predicted.track_id[old]
        fresh = np.flatnonzero(ids == 0)
        ids[fresh] = np.arange(self._next_id, self._next_id + len(fresh))
        self._next_id += len(fresh)
        velocity = np.zeros_like(detections.xyxy)
        velocity[new] = self._velocity(predicted, detections, old, new, time_s)
        seen = _from_detections(detections, velocity, ids, time_s)
        unmatched = np.ones(len(predicted.track_id), dtype=bool)
        unmatched[old] = False
        self._tracks = _joined(seen, _only(predicted, unmatched))
        return ids

    def predict(self, time_s: float) -> Tracks:
        """Where the tracks are at `time_s`, those included that were not seen for up to `max_lost_s`."""
        return self._alive(time_s)

    def _alive(self, time_s: float) -> Tracks:
        tracks = self._tracks  # replaced whole by update, so another thread may predict
        recent = _only(tracks, tracks.seen_s >= time_s - self._rules.max_lost_s)
        return _advance(recent, max(time_s, tracks.time_s))

    def _match(self, tracks: Tracks, detections: Detections) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        if not len(tracks.track_id) or not len(detections):
            return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
        overlap = generalised_iou(tracks.xyxy, detections.xyxy)
        overlap[tracks.class_id[:, np.newaxis] != detections.class_id[np.newaxis]] = -2.0
        old, new = linear_sum_assignment(overlap, maximize=True)
        good = overlap[old, new] >= self._rules.min_similarity
        return old[good], new[good]

    def _velocity(
        self,
        predicted: Tracks,
        detections: Detections,
        old: NDArray[np.intp],
        new: NDArray[np.intp],
        time_s: float,
    ) -> NDArray[np.float32]:
        elapsed = np.maximum(time_s - predicted.seen_s[old], 1e-3)[:, np.newaxis].astype(np.float32)
        error = detections.xyxy[new] - predicted.xyxy[old]
        velocity: NDArray[np.float32] = (
            predicted.velocity[old] + np.float32(self._rules.velocity_gain) * error / elapsed
        )
        return velocity


def generalised_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """FP32 (n, m) in -1..1 for boxes (n, 4) and (m, 4); tells near from far where nothing overlaps.

    Source: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019.
    """
    top_left = np.maximum(a[:, np.newaxis, :2], b[np.newaxis, :, :2])
    bottom_right = np.minimum(a[:, np.newaxis, 2:], b[np.newaxis, :, 2:])
    intersection = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    area_a = (a[:, 2:] - a[:, :2]).prod(axis=1)[:, np.newaxis]
    area_b = (b[:, 2:] - b[:, :2]).prod(axis=1)[np.newaxis]
    union = np.maximum(area_a + area_b - intersection, 1e-6)
    hull_size = np.maximum(a[:, np.newaxis, 2:], b[np.newaxis, :, 2:]) - np.minimum(
        a[:, np.newaxis, :2], b[np.newaxis, :, :2]
    )
    hull = np.maximum(hull_size.prod(axis=2), 1e-6)
    score: NDArray[np.float32] = (intersection / union - (hull - union) / hull).astype(np.float32)
    return score


def _no_tracks() -> Tracks:
    return _from_detections(Detections.empty(), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), -np.inf)


def _from_detections(found: Detections, velocity: NDArray[np.float32], ids: NDArray[np.int64], time_s: float) -> Tracks:
    seen_s = np.full(len(found), time_s, dtype=np.float64)
    return Tracks(time_s, found.xyxy, velocity, found.confidence, found.class_id, ids, seen_s)


def _advance(tracks: Tracks, time_s: float) -> Tracks:
    if not len(tracks.track_id):
        return replace(tracks, time_s=time_s)
    moved = tracks.xyxy + tracks.velocity * np.float32(time_s - tracks.time_s)
    return replace(tracks, time_s=time_s, xyxy=moved)


def _only(tracks: Tracks, keep: NDArray[np.bool_]) -> Tracks:
    return Tracks(
        tracks.time_s,
        tracks.xyxy[keep],
        tracks.velocity[keep],
        tracks.confidence[keep],
        tracks.class_id[keep],
        tracks.track_id[keep],
        tracks.seen_s[keep],
    )


def _joined(a: Tracks, b: Tracks) -> Tracks:
    return Tracks(
        a.time_s,
        np.concatenate([a.xyxy, b.xyxy]),
        np.concatenate([a.velocity, b.velocity]),
        np.concatenate([a.confidence, b.confidence]),
        np.concatenate([a.class_id, b.class_id]),
        np.concatenate([a.track_id, b.track_id]),
        np.concatenate([a.seen_s, b.seen_s]),
    )
