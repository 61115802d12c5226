"""Requests in flight, which outlive the callers that gave up on them.

A caller waits for its flight for a bounded time; the flight itself goes on until the server has answered, and only
then frees what it borrowed. That is the whole of quarantine: nobody has to remember a late slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from clients.errors import RequestTimeout

T = TypeVar("T")


class Flights:
    """The requests of one transport."""

    def __init__(self, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise ValueError(f"a request's time must be positive, got {timeout_s} s")
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Requests that the server has not answered yet, those given up included."""
        return len(self._tasks)

    async def fly(self, request: Coroutine[Any, Any, T]) -> T:
        """Run the request and wait for it. Raises RequestTimeout, or what the request raises."""
        task = asyncio.create_task(request)
        self._tasks.add(task)
        task.add_done_callback(self._landed)
        done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        if not done:
            raise RequestTimeout(f"no answer within {self._timeout_s * 1000:.0f} ms")
        return task.result()

    async def close(self, grace_s: float) -> None:
        """Give what is in flight `grace_s` seconds to land, then cancel it."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace_s)
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _landed(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a late failure has no one left to tell
