"""What each part of the client costs: processor time of its threads, by what they do. Linux, through psutil."""

from __future__ import annotations

import threading
from collections import defaultdict

import psutil

# first match wins; threads that Python knows nothing of are gRPC's and FFmpeg's own
_PARTS = (("MainThread", "loop"), ("camera-", "decode"), ("scale", "scale"), ("sink-", "sinks"))


def thread_cpu_s() -> dict[str, float]:
    """Processor seconds so far of this process's living threads: loop, decode, scale, sinks, other, native."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    spent: dict[str, float] = defaultdict(float)
    for one in psutil.Process().threads():
        spent[part_of(names.get(one.id))] += one.user_time + one.system_time
    return spent


def part_of(name: str | None) -> str:
    """What a thread of this name does; None is one that Python has not started."""
    if name is None:
        return "native"
    return next((part for prefix, part in _PARTS if name.startswith(prefix)), "other")
