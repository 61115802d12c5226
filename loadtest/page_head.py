"""The head of every generated page of figures: which kind, on what, at which precision, when, by which command."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.data_sheet import Kind

_PACKAGES = ("numpy", "opencv-python", "av", "tritonclient")
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where figures come from: the machine, the day (ISO 8601), the commit ("" where there is none), the versions."""

    machine: str
    day: str
    commit: str
    versions: str

    def __str__(self) -> str:
        return "; ".join(part for part in (self.machine, self.day, self.commit, self.versions) if part)


def here(packages: Sequence[str] = _PACKAGES) -> Origin:
    """This machine, now."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Origin(machine(), day, _commit(), versions(packages))


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


def head(kinds: Sequence[Kind], commands: Sequence[str], precision: str, origins: Mapping[str, Origin]) -> str:
    """The Markdown that stands below a page's title: what the figures are, and the commands that print them.

    `origins` are by what was run; several machines or days are told one after another, each with what ran there.
    """
    words = " and ".join(f"**{kind.capitalize() if place == 0 else kind}**" for place, kind in enumerate(kinds))
    lines = "\n".join(f".venv/bin/{command}" for command in commands)
    labels: dict[str, list[str]] = {}
    for label, origin in origins.items():
        labels.setdefault(str(origin), []).append(label)
    told = [f"{', '.join(names)}: {origin}" if len(labels) > 1 else origin for origin, names in labels.items()]
    return f"{words}: {precision}; {' / '.join(told)}.\n\n```sh\n{lines}\n```\n"


def _commit() -> str:
    """`commit 1a2b3c4`, and whether files of it are changed; pages, which are being written, do not count."""
    head = _git("rev-parse", "--short", "HEAD")
    if head.returncode != 0:
        return ""
    is_changed = _git("diff", "--quiet", "HEAD", "--", ".", ":!docs").returncode != 0
    return f"commit {head.stdout.strip()}{', changed' if is_changed else ''}"


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 1, "", "")
