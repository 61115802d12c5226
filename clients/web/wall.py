"""The wall's WebSocket: numbers once a second, and previews with their boxes of the cameras that are looked at.

From the page: `{"look": {"cam01": 320}}`, the cameras that it shows now and how wide, in pixels; it replaces the last
one. To the page: text, the numbers of telemetry.py as JSON; and binary: four bytes, the length of a JSON header, big
endian, the header, and a JPEG. Nothing waits for a viewer: each message is made when the one before it has been taken,
of what is newest then.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocketState

from clients.errors import SourceError
from clients.lane import Lane
from clients.result import label
from clients.web import problems
from clients.web.desk import Desk, SocketDesk
from clients.web.previews import Preview
from clients.web.problems import Refused
from clients.web.viewers import TooSlow

_TICK_S = 0.1
_POLICY, _RESTART = 1008, 1012
router = APIRouter()


class Look(BaseModel):
    """What a page shows now: widths in pixels by camera."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    look: dict[Annotated[str, Field(max_length=64)], Annotated[int, Field(ge=16, le=3840)]] = Field(max_length=1000)


@router.websocket("/v1/wall")
async def wall(socket: WebSocket, desk: SocketDesk) -> None:
    """One page of the wall."""
    try:
        with desk.viewers.one():
            await socket.accept()
            await _serve(socket, desk)
    except Refused as refused:
        await socket.send_denial_response(problems.response(refused.status, refused.detail, headers=refused.headers))


async def _serve(socket: WebSocket, desk: Desk) -> None:
    looks: dict[str, int] = {}
    tasks = {asyncio.create_task(_hear(socket, looks)), asyncio.create_task(_tell(socket, desk, looks))}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    if any(isinstance(outcome, TooSlow) for outcome in outcomes):
        socket.app.state.cut(socket.scope["client"])
    elif socket.client_state is WebSocketState.CONNECTED:
        code = next((task.result() for task in done if task.exception() is None), _RESTART)
        await socket.close(code)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, TooSlow | WebSocketDisconnect):
            raise outcome


async def _hear(socket: WebSocket, looks: dict[str, int]) -> int:
    """Until the page says something that cannot be understood; returns the code to close with."""
    while True:
        text = await socket.receive_text()
        try:
            wanted = Look.model_validate_json(text)
        except ValidationError:
            return _POLICY
        looks.clear()
        looks.update(wanted.look)


async def _tell(socket: WebSocket, desk: Desk, looks: Mapping[str, int]) -> int:
    """Until the server ends; returns the code to close with."""
    told: str | None = None
    sent: dict[str, tuple[int, int]] = {}
    while True:
        began_s = time.monotonic()
        if desk.telemetry is not None and desk.telemetry.text is not told:
            told = desk.telemetry.text
            await desk.viewers.in_time(socket.send_text(told))
        for stream_id, width in list(looks.items()):
            lane = desk.fleet.lanes.get(stream_id) if desk.roster.has_fleet else None
            shown = None if lane is None else lane.shown()
            if lane is None or shown is None:
                sent.pop(stream_id, None)
                continue
            if sent.get(stream_id) == (shown[0].captured_ns, width):
                continue
            preview = await _preview(desk, lane, width)
            if preview is not None and sent.get(stream_id) != (preview.captured_ns, width):
                sent[stream_id] = preview.captured_ns, width
                await desk.viewers.in_time(socket.send_bytes(packet(stream_id, preview, desk.labels(lane))))
        for stream_id in [name for name in sent if name not in looks]:
            del sent[stream_id]
        if not await desk.viewers.pause(max(0.01, began_s + _TICK_S - time.monotonic())):
            return _RESTART


async def _preview(desk: Desk, lane: Lane, width: int) -> Preview | None:
    try:
        return await desk.previews.newest(lane, width)
    except SourceError:  # a picture that cannot be converted is not shown
        return None


def packet(stream_id: str, preview: Preview, labels: tuple[str, ...]) -> bytes:
    """A preview with its header; boxes are relative to the picture, 0..1."""
    result, (width, height) = preview.result, preview.size_px
    header: dict[str, Any] = {"id": stream_id, "size": [width, height], "objects": []}
    if result is not None:
        boxes = (result.detections.xyxy / (width, height, width, height)).round(4).tolist()
        found = zip(boxes, result.detections.class_id.tolist(), result.track_ids.tolist(), strict=True)
        header |= {
            "frame": result.frame_index,
            "time_s": round(result.media_time_s, 3),
            "tier": result.tier.value,
            "age_ms": round(result.age_ms),
            "objects": [[track, label(labels, class_id), *box] for box, class_id, track in found],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack(">I", len(text)) + text + preview.jpeg
