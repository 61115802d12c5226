"""Which transport carries the frames: what was asked for, or the quickest that works."""

from __future__ import annotations

import ipaddress
import logging
from concurrent.futures import Executor

from clients.config import Settings, TransportName
from clients.errors import InferenceError
from clients.inference.jpeg import JpegTransport
from clients.inference.raw import RawTransport
from clients.inference.server import TritonLink
from clients.inference.shm import SharedMemoryTransport
from clients.inference.transport import Transport

log = logging.getLogger(__name__)


async def open_transport(
    settings: Settings, link: TritonLink, executor: Executor, *, window: int
) -> tuple[TransportName, Transport]:
    """The transport of `triton.transport`, started, and its name.

    `auto` is shared memory when the server is on this host and takes it, else raw gRPC, with the reason logged.
    Raises ServerUnavailable, ModelError.
    """
    wanted = settings.triton.transport
    if wanted != "auto":
        transport = _transport(wanted, settings, link, executor, window)
        await transport.start()
        return wanted, transport
    if not _is_loopback(link.url):
        log.info("frames travel by gRPC: %s is another host", link.url)
    else:
        shared = _transport("shm", settings, link, executor, window)
        try:
            await shared.start()
        except InferenceError as error:
            log.warning("frames travel by gRPC: the server does not take shared memory (%s)", error)
        else:
            return "shm", shared
    return "grpc", _transport("grpc", settings, link, executor, window)


def _transport(name: TransportName, settings: Settings, link: TritonLink, executor: Executor, window: int) -> Transport:
    timeout_s = settings.triton.timeout_ms / 1000
    match name:
        case "shm":
            slots = 2 * window  # as many again as may be in flight wait out their quarantine
            return SharedMemoryTransport(link, settings.canvas, executor, timeout_s=timeout_s, slots=slots)
        case "jpeg":
            scaled = settings.optimization.resolution_scaling
            max_size_px = settings.optimization.max_size_px if scaled else None
            return JpegTransport(link, executor, timeout_s=timeout_s, max_size_px=max_size_px)
        case _:
            return RawTransport(link, settings.canvas, executor, timeout_s=timeout_s)


def _is_loopback(url: str) -> bool:
    host = url.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
