"""What a stream says about itself before a picture of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from av.video.stream import VideoStream

from clients.sources.colour import SourceColour, is_tagged, tagged_colour
from clients.sources.placement import Load


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """Codec (FFmpeg's name), coded size in pixels, pictures per second where it states them, and its colours."""

    codec: str
    width: int
    height: int
    fps: float | None
    colour: SourceColour
    is_tagged: bool

    @classmethod
    def of(cls, stream: VideoStream) -> StreamFacts:
        """Read them from a stream that has been opened."""
        context = stream.codec_context
        rate = stream.average_rate or stream.guessed_rate
        matrix, value_range, pixels = context.colorspace, context.color_range, context.pix_fmt or ""
        return cls(
            codec=context.name,
            width=context.width,
            height=context.height,
            fps=float(rate) if rate else None,
            colour=tagged_colour(matrix, value_range, pixels, context.height),
            is_tagged=is_tagged(matrix),
        )

    @property
    def load(self) -> Load:
        """What it asks of a decoder."""
        return Load(self.codec, self.width, self.height, self.fps)

    def __str__(self) -> str:
        fps = "an unknown rate" if self.fps is None else f"{self.fps:g} fps"
        tags = "" if self.is_tagged else "untagged, read as "
        return f"{self.codec} {self.width}x{self.height}, {fps}, {tags}{self.colour}"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "codec": self.codec,
            "width": self.width,
            "height": self.height,
            "fps": None if self.fps is None else round(self.fps, 3),
            "colour": str(self.colour),
            "colour_is_tagged": self.is_tagged,
        }
