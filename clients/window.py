"""How many requests may be in flight: all that are allowed while answers come in time, fewer when they do not.

Additive increase, multiplicative decrease, as TCP does it (Jacobson, Congestion Avoidance and Control, 1988). Without
it a server that has become slower than the window allows for would answer every request too late, for ever.
"""

from __future__ import annotations


class Window:
    """The in-flight window of the fleet. Pure; times are of the same monotonic clock."""

    def __init__(self, largest: int, first: int | None = None) -> None:
        """`first` is the size it begins with, the largest when it is left out."""
        first = largest if first is None else min(first, largest)
        if first < 1:
            raise ValueError(f"the in-flight window must be at least 1, got {first} of {largest}")
        self._largest = self._most = largest
        self._size = float(first)
        self._first = first
        self._cut_ns = -1

    @property
    def size(self) -> int:
        """Requests that may be in flight now, from 1 to the largest."""
        return int(self._size)

    def follow(self, cameras: int) -> None:
        """So many cameras can have one request each in flight: more than that would open the window for nothing."""
        self._largest = max(self._first, min(self._most, cameras))
        self._size = min(self._size, float(self._largest))

    def answered(self) -> None:
        """An answer came in time: a whole window of them adds one."""
        self._size = min(float(self._largest), self._size + 1 / self._size)

    def timed_out(self, granted_ns: int, now_ns: int) -> None:
        """A request that was granted then got no answer in time: half the window, once for all that were in flight."""
        if granted_ns > self._cut_ns:
            self._size = max(1.0, self._size / 2)
            self._cut_ns = now_ns
