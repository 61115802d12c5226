"""What leaves the pipeline for one frame: what was found in it, or what the tracker expects there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.types import Detections, Tier


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Detections of one frame, in source pixels, with the object ids of its camera beside them.

    `track_ids` is INT64 (n,), in the order of the detections; 0 is an object without an id (yet). `age_ms` counts from
    the packet's arrival to the answer. `is_predicted`: the frame was not inferred, the boxes are the tracker's.
    """

    stream_id: str
    frame_index: int
    media_time_s: float
    age_ms: float
    tier: Tier
    detections: Detections
    track_ids: NDArray[np.int64]
    is_predicted: bool = False

    def __post_init__(self) -> None:
        if self.track_ids.shape != (len(self.detections),):
            raise ValueError(f"track_ids must have shape ({len(self.detections)},), got {self.track_ids.shape}")
