"""Pictures as JPEG, decoded and letterboxed by the server: a tenth of the bytes, for clients far away."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

import numpy as np
from tritonclient.grpc import InferInput

from clients.inference.message import Send
from clients.inference.server import TritonLink, small_inputs
from clients.inference.transport import Request
from clients.types import Detections


def jpeg_picture(link: TritonLink, executor: Executor, max_size_px: tuple[int, int] | None) -> Send:
    """Uses the `<tier>_jpeg` ensembles. `max_size_px` (width, height) bounds what is encoded; None sends full size."""

    async def send(request: Request) -> Detections:
        loop = asyncio.get_running_loop()
        data, scale = await loop.run_in_executor(executor, request.picture.encode_jpeg, max_size_px)
        image = InferInput("image", [1, len(data)], "UINT8")
        image.set_data_from_numpy(np.frombuffer(data, dtype=np.uint8)[np.newaxis])
        found = await link.infer(f"{request.tier}_jpeg", [image, *small_inputs(None, request.thresholds)])
        return Detections(found.xyxy / np.float32(scale), found.confidence, found.class_id)

    return send
