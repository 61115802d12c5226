"""Servers and clients are killed, models unloaded: nothing is left in shared memory, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import moving_square, write_clip
from test_fleet import configured, running, wait_for_lines
from test_transports import opened, request
from tritonclient.grpc.aio import InferenceServerClient

from clients.config import Settings, parse_settings
from clients.errors import InferenceError, RequestRejected, RequestTimeout
from clients.fleet import Fleet
from clients.inference.flight import Flights
from clients.inference.message import MessageTransport
from clients.inference.owner import Owner, ownerless, remove_stale
from clients.inference.raw import raw_canvas
from clients.inference.server import TritonLink
from clients.inference.shm import SharedMemoryTransport
from clients.types import Canvas, Tier, Verdict
from deploy.server import TritonServer
from loadtest.emulator.repository import Emulation, assemble_emulated, models_of
from loadtest.fifty import PROFILES
from loadtest.profile import read_profile

SHARED = Path("/dev/shm")


def ours(process: int | None = None) -> list[str]:
    """What a process, this one unless told, has left in shared memory."""
    return [path.name for path in SHARED.glob(f"y12f-{process or os.getpid()}-*")]


def mapped(server: TritonServer) -> int:
    """Regions of clients that the server holds in its memory."""
    return Path(f"/proc/{server.pid}/maps").read_text().count("/dev/shm/y12f-")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two seconds of H.264."""
    return str(write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving_square(50)))


@pytest.fixture
def controlled(tmp_path: Path) -> Iterator[TritonServer]:
    """A real Triton that loads and unloads models when asked, with n and m on an emulated card.

    A slow card, whose queues wait as much longer: a machine that is busy with loading must not make it refuse frames.
    """
    slow = Emulation(time_scale=8)
    assemble_emulated(tmp_path / "card", read_profile(PROFILES / "t4.json"), [Tier.N, Tier.M], slow)
    control = ("--model-control-mode=explicit", "--load-model=*")  # the product's own server never does
    with TritonServer(models_of(tmp_path / "card"), log=tmp_path / "triton.log", extra_args=control) as server:
        yield server


def settings(server: TritonServer, **sections: dict[str, Any]) -> Settings:
    """Tiers n and m, and no file for the results."""
    content = {
        "model": {"default": "yolo12m", "fallback": "yolo12n", "high_precision": "yolo12m", "retry_s": 0.5},
        "triton": {"url": server.grpc_url, "transport": "shm"},
        "system": {"target_fps": 10},
        "optimization": {"enable_model_switching": False},
        "sinks": {"jsonl": None},
    }
    return parse_settings({k: v | sections.get(k, {}) for k, v in content.items()}, origin="test")


async def until(condition: Callable[[], bool]) -> None:
    """Until it holds, such as a region that the server lets go a moment after its last answer."""
    while not condition():
        await asyncio.sleep(0.02)


async def until_more(fleet: Fleet, *names: str) -> None:
    """Until each of these cameras has been inferred three times more."""

    def inferred() -> dict[str, int]:
        return {report.stream_id: report.verdicts.get(Verdict.INFERRED, 0) for report in fleet.reports()}

    before = inferred()
    await until(lambda: all(inferred()[name] >= before.get(name, 0) + 3 for name in names))


