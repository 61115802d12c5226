"""What a sink could not deliver: counted, and said once until it works again."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)


class Losses:
    """Of one sink, whatever thread they happen in. `count` is how much was lost so far."""

    def __init__(self, name: str) -> None:
        """`name` begins what is logged."""
        self.name = name
        self.count = 0
        self._lock = threading.Lock()
        self._is_failing = False

    def add(self, items: int = 1) -> None:
        """So many found no room."""
        with self._lock:
            self.count += items

    def lost(self, problem: str, items: int = 1) -> None:
        """So many could not be delivered; the first problem in a row is logged."""
        with self._lock:
            self.count += items
            is_first, self._is_failing = not self._is_failing, True
        if is_first:
            log.error("%s: %s; what cannot be delivered is counted", self.name, problem)

    def delivered(self) -> None:
        """It works, perhaps again."""
        with self._lock:
            was_failing, self._is_failing = self._is_failing, False
        if was_failing:
            log.warning("%s: it works again, %d were lost so far", self.name, self.count)
