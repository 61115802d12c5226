"""What trackers are measured on: whose detections, which frames are inferred, and what is true in those frames."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from clients.types import Detections
from demo.detections import Seen
from demo.truth import TrueObject, Truth

_GAP_S = (0.1, 0.8)
_TRUE_CONFIDENCE = 0.9


class Detector(StrEnum):
    """Where detections come from."""

    TRUTH = "truth"  # every object that counts, exactly
    WEIGHTS = "weights"  # the demo's yolo12n


class Rhythm(StrEnum):
    """Which frames are inferred."""

    EVERY = "every frame"
    FIFTH = "every 5th"
    RANDOM = "0.1-0.8 s"


@dataclass(frozen=True, slots=True, eq=False)
class TrueFrame:
    """Truth of one frame: boxes FP32 (n, 4) in source pixels, the rest (n,). `counts`: is not ignored."""

    xyxy: NDArray[np.float32]
    class_id: NDArray[np.int32]
    object_id: NDArray[np.int64]
    counts: NDArray[np.bool_]

    @classmethod
    def of(cls, objects: Sequence[TrueObject]) -> Self:
        """From the truth of one frame."""
        return cls(
            xyxy=np.array([entry.xyxy for entry in objects], dtype=np.float32).reshape(-1, 4),
            class_id=np.array([entry.class_id for entry in objects], dtype=np.int32),
            object_id=np.array([entry.object_id for entry in objects], dtype=np.int64),
            counts=np.array([not entry.ignore for entry in objects], dtype=bool),
        )

    @property
    def detections(self) -> Detections:
        """What a perfect detector finds."""
        n = int(self.counts.sum())
        confidence = np.full(n, _TRUE_CONFIDENCE, dtype=np.float32)
        return Detections(self.xyxy[self.counts], confidence, self.class_id[self.counts])


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One camera: times in seconds and truth of all frames; `inferred` are indices, `found` what was found there."""

    camera: str
    fps: int
    size_px: tuple[int, int]  # width, height
    times_s: NDArray[np.float64]
    truth: Sequence[TrueFrame]
    inferred: NDArray[np.intp]
    found: Sequence[Detections]

    def __post_init__(self) -> None:
        if len(self.found) != len(self.inferred) or len(self.truth) != len(self.times_s):
            raise ValueError(
                f"{self.camera}: {len(self.found)} answers for {len(self.inferred)} inferred frames, "
                f"{len(self.truth)} true frames for {len(self.times_s)} times"
            )


def clips_of(
    truths: Sequence[Truth], seen: Mapping[str, Seen] | None, rhythm: Rhythm, seconds: int
) -> tuple[Clip, ...]:
    """The cameras under one rhythm; detections are the truth's own where `seen` is None."""
    return tuple(_clip(truth, None if seen is None else seen[truth.camera], rhythm, seconds) for truth in truths)


def inferred_frames(times_s: NDArray[np.float64], rhythm: Rhythm, seed: int) -> NDArray[np.intp]:
    """Indices of the frames that are inferred, in order; the first always is."""
    if rhythm is Rhythm.EVERY:
        return np.arange(len(times_s))
    if rhythm is Rhythm.FIFTH:
        return np.arange(0, len(times_s), 5)
    rng = np.random.default_rng(seed)
    chosen = [0]
    while True:
        due_s = times_s[chosen[-1]] + rng.uniform(*_GAP_S)
        index = int(np.searchsorted(times_s, due_s))
        if index >= len(times_s):
            return np.array(chosen)
        chosen.append(index)


def _clip(truth: Truth, seen: Seen | None, rhythm: Rhythm, seconds: int) -> Clip:
    frames = [TrueFrame.of(objects) for objects in truth.frames[: seconds * truth.fps]]
    times_s = np.arange(len(frames)) / truth.fps if seen is None else seen.times_s[: len(frames)]
    inferred = inferred_frames(times_s, rhythm, zlib.crc32(truth.camera.encode()))
    found = [frames[index].detections if seen is None else seen.frames[index] for index in inferred]
    return Clip(truth.camera, truth.fps, (truth.width, truth.height), times_s, frames, inferred, found)
