"""The fleet as a library on a real Triton: cameras come and go, results reach whoever asks, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import ROOT, moving_square, write_clip
from test_metrics import scraped

from clients.blocking import BlockingFleet
from clients.config import Settings, parse_settings
from clients.errors import (
    ConfigError,
    FleetStopped,
    ServerUnavailable,
    SinkError,
    StreamExists,
    TooManyStreams,
    UnknownStream,
)
from clients.fleet import Fleet
from clients.subscriptions import KEPT
from clients.types import Tier
from clients.zones.layout import Layout, Line
from deploy.server import TritonServer

pytestmark = pytest.mark.anyio
LASTING = re.compile(r"^asyncio_|_poll_wrapper")  # the loop's own workers, and gRPC's one thread per process
N_ONLY = {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"}


def content(url: str | None, **sections: Any) -> dict[str, Any]:
    """A configuration for tier n on this server, without a file for the results."""
    given = {"model": N_ONLY, "triton": {"url": url}, "sinks": {"jsonl": None}, "system": {"target_fps": 10}}
    return {name: given.get(name, {}) | section for name, section in {**given, **sections}.items()}


def settings(url: str | None, **sections: Any) -> Settings:
    """The same, checked."""
    return parse_settings(content(url, **sections), origin="test")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two seconds of H.264."""
    return str(write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving_square(50)))


@contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever happened inside, no thread and no shared memory of ours is left afterwards."""
    before = {thread.name for thread in threading.enumerate()}
    yield
    left = {thread.name for thread in threading.enumerate()} - before
    assert not {name for name in left if not LASTING.search(name)}
    assert not list(Path("/dev/shm").glob(f"y12f-{os.getpid()}-*"))


async def test_cameras_come_and_go(triton: TritonServer, clip: str) -> None:
    """Two cameras are added to an empty fleet; one is removed: its results end, the other's go on."""
    with nothing_left():
        async with Fleet(settings(triton.grpc_url)) as fleet:
            await fleet.add_stream("a", clip, loop=True)
            await fleet.add_stream("b", clip, loop=True, max_fps=20, weight=2)
            seen = [result async for result in limited(fleet.results("a"), 5)]
            assert [result.stream_id for result in seen] == ["a"] * 5
            assert [result.frame_index for result in seen] == sorted({result.frame_index for result in seen})
            reader = fleet.results("b")
            await anext(reader)
            report = await fleet.remove_stream("b")
            assert report.verdicts
            assert {result.stream_id async for result in reader} <= {"b"}, "what was there already; then it ends"
            with pytest.raises(UnknownStream, match="camera b: there is no such camera"):
                fleet.results("b")
            assert [report.stream_id for report in fleet.reports()] == ["a"]
            before = fleet.get_results("a")[-1].frame_index
            assert [result.frame_index > before async for result in limited(fleet.results("a"), 3)] == [True] * 3
            await fleet.add_stream("b", clip)  # the name is free again
            assert {result.frame_index async for result in fleet.results("b")} <= set(range(50)), "a file that ends"
            stats = fleet.stats()
            assert stats.removed.cameras == 1
            assert stats.mean_batch is None
        summary = fleet.stats()
    assert [camera.stream_id for camera in summary.cameras] == ["a", "b"]
    assert summary.errors == 0
    assert summary.mean_batch is not None
    assert summary.inferences >= len(seen) + 4
    told = summary.as_json()
    assert told["frames_decoded"] == told["inferences"] + sum(told["frames_skipped"].values())
    assert fleet.stats().as_json() == told


async def limited(results: Any, count: int) -> Any:
    """The first of them."""
    async for result in results:
        yield result
        count -= 1
        if not count:
            return


async def test_a_reader_who_does_not_read_holds_nobody_up(triton: TritonServer, clip: str) -> None:
    """A subscription nobody reads drops results and counts them; another of the same camera gets all of them."""
    async with Fleet(settings(triton.grpc_url, system={"target_fps": 25})) as fleet:
        await fleet.add_stream("a", clip, max_age_ms=5000)
        slow, quick = fleet.results("a", most=2), fleet.results("a", most=1000)
        read = [result.frame_index async for result in quick]
        assert quick.dropped == 0
        assert slow.dropped == len(read) - 2 > 5
        assert [result.frame_index async for result in slow] == read[-2:]
        assert [result.frame_index for result in fleet.get_results("a")] == read[-KEPT:]
        assert fleet.stats().dropped["subscriptions"] == slow.dropped


