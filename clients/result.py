"""What leaves the pipeline for one frame: what was found in it, or what the tracker expects there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clients.types import Detections, Tier


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Detections of one frame, in source pixels, with the object ids of its camera beside them.

    `track_ids` is INT64 (n,), in the order of the detections; 0 is an object without an id (yet). `age_ms` counts from
    the packet's arrival to the answer, `wall_time_s` is that arrival in Unix time. `size_px` is the picture's (width,
    height). `is_predicted`: the frame was not inferred, the boxes are the tracker's.
    """

    stream_id: str
    frame_index: int
    media_time_s: float
    age_ms: float
    tier: Tier
    detections: Detections
    track_ids: NDArray[np.int64]
    is_predicted: bool = False
    size_px: tuple[int, int] = field(kw_only=True)
    wall_time_s: float = field(kw_only=True)

    def __post_init__(self) -> None:
        if self.track_ids.shape != (len(self.detections),):
            raise ValueError(f"track_ids must have shape ({len(self.detections)},), got {self.track_ids.shape}")


def label(labels: tuple[str, ...], class_id: int) -> str:
    """The class's name, or its number where the model brought no names."""
    return labels[class_id] if 0 <= class_id < len(labels) else str(class_id)
