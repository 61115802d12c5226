"""A camera that sends far more than it should is made to wait. Pure: the time is an argument.

A bucket of one second's worth: what comes in a burst after a pause is taken at once, what goes on coming faster than
`most_fps` waits. Over TCP the sender waits too; of a flood of datagrams the excess is lost on its way.
"""

from __future__ import annotations


class Throttle:
    """The bucket of one camera."""

    def __init__(self, most_fps: float) -> None:
        self._most_fps = most_fps
        self._level = most_fps
        self._at_ns: int | None = None

    def wait_s(self, now_ns: int, cost: float = 1.0) -> float:
        """How long a packet that comes now must wait, mostly 0; `cost` is 1 for a picture."""
        if self._at_ns is not None:
            self._level = min(self._most_fps, self._level + (now_ns - self._at_ns) / 1e9 * self._most_fps)
        self._at_ns = now_ns
        self._level -= cost
        return max(0.0, -self._level / self._most_fps)
