"""`/v1/events` and a camera's zones: what happens where somebody has drawn a zone or a line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from clients.subscriptions import Subscription
from clients.web.desk import Desk, StreamId, TheDesk
from clients.web.live import LiveResponse
from clients.web.problems import documented
from clients.zones.event import Event, as_record
from clients.zones.keys import LayoutKeys, LineKeys, ZoneKeys

_ALIVE_S = 15.0  # without an event, a comment says that the stream lives
_MISSED = 500  # events at most that a reader who was away is told of
EVENTS = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}

router = APIRouter(tags=["events"], responses=documented(401, 403, 404, 421, 422, 503))


class ZoneCounts(BaseModel):
    """Since the camera began: objects that entered a zone and left it, and are inside; or a line's ins and outs."""

    entered: int = Field(serialization_alias="in")
    left: int = Field(serialization_alias="out")
    inside: int


class Zones(BaseModel):
    """A camera's zones and lines, and their counts by name."""

    zones: list[ZoneKeys]
    lines: list[LineKeys]
    counts: dict[str, ZoneCounts]


@router.get("/v1/streams/{stream_id}/zones")
async def get_zones(desk: TheDesk, stream_id: StreamId) -> Zones:
    """The zones and lines of a camera; counts while it runs."""
    return _zones(desk, stream_id)


@router.put("/v1/streams/{stream_id}/zones", responses=documented(413, 415, 500))
async def put_zones(desk: TheDesk, stream_id: StreamId, layout: LayoutKeys) -> Zones:
    """Other zones and lines. The camera goes on, and those that stay as they are keep their counts."""
    await desk.roster.change(stream_id, layout.model_dump())
    return _zones(desk, stream_id)


@router.get("/v1/events", response_class=Response, responses=EVENTS)  # type: ignore[arg-type]
async def events(
    desk: TheDesk,
    camera: Annotated[str | None, Query(max_length=64, description="Of this camera only.")] = None,
    newest: Annotated[int, Query(ge=0, le=_MISSED, description="Begin with so many that have been.")] = 0,
    last_event_id: Annotated[str | None, Header(description="Begin after this one, where it is still known.")] = None,
) -> Response:
    """Server-Sent Events, from now on: the objects of docs/schema/event-1.json. A slow reader misses the oldest."""
    if camera is not None:
        desk.roster.get(camera)
    subscription = desk.fleet.events(camera)
    before = [one for one in desk.fleet.newest_events(_MISSED) if camera in (None, one.stream_id)]
    return LiveResponse(
        _lines(desk, subscription, _missed(before, last_event_id, newest)),
        desk.viewers,
        media_type="text/event-stream",
    )


def _missed(before: list[Event], last_id: str | None, newest: int) -> list[Event]:
    """What a reader has not seen: all after the last one that he names, else the newest that he asks for."""
    place = next((index for index, event in enumerate(before) if event.id == last_id), None)
    if place is not None:
        return before[place + 1 :]
    return before[-newest:] if newest else []


async def _lines(desk: Desk, subscription: Subscription[Event], missed: list[Event]) -> AsyncIterator[bytes]:
    yield b": events\n\n"
    for event in missed:
        yield _line(event)
    closing = asyncio.create_task(desk.viewers.closing.wait())
    coming: asyncio.Task[Event] | None = None
    try:
        while not closing.done():
            coming = coming or asyncio.create_task(_next(subscription))
            await asyncio.wait({coming, closing}, timeout=_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                yield b":\n\n"
                continue
            try:
                yield _line(coming.result())
            except StopAsyncIteration:
                return
            coming = None
    finally:
        closing.cancel()
        if coming is not None:
            coming.cancel()


async def _next(subscription: Subscription[Event]) -> Event:
    return await anext(subscription)


def _line(event: Event) -> bytes:
    data = json.dumps(as_record(event), separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n".encode()


def _zones(desk: Desk, stream_id: str) -> Zones:
    camera = desk.roster.get(stream_id).camera
    running = desk.lane(stream_id) is not None
    counts = desk.fleet.zone_counts(stream_id) if running else {}
    return Zones(
        zones=list(camera.zones),
        lines=list(camera.lines),
        counts={
            name: ZoneCounts(entered=one.entered, left=one.left, inside=one.inside) for name, one in counts.items()
        },
    )
