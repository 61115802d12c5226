"""Live cameras on real protocols, good and bad, in one run with others: nobody disturbs anybody, nobody gives up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import moving_square, write_clip
from live_servers import (
    closes,
    drips,
    drips_on,
    garbage,
    hangs,
    hls_server,
    http_server,
    jpegs,
    mjpeg,
    rtsp_server,
    tcp_server,
    udp_camera,
)

from clients.gate import GateRules
from clients.inference.memory import MemoryTransport
from clients.inference.transport import Request
from clients.lane import Lane
from clients.pipeline import Pipeline
from clients.result import Result
from clients.types import Detections, LiveOptions, StreamSpec, Tier, Verdict

pytestmark = pytest.mark.anyio
QUICK = LiveOptions(open_timeout_s=0.5, read_timeout_s=1.0)
NEVER_LOST = {"connecting": 1, "live": 1}


class Fleet:
    """A running pipeline on the in-memory twin, and what each camera's requests and results were."""

    def __init__(self, sources: dict[str, str], live: LiveOptions) -> None:
        rules = GateRules(min_interval_s=0.02, max_age_ms=2000, similarity_threshold=None)
        self.lanes = {
            name: Lane(StreamSpec(name, source, loop=True, live=live), rules, Tier.N)
            for name, source in sources.items()
        }
        self.results: dict[str, list[Result]] = {name: [] for name in sources}
        self.sizes: dict[str, set[tuple[int, int]]] = {name: set() for name in sources}
        self.pipeline = Pipeline(
            list(self.lanes.values()), MemoryTransport(self._answer), [self], window=8, server_ready=self._ready
        )

    def write(self, result: Result) -> None:
        """It is a sink."""
        self.results[result.stream_id].append(result)

    def entered(self, name: str, state: str) -> int:
        """How often a camera entered a state."""
        return self.lanes[name].report().states.get(state, 0)

    def problem(self, name: str) -> str:
        """A camera's last problem."""
        return self.lanes[name].report().last_problem or ""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until it holds; a test's own time limit ends what never does."""
        while not condition():
            await asyncio.sleep(0.02)

    async def until_others_go_on(self, *others: str, results: int = 25) -> None:
        """Until each of these has been inferred so many times more."""
        before = {name: len(self.results[name]) for name in others}
        await self.until(lambda: all(len(self.results[name]) >= before[name] + results for name in others))

    def assert_undisturbed(self, *names: str) -> None:
        """These cameras went live once and stayed so, every result in order, nothing failed."""
        for name in names:
            report = self.lanes[name].report()
            assert report.states == NEVER_LOST, f"{name}: {report.last_problem}"
            assert report.verdicts.get(Verdict.FAILED, 0) == 0
            order = [result.frame_index for result in self.results[name]]
            assert order == sorted(set(order))
            times = [result.media_time_s for result in self.results[name]]
            assert times == sorted(set(times))

    def _answer(self, request: Request) -> Detections:
        self.sizes[request.stream_id].add(request.picture.size_px)
        return Detections.empty()

    async def _ready(self) -> bool:
        return True


