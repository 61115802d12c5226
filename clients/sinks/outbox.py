"""What stands between the pipeline and everything that may be slow: a bounded queue and a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from clients.sinks.losses import Losses

CLOSE_S = 5.0  # what is queued has so long to be taken when a sink is closed
Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """Hands what is put in to `take`, one after another, in a thread. `losses` counts what found no room.

    `take` reports itself what it could not do; an error that it raises costs that item and is logged once.
    """

    def __init__(self, name: str, take: Callable[[Item], None], *, most: int) -> None:
        """`name` is the sink's in the log; at most `most` items wait."""
        self.losses = Losses(name)
        self._take = take
        self._queue: queue.Queue[Item | None] = queue.Queue(most)
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand one over; never waits."""
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self.losses.add()

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
                self.losses.lost(f"failed unexpectedly: {type(error).__name__}: {error}")