def test_a_killed_client_leaves_nothing_to_the_next(tmp_path: Path, own_triton: TritonServer, clip: str) -> None:
    """Three clients are killed in the middle of their requests: the next one gives their regions back, and runs."""
    cameras = [{"id": f"cam{index}", "source": clip, "loop": True} for index in range(4)]
    config = configured(tmp_path, cameras=cameras, triton={"url": own_triton.grpc_url, "transport": "shm"})
    results = tmp_path / "detections.jsonl"
    processes = []
    for kill in (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
        results.unlink(missing_ok=True)
        with running("run", "--config", config) as process:
            wait_for_lines(results, 10, process)
            processes.append(process.pid)
            assert mapped(own_triton) == 1, "its own, and none of a dead one"
            process.send_signal(kill)
            _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "1 regions of clients that live no more are given back" in log
    asyncio.run(until(lambda: mapped(own_triton) == 0))
    assert [ours(pid) for pid in processes] == [[]] * 4


def test_the_living_keep_what_is_theirs() -> None:
    """A region belongs to nobody when its client has gone, and to its client as long as that lives."""
    alive, gone = Owner(), Owner()
    gone.release()
    regions = [f"{alive.name}-0", f"{gone.name}-0", f"{gone.name}-1", "somebody-elses"]
    try:
        assert ownerless(regions) == [f"{gone.name}-0", f"{gone.name}-1"]
        remove_stale()
        assert f"{alive.name}.lock" in ours()
    finally:
        alive.release()
    alive.release()
    assert ownerless(regions[:1]) == regions[:1]
    assert f"{alive.name}.lock" not in ours()


@pytest.mark.anyio
async def test_two_clients_at_one_server_leave_each_other_alone(own_triton: TritonServer) -> None:
    """The second starts and ends while the first runs: the first one's region stays registered."""
    async with opened(own_triton.grpc_url, "shm") as first:
        await first.infer(request())
        async with opened(own_triton.grpc_url, "shm") as second:
            await second.infer(request())
            assert mapped(own_triton) == 2
        await until(lambda: mapped(own_triton) == 1)
        await first.infer(request())
    await until(lambda: mapped(own_triton) == 0)
    assert ours() == []


@pytest.mark.anyio
async def test_the_server_is_killed_while_cameras_come_and_go(controlled: TritonServer, clip: str) -> None:
    """Killed and started again: meanwhile one camera leaves and one comes; all that are there go on, none was lost."""
    async with Fleet(settings(controlled)) as fleet:
        for name in ("a", "b"):
            await fleet.add_stream(name, clip, loop=True)
        await until_more(fleet, "a", "b")
        os.kill(controlled.pid, signal.SIGKILL)
        await until(lambda: fleet.stats().errors > 0)
        await fleet.remove_stream("b")
        await fleet.add_stream("c", clip, loop=True)
        await asyncio.to_thread(controlled.restart)
        await until_more(fleet, "a", "c")
        states = [camera.states for camera in fleet.stats().cameras]
        assert mapped(controlled) == 1
    assert states == [{"connecting": 1, "live": 1}] * 2
    totals = fleet.stats().as_json()
    assert totals["frames_decoded"] == totals["inferences"] + sum(totals["frames_skipped"].values())
    await until(lambda: mapped(controlled) == 0)
    assert ours() == []


@pytest.mark.anyio
async def test_a_tier_that_is_unloaded_falls_back_and_returns(controlled: TritonServer, clip: str) -> None:
    """m is unloaded while it is used: its camera goes on with n, counted, and returns when m does. n never notices."""
    control = InferenceServerClient(controlled.grpc_url)
    async with Fleet(settings(controlled)) as fleet:
        await fleet.add_stream("n", clip, loop=True, model="yolo12n")
        await fleet.add_stream("m", clip, loop=True)
        await until_more(fleet, "n", "m")
        await control.unload_model("yolo12m")
        await until(lambda: fleet.reports()[1].is_on_fallback)
        await until_more(fleet, "n", "m")
        assert fleet.get_results("m")[-1].tier is Tier.N
        await control.load_model("yolo12m")
        await until(lambda: fleet.get_results("m")[-1].tier is Tier.M)  # a probe may still fail while it is loaded
        await until_more(fleet, "n", "m")
        assert fleet.get_results("m")[-1].tier is Tier.M
    await control.close()
    n, m = fleet.stats().cameras
    assert (n.verdicts.get(Verdict.FAILED, 0), n.fallbacks) == (0, 0)
    assert m.fallbacks >= 3
    assert m.verdicts[Verdict.FAILED] == fleet.stats().errors >= 3, "each one counted"
    await until(lambda: mapped(controlled) == 0)
    assert ours() == []


@pytest.mark.anyio
async def test_the_only_tier_is_unloaded_and_loaded_again(controlled: TritonServer, clip: str) -> None:
    """An engine of a fleet without a fallback goes away and returns: errors are counted, then all goes on."""
    only = {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"}
    control = InferenceServerClient(controlled.grpc_url)
    async with Fleet(settings(controlled, model=only)) as fleet:
        await fleet.add_stream("a", clip, loop=True)
        await until_more(fleet, "a")
        await control.unload_model("yolo12n_engine")
        await until(lambda: fleet.stats().errors > 3)
        await control.load_model("yolo12n_engine")
        await until_more(fleet, "a")
        assert mapped(controlled) == 1, "no region more: the server was never away"
    await control.close()
    await until(lambda: mapped(controlled) == 0)
    assert ours() == []


@pytest.mark.anyio
async def test_slots_run_out_and_come_back(own_triton: TritonServer) -> None:
    """All slots wait for a frozen server: one request more times out too, and afterwards each slot is free again."""
    async with opened(own_triton.grpc_url, "shm", timeout_ms=1000) as transport:
        assert isinstance(transport, SharedMemoryTransport)
        await transport.infer(request())
        slots = transport.free_slots
        os.kill(own_triton.pid, signal.SIGSTOP)
        try:
            outcomes = await asyncio.gather(*(transport.infer(request()) for _ in range(slots)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {RequestTimeout}
            assert transport.free_slots == 0
            with pytest.raises(RequestTimeout):
                await transport.infer(request())
        finally:
            os.kill(own_triton.pid, signal.SIGCONT)
        await until(lambda: transport.free_slots == slots)
        await transport.infer(request())


@pytest.mark.anyio
async def test_a_request_that_waits_too_long_in_the_servers_queue_is_refused(tmp_path: Path) -> None:
    """A card that takes 0.9 s a batch, requests that may wait 0.3 s: the server itself refuses the rest, typed."""
    assemble_emulated(tmp_path / "card", read_profile(PROFILES / "t4.json"), [Tier.N], Emulation(time_scale=200))
    with (
        TritonServer(models_of(tmp_path / "card"), log=tmp_path / "triton.log") as server,
        ThreadPoolExecutor(2) as workers,
    ):
        async with TritonLink(server.grpc_url, request_timeout_s=0.3) as link:
            transport = MessageTransport(raw_canvas(link, Canvas(), workers), Flights(60.0, 64))
            started_s = time.monotonic()
            outcomes = await asyncio.gather(*(transport.infer(request()) for _ in range(40)), return_exceptions=True)
            assert time.monotonic() - started_s < 60, "refused, not timed out"
            await transport.close()
    refused = [outcome for outcome in outcomes if isinstance(outcome, InferenceError)]
    assert {type(outcome) for outcome in refused} == {RequestRejected}
    assert 0 < len(refused) < 40