@asynccontextmanager
async def running(sources: dict[str, str], live: LiveOptions = QUICK) -> AsyncIterator[Fleet]:
    """The fleet while the test looks at it; it must end within the test's patience, and account for each frame."""
    fleet = Fleet(sources, live)
    run = asyncio.create_task(fleet.pipeline.run())
    try:
        yield fleet
    finally:
        fleet.pipeline.stop()
        await asyncio.wait_for(run, 20)
    for lane in fleet.lanes.values():
        decoded, verdicts = lane.camera.counts()
        assert decoded == verdicts.total()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three seconds of H.264 in two sizes."""
    folder = tmp_path_factory.mktemp("clips")
    options = {"preset": "ultrafast", "crf": "20", "g": "25"}
    small = write_clip(folder / "small.mp4", moving_square(75), options=options)
    large = write_clip(folder / "large.mp4", moving_square(50, width=640, height=384), options=options)
    return small, large


async def test_every_kind_side_by_side(clips: tuple[Path, Path], tmp_path: Path) -> None:
    """RTSP by TCP, by UDP and with a login, MJPEG, HLS, MPEG-TS by UDP and a file: each is seen, none is lost."""
    small, large = clips
    with ExitStack() as servers:
        open_port = servers.enter_context(rtsp_server(f"a={small}", f"b={large}"))
        shut_port = servers.enter_context(rtsp_server(f"c={small}", login="viewer:p@ss/w:rd"))
        sources = {
            "rtsp": f"rtsp://127.0.0.1:{open_port}/a",
            "large": f"rtsp://127.0.0.1:{open_port}/b",
            "login": f"rtsp://viewer:p%40ss%2Fw%3Ard@127.0.0.1:{shut_port}/c",
            "mjpeg": f"http://127.0.0.1:{servers.enter_context(tcp_server(mjpeg(jpegs())))}/video.mjpg",
            "hls": f"http://127.0.0.1:{servers.enter_context(hls_server(tmp_path))}/live.m3u8",
            "udp": f"udp://127.0.0.1:{servers.enter_context(udp_camera())}",
            "file": str(small),
        }
        async with running(sources, LiveOptions()) as fleet:
            await fleet.until(lambda: all(len(results) >= 30 for results in fleet.results.values()))
            fleet.assert_undisturbed(*sources)
            assert fleet.sizes["large"] == {(640, 384)}
            assert all(fleet.sizes[name] == {(320, 192)} for name in sources if name != "large")


BAD: dict[str, tuple[str, Any, str]] = {
    "hangs after the handshake, rtsp": ("rtsp://u:hunter22@127.0.0.1:{}/x", hangs, "no answer within 0.5 s"),
    "hangs after the handshake, http": ("http://u:hunter22@127.0.0.1:{}/x", hangs, "no answer within 0.5 s"),
    "drips, rtsp": ("rtsp://127.0.0.1:{}/x?hunter22", drips, "no answer within 0.5 s"),
    "drips, http": ("http://127.0.0.1:{}/x?hunter22", drips, "no answer within 0.5 s"),
    "garbage, rtsp": ("rtsp://127.0.0.1:{}/hunter", garbage, ""),
    "garbage, http": ("http://u:hunter22@127.0.0.1:{}/x", garbage, ""),
    "hangs up": ("rtsp://u:hunter22@127.0.0.1:{}/x", closes, "cannot be opened"),
    "flaps": ("http://u:hunter22@127.0.0.1:{}/x", mjpeg(jpegs(5), then=closes), "broken off"),
    "falls silent": ("http://u:hunter22@127.0.0.1:{}/x", mjpeg(jpegs(5), then=hangs), "no data for 1 s"),
    "drips after a while": ("http://u:hunter22@127.0.0.1:{}/x", mjpeg(jpegs(5), then=drips_on), "no data for 1 s"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_camera_is_retried_and_disturbs_nobody(
    clips: tuple[Path, Path], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Whatever it does: named with its reason, tried again and again, and the other two never notice."""
    url, behave, reason = BAD[name]
    caplog.set_level(logging.DEBUG)
    with tcp_server(behave) as port, rtsp_server(f"a={clips[0]}") as rtsp_port:
        sources = {"bad": url.format(port), "file": str(clips[0]), "rtsp": f"rtsp://127.0.0.1:{rtsp_port}/a"}
        async with running(sources) as fleet:
            await fleet.until(lambda: fleet.results["rtsp"] != [] and fleet.entered("bad", "connecting") >= 3)
            await fleet.until_others_go_on("file", "rtsp")
            fleet.assert_undisturbed("file", "rtsp")
            assert bool(fleet.results["bad"]) is (behave not in (hangs, drips, garbage, closes))
    told = [record.getMessage() for record in caplog.records if "camera bad" in record.getMessage()]
    assert all(reason in line for line in told if "camera bad: backing off: " in line)
    assert sum("camera bad: backing off: " in line for line in told) == fleet.entered("bad", "backing_off")
    assert sum("camera bad: stalled: " in line for line in told) == fleet.entered("bad", "stalled")
    assert "hunter22" not in caplog.text + repr(fleet.lanes["bad"].report())


async def test_silence_is_a_state_of_its_own(clips: tuple[Path, Path]) -> None:
    """A camera that falls silent is stalled first; it goes on by itself when data comes again in time."""
    again = asyncio.Event()
    loop = asyncio.get_running_loop()
    release: list[Any] = []

    def pauses(connection: Any, stop: Any) -> None:
        import threading

        event = threading.Event()
        release.append(event)
        while not event.wait(0.05) and not stop.is_set():
            pass
        loop.call_soon_threadsafe(again.set)
        mjpeg(jpegs())(_Talking(connection), stop)

    with tcp_server(mjpeg(jpegs(5), then=pauses)) as port:
        sources = {"mute": f"http://127.0.0.1:{port}/x", "file": str(clips[0])}
        live = LiveOptions(open_timeout_s=5, read_timeout_s=8)
        async with running(sources, live) as fleet:
            await fleet.until(lambda: fleet.entered("mute", "stalled") == 1)
            release[0].set()
            await fleet.until(lambda: fleet.entered("mute", "live") == 2)
            await fleet.until_others_go_on("file", "mute")
            fleet.assert_undisturbed("file")
            assert fleet.entered("mute", "backing_off") == 0
            assert again.is_set()


