"""Who is in which zone: enter, dwell and leave with debounce, for all zones and objects of a camera at once. Pure.

Arrays are (zones, objects); time is seconds. An object's column says what was seen of it last: that it is unseen now
changes nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Seconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stays:
    """`is_inside` is what was seen last and `since_s` since when it is so; `is_in` what has been told, `entered_s` the
    beginning of the stay, `has_dwelt` whether its dwell has been told."""

    is_inside: Flags
    since_s: Seconds
    is_in: Flags
    entered_s: Seconds
    has_dwelt: Flags

    @classmethod
    def none(cls, zones: int, objects: int) -> Self:
        """Nobody is in any zone."""
        shape = (zones, objects)
        return cls(
            np.zeros(shape, np.bool_),
            np.zeros(shape),
            np.zeros(shape, np.bool_),
            np.zeros(shape),
            np.zeros(shape, np.bool_),
        )

    def seen(self, inside: Flags, now_s: float, debounce_s: Seconds, dwell_s: Seconds) -> tuple[Stays, Changes]:
        """All objects of this table are seen again. `debounce_s` and `dwell_s` (infinite: none) are (zones,)."""
        since_s = np.where(inside == self.is_inside, self.since_s, now_s)
        is_held = now_s - since_s >= debounce_s[:, np.newaxis]
        enters = inside & ~self.is_in & is_held
        leaves = ~inside & self.is_in & is_held
        is_in = (self.is_in | enters) & ~leaves
        entered_s = np.where(enters, since_s, self.entered_s)
        has_dwelt = self.has_dwelt & ~enters
        dwells = is_in & inside & ~has_dwelt & (now_s - entered_s >= dwell_s[:, np.newaxis])
        until_s = np.where(leaves, since_s, now_s)
        after = Stays(inside, since_s, is_in, entered_s, has_dwelt | dwells)
        return after, Changes(enters, dwells, leaves, until_s - entered_s)


@dataclass(frozen=True, slots=True)
class Changes:
    """What one look has changed, (zones, objects); `inside_s` is how long a stay has lasted."""

    enters: Flags
    dwells: Flags
    leaves: Flags
    inside_s: Seconds
