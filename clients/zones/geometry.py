"""Points, polygons and lines in a picture, all at once. Pure.

Coordinates are relative, x to the right and y down, 0..1 of the picture's width and height. Arrays of points are FP64
(n, 2). What is said of sides holds in every aspect ratio; distances are in heights of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Point = tuple[float, float]
_INSET = 1e-6  # of the picture; a box that touches its lower edge stands in a zone that reaches down to it


def anchors(xyxy: NDArray[np.float32], size_px: tuple[int, int]) -> Points:
    """Where objects stand: the middle of each box's lower edge, in the picture. Boxes are FP32 (n, 4) in pixels."""
    width, height = size_px
    feet = np.empty((len(xyxy), 2))
    feet[:, 0] = (xyxy[:, 0] + xyxy[:, 2]) / (2 * width)
    feet[:, 1] = xyxy[:, 3] / height
    return np.clip(feet, _INSET, 1 - _INSET)


def inside(polygon: Points, points: Points) -> NDArray[np.bool_]:
    """Which points lie in the polygon (k, 2): those from which a ray to the right meets an odd number of edges."""
    x1, y1 = polygon.T[:, :, np.newaxis]
    x2, y2 = np.roll(polygon, -1, axis=0).T[:, :, np.newaxis]
    x, y = points[:, 0], points[:, 1]
    is_met = (y1 > y) != (y2 > y)
    rise = np.where(y2 == y1, 1.0, y2 - y1)  # a level edge is never met
    is_odd: NDArray[np.bool_] = (is_met & (x < x1 + (y - y1) * (x2 - x1) / rise)).sum(axis=0) % 2 == 1
    return is_odd


def distance(line: Points, points: Points, aspect: float) -> NDArray[np.float64]:
    """How far points are from the endless line through `line` (2, 2), in heights: negative to its left, else right.

    Left and right are those of someone who stands at the first point and looks to the second. `aspect` is width over
    height of the picture.
    """
    scale = np.array([aspect, 1.0])
    (ax, ay), (bx, by) = line * scale
    x, y = (points * scale).T
    away: NDArray[np.float64] = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / np.hypot(bx - ax, by - ay)
    return away


def passes(line: Points, before: Points, after: Points) -> NDArray[np.int64]:
    """INT64 (n,): 1 where the way from `before` to `after` goes through the line from left to right, -1 the other way.

    0 where it does not go through, or beyond the line's ends. A point on the line counts as left of it.
    """
    first, second = _across(line, before), _across(line, after)
    turn = (second > 0).astype(np.int64) - (first > 0).astype(np.int64)
    share = first / np.where(turn == 0, 1.0, first - second)
    met = before + share[:, np.newaxis] * (after - before)
    along = line[1] - line[0]
    place = (met - line[0]) @ along / (along @ along)
    return np.where((place >= 0) & (place <= 1), turn, 0)


def _across(line: Points, points: Points) -> NDArray[np.float64]:
    (ax, ay), (bx, by) = line
    across: NDArray[np.float64] = (bx - ax) * (points[:, 1] - ay) - (by - ay) * (points[:, 0] - ax)
    return across


def crossing_of(polygon: Sequence[Point]) -> tuple[int, int] | None:
    """Two edges of a polygon that meet where they should not, counted from 0, or None when its outline is clean."""
    count = len(polygon)
    edges = [(polygon[index], polygon[(index + 1) % count]) for index in range(count)]
    for one, other in combinations(range(count), 2):
        if (other - one) % count == 1 or (one - other) % count == 1:
            middle = other if (other - one) % count == 1 else one
            if _folds(polygon[middle - 1], polygon[middle], polygon[(middle + 1) % count]):
                return one, other
        elif _meet(*edges[one], *edges[other]):
            return one, other
    return None


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _folds(a: Point, b: Point, c: Point) -> bool:
    """Whether the way from a over b to c goes back on itself."""
    ahead = (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1])
    return _turn(a, b, c) == 0 and ahead < 0


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the stretches a-b and c-d share a point."""
    sides = (_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b))
    if sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0:
        return True
    touching = zip(sides, (c, d, a, b), ((a, b), (a, b), (c, d), (c, d)), strict=True)
    return any(side == 0 and _between(point, *ends) for side, point, ends in touching)


def _between(point: Point, a: Point, b: Point) -> bool:
    return min(a[0], b[0]) <= point[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= point[1] <= max(a[1], b[1])
