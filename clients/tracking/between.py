"""What is shown of a frame that was not inferred: what the last inference saw, where it should be by now. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.tracking.tracker import Tracks
from clients.types import Detections

_LEAST_INSIDE = 0.5  # of a box's area; what has left the picture by more is gone


def visible(tracks: Tracks, size_px: tuple[int, int]) -> tuple[Detections, NDArray[np.int64]]:
    """Predicted boxes cut to a picture of (width, height), with their ids, INT64 (n,).

    Only what the last inference has seen: a track that was lost before is guesswork, and measured to cost more than it
    brings (docs/decisions/0003). Confidence is that of the last detection.
    """
    corners = tracks.xyxy
    inside = np.clip(corners, 0, np.array((*size_px, *size_px), dtype=np.float32))
    keep = tracks.is_fresh & (_area(inside) >= _LEAST_INSIDE * _area(corners))
    return Detections(inside[keep], tracks.confidence[keep], tracks.class_id[keep]), tracks.track_id[keep]


def _area(xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    return area
