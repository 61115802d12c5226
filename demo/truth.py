"""What is known of every frame of a clip, and its file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrueObject:
    """One object in one frame: `xyxy` in source pixels, clipped to the picture; `visibility` 0..1 of its pixels there."""

    object_id: int
    class_id: int
    xyxy: tuple[float, float, float, float]
    visibility: float
