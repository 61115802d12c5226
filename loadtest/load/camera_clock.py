"""When a camera's frames come due, whatever becomes of those before: the open loop, as closed formulas.

Pure: the time is an argument, in seconds of one monotonic clock. Frames are numbered; a number may be negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_GOLDEN = (math.sqrt(5) - 1) / 2


def phase_of(number: int) -> float:
    """Where in its interval a camera's frames lie, 0..1: spread evenly, however many cameras there are."""
    return number * _GOLDEN % 1


@dataclass(frozen=True, slots=True)
class CameraClock:
    """Frames at `origin_s` + (n + `phase`) / `fps`, n = ..., -1, 0, 1, ...

    With `burst_s` each such period begins with a frame that all cameras have in common, a key frame; the others follow
    in their own phase until the next period begins. `origin_s` is then the beginning of a period.
    """

    fps: float
    phase: float = 0.0
    origin_s: float = 0.0
    burst_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.fps > 0 or not 0 <= self.phase < 1 or self.burst_s < 0:
            told = f"{self.fps}, {self.phase} and {self.burst_s}"
            raise ValueError(f"expected a positive rate, a phase in 0..1 and no negative period, got {told}")

    @property
    def per_burst(self) -> int:
        """Frames in a period: the common one, and the camera's own that fit behind it."""
        return 1 + max(0, math.ceil(self.burst_s * self.fps - self.phase - 1e-9) - 1)

    def time_of(self, index: int) -> float:
        """When a frame comes due."""
        if not self.burst_s:
            return self.origin_s + (index + self.phase) / self.fps
        period, place = divmod(index, self.per_burst)
        return self.origin_s + period * self.burst_s + ((place + self.phase) / self.fps if place else 0.0)

    def newest(self, now_s: float) -> int:
        """The number of the last frame that has come due."""
        since_s = now_s - self.origin_s
        if not self.burst_s:
            guess = math.floor(since_s * self.fps - self.phase)
        else:
            period = math.floor(since_s / self.burst_s)
            place = math.floor((since_s - period * self.burst_s) * self.fps - self.phase)
            guess = period * self.per_burst + min(max(0, place), self.per_burst - 1)
        while self.time_of(guess + 1) <= now_s:  # what rounding has shifted by one
            guess += 1
        while self.time_of(guess) > now_s:
            guess -= 1
        return guess