async def test_what_cannot_be_added_is_a_typed_error(triton: TritonServer, clip: str) -> None:
    """One too many, an id twice, options and sources that cannot be: each refused, and the fleet goes on."""
    with nothing_left():
        fleet = Fleet(settings(triton.grpc_url, system={"max_streams": 2, "target_fps": 10}))
        with pytest.raises(FleetStopped, match="does not run yet"):
            await fleet.add_stream("a", clip)
        async with fleet:
            await fleet.add_stream("a", clip, loop=True)
            refused: list[tuple[type[Exception], str, tuple[str, str], dict[str, Any]]] = [
                (StreamExists, "camera a: the id is in use", ("a", clip), {}),
                (ConfigError, r"cameras\.b\.max_fsp: unknown key; did you mean 'max_fps'", ("b", clip), {"max_fsp": 1}),
                (ConfigError, r"cameras\.b\.max_fps: .*greater than 0, got -1", ("b", clip), {"max_fps": -1}),
                (ConfigError, "a camera id is 1 to 64 of", ("b b", clip), {}),
                (ConfigError, "camera b: source: must be a path", ("b", "ftp://u:secret@x/y"), {}),
            ]
            for kind, message, arguments, options in refused:
                with pytest.raises(kind, match=message) as caught:
                    await fleet.add_stream(*arguments, **options)
                assert "secret" not in str(caught.value)
            await fleet.add_stream("b", clip, loop=True)
            with pytest.raises(TooManyStreams, match=r"camera c: there are system.max_streams \(2\) cameras already"):
                await fleet.add_stream("c", clip)
            await fleet.remove_stream("b")
            await fleet.add_stream("c", clip, loop=True)
            with pytest.raises(UnknownStream, match="camera b"):
                await fleet.remove_stream("b")
            with pytest.raises(UnknownStream, match="camera b"):
                fleet.get_results("b")
            assert [result.stream_id async for result in limited(fleet.results("c"), 2)] == ["c", "c"]
        with pytest.raises(FleetStopped, match="has been stopped"):
            await fleet.add_stream("d", clip)
        with pytest.raises(FleetStopped, match="entered once"):
            await fleet.__aenter__()


async def test_a_removed_cameras_metrics_are_gone(triton: TritonServer, clip: str) -> None:
    """What Prometheus sees has a label for each camera that is there, and none for one that was."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = int(probe.getsockname()[1])

    async def cameras() -> set[str]:
        metrics = await asyncio.to_thread(scraped, port)
        return {s.labels["camera"] for family in metrics.values() for s in family.samples if "camera" in s.labels}

    async with Fleet(settings(triton.grpc_url, monitoring={"metrics_port": port})) as fleet:
        assert await cameras() == set()
        for name in ("a", "b"):
            await fleet.add_stream(name, clip, loop=True)
        assert await cameras() == {"a", "b"}
        await fleet.remove_stream("a")
        assert await cameras() == {"b"}


async def test_a_tier_that_is_not_served_is_replaced(
    triton: TritonServer, clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A camera that asks for x gets the fallback: said once, counted."""
    async with Fleet(settings(triton.grpc_url)) as fleet:
        await fleet.add_stream("a", clip, model="yolo12x")
        assert {result.tier async for result in fleet.results("a")} == {Tier.N}
        (report,) = fleet.stats().cameras
    assert report.fallbacks == report.inferred[Tier.N] > 3
    assert "camera a: yolo12x is not served; it uses yolo12n" in caplog.text


async def test_an_error_inside_is_the_callers_own(triton: TritonServer, clip: str) -> None:
    """What is raised inside the context comes out as it is, with the fleet closed."""
    with nothing_left():
        fleet = Fleet(settings(triton.grpc_url))

        async def fails() -> None:
            async with fleet:
                await fleet.add_stream("a", clip, loop=True)
                await anext(fleet.results("a"))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fails()
        assert fleet.stats().inferences >= 1


