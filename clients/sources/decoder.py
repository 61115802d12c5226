"""FFmpeg's decoder of one camera: one thread, no delay of its own, patient with damaged packets, nothing uncounted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import av
from av.codec.context import Flags, ThreadType
from av.video.stream import VideoStream

from clients.sources.skipping import Skipping
from clients.sources.units import Units

_MAX_BAD_PACKETS = 100  # in a row, before the camera is given up


class Skip(StrEnum):
    """Why a packet was not decoded. The values are the metric labels."""

    LATE = "late"  # the decoder lagged behind a live camera
    NOT_NEEDED = "not_needed"  # no other picture is predicted from it, and enough others remain
    DAMAGED = "damaged"  # FFmpeg could not decode it


@dataclass(slots=True)
class Tally:
    """A camera's video packets, and those that were not decoded.

    Frames decoded and packets skipped add up to `packets`, but for a few that are lost in a decoder that is closed
    when its connection breaks off, and pictures that come in two packets.
    """

    packets: int = 0
    skipped: dict[Skip, int] = field(default_factory=lambda: dict.fromkeys(Skip, 0))


class Decoding:
    """What all decoders of one camera have in common, from one file or connection to the next."""

    def __init__(self, *, min_fps: float = 0.0, may_skip: bool = False, granted: Callable[[], int] = lambda: 0) -> None:
        """`granted` counts the camera's turns so far; by it pictures that no other one needs are left out."""
        self.tally = Tally()
        self.granted = granted
        self.skipping = Skipping(min_fps) if may_skip else None

    def decoder(self, stream: VideoStream) -> Decoder:
        """A decoder for a stream that has just been opened."""
        return Decoder(stream, self)


class Decoder:
    """Decodes the packets of one stream; a packet's arrival comes back as `opaque` on the packet's own frame."""

    def __init__(self, stream: VideoStream, decoding: Decoding) -> None:
        context = stream.codec_context
        context.thread_type = ThreadType.NONE  # one thread per camera: fifty cameras share the cores better than one
        context.flags |= Flags.copy_opaque  # carries a packet's arrival through the decoder's reordering
        self._decoding = decoding
        self._units = Units(context.name, context.extradata)
        self._bad_packets = 0

    def decode(self, packet: av.Packet[VideoStream], arrival_ns: int | None) -> list[av.VideoFrame]:
        """The frames that the packet completes; None as arrival is the end of the stream.

        Raises av.FFmpegError for the hundredth damaged packet in a row.
        """
        if arrival_ns is not None:
            packet.opaque = arrival_ns
            self._decoding.tally.packets += 1
            if self._is_left_out(packet, arrival_ns):
                self._decoding.tally.skipped[Skip.NOT_NEEDED] += 1
                return []
        try:
            images = [image for image in packet.decode() if isinstance(image, av.VideoFrame)]
        except av.FFmpegError:
            self._bad_packets += 1
            self._decoding.tally.skipped[Skip.DAMAGED] += 1
            if self._bad_packets >= _MAX_BAD_PACKETS:
                raise
            return []
        if images:
            self._bad_packets = 0
        return images

    def leave_out(self) -> None:
        """Count a packet that comes too late to be decoded."""
        self._decoding.tally.packets += 1
        self._decoding.tally.skipped[Skip.LATE] += 1

    def _is_left_out(self, packet: av.Packet[VideoStream], arrival_ns: int) -> bool:
        skipping = self._decoding.skipping
        if skipping is None:
            return False
        is_needed = packet.is_keyframe or self._units.is_needed(memoryview(packet))
        return skipping.skips(is_needed, self._decoding.granted(), arrival_ns)
