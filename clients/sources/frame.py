"""A frame: a picture with the camera, the number and the times that belong to it."""

from __future__ import annotations

from dataclasses import dataclass

from clients.sources.picture import Picture


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded frame of one camera.

    `index` counts the camera's frames from 0, across loops of a file. `captured_ns` is the monotonic time at which
    the frame's packet arrived, before decoding, so an age counts decoding too. `media_time_s` is the camera's own
    clock.
    """

    stream_id: str
    index: int
    captured_ns: int
    media_time_s: float
    picture: Picture

    def age_ms(self, now_ns: int) -> float:
        """How long ago the frame arrived."""
        return (now_ns - self.captured_ns) / 1e6