@pytest.mark.parametrize(
    ("sections", "kind"),
    [
        ({"triton": {"url": "127.0.0.1:9", "ready_timeout_s": 0.2}}, ServerUnavailable),
        ({"sinks": {"jsonl": "/proc/nowhere/d.jsonl"}}, SinkError),
        ({"model": {"canvas": "320x192"}}, ConfigError),
    ],
    ids=["no server", "no sink", "another canvas"],
)
async def test_a_fleet_that_cannot_begin_leaves_nothing(
    triton: TritonServer, sections: dict[str, Any], kind: type[Exception]
) -> None:
    """The reason is raised when it is entered, and what was open is closed."""
    with nothing_left(), pytest.raises(kind):
        async with Fleet(settings(triton.grpc_url, **sections)):
            pass


def test_without_asyncio(triton: TritonServer, clip: str) -> None:
    """The blocking fleet, with the article's names: results, typed errors, the end, and the summary afterwards."""
    with nothing_left():
        with BlockingFleet(settings(triton.grpc_url, system={"max_streams": 2})) as fleet:
            fleet.add_video_stream("a", clip, max_fps=5)
            fleet.add_video_stream("b", clip, loop=True)
            with pytest.raises(TooManyStreams):
                fleet.add_video_stream("c", clip)
            assert fleet.remove_video_stream("b").stream_id == "b"
            assert fleet.get_results("a") == [] or fleet.get_results("a")[0].stream_id == "a"
            fleet.set_layout("a", Layout(lines=(Line("door", ((0, 0.5), (1, 0.5))),)))
            assert fleet.newest_events() == [], "nobody has crossed it yet"
            with pytest.raises(UnknownStream):
                fleet.set_layout("b", Layout())
            fleet.wait()  # the only camera is a file
            results = fleet.get_results("a")
            assert 3 <= len(results) <= KEPT
            with pytest.raises(UnknownStream):
                fleet.get_results("b")
            assert fleet.stats().cameras[0].state == "ended"
        assert fleet.stats().errors == 0
        assert (fleet.stats().mean_batch or 0) >= 1
        with pytest.raises(FleetStopped):
            fleet.get_results("a")


def test_a_blocking_fleet_that_cannot_begin_says_why() -> None:
    """The error is the fleet's own, raised in the thread that asked."""
    unreachable = {"url": "127.0.0.1:9", "ready_timeout_s": 0.2}
    with (
        nothing_left(),
        pytest.raises(ServerUnavailable, match="no Triton is ready"),
        BlockingFleet(settings(None, triton=unreachable)),
    ):
        pass


EXAMPLES = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("number", range(2))
def test_what_the_readme_shows_runs(triton: TritonServer, clip: str, tmp_path: Path, number: int) -> None:
    """Both of its programs, word by word, beside a configuration and a clip: they print and end."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "gate.mp4").write_bytes(Path(clip).read_bytes())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content(triton.grpc_url)))
    command = [sys.executable, "-W", "error", "-c", EXAMPLES[number]]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    process = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr
    assert re.search(r"^gate-3 \d+ ", process.stdout, re.MULTILINE), process.stdout
    assert "inferences" in process.stdout.splitlines()[-1]


async def test_many_fleets_one_after_another_leave_nothing(triton: TritonServer, clip: str) -> None:
    """Entered and left again and again in one process: no task, no thread, no descriptor more."""
    process, counts = psutil.Process(), []
    for _ in range(6):
        async with Fleet(settings(triton.grpc_url)) as fleet:
            for name in ("a", "b"):
                await fleet.add_stream(name, clip, loop=True)
            await anext(fleet.results("a"))
            await fleet.remove_stream("b")
        counts.append(process.num_fds())
    while process.num_fds() > counts[0]:  # gRPC closes its sockets some time later
        await asyncio.sleep(0.1)
    assert len(asyncio.all_tasks()) <= 2, "the test's own"
