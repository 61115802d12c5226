"""What happened at a zone or line, as a value and as the JSON of docs/schema/event-1.json."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

SCHEMA = "event/1"
Kind = Literal["enter", "dwell", "leave", "cross"]
Direction = Literal["in", "out"]
Reason = Literal["left", "lost", "ended"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Since its camera was added: objects that entered a zone and left it, and are inside; or a line's ins and outs."""

    entered: int = 0
    left: int = 0
    inside: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One object at one zone or line of one camera.

    `frame_index` and the times are those of the frame by which it was noticed: `media_time_s` on the camera's own
    clock, `wall_time_s` in Unix time when its packet arrived. `xyxy` is the object's box in source pixels where it was
    seen last, `size_px` the picture's (width, height). A `leave` has a reason: left; lost, not seen any more; ended,
    camera or zone are gone. `inside_s` is the length of the stay so far, `counts` are those after this event.
    """

    id: str
    kind: Kind
    stream_id: str
    zone: str
    object_id: int
    class_name: str
    confidence: float
    xyxy: tuple[float, float, float, float]
    size_px: tuple[int, int]
    frame_index: int
    media_time_s: float
    wall_time_s: float
    counts: Counts
    direction: Direction | None = None
    reason: Reason | None = None
    inside_s: float | None = None


def as_record(event: Event) -> dict[str, Any]:
    """An event as plain JSON values; pixels rounded to a tenth, seconds to a thousandth."""
    return {
        "schema": SCHEMA,
        "id": event.id,
        "kind": event.kind,
        "camera": event.stream_id,
        "zone": event.zone,
        "object": event.object_id,
        "class": event.class_name,
        "confidence": round(event.confidence, 3),
        "direction": event.direction,
        "reason": event.reason,
        "inside_s": None if event.inside_s is None else round(event.inside_s, 3),
        "counts": {"in": event.counts.entered, "out": event.counts.left, "inside": event.counts.inside},
        "time": timestamp(event.wall_time_s),
        "media_time_s": round(event.media_time_s, 3),
        "frame": event.frame_index,
        "size": list(event.size_px),
        "xyxy": [round(value, 1) for value in event.xyxy],
    }


def timestamp(unix_s: float) -> str:
    """Unix time as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
