"""The embedded Triton: a real server on this machine's processor, started with the fleet and kept alive by it."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import ExitStack
from pathlib import Path

from clients.config import Settings
from clients.errors import FleetError
from clients.logs import about
from clients.types import Tier
from deploy.access import ServerAccess, new_admin_key
from deploy.claim import scratch
from deploy.run_repository import REPOSITORY, Assembled, assemble, export_command, exported_tiers
from deploy.server import TritonServer

_LOOK_S, _LONGEST_PAUSE_S = 0.5, 30.0
_DEFAULT_LOG = Path("out/triton.log")
log = logging.getLogger(__name__)


class EmbeddedServer:
    """Assembles the configured tiers that are exported and serves them on free loopback ports."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._resources = ExitStack()
        self._reviving = threading.Lock()
        self._closed = False
        self._server: TritonServer | None = None
        self.admin_key = new_admin_key()  # nobody else has to know it

    @property
    def url(self) -> str:
        """host:port of the server's gRPC. Raises ValueError before `start`."""
        if self._server is None:
            raise ValueError("the embedded Triton has not been started")
        return self._server.grpc_url

    def start(self) -> None:
        """Start and wait until ready. Raises ConfigError when no tier is exported, and the launcher's errors."""
        settings, runtime = self._settings, self._settings.triton.runtime
        folder = self._resources.enter_context(scratch())
        assembled = assemble(
            folder / "repository",
            settings.tiers,
            runtime=runtime,
            models_dir=settings.triton.models,
            max_batch=settings.system.max_batch_size,
            dynamic_batching=settings.optimization.enable_dynamic_batching,
            precision=settings.triton.precision,
        )
        for tier in assembled.missing:
            log.warning("%s is not exported; export it with: %s", tier, export_command(tier, runtime))
        for warning in assembled.warnings:
            log.warning("%s", warning)
        for tier in _absent(settings, assembled):
            command = export_command(tier, runtime)
            log.info("%s is not exported, and not asked for; export it with: %s", tier, command)
        log_file = settings.triton.log or _DEFAULT_LOG
        timeout_s = settings.triton.ready_timeout_s
        access = ServerAccess(self.admin_key)
        self._server = TritonServer(assembled.path, access=access, ready_timeout_s=timeout_s, log=log_file)
        log.info(
            "starting Triton with %s (log: %s)", ", ".join(assembled.present), log_file, extra=about("server_starts")
        )
        self._server.start()

    async def keep_alive(self) -> None:
        """Until cancelled: start the server again, on the same ports, whenever it has died."""
        pause_s = _LOOK_S
        while True:
            await asyncio.sleep(pause_s)
            if self._server is None or self._server.is_running():
                pause_s = _LOOK_S
                continue
            log.error("the embedded Triton has died, starting it again", extra=about("server_died"))
            try:
                await asyncio.to_thread(self._revive)
            except (FleetError, OSError) as error:
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                log.error("the embedded Triton did not come back, next try in %g s: %s", pause_s, error)

    def stop(self) -> None:
        """Stop the server and remove its run repository; does nothing when there is none."""
        self._closed = True
        if self._server is not None:
            self._server.stop()  # a start that is under way gives up
            with self._reviving:
                self._server.stop()
        self._resources.close()

    def _revive(self) -> None:
        with self._reviving:
            if self._server is not None and not self._closed:
                self._server.restart()


def _absent(settings: Settings, assembled: Assembled) -> tuple[Tier, ...]:
    """Tiers that nobody asked for and that could not be had: said, so that a clone shows what it can and cannot do."""
    runtime = settings.triton.runtime
    exported = exported_tiers(runtime, settings.triton.models or REPOSITORY / runtime)
    return tuple(tier for tier in Tier if tier not in (*exported, *assembled.missing))
