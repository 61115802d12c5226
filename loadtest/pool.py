"""What one, two, four Tritons give, and what the death of one costs: real servers on emulated cards, one real fleet.

The cards are slowed down, so that a small machine can feed several of them; the cameras' pictures come uncoded. At
saturation every camera asks for more than it gets, each card has as many cameras, and nothing governs: a governor's
times are not slowed down. When a server is killed, the load is what the other one can carry:
what is measured is the silence that each camera has, and when it has its usual rhythm again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from clients.arguments import seconds
from clients.config import Settings, parse_settings
from clients.errors import FleetError
from clients.fleet import Fleet
from clients.inference.server import TritonLink
from clients.types import Tier
from deploy.claim import scratch
from deploy.server import TritonServer
from loadtest.coded_clips import coded_clips
from loadtest.emulator.repository import Emulation, assemble_emulated, models_of
from loadtest.fifty import CLIP_S, PROFILES
from loadtest.profile import GpuProfile, read_profile
from loadtest.raw_clips import raw_clip

_DIFFERENT = 4  # clips; more cameras than that show the same ones
_WARM_S = 5.0  # before anything counts
_FULL = (16, 2.5, 80.0)  # cameras of each card, inferences per second of each camera, how much slower a card is
_DEATH = (8, 4.0, 10.0)  # the same, cameras of both cards
_RHYTHM = 2.5  # a camera has settled when no two results are so many of its intervals apart


@dataclass(frozen=True, slots=True)
class Asked:
    """Numbers of servers, seconds of each run, where clips and logs go."""

    servers: tuple[int, ...] = (1, 2, 4)
    seconds: float = 15.0
    out: Path = Path("out/pool")


def measure(asked: Asked, profile: GpuProfile) -> dict[str, Any]:
    """Both. Raises FleetError."""
    coded = coded_clips(_DIFFERENT, CLIP_S, Path("out/fifty/clips"), lambda _done, _of: None)
    clips = [raw_clip(clip, asked.out / f"{clip.stem}.nut") for clip in coded]
    full = {count: asyncio.run(_saturated(asked, profile, clips, count)) for count in asked.servers}
    first = full[asked.servers[0]]["inferences_per_s"] / asked.servers[0]
    for count, told in full.items():
        told["of_linear"] = round(told["inferences_per_s"] / (count * first), 3) if first else None
    death = asyncio.run(_death(asked, profile, clips))
    errors = death["errors"] + sum(told["errors"] for told in full.values())
    return {"kind": "emulated", "gpu": profile.gpu, "servers": full, "one_of_two_killed": death, "errors": errors}


async def _saturated(asked: Asked, profile: GpuProfile, clips: Sequence[Path], count: int) -> dict[str, Any]:
    cameras, fps, scale = _FULL
    with _cards(asked, profile, count, scale) as servers:
        async with Fleet(_settings(clips, servers, cameras * count, fps, scale, governor="off")) as fleet:
            await asyncio.sleep(_WARM_S)
            before, started_s = fleet.stats().inferences, time.monotonic()
            await asyncio.sleep(asked.seconds)
            rate = (fleet.stats().inferences - before) / (time.monotonic() - started_s)
            counts = [await _inferred(server) for server in servers]
        told = fleet.stats().as_json()
    return {
        "inferences_per_s": round(rate, 1),
        "mean_batch": told["mean_batch"],
        "least_share": round(min(counts) / sum(counts), 3) if sum(counts) else None,
        **{f"age_{name}_ms": value for name, value in told["result_age_ms"].items()},
        "errors": told["errors"],
    }


async def _inferred(server: TritonServer) -> int:
    async with TritonLink(server.grpc_url) as link:
        return (await link.engine_counts()).inferences


async def _death(asked: Asked, profile: GpuProfile, clips: Sequence[Path]) -> dict[str, Any]:
    cameras, fps, scale = _DEATH
    with _cards(asked, profile, 2, scale) as servers:
        async with Fleet(_settings(clips, servers, cameras, fps, scale)) as fleet:
            seen: dict[str, list[float]] = {name: [] for name in fleet.lanes}
            readers = [asyncio.create_task(_read(fleet, name, times)) for name, times in seen.items()]
            await asyncio.sleep(_WARM_S)
            killed_s = time.monotonic()
            os.kill(servers[0].pid, signal.SIGKILL)
            await asyncio.sleep(asked.seconds)
            for reader in readers:
                reader.cancel()
        errors = fleet.stats().errors
    gaps = [(later, later - earlier) for times in seen.values() for earlier, later in pairwise(times)]
    after = [(at, gap) for at, gap in gaps if at > killed_s]
    if not after:
        raise FleetError("no camera had results after the server was killed")
    late = [at - killed_s for at, gap in after if gap > _RHYTHM / fps]
    return {
        "cameras": cameras,
        "demand_fps": fps,
        "longest_silence_before_s": round(max((gap for at, gap in gaps if at <= killed_s), default=0.0), 3),
        "longest_silence_after_s": round(max(gap for _, gap in after), 3),
        "settled_after_s": round(max(late, default=0.0), 3),
        "errors": errors,
    }


async def _read(fleet: Fleet, stream_id: str, times: list[float]) -> None:
    async for _ in fleet.results(stream_id):
        times.append(time.monotonic())  # noqa: PERF401 - it is cancelled, and what was seen until then counts


@contextmanager
def _cards(asked: Asked, profile: GpuProfile, count: int, scale: float) -> Iterator[list[TritonServer]]:
    with scratch() as folder, ExitStack() as stack:
        servers = []
        for number in range(count):
            assemble_emulated(folder / f"card{number}", profile, [Tier.N], Emulation(time_scale=scale))
            server = TritonServer(models_of(folder / f"card{number}"), log=asked.out / f"triton{number}.log")
            servers.append(stack.enter_context(server))
        yield servers


def _settings(
    clips: Sequence[Path],
    servers: Sequence[TritonServer],
    cameras: int,
    fps: float,
    scale: float,
    governor: str = "ours",
) -> Settings:
    """On a card that is slower by `scale` everything may take so much longer."""
    model = "yolo12n"
    content = {
        "system": {"max_streams": 500, "min_batch_size": 16},
        "model": {"default": model, "fallback": model, "high_precision": model},
        "optimization": {"enable_memory_optimization": False, "governor": governor},
        "monitoring": {"age_objective_ms": 200 * scale},
        "triton": {"endpoints": [{"url": one.grpc_url} for one in servers], "timeout_ms": 2000 * scale},
        "sinks": {"jsonl": None},
        "cameras": [
            {
                "id": f"cam{number:03d}",
                "source": str(clips[number % len(clips)]),
                "loop": True,
                "max_fps": fps,
                "max_age_ms": 500 * scale,
            }
            for number in range(cameras)
        ],
    }
    return parse_settings(content, origin="pool")


def add_pool(commands: Any) -> None:
    """The command `pool`."""
    text = "what 1, 2, 4 Tritons on emulated cards give to one fleet, and what the death of one of two costs"
    parser = commands.add_parser("pool", help=text, description=text)
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="default 1 2 4")
    parser.add_argument("--seconds", type=seconds, default=15.0, metavar="S", help="of each run (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/pool"), metavar="DIR", help="default %(default)s")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    if min(options.servers) < 1:
        raise ValueError(f"the numbers of servers must be positive, got {options.servers}")
    asked = Asked(tuple(options.servers), options.seconds, options.out)
    return measure(asked, read_profile(PROFILES / "t4.json"))
