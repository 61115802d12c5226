"""Which transport carries the frames: what was asked for, or the quickest that works."""

from __future__ import annotations

import logging
from concurrent.futures import Executor

from clients.config import Settings, TransportName
from clients.errors import InferenceError
from clients.inference.flight import Flights
from clients.inference.jpeg import jpeg_picture
from clients.inference.message import MessageTransport
from clients.inference.raw import raw_canvas
from clients.inference.server import TritonLink
from clients.inference.shared_or_messages import SharedOrMessages
from clients.inference.shm import SharedMemoryTransport
from clients.inference.transport import Transport

log = logging.getLogger(__name__)


async def open_transport(
    settings: Settings, link: TritonLink, executor: Executor, *, window: int
) -> tuple[TransportName, Transport]:
    """The transport of `triton.transport`, started, and its name.

    `auto` is shared memory when the server can open ours, else raw gRPC, with the reason logged; and when there is no
    room for it any more after the server was away, raw gRPC until it has been away again.
    Raises ServerUnavailable, ModelError.
    """
    wanted = settings.triton.transport
    if wanted != "auto":
        return wanted, await _started(_transport(wanted, settings, link, executor, window))
    try:
        shared = _transport("shm", settings, link, executor, window)
        await _started(shared)
    except InferenceError as error:  # another host or another /dev/shm: the server cannot open what we named
        log.warning("frames travel by gRPC: the server does not take shared memory (%s)", error)
        return "grpc", _transport("grpc", settings, link, executor, window)
    return "shm", SharedOrMessages(shared, _transport("grpc", settings, link, executor, window))


async def _started(transport: Transport) -> Transport:
    """The transport, started; one that cannot start holds nothing back."""
    try:
        await transport.start()
    except InferenceError:
        await transport.close()
        raise
    return transport


def _transport(name: TransportName, settings: Settings, link: TritonLink, executor: Executor, window: int) -> Transport:
    limit = 2 * window  # as many again as may be in flight wait out their quarantine
    flights = Flights(settings.triton.timeout_ms / 1000, limit)
    match name:
        case "shm":
            return SharedMemoryTransport(link, settings.canvas, executor, flights, slots=limit)
        case "jpeg":
            scaled = settings.optimization.resolution_scaling
            max_size_px = settings.optimization.max_size_px if scaled else None
            return MessageTransport(jpeg_picture(link, executor, max_size_px), flights)
        case _:
            return MessageTransport(raw_canvas(link, settings.canvas, executor), flights)
