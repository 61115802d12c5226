"""What the routes work with: the fleet, its roster, numbers, previews and viewers, once the fleet runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Request, WebSocket

from clients.config import Settings
from clients.errors import FleetStopped, UnknownStream
from clients.fleet import Fleet
from clients.lane import Lane
from clients.roster import Roster
from clients.web.guard import Token
from clients.web.previews import Previews
from clients.web.telemetry import Telemetry
from clients.web.viewers import Viewers


@dataclass(slots=True)
class Desk:
    """One server's. `telemetry` is there as soon as the fleet runs."""

    roster: Roster
    token: Token | None = None
    previews: Previews = field(default_factory=Previews)
    viewers: Viewers = field(default_factory=Viewers)
    telemetry: Telemetry | None = None

    @property
    def settings(self) -> Settings:
        """The running configuration."""
        return self.roster.base

    @property
    def fleet(self) -> Fleet:
        """Raises FleetStopped before it runs."""
        return self.roster.fleet

    @property
    def numbers(self) -> Telemetry:
        """Raises FleetStopped before the fleet runs."""
        if self.telemetry is None:
            raise FleetStopped("the fleet is starting: its server is not ready yet")
        return self.telemetry

    def lane(self, stream_id: str) -> Lane | None:
        """A running camera; None for one that is paused. Raises UnknownStream, FleetStopped."""
        self.roster.get(stream_id)
        return self.fleet.lanes.get(stream_id)

    def running(self, stream_id: str) -> Lane:
        """A running camera. Raises UnknownStream for one that is paused too, FleetStopped."""
        lane = self.lane(stream_id)
        if lane is None:
            raise UnknownStream(f"camera {stream_id}: it is paused")
        return lane

    def labels(self, lane: Lane) -> tuple[str, ...]:
        """The names of the classes that a camera's tier knows."""
        return self.fleet.served.labels.get(lane.tier, ())


def desk_of(request: Request) -> Desk:
    """The app's."""
    desk: Desk = request.app.state.desk
    return desk


def desk_of_socket(socket: WebSocket) -> Desk:
    """The app's."""
    desk: Desk = socket.app.state.desk
    return desk


TheDesk = Annotated[Desk, Depends(desk_of)]
SocketDesk = Annotated[Desk, Depends(desk_of_socket)]
StreamId = Annotated[
    str,
    Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="The camera's id.", examples=["cam01"]),
]
