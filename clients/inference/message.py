"""Transports whose every request is one complete gRPC message: no state but what is in flight."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from clients.inference.flight import Flights
from clients.inference.transport import Request
from clients.types import Detections

Send = Callable[[Request], Coroutine[Any, Any, Detections]]


class MessageTransport:
    """Sends each request with `send`: see raw.py and jpeg.py."""

    def __init__(self, send: Send, flights: Flights) -> None:
        self._send = send
        self._flights = flights

    async def start(self) -> None:
        """Nothing to prepare: every message is complete in itself."""

    async def infer(self, request: Request) -> Detections:
        """See Transport."""
        return await self._flights.fly(lambda: self._send(request))

    async def close(self) -> None:
        """See Transport."""
        await self._flights.close(grace_s=1.0)
