"""Who has crossed which line, for all lines and objects of a camera at once. Pure.

A box trembles, so a line is as broad as its margin: an object has a side only beyond it, and keeps that side until it
is beyond the margin on the other one. It has crossed if on its way there it went through the line, not around its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Seconds = NDArray[np.float64]
Signs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Crossings:
    """Arrays (lines, objects). `side` is -1 left, 1 right, 0 not known yet; `through` counts the ways through the line
    since then, left to right; `since_s` is since when it is on the other side, infinite while it is not."""

    side: Signs
    through: Signs
    since_s: Seconds

    @classmethod
    def none(cls, lines: int, objects: int) -> Self:
        """No object has a side."""
        shape = (lines, objects)
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, np.inf))

    def seen(
        self, distance: Seconds, passed: Signs, now_s: float, margin: Seconds, debounce_s: Seconds
    ) -> tuple[Crossings, Signs]:
        """All objects of this table are seen again, `distance` from the lines; `passed` is how they went through.

        Returns, beside what is known now, 1 for each that has crossed from left to right, -1 the other way, else 0.
        """
        side = np.where(np.abs(distance) > margin[:, np.newaxis], np.sign(distance), 0).astype(np.int64)
        through = self.through + passed
        is_other = (side != 0) & (side == -self.side)
        since_s = np.where(is_other, np.minimum(self.since_s, now_s), np.inf)
        has_moved = is_other & (now_s - since_s >= debounce_s[:, np.newaxis])
        crossed = np.where(has_moved & (np.sign(through) == side), side, 0)
        settles = has_moved | ((side != 0) & ~is_other)
        after = Crossings(
            np.where(settles, side, self.side), np.where(settles, 0, through), np.where(settles, np.inf, since_s)
        )
        return after, crossed
