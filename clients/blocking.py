"""The fleet for programs without asyncio: the same fleet, in a thread of its own.

with BlockingFleet(settings) as fleet:
    fleet.add_video_stream("gate-3", "rtsp://...")
    for result in fleet.get_results("gate-3"):
        ...
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from clients.config import Settings
from clients.errors import FleetStopped
from clients.fleet import Fleet
from clients.result import Result
from clients.statistics import CameraReport, Summary
from clients.zones.event import Event
from clients.zones.layout import Layout


class BlockingFleet:
    """A fleet as a plain context manager. Its methods may be called from any thread, and wait for the answer."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError when the cameras of the settings cannot be used."""
        self._fleet = Fleet(settings)
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        """Raises what entering a Fleet raises."""
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio", name="fleet"))
            stack.enter_context(portal.wrap_async_context_manager(self._fleet))
            self._portal = portal
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._portal = None
        self._stack.__exit__(*error)

    def add_video_stream(self, stream_id: str, source: str, **options: Any) -> None:
        """See Fleet.add_stream."""

        async def add() -> None:
            await self._fleet.add_stream(stream_id, source, **options)

        self._running().call(add)

    def remove_video_stream(self, stream_id: str) -> CameraReport:
        """See Fleet.remove_stream."""
        return self._running().call(self._fleet.remove_stream, stream_id)

    def get_results(self, stream_id: str) -> list[Result]:
        """The newest results of a camera, oldest first, 30 at most; see Fleet.get_results."""
        return self._running().call(self._fleet.get_results, stream_id)

    def set_layout(self, stream_id: str, layout: Layout) -> None:
        """Other zones and lines for a camera; see Fleet.set_layout."""
        self._running().call(self._fleet.set_layout, stream_id, layout)

    def newest_events(self, most: int = 100) -> list[Event]:
        """The newest events of all cameras, oldest first, 500 at most; see Fleet.newest_events."""
        return self._running().call(self._fleet.newest_events, most)

    def wait(self, duration_s: float | None = None) -> None:
        """Until all cameras have ended or the time is over; then the fleet is stopped. See Fleet.finished."""
        self._running().call(self._fleet.finished, duration_s)

    def stats(self) -> Summary:
        """See Fleet.stats; after the context was left, the summary of the run."""
        return self._fleet.stats() if self._portal is None else self._portal.call(self._fleet.stats)

    def _running(self) -> BlockingPortal:
        if self._portal is None:
            raise FleetStopped("the fleet does not run: use it inside `with BlockingFleet(settings)`")
        return self._portal
