"""The wall with many tiles: what one viewer costs the client, and whether his browser stays quick.

Cameras are the demo's clips, each several times, thinned to few pictures a second: the browser, headless, runs on the
same machine, and where all processors are busy nobody's cost can be seen. They are decoded for real, the engines only
wait. Only the client's own process is counted. Nothing here is a T4.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import av
import psutil
import yaml
from av.video.stream import VideoStream

from clients.errors import FleetError
from clients.types import Tier
from deploy.claim import scratch
from deploy.run_repository import assemble
from deploy.server import TritonServer
from loadtest.emulator.repository import assemble_emulated, models_of
from loadtest.profile import GpuProfile

_URL = re.compile(r"the live wall: (http://\S+)/")
_LONG_TASKS = (
    "window.longTasks = []; new PerformanceObserver((list) => { for (const one of list.getEntries()) "
    "window.longTasks.push([one.startTime, one.duration]); }).observe({ type: 'longtask', buffered: true });"
)
_EVERY, _FRAMES = 5, 300  # of a clip's pictures
_SETTLED_MS = 6000  # from then on the page is in its steady state


@dataclass(frozen=True, slots=True)
class Asked:
    """What is run: so many tiles, watched for so long; and cycles of adding and removing a camera, before that."""

    clips: tuple[Path, ...]
    tiles: int = 50
    seconds: float = 300.0
    cycles: int = 0
    demand_fps: float = 2.0
    real: bool = False  # the demo's weights on this machine's processor, in place of engines that wait
    browser: str = "/usr/bin/chromium"


def measure(asked: Asked, profile: GpuProfile) -> dict[str, Any]:
    """Raises FleetError when the fleet does not start."""
    with scratch() as folder:
        models = _models(asked, folder, profile)
        asked = replace(asked, clips=tuple(_thinned(clip, folder) for clip in asked.clips))
        with (
            TritonServer(models, log=folder / "triton.log") as server,
            _fleet(asked, folder, server.grpc_url) as (url, process),
        ):
            cycles = _cycles(url, process, asked) if asked.cycles else {}
            return cycles | (asyncio.run(_watched(url, process, asked)) if asked.seconds else {})


def _models(asked: Asked, folder: Path, profile: GpuProfile) -> Path:
    if asked.real:
        return assemble(folder / "real", [Tier.N], models_dir=Path("demo/weights")).path
    assemble_emulated(folder / "emulated", profile, [Tier.N])
    return models_of(folder / "emulated")


def _thinned(clip: Path, folder: Path) -> Path:
    """The clip's first seconds with every fifth picture at a fifth of the rate."""
    path = folder / clip.name
    with av.open(str(clip)) as source, av.open(str(path), mode="w") as target:
        given = source.streams.video[0]
        rate = Fraction(given.average_rate or 25) / _EVERY
        stream = target.add_stream("libx264", rate=rate)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = given.width, given.height, "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast"}
        for index, frame in enumerate(source.decode(given)):
            if index >= _FRAMES:
                break
            if index % _EVERY == 0:
                frame.pts, frame.time_base = index // _EVERY, 1 / rate
                target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


async def _watched(url: str, process: psutil.Process, asked: Asked) -> dict[str, Any]:
    from playwright.async_api import async_playwright

    alone = await _busy(process, min(30.0, asked.seconds))
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=asked.browser, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.add_init_script(_LONG_TASKS)
        await page.goto(url)
        await page.locator(".tile").nth(asked.tiles - 1).wait_for()
        interactive_ms = await page.evaluate("performance.now()")
        session = await page.context.new_cdp_session(page)
        await asyncio.sleep(_SETTLED_MS / 1000)
        heaps: list[float] = []
        watched = asyncio.create_task(_busy(process, asked.seconds))
        while not watched.done():
            await session.send("HeapProfiler.collectGarbage")
            heaps.append((await session.send("Runtime.getHeapUsage"))["usedSize"] / 1e6)
            await asyncio.wait({watched}, timeout=10)
        long_ms = [ms for start_ms, ms in await page.evaluate("window.longTasks") if start_ms > _SETTLED_MS]
        drawn = await page.evaluate("document.querySelectorAll('.tile .veil[hidden]').length")
        await browser.close()
    after = await _busy(process, min(30.0, asked.seconds))
    looked, known = watched.result(), alone.keys()
    nobody = (alone[process.pid] + after[process.pid]) / 2
    return {
        "kind": "measured" if asked.real else "emulated",
        "tiles": asked.tiles,
        "tiles_with_a_picture": drawn,
        "seconds": asked.seconds,
        "interactive_ms": round(interactive_ms),
        "longest_task_ms": round(max(long_ms, default=0.0)),
        "long_tasks": len(long_ms),
        "browser_heap_mb": [round(heaps[0], 2), round(max(heaps), 2), round(heaps[-1], 2)],
        "client_cpu_percent_of_a_core": {
            "nobody": round((sum(alone.values()) + sum(after.values())) / 2, 1),
            "one_viewer": round(sum(looked.values()), 1),
        },
        "viewer_costs_percent_of_a_core": {
            "event_loop": round(looked[process.pid] - nobody, 1),
            "previews": round(sum(busy for thread, busy in looked.items() if thread not in known), 1),
        },
    }


