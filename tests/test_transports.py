"""One contract for every transport: the same picture gives the same detections, and failures are typed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import demo_frame

from clients.config import parse_settings
from clients.errors import ConfigError, InferenceError, ModelError, NoSharedMemory, RequestTimeout, ServerUnavailable
from clients.inference.choose import open_transport
from clients.inference.flight import Flights
from clients.inference.memory import MemoryTransport
from clients.inference.server import EngineCounts, TritonLink
from clients.inference.shared_or_messages import SharedOrMessages
from clients.inference.shm import Region, SharedMemoryTransport
from clients.inference.transport import Request, Transport
from clients.sources.picture import AvPicture, Scalers
from clients.types import Canvas, Detections, Thresholds, Tier
from deploy.server import TritonServer

pytestmark = pytest.mark.anyio
REMOTE = ["shm", "grpc", "jpeg"]


def request(**changes: object) -> Request:
    """A picture of the demo with objects in it."""
    fields = {"stream_id": "cam", "tier": Tier.N, "thresholds": Thresholds(0.4, 0.5)} | changes
    return Request(picture=AvPicture(demo_frame(), Scalers()), **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(url: str, name: str, timeout_ms: float = 20_000) -> AsyncIterator[Transport]:
    """A started transport of this name."""
    settings = parse_settings({"triton": {"transport": name, "timeout_ms": timeout_ms}}, origin="test")
    with ThreadPoolExecutor(2) as workers:
        async with TritonLink(url, request_timeout_s=timeout_ms / 1000) as link:
            chosen, transport = await open_transport(settings, link, workers, window=8)
            assert name in (chosen, "auto")
            try:
                yield transport
            finally:
                await transport.close()


async def memory_twin(triton: TritonServer) -> MemoryTransport:
    """The in-memory twin, answering what the real server answered."""
    async with opened(triton.grpc_url, "shm") as real:
        answer = await real.infer(request())
    return MemoryTransport(lambda _: answer)


@pytest.mark.parametrize("name", [*REMOTE, "memory"])
async def test_every_transport_gives_the_same_detections(triton: TritonServer, name: str) -> None:
    """Boxes in source pixels, sorted by confidence, the same within a pixel (JPEG: within 6, it is another picture)."""
    async with opened(triton.grpc_url, "grpc") as reference:
        expected = await reference.infer(request())
    if name == "memory":
        transport = await memory_twin(triton)
        await transport.start()
        found = await transport.infer(request())
    else:
        async with opened(triton.grpc_url, name) as remote:
            found = await remote.infer(request())
    assert len(expected) >= 3, "the picture is meant to show objects"
    assert (np.diff(found.confidence) <= 0).all()
    sure = expected.confidence > 0.6
    near = 6.0 if name == "jpeg" else 1.0
    for box, class_id in zip(expected.xyxy[sure], expected.class_id[sure], strict=True):
        same = np.abs(found.xyxy - box).max(axis=1) <= near
        assert (same & (found.class_id == class_id)).any(), (name, box)


@pytest.mark.parametrize("name", REMOTE)
async def test_thresholds_travel_with_the_request(triton: TritonServer, name: str) -> None:
    """Two cameras in one batch, each with its own threshold, get each its own answer."""
    async with opened(triton.grpc_url, name) as transport:
        few, many = await asyncio.gather(
            transport.infer(request(thresholds=Thresholds(0.8, 0.7))),
            transport.infer(request(thresholds=Thresholds(0.05, 0.7))),
        )
    assert len(few) < len(many)
    assert (few.confidence >= 0.8).all()
    assert (many.confidence >= 0.05).all()


@pytest.mark.parametrize("name", REMOTE)
async def test_an_unknown_model_is_a_model_error(triton: TritonServer, name: str) -> None:
    """A tier that is not served is a typed error that names the model, not a hang."""
    async with opened(triton.grpc_url, name) as transport:
        with pytest.raises(ModelError, match="yolo12x"):
            await transport.infer(request(tier=Tier.X))


@pytest.mark.parametrize("name", [*REMOTE, "auto"])
async def test_nobody_at_the_address(name: str) -> None:
    """A server that is not there is ServerUnavailable within the request's time."""
    with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:9"):
        async with opened("127.0.0.1:9", name) as transport:
            await transport.infer(request())


