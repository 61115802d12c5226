"""Whether one more camera may join. Pure.

A camera that is admitted without room makes all others late. So the sum of what is planned is held against the budget
before anything is opened: `strict` refuses what does not fit, `degrade` admits it at the rate for which there is room.
Plans are in GPU-milliseconds per second at the smallest tier: better tiers are what is left over, not a promise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Mode = Literal["strict", "degrade"]

LEAST_RATE_SCALE = 0.1  # a camera that would get less than this share of its rate is refused also by `degrade`
_ROUNDING = 1e-9  # relative, of a sum that is compared with the budget


@dataclass(frozen=True, slots=True)
class Admission:
    """`rate_scale` 0..1 multiplies the new camera's max_fps; `reason` is one line, empty at the full rate."""

    accepted: bool
    rate_scale: float
    reason: str = ""


def admit(
    planned_ms_per_s: float, new_ms_per_s: float, budget: float, cameras: int, max_streams: int, mode: Mode
) -> Admission:
    """Decides on one camera more than `cameras`.

    `planned_ms_per_s` is what those cost already, `new_ms_per_s` what the new one adds at its full rate, `budget` what
    there is, all in GPU-milliseconds per second. `max_streams` holds in both modes. Raises ValueError for an unknown
    mode, a plan that is negative or not a number, or a new camera that costs nothing.
    """
    if mode not in ("strict", "degrade"):
        raise ValueError(f"admission: expected strict or degrade, got {mode!r}")
    if not (planned_ms_per_s >= 0 and 0 < new_ms_per_s < math.inf and budget >= 0):
        figures = f"{planned_ms_per_s}, {new_ms_per_s} and {budget}"
        raise ValueError(f"expected planned_ms_per_s and budget >= 0 and new_ms_per_s > 0, got {figures}")
    if cameras >= max_streams:
        return Admission(False, 0.0, f"max_streams is {max_streams}, and so many cameras there are already")
    room = budget - planned_ms_per_s
    if new_ms_per_s <= room + _ROUNDING * budget:
        return Admission(True, 1.0)
    share = room / new_ms_per_s
    short = f"it needs {new_ms_per_s:.1f} GPU-ms/s, {max(0.0, room):.1f} of {budget:.1f} are left"
    if mode == "strict":
        return Admission(False, 0.0, short)
    if share < LEAST_RATE_SCALE:
        return Admission(False, 0.0, f"{short}, less than {LEAST_RATE_SCALE:.0%} of its rate")
    return Admission(True, share, f"{short}: admitted at {share:.0%} of its rate")