async def _busy(process: psutil.Process, seconds: float) -> dict[int, float]:
    """How busy each thread is, in percent of a core. The event loop's has the process's number."""
    before, began_s = _spent(process), time.monotonic()
    await asyncio.sleep(seconds)
    after, elapsed_s = _spent(process), time.monotonic() - began_s
    return {thread: (spent - before.get(thread, 0.0)) / elapsed_s * 100 for thread, spent in after.items()}


def _spent(process: psutil.Process) -> dict[int, float]:
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}


def _cycles(url: str, process: psutil.Process, asked: Asked) -> dict[str, Any]:
    """Add a camera and remove it, again and again; every tenth is waited for until it was inferred."""
    others = _call(url, "GET", "/v1/stats")["per_camera"]
    threads, descriptors, first_s = process.num_threads(), process.num_fds(), []
    for cycle in range(asked.cycles):
        began_s, name = time.monotonic(), f"cycle-{cycle}"
        _call(url, "POST", "/v1/streams", f'{{"id": "{name}", "source": "{asked.clips[0]}"}}')
        if cycle % 10 == 0:
            while not _call(url, "GET", f"/v1/streams/{name}/detections")["results"]:
                time.sleep(0.01)
            first_s.append(time.monotonic() - began_s)
        _call(url, "DELETE", f"/v1/streams/{name}")
    stats = _call(url, "GET", "/v1/stats")
    metrics = urlopen(f"{url}metrics").read().decode()
    return {
        "cycles": asked.cycles,
        "threads": [threads, process.num_threads()],
        "descriptors": [descriptors, process.num_fds()],
        "metric_labels_left": metrics.count("cycle-"),
        "cameras": len(stats["per_camera"]),
        "others_disturbed": [
            name
            for name, camera in stats["per_camera"].items()
            if camera["states"] != others[name]["states"] or camera["frames_skipped"]["failed"]
        ],
        "first_detection_s": {"median": round(sorted(first_s)[len(first_s) // 2], 3), "most": round(max(first_s), 3)},
        "errors": stats["errors"],
    }


def _call(url: str, method: str, path: str, body: str | None = None) -> Any:
    request = Request(
        url + path.removeprefix("/"),
        None if body is None else body.encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    try:
        with urlopen(request, timeout=30) as response:
            content = response.read()
    except HTTPError as error:
        raise FleetError(json.loads(error.read())["detail"]) from error
    return json.loads(content) if content else None


@contextmanager
def _fleet(asked: Asked, folder: Path, triton: str) -> Iterator[tuple[str, psutil.Process]]:
    """The fleet in a process of its own: its address with a slash at the end, and the process."""
    cameras = [
        {"id": f"cam{number:02d}", "source": str(asked.clips[number % len(asked.clips)].resolve()), "loop": True}
        for number in range(asked.tiles)
    ]
    content = {
        "system": {"target_fps": asked.demand_fps, "max_streams": asked.tiles + 1},
        "model": {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"},
        "triton": {"url": triton},
        "optimization": {"governor": "off"},  # which refuses a camera on a machine that others have slowed down
        "sinks": {"jsonl": None},
        "web": {"enabled": True, "port": 0},
        "cameras": cameras,
    }
    config, told = folder / "config.yaml", folder / "fleet.log"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    command = [sys.executable, "-m", "clients", "run", "--config", str(config), "--no-watch"]
    with told.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as run:
        try:
            yield _ready(told, run), psutil.Process(run.pid)
        finally:
            run.terminate()
            run.wait(30)


def _ready(told: Path, run: subprocess.Popen[bytes]) -> str:
    while run.poll() is None:
        found = _URL.search(told.read_text())
        if found is not None:
            with contextlib.suppress(OSError):
                urlopen(f"{found[1]}/readyz")
                return f"{found[1]}/"
        time.sleep(0.1)
    raise FleetError(f"the fleet did not start: {told.read_text().strip().splitlines()[-1]}")
