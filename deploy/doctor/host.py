"""The host around the card: shared memory, disk, ports, the container toolkit."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from clients.config import Settings
from clients.serving import in_flight_window
from deploy.doctor.findings import Finding, judged, ok, problem, warning

SHARED_MEMORY = Path("/dev/shm")
_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_SERVER_MB = 64  # what Triton's Python backend takes of shared memory for itself
_LEAST_DISK_GB, _GOOD_DISK_GB = 1.0, 5.0
_ASK_S = 10.0
_GB = 1e9


def is_container() -> bool:
    """Whether this process runs in a container."""
    return any(mark.exists() for mark in _MARKS)


def judge_shared_memory(settings: Settings, folder: Path = SHARED_MEMORY) -> Finding:
    """Room for every slot of the client and for the server's own regions; nothing where frames travel otherwise."""
    if settings.triton.transport in ("grpc", "jpeg"):
        return ok("shared memory", f"not used: triton.transport is {settings.triton.transport}")
    rows, columns = settings.canvas.nv12_shape
    need_mb = 2 * in_flight_window(settings) * rows * columns / 1e6 + _SERVER_MB
    if not os.access(folder, os.W_OK):
        return problem(
            "shared memory", f"{folder} cannot be written", f"mount a tmpfs at {folder}, or set triton.transport"
        )
    free_mb = shutil.disk_usage(folder).free / 1e6
    mend = f"give {folder} at least {need_mb:.0f} MB: shm_size of the triton service, or a lower triton.window"
    return judged(
        free_mb >= need_mb,
        "shared memory",
        f"{free_mb:.0f} MB free in {folder}, {need_mb:.0f} needed",
        mend,
        free_mb=round(free_mb),
        need_mb=round(need_mb),
    )


def judge_disks(folders: Iterable[Path]) -> Iterator[Finding]:
    """Each of the folders, once per file system, that is written to."""
    seen = set()
    for folder in folders:
        place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        device = place.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free_gb = shutil.disk_usage(place).free / _GB
        told, mend = (
            f"{free_gb:.1f} GB free at {place}",
            f"make room at {place}: engines, results and metrics grow there",
        )
        if free_gb < _LEAST_DISK_GB:
            yield problem("disk", told, mend, free_gb=round(free_gb, 1))
        elif free_gb < _GOOD_DISK_GB:
            yield warning("disk", told, mend, free_gb=round(free_gb, 1))
        else:
            yield ok("disk", told, free_gb=round(free_gb, 1))


def judge_ports(ports: Mapping[str, int], address: str) -> Iterator[Finding]:
    """Whether the ports that are published can be had; `ports` by the names of the variables that move them."""
    for name, port in ports.items():
        taken = _taken(address, port)
        if taken is None:
            yield ok("port", f"{address}:{port} is free", port=port)
        else:
            mend = f"stop what listens there (ss -ltnp), or set another {name} in .env"
            yield problem("port", f"{address}:{port} ({name}): {taken}", mend, port=port)


def judge_toolkit() -> Finding:
    """Whether Docker here can hand a GPU to a container."""
    docker = shutil.which("docker")
    if docker is None:
        mend = "install Docker Engine with its compose plugin, unless you run without containers"
        return warning("container toolkit", "docker is not installed here", mend)
    mend = "install the NVIDIA Container Toolkit, then: nvidia-ctk runtime configure --runtime=docker; restart Docker"
    try:
        asked = subprocess.run(
            [docker, "info", "--format", "{{json .Runtimes}}"],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
        )
        runtimes = json.loads(asked.stdout) if asked.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError):
        runtimes = None
    if runtimes is None:
        return warning("container toolkit", "docker does not answer", "start Docker, and ask again as a user who may")
    has_toolkit = "nvidia" in runtimes or shutil.which("nvidia-ctk") is not None  # with CDI there is no such runtime
    return judged(has_toolkit, "container toolkit", "found" if has_toolkit else "Docker knows no nvidia runtime", mend)


def _taken(address: str, port: int) -> str | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return None