@pytest.mark.parametrize("name", REMOTE)
async def test_a_server_that_does_not_answer_is_a_time_out(own_triton: TritonServer, name: str) -> None:
    """A stopped server costs the request its time and no more; when it goes on, so do the answers."""
    async with opened(own_triton.grpc_url, name, timeout_ms=1500) as transport:
        await transport.infer(request())
        os.kill(own_triton.pid, signal.SIGSTOP)
        try:
            with pytest.raises(RequestTimeout, match="1500 ms"):
                await transport.infer(request())
        finally:
            os.kill(own_triton.pid, signal.SIGCONT)
        assert len(await eventually(transport)) >= 3


class Full(MemoryTransport):
    """Shared memory with or without room."""

    has_room = False

    async def start(self) -> None:
        if not self.has_room:
            raise NoSharedMemory("/dev/shm: no room")


async def test_without_room_for_shared_memory_whole_messages_travel(caplog: pytest.LogCaptureFixture) -> None:
    """A start that finds no room is no error: messages carry the frames, until a start that finds room again."""
    one, two = Detections.from_rows(np.ones((1, 6), np.float32)), Detections.from_rows(np.ones((2, 6), np.float32))
    shared = Full(lambda _: one)
    carrier = SharedOrMessages(shared, MemoryTransport(lambda _: two))
    assert len(await carrier.infer(request())) == 1
    await carrier.start()
    assert len(await carrier.infer(request())) == 2
    assert "frames travel by gRPC until the next start: /dev/shm: no room" in caplog.text
    shared.has_room = True
    await carrier.start()
    assert len(await carrier.infer(request())) == 1
    await carrier.close()


@pytest.mark.parametrize("name", REMOTE)
async def test_a_killed_server_is_found_again(own_triton: TritonServer, name: str) -> None:
    """After kill and restart the same transport works again once it was started again."""
    async with opened(own_triton.grpc_url, name) as transport:
        before = await transport.infer(request())
        os.kill(own_triton.pid, signal.SIGKILL)
        with pytest.raises(ServerUnavailable):
            await asyncio.gather(*(transport.infer(request()) for _ in range(4)))
        await asyncio.to_thread(own_triton.restart)
        after = await eventually(transport)
    assert np.allclose(before.xyxy, after.xyxy, atol=0.5)


async def eventually(transport: Transport) -> Detections:
    """The first answer of a server that is coming back; bounded by the test's own time limit."""
    while True:
        try:
            await transport.start()
            return await transport.infer(request())
        except InferenceError:
            await asyncio.sleep(0.05)


async def test_many_requests_become_batches(triton: TritonServer) -> None:
    """Eight cameras at once are inferred in fewer executions than requests."""
    async with TritonLink(triton.grpc_url) as link, opened(triton.grpc_url, "shm") as transport:
        before = await link.engine_counts()
        await asyncio.gather(*(transport.infer(request()) for _ in range(8)))
        after = await link.engine_counts()
    assert after.inferences - before.inferences == 8
    assert (after.mean_batch_since(before) or 0) >= 2


async def test_the_server_says_what_it_serves(triton: TritonServer) -> None:
    """Class names, precision and canvas come from the server; a canvas of another size is refused by name."""
    async with TritonLink(triton.grpc_url) as link:
        assert await link.is_ready()
        assert await link.ready_tiers(list(Tier)) == (Tier.N,)
        assert await link.labels(Tier.N) == ("person", "car", "bus", "bicycle")
        assert await link.precision(Tier.N) == "f32"
        await link.check_canvas(Tier.N, Canvas())
        with pytest.raises(ConfigError, match=r"model\.canvas is 320x192, which needs .*\[288, 320\].*\[576, 640\]"):
            await link.check_canvas(Tier.N, Canvas(320, 192))


def test_a_mean_batch_needs_executions() -> None:
    """Without executions in between there is no mean batch, nor from counts that a restart has reset."""
    assert EngineCounts(12, 4).mean_batch_since(EngineCounts(4, 2)) == 4
    assert EngineCounts(12, 4).mean_batch_since(EngineCounts(12, 4)) is None
    assert EngineCounts(2, 1).mean_batch_since(EngineCounts(12, 4)) is None
    assert EngineCounts(120, 90).mean_batch_since(EngineCounts(400, 80)) is None


