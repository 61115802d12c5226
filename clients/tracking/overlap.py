"""How much boxes overlap: all of one set with all of another, in pixels of one picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEAST_AREA_PX = np.float32(1e-6)

Boxes = NDArray[np.float32]


def iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """FP32 (n, m) in 0..1 for boxes (n, 4) and (m, 4): shared area by the area of both."""
    shared, union = _shared_and_union(a, b)
    overlap: NDArray[np.float32] = shared / union
    return overlap


def generalised_iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """FP32 (n, m) in -1..1 for boxes (n, 4) and (m, 4); tells near from far where nothing overlaps.

    Source: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019.
    """
    shared, union = _shared_and_union(a, b)
    width = np.maximum.outer(a[:, 2], b[:, 2]) - np.minimum.outer(a[:, 0], b[:, 0])
    height = np.maximum.outer(a[:, 3], b[:, 3]) - np.minimum.outer(a[:, 1], b[:, 1])
    hull = np.maximum(width * height, _LEAST_AREA_PX)
    score: NDArray[np.float32] = shared / union + union / hull - 1
    return score


def _shared_and_union(a: Boxes, b: Boxes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    width = np.minimum.outer(a[:, 2], b[:, 2]) - np.maximum.outer(a[:, 0], b[:, 0])
    height = np.minimum.outer(a[:, 3], b[:, 3]) - np.maximum.outer(a[:, 1], b[:, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area_a, area_b = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (a, b))
    union = np.maximum(np.add.outer(area_a, area_b) - shared, _LEAST_AREA_PX)
    return shared, union


def pairwise_iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """FP32 (n,) in 0..1: each of boxes (n, 4) with its own of boxes (n, 4)."""
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area_a, area_b = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (a, b))
    overlap: NDArray[np.float32] = shared / np.maximum(area_a + area_b - shared, _LEAST_AREA_PX)
    return overlap
