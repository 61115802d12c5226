"""Shared memory as long as there is room for it, else whole messages: a full /dev/shm costs speed, not cameras."""

from __future__ import annotations

import logging

from clients.errors import NoSharedMemory
from clients.inference.transport import Request, Transport
from clients.logs import about
from clients.types import Detections

log = logging.getLogger(__name__)


class SharedOrMessages:
    """Begins with `shared`, which has been started. It is tried again at every start, so after each outage."""

    def __init__(self, shared: Transport, messages: Transport) -> None:
        self._shared, self._messages = shared, messages
        self._carrier = shared

    async def start(self) -> None:
        """See Transport. A region that finds no room is no error here."""
        try:
            await self._shared.start()
        except NoSharedMemory as error:
            await self._messages.start()
            self._carrier = self._messages
            log.warning("frames travel by gRPC until the next start: %s", error, extra=about("no_shared_memory"))
        else:
            self._carrier = self._shared

    async def infer(self, request: Request) -> Detections:
        """See Transport."""
        return await self._carrier.infer(request)

    async def close(self) -> None:
        """See Transport."""
        await self._messages.close()
        await self._shared.close()
