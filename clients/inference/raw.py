"""Canvases inside gRPC messages: works from any host, at the price of copying every canvas a few times."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

import numpy as np
from tritonclient.grpc import InferInput

from clients.inference.message import Send
from clients.inference.server import TritonLink, small_inputs
from clients.inference.transport import Request
from clients.types import Canvas, Detections


def raw_canvas(link: TritonLink, canvas: Canvas, executor: Executor) -> Send:
    """Sends the canvas as the bytes of the tensor `frames`."""

    async def send(request: Request) -> Detections:
        pixels = np.empty(canvas.nv12_shape, dtype=np.uint8)
        loop = asyncio.get_running_loop()
        geometry = await loop.run_in_executor(executor, request.picture.write_canvas, canvas, pixels)
        frames = InferInput("frames", [1, *pixels.shape], "UINT8")
        frames.set_data_from_numpy(pixels[np.newaxis])
        return await link.infer(request.tier.value, [frames, *small_inputs(geometry, request.thresholds)])

    return send
