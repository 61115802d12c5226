"""`/v1/streams`: list, add, change, remove and pause cameras; what they see and what was decided."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from clients.config import Camera
from clients.errors import ConfigError, FleetStopped
from clients.roster import Entry
from clients.sinks.jsonl import as_record
from clients.sources.address import address_of
from clients.subscriptions import KEPT
from clients.web.desk import Desk, StreamId, TheDesk
from clients.web.problems import documented

State = Literal["connecting", "live", "stalled", "backing_off", "ended", "failed", "paused"]
_REFERENCE = re.compile(r"\$\{(?!CAM_)[^}]*\}")

router = APIRouter(prefix="/v1/streams", tags=["streams"], responses=documented(401, 403, 421, 422, 503))


class Stream(BaseModel):
    """A camera, its options, and how it is now."""

    id: str
    source: str = Field(description="Where it comes from; logins, queries and variables are hidden.")
    state: State
    paused: bool
    problem: str | None = Field(description="What is wrong, while something is.")
    options: dict[str, Any] = Field(description="What was configured of it; what is missing is the fleet's default.")
    now: dict[str, Any] = Field(description="Tier, age and rates at the last look, a second ago at most.")


_changeable = {
    name: (field.annotation, field) for name, field in Camera.model_fields.items() if name not in ("id", "source")
}
_Options: Any = create_model(  # type: ignore[call-overload]
    "StreamChange",
    __config__=ConfigDict(extra="forbid", hide_input_in_errors=True, allow_inf_nan=False),
    __doc__="What is to change of a camera; what is left out stays, null takes the fleet's default.",
    source=(str | None, Field(None, max_length=2048, description="Where it comes from.")),
    **_changeable,
)


class NewStream(Camera):
    """One camera more: the keys of `cameras` in config.yaml."""

    id: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Unique name: letters, digits, . _ -",
        examples=["yard"],
    )
    source: str = Field(
        min_length=1,
        max_length=2048,
        description="A file, a pattern of files, /dev/videoN, or rtsp(s) http(s) udp URL.",
        repr=False,
        examples=["rtsp://viewer:${CAM_PASSWORD}@192.168.1.20/stream1"],
    )


class Detections(BaseModel):
    """The newest results of a camera, oldest first."""

    id: str
    results: list[dict[str, Any]]


class History(BaseModel):
    """Frames a second by what became of them, in each of the last seconds, oldest first."""

    id: str
    seconds: list[dict[str, Any]]


@router.get("")
async def list_streams(desk: TheDesk) -> list[Stream]:
    """All cameras, paused ones too."""
    return [_shown(desk, entry) for entry in desk.roster]


@router.post("", status_code=201, responses=documented(409, 413, 415, 500))
async def add_stream(desk: TheDesk, new: NewStream, response: Response) -> Stream:
    """Add a camera. It is kept over a restart."""
    camera = Camera.model_validate(new.model_dump(exclude_unset=True))
    _check_source(camera.source)
    entry = await desk.roster.create(camera)
    response.headers["Location"] = f"/v1/streams/{camera.id}"
    return _shown(desk, entry)


@router.get("/{stream_id}", responses=documented(404))
async def get_stream(desk: TheDesk, stream_id: StreamId) -> Stream:
    """One camera."""
    return _shown(desk, desk.roster.get(stream_id))


@router.patch("/{stream_id}", responses=documented(404, 409, 413, 415, 500))
async def change_stream(desk: TheDesk, stream_id: StreamId, change: _Options) -> Stream:
    """Change a camera's options. It begins anew; the others are not disturbed."""
    options = change.model_dump(exclude_unset=True)
    if options.get("source") is None:
        options.pop("source", None)
    else:
        _check_source(options["source"])
    return _shown(desk, await desk.roster.change(stream_id, options))


@router.delete("/{stream_id}", status_code=204, responses=documented(404, 500))
async def remove_stream(desk: TheDesk, stream_id: StreamId) -> None:
    """Remove a camera; its answer in flight is still taken."""
    await desk.roster.remove(stream_id)


@router.post("/{stream_id}/pause", responses=documented(404, 500))
async def pause_stream(desk: TheDesk, stream_id: StreamId) -> Stream:
    """Let a camera rest: it is disconnected and costs nothing. Once more changes nothing."""
    return _shown(desk, await desk.roster.pause(stream_id))


@router.post("/{stream_id}/resume", responses=documented(404, 409, 500))
async def resume_stream(desk: TheDesk, stream_id: StreamId) -> Stream:
    """Let a paused camera run again."""
    return _shown(desk, await desk.roster.resume(stream_id))


@router.get("/{stream_id}/detections", responses=documented(404))
async def newest_detections(
    desk: TheDesk,
    stream_id: StreamId,
    most: Annotated[int, Query(ge=1, le=KEPT, description="How many results.")] = 1,
) -> Detections:
    """The newest results; none before the first, or while it is paused."""
    lane = desk.lane(stream_id)
    if lane is None:
        return Detections(id=stream_id, results=[])
    labels = desk.fleet.served.labels
    results = desk.fleet.get_results(stream_id)[-most:]
    return Detections(id=stream_id, results=[as_record(one, labels.get(one.tier, ())) for one in results])


@router.get("/{stream_id}/history", responses=documented(404))
async def history(desk: TheDesk, stream_id: StreamId) -> History:
    """What was decided about its frames in the last five minutes, a second each."""
    desk.roster.get(stream_id)
    return History(id=stream_id, seconds=desk.numbers.history(stream_id))


def _shown(desk: Desk, entry: Entry) -> Stream:
    camera = entry.camera
    spec = desk.settings.stream(camera)
    options = camera.model_dump(mode="json", exclude={"id", "source"}, exclude_unset=True)
    now = {} if desk.telemetry is None else desk.telemetry.camera(camera.id)
    return Stream(
        id=camera.id,
        source=str(address_of(spec)),
        state=_state(desk, entry),
        paused=entry.is_paused,
        problem=now.get("problem"),
        options=options,
        now=now,
    )


def _state(desk: Desk, entry: Entry) -> State:
    if entry.is_paused:
        return "paused"
    try:
        lane = desk.fleet.lanes.get(entry.camera.id)
    except FleetStopped:
        return "connecting"
    return "connecting" if lane is None else lane.state.value


def _check_source(source: str) -> None:
    """Variables hold secrets of this process too: over the API only those of cameras are put into a source."""
    if _REFERENCE.search(source):
        raise ConfigError("source: over the API only variables whose names begin with CAM_ may be used")
