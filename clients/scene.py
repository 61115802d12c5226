"""What is known of a camera's picture without another inference, and what it says about the tier that it needs. Pure.

The score estimates how much a stronger model would find there that the smallest does not. It does *not* know what the
small model has missed entirely; motion where nothing was found stands in.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

ARTICLE_WIDTH_PX = 1280  # the article scales wider frames down to this
_ARTICLE_CANNY = (100, 200)  # lower and upper threshold of the gradient
_EDGE_STEP = 24  # levels of luma between neighbours of a thumbnail that count as an edge


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of a camera without another inference.

    `objects`: confirmed tracks seen by the last inference; `small`: of them, those less than 32 canvas px high;
    `unsure`: 0..1, share of them with confidence below 0.5; `new`: tracks that began with the last inference; `edges`:
    0..1, share of edge pixels, by the measure that the policy wants (`article_edges` or `edge_density`); `motion`:
    0..1, how much the picture has changed since the last inferred frame (1 - similarity).
    """

    objects: int
    small: int
    unsure: float
    new: int
    edges: float
    motion: float

    def __post_init__(self) -> None:
        if not (0 <= self.small <= self.objects and self.new >= 0):
            raise ValueError(f"expected 0 <= small <= objects and new >= 0, got {self}")
        if not (0 <= self.unsure <= 1 and 0 <= self.edges <= 1 and 0 <= self.motion <= 1):
            raise ValueError(f"expected unsure, edges and motion in 0..1, got {self}")


@dataclass(frozen=True, slots=True)
class RouterRules:
    """How the score comes about, and how readily a tier changes.

    The first five weigh evidence, each 0..1: `small` = small / (small + `half_small`), unsure, `new` = new / (new +
    `half_new`), `crowd` = objects / (objects + `half_crowd`), motion. Edges count only where something is or moves:
    `clutter` weighs edges * max(crowd, motion), so an empty static scene scores 0 however rich its background is. The
    score is their mean by weight. Chosen by what each says about a small model: it loses most on small objects and is
    unsure before it is wrong. They are starting points, not measurements.
    """

    small: float = 0.35
    unsure: float = 0.25
    new: float = 0.15
    crowd: float = 0.10
    motion: float = 0.10
    clutter: float = 0.05
    half_small: float = 3.0
    half_new: float = 2.0
    half_crowd: float = 8.0
    smoothing_s: float = 3.0  # time constant of the score
    usual_score: float = 0.25  # a scene of this score misses what the tiers' strengths say, others in proportion
    unseen: float = 1.0  # objects that every camera is credited with beside those that it shows
    first_stake: float = 4.0  # of a camera that nothing is known of
    waiting: float = 0.5  # share of the corrected boxes that waiting is to blame for; the rest is detectors' flicker
    margin: float = 0.1  # another tier must lose less by this share than the present one
    dwell_s: float = 5.0  # a camera that has changed keeps its tier so long

    def __post_init__(self) -> None:
        if min(self.weights) < 0 or not sum(self.weights) > 0:
            raise ValueError(f"weights must not be negative and not all 0, got {self.weights}")
        for name in ("half_small", "half_new", "half_crowd", "smoothing_s", "usual_score", "waiting"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin must lie in 0..1, got {self.margin}")
        for name in ("unseen", "first_stake", "dwell_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    @property
    def weights(self) -> tuple[float, ...]:
        """Of small, unsure, new, crowd, motion and clutter."""
        return self.small, self.unsure, self.new, self.crowd, self.motion, self.clutter


def score_of(scene: Scene, rules: RouterRules) -> float:
    """0..1: how much a stronger model is expected to find here; 0 for an empty static scene. Grows with each signal."""
    small = scene.small / (scene.small + rules.half_small)
    new = scene.new / (scene.new + rules.half_new)
    crowd = scene.objects / (scene.objects + rules.half_crowd)
    clutter = scene.edges * max(crowd, scene.motion)
    evidence = (small, scene.unsure, new, crowd, scene.motion, clutter)
    total = sum(weight * value for weight, value in zip(rules.weights, evidence, strict=True))
    return min(1.0, total / sum(rules.weights))


def stake_of(scene: Scene, rules: RouterRules) -> float:
    """How many objects' worth a camera has at stake when its model is chosen: those that it shows, times how difficult
    the scene is; in a usual one each counts once."""
    return (scene.objects + rules.unseen) * score_of(scene, rules) / rules.usual_score


def article_edges(luma: NDArray[np.uint8]) -> float:
    """0..1: share of edge pixels of UINT8 (H, W) by Canny(100, 200), on the frame of at most 1280 px width."""
    height, width = luma.shape
    if width > ARTICLE_WIDTH_PX:
        luma = cv2.resize(luma, (ARTICLE_WIDTH_PX, max(1, round(height * ARTICLE_WIDTH_PX / width))))
    return float(np.count_nonzero(cv2.Canny(luma, *_ARTICLE_CANNY)) / luma.size)


def edge_density(thumbnail: NDArray[np.uint8]) -> float:
    """0..1: share of the pixels of a UINT8 (36, 64) luma thumbnail that differ from their right or lower neighbour by
    24 levels or more. Cheap, and another measure than Canny's: the two are not to be compared."""
    luma = thumbnail.astype(np.int16)
    edges = np.abs(luma[:-1, :-1] - luma[:-1, 1:]) >= _EDGE_STEP
    edges |= np.abs(luma[:-1, :-1] - luma[1:, :-1]) >= _EDGE_STEP
    return float(np.count_nonzero(edges) / edges.size)
