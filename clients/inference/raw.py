"""Canvases inside gRPC messages: works from any host, at the price of copying every canvas a few times."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

import numpy as np
from tritonclient.grpc import InferInput

from clients.inference.flight import Flights
from clients.inference.server import TritonLink, small_inputs
from clients.inference.transport import Request
from clients.types import Canvas, Detections


class RawTransport:
    """Sends the canvas as the bytes of the tensor `frames`."""

    def __init__(self, link: TritonLink, canvas: Canvas, executor: Executor, flights: Flights) -> None:
        self._link = link
        self._canvas = canvas
        self._executor = executor
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
        pixels = np.empty(self._canvas.nv12_shape, dtype=np.uint8)
        loop = asyncio.get_running_loop()
        geometry = await loop.run_in_executor(self._executor, request.picture.write_canvas, self._canvas, pixels)
        frames = InferInput("frames", [1, *pixels.shape], "UINT8")
        frames.set_data_from_numpy(pixels[np.newaxis])
        return await self._link.infer(request.tier.value, [frames, *small_inputs(geometry, request.thresholds)])