class _Talking:
    """A connection whose request and answer have been exchanged already."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def recv(self, _: int) -> bytes:
        return b""

    def sendall(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/"):
            self._connection.sendall(data)


async def test_a_change_of_resolution_is_followed(clips: tuple[Path, Path]) -> None:
    """The stream switches between two sizes: both are inferred at their size, nothing reconnects, nobody notices."""
    small, large = clips
    with rtsp_server(f"both={small},{large}", f"one={small}") as port:
        sources = {"both": f"rtsp://127.0.0.1:{port}/both", "one": f"rtsp://127.0.0.1:{port}/one", "file": str(small)}
        async with running(sources, LiveOptions()) as fleet:
            await fleet.until(lambda: fleet.sizes["both"] == {(320, 192), (640, 384)})
            await fleet.until_others_go_on(*sources, results=60)
            fleet.assert_undisturbed(*sources)
            assert fleet.sizes["one"] == {(320, 192)}


async def test_a_server_that_dies_is_found_again(clips: tuple[Path, Path]) -> None:
    """The RTSP server is killed and started again: its camera is lost and returns, index and time going on."""
    small = clips[0]
    with rtsp_server(f"a={small}") as stable_port:
        with rtsp_server(f"a={small}") as port:
            sources = {"lost": f"rtsp://127.0.0.1:{port}/a", "rtsp": f"rtsp://127.0.0.1:{stable_port}/a"}
            fleet_running = running(sources | {"file": str(small)}, LiveOptions())
            fleet = await fleet_running.__aenter__()
            await fleet.until_others_go_on(*sources)
        await fleet.until(lambda: fleet.entered("lost", "backing_off") >= 1)
        with rtsp_server(f"a={small}", port=port):
            await fleet.until(lambda: fleet.entered("lost", "live") == 2)
            await fleet.until_others_go_on("lost", "rtsp", "file")
            fleet.assert_undisturbed("rtsp", "file")
            order = [result.frame_index for result in fleet.results["lost"]]
            times = [result.media_time_s for result in fleet.results["lost"]]
            assert order == sorted(set(order))
            assert times == sorted(set(times))
            await fleet_running.__aexit__(None, None, None)


async def test_damage_on_the_wire_costs_frames_only(clips: tuple[Path, Path]) -> None:
    """Every fifth datagram is noise: the camera goes on as well as it can, and the others as ever."""
    with udp_camera(damage_every=5) as port:
        async with running({"noisy": f"udp://127.0.0.1:{port}", "file": str(clips[0])}, LiveOptions()) as fleet:
            await fleet.until_others_go_on("noisy", "file")
            fleet.assert_undisturbed("file")


async def test_what_is_not_there_is_tried_for_ever_but_a_file_is_not(clips: tuple[Path, Path], tmp_path: Path) -> None:
    """A refused port, a wrong login, a page that is not there, a missing device: retried. A missing file: failed."""
    with rtsp_server(f"a={clips[0]}", login="viewer:secret99") as shut, http_server(_not_found) as web:
        sources = {
            "refused": "rtsp://127.0.0.1:9/x",
            "login": f"rtsp://viewer:hunter22@127.0.0.1:{shut}/a",
            "page": f"http://127.0.0.1:{web}/x.m3u8",
            "device": "/dev/video63",
            "missing": str(tmp_path / "nowhere.mp4"),
            "pattern": str(tmp_path / "nowhere-*.mp4"),
            "file": str(clips[0]),
        }
        async with running(sources) as fleet:
            live = ("refused", "login", "page", "device")
            await fleet.until(lambda: all(fleet.entered(name, "backing_off") >= 2 for name in live))
            await fleet.until_others_go_on("file")
            fleet.assert_undisturbed("file")
            assert "Connection refused" in fleet.problem("refused")
            assert "401" in fleet.problem("login")
            assert "404" in fleet.problem("page")
            assert "No such file" in fleet.problem("device")
            assert fleet.problem("missing") == f"{tmp_path}/nowhere.mp4: no such file"
            assert fleet.problem("pattern") == f"{tmp_path}/nowhere-*.mp4: no file has such a name"
            for name in ("missing", "pattern"):
                assert fleet.lanes[name].report().states == {"connecting": 1, "failed": 1}


def _not_found(path: str) -> bytes:
    raise FileNotFoundError(path)


async def test_a_camera_that_hangs_does_not_hold_the_end_up(clips: tuple[Path, Path]) -> None:
    """Five minutes of open timeout, and the run ends all the same: the thread is left behind, and that is said."""
    with tcp_server(hangs) as port:
        live = LiveOptions(open_timeout_s=300, read_timeout_s=300)
        async with running({"hung": f"rtsp://127.0.0.1:{port}/x", "file": str(clips[0])}, live) as fleet:
            await fleet.until_others_go_on("file")
        assert fleet.entered("hung", "backing_off") == 0, "it was still hanging in its first attempt"
