"""Resident memory of a process and of all below it, its own apart from what it shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Resident:
    """In MB. A shared page counts in each process that has touched it; files that are mapped count as its own."""

    own_mb: float
    shared_mb: float


def tree_of(pid: int) -> list[psutil.Process]:
    """A process and all below it, now. Raises psutil.NoSuchProcess."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def resident_of(processes: Iterable[psutil.Process]) -> Resident:
    """Of all of them together. Raises OSError for one that has ended meanwhile."""
    found = [_resident(process.pid) for process in processes]
    return Resident(sum(one.own_mb for one in found), sum(one.shared_mb for one in found))


def _resident(pid: int) -> Resident:
    """As proc(5) tells it; nothing of one that has ended and is not waited for yet."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    kb = {
        name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines) if name[:3] == "Rss"
    }
    own_kb, shared_kb = kb.get("RssAnon", 0) + kb.get("RssFile", 0), kb.get("RssShmem", 0)
    return Resident(own_kb * 1024 / 1e6, shared_kb * 1024 / 1e6)
