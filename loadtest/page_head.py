"""The head of every generated page of figures: which kind, on what, at which precision, when, by which command."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from clients.data_sheet import Kind

_PACKAGES = ("numpy", "opencv-python", "av", "tritonclient")


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """`AMD EPYC 9R14, 2 cores, x86_64`."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or 'CPU'}, {os.cpu_count()} cores, {platform.machine()}"


def versions(packages: Sequence[str]) -> str:
    """Python's and those of packages that are installed: `Python 3.11.2, numpy 2.4.1`."""
    found = [f"Python {platform.python_version()}"]
    for name in packages:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def head(kinds: Sequence[Kind], commands: Sequence[str], precision: str, packages: Sequence[str] = _PACKAGES) -> str:
    """The Markdown that stands below a page's title: what the figures are, and the commands that print them."""
    words = " and ".join(f"**{kind.capitalize() if place == 0 else kind}**" for place, kind in enumerate(kinds))
    day = datetime.datetime.now(datetime.UTC).date()
    lines = "\n".join(f".venv/bin/{command}" for command in commands)
    return f"{words}: {machine()}; {precision}; {day}; {versions(packages)}.\n\n```sh\n{lines}\n```\n"
