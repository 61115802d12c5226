"""`frame.jpg` and `live.mjpg`: a camera's picture with its boxes drawn in, for whoever has no browser page of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from clients.web.desk import Desk, StreamId, TheDesk
from clients.web.live import LiveResponse
from clients.web.problems import Refused, documented

_BOUNDARY = "frame"
Width = Annotated[int | None, Query(ge=32, le=3840, description="Pixels; never larger than the camera's own.")]
JPEG = {200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}}
MJPEG = {200: {"content": {"multipart/x-mixed-replace": {"schema": {"type": "string", "format": "binary"}}}}}

router = APIRouter(
    prefix="/v1/streams/{stream_id}", tags=["pictures"], responses=documented(401, 403, 404, 421, 422, 500, 503)
)


@router.get("/frame.jpg", response_class=Response, responses=JPEG)  # type: ignore[arg-type]
async def frame(desk: TheDesk, stream_id: StreamId, width: Width = None) -> Response:
    """The newest inferred frame with what was found in it; before the first answer, the newest frame."""
    lane = desk.running(stream_id)
    jpeg = await desk.previews.annotated(lane, desk.labels(lane), width)
    if jpeg is None:
        raise Refused(404, f"camera {stream_id}: no frame has come yet", {"Retry-After": "1"})
    return Response(jpeg, media_type="image/jpeg")


@router.get("/live.mjpg", response_class=Response, responses=MJPEG)  # type: ignore[arg-type]
async def live(
    desk: TheDesk,
    stream_id: StreamId,
    width: Width = None,
    fps: Annotated[float, Query(ge=0.1, le=10, description="Pictures a second at most.")] = 5,
) -> Response:
    """The same again and again, as Motion JPEG, until the camera is removed."""
    desk.running(stream_id)
    parts = _parts(desk, stream_id, width, 1 / fps)
    return LiveResponse(parts, desk.viewers, media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}")


async def _parts(desk: Desk, stream_id: str, width: int | None, pause_s: float) -> AsyncIterator[bytes]:
    shown_ns = None
    while (lane := desk.fleet.lanes.get(stream_id)) is not None:
        shown = lane.shown()
        if shown is not None and shown[0].captured_ns != shown_ns:
            shown_ns = shown[0].captured_ns
            jpeg = await desk.previews.annotated(lane, desk.labels(lane), width)
            if jpeg is not None:
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield head.encode() + jpeg + b"\r\n"
        if not await desk.viewers.pause(pause_s):
            return