async def test_a_flight_outlives_the_caller_that_gave_up() -> None:
    """After the time-out the request still holds its place until it lands, and only then frees it."""
    flights, landing = Flights(timeout_s=0.05, limit=1), asyncio.Event()
    with pytest.raises(RequestTimeout, match="50 ms"):
        await flights.fly(landing.wait)
    assert len(flights) == 1
    with pytest.raises(RequestTimeout):
        await flights.fly(landing.wait)
    landing.set()
    assert await flights.fly(landing.wait) is True
    await flights.close(grace_s=1)
    assert len(flights) == 0


async def test_a_cancelled_caller_does_not_cancel_the_flight() -> None:
    """A camera that is removed in the middle of a request leaves the request to land."""
    flights, landing = Flights(timeout_s=10, limit=2), asyncio.Event()
    caller = asyncio.create_task(flights.fly(landing.wait))
    while not len(flights):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert len(flights) == 1
    landing.set()
    await flights.close(grace_s=1)
    assert len(flights) == 0


async def test_a_region_keeps_slots_apart_and_leaves_no_name() -> None:
    """Slots do not overlap, a leased one is not leased again, and unlinking removes the name from /dev/shm."""
    region = Region("y12f-test-0", Canvas(64, 32), slots=2)
    path = Path("/dev/shm") / region.name
    assert path.exists()
    first, second = await region.lease(1), await region.lease(1)
    region.array(first)[:] = 1
    region.array(second)[:] = 2
    assert (region.array(first) == 1).all()
    with pytest.raises(RequestTimeout, match="no slot of shared memory"):
        await region.lease(0.01)
    region.release(first)
    assert await region.lease(1) == first
    region.unlink()
    assert not path.exists()


async def test_a_slot_that_timed_out_is_not_written_until_the_server_has_answered(own_triton: TritonServer) -> None:
    """Five requests time out at a frozen server: their slots stay taken, and come back when it has answered."""
    async with opened(own_triton.grpc_url, "shm", timeout_ms=1000) as transport:
        assert isinstance(transport, SharedMemoryTransport)
        await eventually(transport)
        all_slots = transport.free_slots
        os.kill(own_triton.pid, signal.SIGSTOP)
        try:
            outcomes = await asyncio.gather(*(transport.infer(request()) for _ in range(5)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {RequestTimeout}
            assert transport.free_slots == all_slots - 5
        finally:
            os.kill(own_triton.pid, signal.SIGCONT)
        while transport.free_slots < all_slots:
            await asyncio.sleep(0.02)


async def test_a_slot_of_a_broken_connection_is_never_written_again(own_triton: TritonServer) -> None:
    """The connection breaks with requests in flight: their slots stay lost, and a new region has all of its own."""
    async with opened(own_triton.grpc_url, "shm") as transport:
        assert isinstance(transport, SharedMemoryTransport)
        await transport.infer(request())
        all_slots = transport.free_slots
        os.kill(own_triton.pid, signal.SIGSTOP)
        flying = asyncio.gather(*(transport.infer(request()) for _ in range(3)), return_exceptions=True)
        while transport.free_slots > all_slots - 3:
            await asyncio.sleep(0.02)
        os.kill(own_triton.pid, signal.SIGKILL)
        assert {type(outcome) for outcome in await flying} == {ServerUnavailable}
        assert transport.free_slots == all_slots - 3
        await asyncio.to_thread(own_triton.restart)
        await eventually(transport)
        assert transport.free_slots == all_slots


async def test_closing_does_not_wait_for_a_frozen_server(own_triton: TritonServer) -> None:
    """A server that does not answer at all costs the shutdown a bounded time."""
    transport_context = opened(own_triton.grpc_url, "shm", timeout_ms=500)
    transport = await transport_context.__aenter__()
    os.kill(own_triton.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RequestTimeout):
            await transport.infer(request())
        await asyncio.wait_for(transport_context.__aexit__(None, None, None), 20)
    finally:
        os.kill(own_triton.pid, signal.SIGCONT)
