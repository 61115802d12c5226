"""The transport's in-memory twin: no server, an answer computed on the spot. For simulations and tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from clients.inference.transport import Request
from clients.types import Detections


class MemoryTransport:
    """Answers every request with `answer(request)`, after `delay_s` seconds. What `answer` raises is raised."""

    def __init__(self, answer: Callable[[Request], Detections], *, delay_s: float = 0.0) -> None:
        self._answer = answer
        self._delay_s = delay_s
        self.starts = 0

    async def start(self) -> None:
        """Counts the starts in `starts`."""
        self.starts += 1

    async def infer(self, request: Request) -> Detections:
        """See Transport."""
        await asyncio.sleep(self._delay_s)
        return self._answer(request)

    async def close(self) -> None:
        """Holds nothing."""
