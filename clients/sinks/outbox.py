"""What stands between the pipeline and everything that may be slow: a bounded queue and a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

CLOSE_S = 5.0  # what is queued has so long to be taken when a sink is closed
Item = TypeVar("Item")
log = logging.getLogger(__name__)


class Outbox(Generic[Item]):
    """Hands what is put in to `take`, one after another, in a thread. `dropped` counts what found no room.

    `take` says itself what it could not do, by `lost`; an error that it raises costs that item and is logged once.
    """

    def __init__(self, name: str, take: Callable[[Item], None], *, most: int) -> None:
        """`name` is the sink's in the log; at most `most` items wait."""
        self.name = name
        self.dropped = 0
        self._take = take
        self._queue: queue.Queue[Item | None] = queue.Queue(most)
        self._has_failed = False
        self._lock = threading.Lock()  # of `dropped`
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand one over; never waits."""
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            with self._lock:
                self.dropped += 1

    def lost(self, problem: str, items: int = 1) -> None:
        """`take` could not deliver so many; the first problem in a row is logged."""
        with self._lock:
            self.dropped += items
        if not self._has_failed:
            log.error("%s: %s; what cannot be delivered is counted", self.name, problem)
        self._has_failed = True

    def delivered(self) -> None:
        """`take` has delivered again."""
        if self._has_failed:
            log.warning("%s: it works again, %d were lost so far", self.name, self.dropped)
        self._has_failed = False

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Take what is queued and end; what takes longer than `timeout_s` is left behind. Whether all was taken."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._take(item)
            except Exception as error:  # a defect of a sink costs its item, not those that follow
                self.lost(f"failed unexpectedly: {type(error).__name__}: {error}")
