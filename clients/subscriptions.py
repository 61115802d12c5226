"""Results for whoever asks: the newest of each camera, and subscriptions that never hold the pipeline up.

A subscription is bounded. When its reader is too slow the oldest waiting result makes room, and is counted. One that
nobody holds any more is forgotten; nothing has to be closed.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import Generic, Self, TypeVar

from clients.result import Result

KEPT = 30  # newest results of a camera, for `newest`
MOST_WAITING = 64  # results that a subscription holds for its reader
Item = TypeVar("Item")


class Subscription(Generic[Item]):
    """What happens from now on, oldest first, such as a camera's results: `async for result in subscription`.

    It ends when nothing more can come: the camera has ended or is removed, or the fleet stops. `dropped` counts what
    its reader missed.
    """

    def __init__(self, most: int) -> None:
        """Holds `most` results at most. Raises ValueError when that is less than one."""
        if most < 1:
            raise ValueError(f"a subscription holds at least one result, got {most}")
        self.dropped = 0
        self._most = most
        self._waiting: deque[Item] = deque()
        self._wake = asyncio.Event()
        self._has_ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while not self._waiting:
            if self._has_ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.popleft()

    def put(self, item: Item) -> int:
        """Hand one over; never waits. Returns how many were dropped for it, 0 or 1."""
        full = len(self._waiting) == self._most
        if full:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(item)
        self._wake.set()
        return int(full)

    def end(self) -> None:
        """Nothing more will come; what waits is still read."""
        self._has_ended = True
        self._wake.set()


class _Stream:
    def __init__(self) -> None:
        self.newest: deque[Result] = deque(maxlen=KEPT)
        self.readers: weakref.WeakSet[Subscription[Result]] = weakref.WeakSet()
        self.has_ended = False


class Subscriptions:
    """A sink: what the pipeline writes goes to the readers of that camera. One event loop owns it.

    `dropped` counts the results that all readers together have missed.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._streams: dict[str, _Stream] = {}

    def open(self, stream_id: str) -> None:
        """A camera begins; what one of the same name has left is forgotten."""
        self._streams[stream_id] = _Stream()

    def write(self, result: Result) -> None:
        """One result of a camera; of one that is not open it is nobody's."""
        stream = self._streams.get(result.stream_id)
        if stream is None:
            return
        stream.newest.append(result)
        for reader in stream.readers:
            self.dropped += reader.put(result)

    def end(self, stream_id: str) -> None:
        """A camera brings no more results; its newest can still be asked for."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.has_ended = True
            for reader in stream.readers:
                reader.end()

    def end_all(self) -> None:
        """The fleet stops."""
        for stream_id in self._streams:
            self.end(stream_id)

    def close(self, stream_id: str) -> None:
        """A camera is removed."""
        self.end(stream_id)
        self._streams.pop(stream_id, None)

    def newest(self, stream_id: str) -> list[Result]:
        """The newest results of a camera, oldest first, at most `KEPT`. Raises KeyError for one that is not open."""
        return list(self._streams[stream_id].newest)

    def subscribe(self, stream_id: str, most: int) -> Subscription[Result]:
        """Raises KeyError for a camera that is not open."""
        stream, reader = self._streams[stream_id], Subscription[Result](most)
        stream.readers.add(reader)
        if stream.has_ended:
            reader.end()
        return reader
