"""What the process is told from outside, while a run lasts: to stop, and to look at its configuration again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Self


class Signals:
    """SIGINT and SIGTERM call `on_stop`, which at first cancels the task that entered.

    SIGHUP sets `hangup` where that is asked for; else it stays what a closed terminal sends: the end of the process.
    """

    def __init__(self, *, hears_hangup: bool) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        self._hears_hangup = hears_hangup
        self.hangup = asyncio.Event()
        self.on_stop: Callable[[], object] = nothing if task is None else task.cancel

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._stop)
        if self._hears_hangup:
            self._loop.add_signal_handler(signal.SIGHUP, self.hangup.set)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.on_stop()


def nothing() -> None:
    """The run is over; what remains takes a moment."""
