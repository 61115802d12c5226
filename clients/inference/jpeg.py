"""Pictures as JPEG, decoded and letterboxed by the server: a tenth of the bytes, for clients far away."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

import numpy as np
from tritonclient.grpc import InferInput

from clients.inference.flight import Flights
from clients.inference.server import TritonLink, small_inputs
from clients.inference.transport import Request
from clients.types import Detections


class JpegTransport:
    """Uses the `<tier>_jpeg` ensembles. `max_size_px` (width, height) bounds what is encoded; None sends full size."""

    def __init__(
        self, link: TritonLink, executor: Executor, flights: Flights, *, max_size_px: tuple[int, int] | None
    ) -> None:
        self._link = link
        self._executor = executor
        self._max_size_px = max_size_px
        self._flights = flights

    async def start(self) -> None:
        """Nothing to prepare: every message is complete in itself."""

    async def infer(self, request: Request) -> Detections:
        """See Transport."""
        return await self._flights.fly(lambda: self._send(request))

    async def close(self) -> None:
        """See Transport."""
        await self._flights.close(grace_s=1.0)

    async def _send(self, request: Request) -> Detections:
        loop = asyncio.get_running_loop()
        data, scale = await loop.run_in_executor(self._executor, request.picture.encode_jpeg, self._max_size_px)
        image = InferInput("image", [1, len(data)], "UINT8")
        image.set_data_from_numpy(np.frombuffer(data, dtype=np.uint8)[np.newaxis])
        found = await self._link.infer(f"{request.tier}_jpeg", [image, *small_inputs(None, request.thresholds)])
        return Detections(found.xyxy / np.float32(scale), found.confidence, found.class_id)
