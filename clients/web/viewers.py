"""Who looks: streams that stay open are counted, bounded, and end when the server does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from clients.web.problems import Refused

MOST = 64  # at once: pages of the wall, MJPEG and event streams together
PATIENCE_S = 15.0  # for a reader that takes nothing
T = TypeVar("T")


class TooSlow(Exception):
    """A reader has taken nothing for too long."""


class Viewers:
    """The places for streams that stay open."""

    def __init__(self, most: int = MOST, patience_s: float = PATIENCE_S) -> None:
        self.most = most
        self.patience_s = patience_s
        self.count = 0
        self.closing = asyncio.Event()

    def close(self) -> None:
        """All streams end soon, and none begins."""
        self.closing.set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place for one stream. Raises Refused (503) when there is none."""
        if self.closing.is_set() or self.count >= self.most:
            raise Refused(503, f"all {self.most} places for live streams are taken", {"Retry-After": "5"})
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def pause(self, seconds: float) -> bool:
        """Wait, but not when the server ends. Whether to go on."""
        try:
            await asyncio.wait_for(self.closing.wait(), seconds)
        except TimeoutError:
            return True
        return False

    async def in_time(self, sending: Awaitable[T]) -> T:
        """What is sent to a reader. Raises TooSlow when he does not take it."""
        try:
            return await asyncio.wait_for(sending, self.patience_s)
        except TimeoutError:
            raise TooSlow(f"a reader took nothing for {self.patience_s:g} s") from None
