"""Requests in flight, which outlive the callers that gave up on them.

A caller waits for its flight for a bounded time; the flight itself goes on until the server has answered, and only
then frees what it borrowed. That is the whole of quarantine: nobody has to remember a late slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from clients.errors import RequestTimeout

T = TypeVar("T")


class Flights:
    """The requests of one transport, at most `limit` at a time, those included whose caller gave up.

    The limit is what keeps a server that has fallen behind from being buried under requests nobody waits for.
    """

    def __init__(self, timeout_s: float, limit: int) -> None:
        if not (timeout_s > 0 and limit > 0):
            raise ValueError(f"a request's time and the limit must be positive, got {timeout_s} s and {limit}")
        self.timeout_s = timeout_s
        self._places = asyncio.Semaphore(limit)
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Requests that the server has not answered yet, those given up included."""
        return len(self._tasks)

    async def fly(self, send: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `send()` and wait for it. Raises RequestTimeout, or what the request raises."""
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._places.acquire()
                task = self._depart(send)
                await asyncio.wait({task})
        except TimeoutError as error:
            raise RequestTimeout(f"no answer within {self.timeout_s * 1000:.0f} ms") from error
        return task.result()

    async def close(self, grace_s: float) -> bool:
        """Give what is in flight `grace_s` seconds to land, then cancel it. Whether everything has landed by itself."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace_s)
        landed = not self._tasks
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return landed

    def _depart(self, send: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        task = asyncio.create_task(send())
        self._tasks.add(task)
        task.add_done_callback(self._landed)
        return task

    def _landed(self, task: asyncio.Task[Any]) -> None:
        self._places.release()
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a late failure has no one left to tell
