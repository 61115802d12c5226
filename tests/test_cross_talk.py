"""Fifty cameras, one server: nobody ever gets another camera's answer, nor an older one of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from coded import CodedPicture
from conftest import MODELS, ROOT

from clients.config import parse_settings
from clients.errors import InferenceError, RequestTimeout, ServerUnavailable
from clients.inference.choose import open_transport
from clients.inference.server import TritonLink
from clients.inference.transport import Request, Transport
from clients.types import Detections, Thresholds, Tier
from deploy.run_repository import assemble
from deploy.server import TritonServer

CAMERAS, REQUESTS, WINDOW = 50, 16, 12
# echo_engine.py is later than this now and then, and nothing else is, on a slow machine too: twelve requests take less;
# Triton itself refuses what has waited for 2 s
TIMEOUT_S = 1.8
RESTARTS = 2


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[TritonServer]:
    """A real Triton whose engine returns the numbers in the pixels."""
    assembled = assemble(tmp_path / "repository", [Tier.N], models_dir=MODELS)
    shutil.copy(ROOT / "tests" / "models" / "echo_engine.py", assembled.path / "yolo12n_engine" / "1" / "model.py")
    with TritonServer(assembled.path, log=tmp_path / "triton.log") as server:
        yield server


class Fleet:
    """Fifty cameras that send numbered pictures and look at what comes back."""

    def __init__(self, link: TritonLink, transport: Transport) -> None:
        self.link, self.transport = link, transport
        self.window = asyncio.Semaphore(WINDOW)
        self.recovery = asyncio.Lock()
        self.outcomes: Counter[str] = Counter()

    async def run(self) -> None:
        """All cameras at once."""
        async with asyncio.TaskGroup() as group:
            for camera in range(CAMERAS):
                group.create_task(self.camera(camera))

    async def camera(self, camera: int) -> None:
        """One picture after another; a failure is counted and the next picture sent."""
        for number in range(REQUESTS):
            async with self.window:
                await self.send(camera, number)

    async def send(self, camera: int, number: int) -> None:
        """One request and its answer."""
        request = Request(f"cam{camera}", CodedPicture(camera, number), Tier.N, Thresholds())
        try:
            answer = await self.transport.infer(request)
        except ServerUnavailable:
            self.outcomes["unavailable"] += 1
            await self.recover()
        except InferenceError as error:
            self.outcomes[type(error).__name__] += 1
        else:
            self.outcomes["answered"] += 1
            self.outcomes["matched"] += matches(answer, camera, number)

    async def recover(self) -> None:
        """Wait for the server, and make the transport ready again."""
        async with self.recovery:
            while not await self.link.is_ready():
                await asyncio.sleep(0.05)
            await self.transport.start()


def matches(answer: Detections, camera: int, number: int) -> bool:
    """Whether the answer is exactly this camera's and this request's."""
    return len(answer) == 1 and answer.class_id[0] == camera and round(float(answer.xyxy[0, 0])) == number


@pytest.mark.anyio
@pytest.mark.parametrize("transport", ["shm", "grpc", "jpeg"])
async def test_every_answer_belongs_to_its_question(echo: TritonServer, transport: str) -> None:
    """Under time-outs, two server kills and slots used over and over, all answers match."""
    settings = parse_settings({"triton": {"transport": transport, "timeout_ms": TIMEOUT_S * 1000}}, origin="test")
    with ThreadPoolExecutor(2) as workers:
        async with TritonLink(echo.grpc_url, request_timeout_s=5) as link:
            _, carrier = await open_transport(settings, link, workers, window=WINDOW)
            fleet = Fleet(link, carrier)
            run = asyncio.create_task(fleet.run())
            for restart in range(1, RESTARTS + 1):
                while fleet.outcomes["answered"] < restart * CAMERAS * REQUESTS // 4 and not run.done():
                    await asyncio.sleep(0.01)
                os.kill(echo.pid, signal.SIGKILL)
                await asyncio.to_thread(echo.restart)
            await run
            await carrier.close()
    outcomes = fleet.outcomes
    assert outcomes["answered"] == outcomes["matched"], outcomes
    assert outcomes["answered"] > CAMERAS * REQUESTS / 2, outcomes
    assert outcomes["RequestTimeout"] > 0, "the engine is late now and then: some requests must time out"
    assert outcomes["unavailable"] > 0, "the server was killed: some requests must have met nobody"
    assert {*outcomes} <= {"answered", "matched", "unavailable", RequestTimeout.__name__}, outcomes
    assert not list(Path("/dev/shm").glob(f"y12f-{os.getpid()}-*"))
