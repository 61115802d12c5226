"""`python -m clients cluster`: the fleets of a Ray cluster with one configuration, for as long as this process runs."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.capacity.demand import parse_source
from clients.capacity.of_settings import demand_of
from clients.cluster.node import CARD, Node, capacity_of
from clients.config import Settings
from clients.dashboard.live import show
from clients.data_sheet import sheet
from clients.errors import ConfigError, FleetError
from clients.metrics import served_collector
from clients.reload import follow
from clients.serving import ended
from clients.signals import Signals, nothing

# Before Ray starts anything: it tells nobody that it is used, and live cameras do not have the lowest priority.
FOR_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
USUAL_SOURCE = "1920x1080@25/h264"  # what a camera is planned as: nobody has looked at it yet
_UNPLANNED = 50  # cameras that a card counts for where the planner cannot say
_OBJECT_STORE_BYTES = 80 * 2**20  # hardly anything travels through it; Ray takes no less
_REACH_S = 5.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """`address` of a cluster that runs, `auto` to find it, None to start Ray here; the data sheet of nodes whose card
    Ray does not know; for how long, None to the end; how long to wait for the first node with a card."""

    address: str | None
    gpu: str
    duration_s: float | None
    wait_s: float


def run_cluster(
    settings: Settings, asked: Asked, file: Path, load: Callable[[Path], Settings], *, watch: bool
) -> dict[str, Any]:
    """The summary of all nodes. SIGINT and SIGTERM end the run in order, SIGHUP applies the file's cameras.

    Raises ConfigError, and FleetError: no cluster, no card, no fleet could be started, or the cluster's head is gone.
    """
    os.environ |= FOR_RAY
    try:
        import ray
    except ImportError as error:
        raise ConfigError("cluster: Ray is not installed; pip install --group cluster") from error
    wide = _wide(settings)
    capacity = _capacity(wide, asked.gpu)
    if settings.web.enabled:
        log.warning("web: the wall and the API are of one fleet; a cluster serves neither")
    with _not_on_stdout():
        try:
            _connect(asked.address)
            running = _run(wide, asked, file, lambda path: _wide(load(path)), capacity, watch=watch)
            return asyncio.run(running)
        finally:
            ray.shutdown()


async def _run(
    settings: Settings,
    asked: Asked,
    file: Path,
    load: Callable[[Path], Settings],
    capacity: Callable[[Node], float],
    *,
    watch: bool,
) -> dict[str, Any]:
    from clients.cluster.driver import Driver  # which imports Ray

    driver = Driver(settings, capacity, Path.cwd())
    with Signals(hears_hangup=True) as signals, served_collector(settings.monitoring, driver.collector()):
        signals.on_stop = driver.stop
        following = follow(file, driver, settings, signals.hangup, watch=watch, load=load)
        beside = {
            "the display": asyncio.create_task(show(driver.reports, settings.monitoring)),
            "the watch of the configuration": asyncio.create_task(following),
        }
        try:
            await driver.run(asked.duration_s, asked.wait_s)
        finally:
            for name, task in beside.items():
                await ended(task, name)
            signals.on_stop = nothing
    return driver.summary()


def _wide(settings: Settings) -> Settings:
    """`system.max_streams` is of each node: the whole cluster may have more."""
    system = settings.system.model_copy(update={"max_streams": sys.maxsize})
    return settings.model_copy(update={"system": system})


def _capacity(settings: Settings, gpu: str) -> Callable[[Node], float]:
    """Raises ConfigError: there is no such data sheet, or the cameras cannot be used."""
    demand, default = demand_of(settings, parse_source(USUAL_SOURCE), {}), sheet(gpu)

    def of(node: Node) -> float:
        try:
            return capacity_of(node, demand, default)
        except ConfigError as error:
            log.warning("node %s: no plan (%s); a card counts for %d cameras", node.name, error, _UNPLANNED)
            return _UNPLANNED * node.cards

    return of


def _connect(address: str | None) -> None:
    """Raises ConfigError for an address that cannot be one, FleetError where no cluster answers."""
    import ray

    logging.getLogger("ray").setLevel(logging.WARNING)
    quiet: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
    try:
        if address is None:
            here = {CARD: 1}
            ray.init("local", resources=here, include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **quiet)
        else:
            _reach(address)
            ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise FleetError(f"--address {address or 'of this machine'}: no Ray cluster: {told}") from error


def _reach(address: str) -> None:
    """Ray itself tries an address for minutes. Raises ConfigError, OSError."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and int(port) < 65536) or "/" in host:
        raise ConfigError(f"--address {address}: expected auto, or host:port of the cluster's head")
    socket.create_connection((host, int(port)), _REACH_S).close()


class _Quiet(io.TextIOBase):
    """What Ray prints of its processes is a matter for its own logs."""

    def write(self, text: str) -> int:
        """Only for those who ask."""
        logging.getLogger("ray").debug("%s", text.rstrip())
        return len(text)


@contextmanager
def _not_on_stdout() -> Iterator[None]:
    """The last line of stdout is JSON, and so is everything on stderr where the log is."""
    with contextlib.redirect_stdout(_Quiet()):
        yield
