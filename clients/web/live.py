"""An answer that does not end: counted as a viewer, and cut when its reader takes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from clients.web.viewers import TooSlow, Viewers


class LiveResponse(StreamingResponse):
    """Parts are made one by one, each after the one before it was taken, so nothing queues for a slow reader."""

    def __init__(self, parts: AsyncIterator[bytes], viewers: Viewers, *, media_type: str) -> None:
        super().__init__(parts, media_type=media_type, headers={"X-Accel-Buffering": "no"})
        self._viewers = viewers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Refused when no place is free."""

        async def patient(message: Message) -> None:
            await self._viewers.in_time(send(message))

        with self._viewers.one():
            try:
                await super().__call__(scope, receive, patient)
            except* TooSlow:
                scope["app"].state.cut(scope["client"])
