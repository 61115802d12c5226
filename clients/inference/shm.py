"""Canvases in system shared memory: the server reads them where they were written. Same host, same uid.

One region per server start, cut into slots; a slot belongs to one request until the server has answered it, however
long its caller was willing to wait. The region's name is removed as soon as the server has opened it: both sides
keep their mapping, and nothing is left in /dev/shm even when both are killed. What a client that was killed has left
registered is given back by the next one that starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
from concurrent.futures import Executor
from itertools import count

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput

from clients.errors import InferenceError, NoSharedMemory, RequestTimeout, ServerUnavailable
from clients.inference.flight import Flights
from clients.inference.owner import SHARED_MEMORY, Owner, ownerless, remove_stale
from clients.inference.server import TritonLink, small_inputs
from clients.inference.transport import Request
from clients.types import Canvas, Detections

_GRACE_S = 3.0  # at least so long after its death a client's requests may still be read by the server
log = logging.getLogger(__name__)


class Region:
    """`slots` canvases in one piece of shared memory, and which of them are free."""

    def __init__(self, name: str, canvas: Canvas, slots: int) -> None:
        """Raises OSError when there is no room for it."""
        self.name = name
        self.slot_bytes = _whole_pages(canvas.nv12_shape[0] * canvas.nv12_shape[1])
        self.size_bytes = self.slot_bytes * slots
        self.lost = 0  # slots that a broken connection left in an unknown state
        self._shape = canvas.nv12_shape
        self.free: asyncio.Queue[int] = asyncio.Queue()
        for index in range(slots):
            self.free.put_nowait(index)
        self._path = SHARED_MEMORY / self.name
        descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size_bytes)  # a full /dev/shm is an error now, not a SIGBUS later
            self._memory = mmap.mmap(descriptor, self.size_bytes)
        except OSError:
            self.unlink()
            raise
        finally:
            os.close(descriptor)

    async def lease(self, timeout_s: float) -> int:
        """Take a free slot. Raises RequestTimeout when every slot is still being read."""
        if not self.free.empty():
            return self.free.get_nowait()
        try:
            return await asyncio.wait_for(self.free.get(), timeout_s)
        except TimeoutError as error:
            raise RequestTimeout(f"no slot of shared memory became free within {timeout_s * 1000:.0f} ms") from error

    def release(self, slot: int) -> None:
        """The server has answered: the slot may be written again."""
        self.free.put_nowait(slot)

    def array(self, slot: int) -> NDArray[np.uint8]:
        """UINT8 canvas of a slot, a view of the shared memory."""
        size = self._shape[0] * self._shape[1]
        return np.frombuffer(self._memory, np.uint8, size, slot * self.slot_bytes).reshape(self._shape)

    def unlink(self) -> None:
        """Remove the name; who has the region open keeps it."""
        self._path.unlink(missing_ok=True)


class SharedMemoryTransport:
    """Sends the place of a canvas instead of the canvas."""

    def __init__(self, link: TritonLink, canvas: Canvas, executor: Executor, flights: Flights, *, slots: int) -> None:
        self._link = link
        self._canvas = canvas
        self._executor = executor
        self._slots = slots
        self._flights = flights
        self._owner: Owner | None = None
        self._numbers = count()
        self._region: Region | None = None
        self._registered: list[str] = []

    async def start(self) -> None:
        """Register a region, unless the server knows ours and no slot of it was lost with a broken connection.

        A region that is replaced stays registered until `close`: a server that is alive may still be reading it.
        Raises NoSharedMemory, ServerUnavailable, ModelError.
        """
        if self._region is not None and not self._region.lost and self._region.name in await self._link.registered():
            return
        if self._region is None:
            await self._give_back_of_the_dead()
        try:
            self._owner = self._owner or Owner()
            region = Region(f"{self._owner.name}-{next(self._numbers)}", self._canvas, self._slots)
        except OSError as error:
            size = self._slots * self._canvas.nv12_shape[0] * self._canvas.nv12_shape[1]
            raise NoSharedMemory(f"{SHARED_MEMORY}: no room for {size / 1e6:.0f} MB: {error.strerror}") from error
        try:
            await self._link.register(region.name, f"/{region.name}", region.size_bytes)
        finally:
            region.unlink()
        self._region = region
        self._registered.append(region.name)

    @property
    def free_slots(self) -> int:
        """Slots that may be written: neither in flight nor in quarantine."""
        return 0 if self._region is None else self._region.free.qsize()

    async def infer(self, request: Request) -> Detections:
        """See Transport."""
        region = self._region
        if region is None:
            raise ServerUnavailable(f"{self._link.url}: shared memory is not registered; start the transport first")
        return await self._flights.fly(lambda: self._send(region, request))

    async def close(self) -> None:
        """See Transport."""
        landed = await self._flights.close(grace_s=1.0)
        self._region = None
        while landed and self._registered:  # else a server that is alive may still be reading: it keeps the region
            with contextlib.suppress(InferenceError):  # a dead server has forgotten it already
                await self._link.unregister(self._registered.pop())
        if self._owner is not None:
            self._owner.release()  # what is still registered is now nobody's, and the next client gives it back

    async def _give_back_of_the_dead(self) -> None:
        """Unregister the regions of clients that were killed, when none of their requests can be read any more."""
        regions = ownerless(await self._link.registered())
        if regions:
            log.warning("%d regions of clients that live no more are given back to the server", len(regions))
            await asyncio.sleep(max(_GRACE_S, self._flights.timeout_s + 1))
        for name in regions:
            with contextlib.suppress(InferenceError):  # another client was quicker
                await self._link.unregister(name)
        remove_stale()

    async def _send(self, region: Region, request: Request) -> Detections:
        slot = await region.lease(self._flights.timeout_s)
        try:
            found = await self._exchange(region, slot, request)
        except (ServerUnavailable, asyncio.CancelledError):
            region.lost += 1  # nobody knows whether the slot is still being read: it is never written again
            raise
        except BaseException:
            region.release(slot)
            raise
        region.release(slot)
        return found

    async def _exchange(self, region: Region, slot: int, request: Request) -> Detections:
        loop = asyncio.get_running_loop()
        pixels = region.array(slot)
        geometry = await loop.run_in_executor(self._executor, request.picture.write_canvas, self._canvas, pixels)
        frames = InferInput("frames", [1, *pixels.shape], "UINT8")
        frames.set_shared_memory(region.name, pixels.nbytes, offset=slot * region.slot_bytes)
        return await self._link.infer(request.tier.value, [frames, *small_inputs(geometry, request.thresholds)])


def _whole_pages(size_bytes: int) -> int:
    return -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
