"""Virtual time: what is due next happens next, and nothing waits. Ties are settled by the order of planning."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class VirtualClock:
    """A queue of what is to be done when; nanoseconds from 0."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._orders = count()

    def at(self, time_ns: int, action: Callable[[], None]) -> None:
        """Do this then. Raises ValueError for a time that has passed."""
        if time_ns < self.now_ns:
            raise ValueError(f"{time_ns} ns has passed, it is {self.now_ns} ns")
        heapq.heappush(self._queue, (time_ns, next(self._orders), action))

    def run(self, until_ns: int) -> None:
        """Everything that is due up to and including this time."""
        while self._queue and self._queue[0][0] <= until_ns:
            self.now_ns, _, action = heapq.heappop(self._queue)
            action()
        self.now_ns = until_ns
