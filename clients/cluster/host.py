"""The fleet of one node, in a process of its own there: it is told which cameras to run, and says how they are.

Every beat of the driver brings the whole list, so that no message can be lost. A process that has heard no beat for
LEASE_S ends itself at once: by then the driver gives its cameras to others, and none may be run twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from prometheus_client.metrics_core import Metric

from clients.config import Settings
from clients.errors import ConfigError, FleetError
from clients.fleet import Fleet
from clients.logs import ABOUT, write_logs
from clients.statistics import Summary
from clients.types import StreamSpec

LEASE_S = 4.5
_MOST_LINES = 500  # of log, between two beats
_ALONE = 75  # exit code of a process that nobody has asked
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """What was logged on a node."""

    level: int
    text: str
    about: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Beat:
    """The cameras that run, or are still ending; those that were refused, and why; the run so far; what was logged."""

    running: tuple[str, ...]
    refused: Mapping[str, str]
    summary: Summary
    lines: tuple[Line, ...]


class _Lines(logging.Handler):
    """Keeps what is logged until it is fetched; the newest, where it is too much."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[Line] = deque(maxlen=_MOST_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self._lines.append(Line(record.levelno, record.getMessage(), getattr(record, ABOUT, {})))

    def fetch(self) -> tuple[Line, ...]:
        """All since the last time."""
        lines = tuple(self._lines)
        for _ in lines:
            self._lines.popleft()
        return lines


class FleetOnNode:
    """One fleet. All methods are called from other processes, and run in this one's event loop."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._fleet: Fleet | None = None
        self._task: asyncio.Task[None] | None = None
        self._held: dict[str, StreamSpec] = {}  # those that are ending included
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, str] = {}
        self._number = 0
        self._asked_s = 0.0

    def pid(self) -> int:
        """This process's number on its machine."""
        return os.getpid()

    async def start(self, folder: str, settings: Settings) -> None:
        """Run a fleet without cameras, in that folder of this machine.

        Raises ConfigError: there is no such folder; and what entering a Fleet raises.
        """
        try:
            os.chdir(folder)
        except OSError as error:
            raise ConfigError(
                f"{folder}: {error.strerror}; every node needs this folder, where relative paths begin"
            ) from error
        write_logs(settings.monitoring.log_format)
        logging.getLogger().addHandler(self._lines)
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        if niceness > 0:
            log.warning("of low priority (nice %d): set RAY_worker_niceness=0 where ray start is called", niceness)
        is_open = asyncio.Event()
        self._task = asyncio.create_task(self._run(settings, is_open), name="fleet")
        opened = asyncio.create_task(is_open.wait())
        await asyncio.wait({opened, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            opened.cancel()
            self._task.result()
        self._asked_s = time.monotonic()
        self._lease = asyncio.create_task(self._end_when_alone(), name="lease")

    async def beat(self, number: int, cameras: Sequence[StreamSpec]) -> Beat:
        """Run these cameras and no others. A beat that arrives after a later one changes nothing.

        Raises FleetError when the fleet has ended.
        """
        self._asked_s = time.monotonic()
        fleet = self._running()
        if number > self._number:
            self._number = number
            self._run_only({spec.stream_id: spec for spec in cameras}, fleet)
        return Beat(tuple(self._held), dict(self._refused), fleet.stats(), self._lines.fetch())

    async def metrics(self) -> list[Metric]:
        """What Prometheus sees of this fleet. Raises FleetError when it has ended."""
        return list(self._running().collector().collect())

    async def leave(self) -> Beat:
        """End in order: answers in flight are taken, sinks written."""
        self._lease.cancel()
        fleet = self._running()
        fleet.stop()
        if self._task is not None:
            await self._task
        return Beat((), dict(self._refused), fleet.stats(), self._lines.fetch())

    async def _run(self, settings: Settings, is_open: asyncio.Event) -> None:
        async with Fleet(settings) as fleet:
            self._fleet = fleet
            is_open.set()
            await fleet.finished(stays=True)

    async def _end_when_alone(self) -> None:
        while (left_s := self._asked_s + LEASE_S - time.monotonic()) > 0:  # noqa: ASYNC110 - it is time that it waits for
            await asyncio.sleep(left_s)
        log.error("no word from the driver for %g s: this fleet ends", LEASE_S)
        os._exit(_ALONE)  # at once: whatever hangs here, its cameras run elsewhere now

    def _running(self) -> Fleet:
        if self._fleet is None:
            raise FleetError("the fleet has not been started")
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
        return self._fleet

    def _run_only(self, wanted: Mapping[str, StreamSpec], fleet: Fleet) -> None:
        """A camera that is wanted otherwise ends first, and is added by a later beat."""
        self._refused = {name: why for name, why in self._refused.items() if name in wanted}
        for name, spec in list(self._held.items()):
            asked = wanted.get(name)
            if name in self._ending or asked == spec:
                continue
            if asked is not None and replace(spec, layout=asked.layout) == asked:
                self._redraw(asked, fleet)
            else:
                self._ending[name] = asyncio.create_task(self._end(name, fleet))
        for name, spec in wanted.items():
            if name not in self._held:
                self._add(spec, fleet)

    def _add(self, spec: StreamSpec, fleet: Fleet) -> None:
        try:
            fleet.add(spec)
        except FleetError as error:
            self._refused[spec.stream_id] = str(error)
            return
        self._held[spec.stream_id] = spec
        self._refused.pop(spec.stream_id, None)

    def _redraw(self, spec: StreamSpec, fleet: Fleet) -> None:
        try:
            fleet.set_layout(spec.stream_id, spec.layout)
        except FleetError as error:
            self._refused[spec.stream_id] = str(error)
            return
        self._held[spec.stream_id] = spec

    async def _end(self, name: str, fleet: Fleet) -> None:
        try:
            with suppress(FleetError):
                await fleet.remove_stream(name)
        finally:
            self._held.pop(name, None)
            self._ending.pop(name, None)
