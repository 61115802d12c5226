"""Keeps the table on the screen while the fleet runs, and watches the GPU."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.logging import RichHandler

from clients.config import Monitoring
from clients.dashboard.table import fleet_line, fleet_table
from clients.gpu import read_gpu
from clients.logs import about
from clients.statistics import CameraReport

_REFRESH_S = 1.0
Reports = Callable[[], list[CameraReport]]
log = logging.getLogger(__name__)


async def show(reports_of: Reports, monitoring: Monitoring) -> None:
    """Until cancelled: a live table on a terminal, else one line every `monitoring.check_interval` seconds.

    Where the log is JSON there is no table.
    """
    console = Console(stderr=True)
    if console.is_terminal and monitoring.log_format == "text":
        await _show_table(reports_of, monitoring, console)
    else:
        await _show_lines(reports_of, monitoring)


async def _show_table(reports_of: Reports, monitoring: Monitoring, console: Console) -> None:
    looked_s, gpu = 0.0, ""
    with _logging_through(console), Live(console=console, auto_refresh=False, transient=True) as live:
        reports, read_s = reports_of(), time.monotonic()
        while True:
            await asyncio.sleep(_REFRESH_S)
            earlier, before_s = reports, read_s
            reports, read_s = reports_of(), time.monotonic()
            if read_s - looked_s >= monitoring.check_interval:
                looked_s, gpu = read_s, await _gpu_line(monitoring)
            elapsed_s = read_s - before_s
            title = f"{fleet_line(reports, earlier, elapsed_s)}{gpu}"
            live.update(fleet_table(reports, earlier, elapsed_s, title), refresh=True)


@contextmanager
def _logging_through(console: Console) -> Iterator[None]:
    """What is logged while the table is on the screen is printed above it instead of being painted over."""
    root = logging.getLogger()
    before = root.handlers
    root.handlers = [RichHandler(console=console, show_time=False, show_path=False, markup=False)]
    try:
        yield
    finally:
        root.handlers = before


async def _show_lines(reports_of: Reports, monitoring: Monitoring) -> None:
    reports, read_s = reports_of(), time.monotonic()
    while True:
        await asyncio.sleep(monitoring.check_interval)
        earlier, before_s = reports, read_s
        reports, read_s = reports_of(), time.monotonic()
        gpu_line = await _gpu_line(monitoring)
        log.info("%s%s", fleet_line(reports, earlier, read_s - before_s), gpu_line, extra=about("progress"))


async def _gpu_line(monitoring: Monitoring) -> str:
    gpu = await asyncio.to_thread(read_gpu)
    if gpu is None:
        return ""
    if gpu.utilization_percent > monitoring.gpu_utilization_threshold:
        log.warning(
            "%s is %.0f %% busy, above monitoring.gpu_utilization_threshold (%.0f %%)",
            gpu.name,
            gpu.utilization_percent,
            monitoring.gpu_utilization_threshold,
        )
    return f", {gpu.name} {gpu.utilization_percent:.0f} % at {gpu.sm_clock_mhz} MHz"
