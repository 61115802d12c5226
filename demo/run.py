"""`python -m demo run`: the rendered cameras through the product's own path, and its summary."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from pathlib import Path
from typing import Any

from clients.config import Camera, Settings, Web, load_settings
from clients.errors import ConfigError, FleetError
from clients.fleet import run_fleet
from clients.types import Verdict

CONFIG = Path("config.demo.yaml")
CLIP_S = 36  # a run loops its clips, so its length does not render them again; longer than the usual run


def run(clips: list[Path], seconds: float, port: int | None = None) -> dict[str, Any]:
    """Run one looped camera per clip under `config.demo.yaml`, the live wall on `port`; returns the summary's JSON.

    Raises ConfigError, the launcher's errors, and FleetError when nothing was inferred.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    settings = with_cameras(load_settings(CONFIG), clips)
    web = settings.web.model_copy(update={"port": free_port(settings.web) if port is None else port})
    sys.stdout.write(f"the live wall, while it runs: http://{web.host}:{web.port}/\n")
    sys.stdout.flush()
    summary = asyncio.run(run_fleet(settings.model_copy(update={"web": web}), seconds))
    if not any(camera.verdicts.get(Verdict.INFERRED) for camera in summary.cameras):
        raise FleetError("nothing was inferred; the server's log is out/triton.log")
    return summary.as_json()


def free_port(web: Web) -> int:
    """The configured port where it is free, else one that is: a demo is not stopped by another one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((web.host, web.port))
        except OSError:
            probe.bind((web.host, 0))
        return int(probe.getsockname()[1])


def check(cameras: int, seconds: float, port: int | None = None) -> None:
    """Raises ConfigError for more cameras than `system.max_streams`, ValueError for other impossible numbers.

    Rendering takes minutes, so this comes before it.
    """
    most = load_settings(CONFIG).system.max_streams
    if not 1 <= cameras <= most:
        raise ConfigError(f"--cameras must be 1 to {most} (system.max_streams in {CONFIG}), got {cameras}")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"--seconds must be positive, got {seconds}")
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"--port must be 1 to 65535, got {port}")


def with_cameras(settings: Settings, clips: list[Path]) -> Settings:
    """The same configuration with one looped camera per clip, called as the clip; what it says of a camera stays."""
    configured = {camera.id: camera for camera in settings.cameras}
    cameras = tuple(
        configured.get(clip.stem, Camera.model_validate({"id": clip.stem, "source": str(clip), "loop": True}))
        for clip in clips
    )
    return settings.model_copy(update={"cameras": cameras})
