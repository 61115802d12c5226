"""The decoder of one camera: on the CPU or on NVDEC, patient with damaged packets, nothing uncounted.

On the CPU: one thread, no delay of its own, and no more cameras at once than there are cores. What NVDEC cannot do, or
no longer does, goes on on the CPU; a camera that insists on CUDA fails, or is connected anew, instead.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import av
from av.codec.context import Flags, ThreadType
from av.video.stream import VideoStream

from clients.errors import SourceError, SourceUnusable
from clients.logs import about
from clients.sources.cuda import CudaEngine, StreamChanged
from clients.sources.picture import Origin
from clients.sources.placement import NvdecPlan, Placement, cpu_only
from clients.sources.skipping import Skipping
from clients.sources.stream import StreamFacts
from clients.sources.units import Units
from clients.types import Canvas, DecodeOn

_MAX_BAD_PACKETS = 100  # in a row, before the camera is given up
_MAX_BAD_ON_CUDA = 25  # in a row, before the CPU takes over
_UNTIMED = ("h264", "hevc")  # raw streams: without times cuvid's frames could not be told apart
_PROGRESSIVE = (0, 1)  # AVFieldOrder: unknown, progressive; the halves of an interlaced picture belong together
# as many cameras as cores decode at once: docs/decisions/0024-as-many-decode-as-there-are-cores.md
_cores = threading.BoundedSemaphore(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
log = logging.getLogger(__name__)


class Skip(StrEnum):
    """Why a packet was not decoded. The values are the metric labels."""

    LATE = "late"  # the decoder lagged behind a live camera
    NOT_NEEDED = "not_needed"  # no other picture is predicted from it, and enough others remain
    DAMAGED = "damaged"  # FFmpeg could not decode it


@dataclass(slots=True)
class Tally:
    """A camera's video packets, and those that were not decoded.

    Frames decoded and packets skipped add up to `packets`, but for a few that are lost in a decoder that is closed
    when its connection breaks off, and pictures that come in two packets. `held_back` counts packets that had to wait,
    because the camera sends too much. `packet_bytes` are those of all packets that came to the decoder.
    """

    packets: int = 0
    packet_bytes: int = 0
    held_back: int = 0
    skipped: dict[Skip, int] = field(default_factory=lambda: dict.fromkeys(Skip, 0))


class Engine(Protocol):
    """What decodes. `origin` is what the camera sends, where the engine scales it, else None."""

    @property
    def origin(self) -> Origin | None:
        """See above."""

    def decode(self, packet: av.Packet[VideoStream], arrival_ns: int | None) -> list[av.VideoFrame]:
        """The frames that the packet completes, each with its packet's arrival as `opaque`. Raises av.FFmpegError."""


class Tap(Protocol):
    """Sees the packets of a camera before they are decoded, in its reader's thread; keeps what it wants of them."""

    def opened(self, stream: VideoStream) -> None:
        """A connection or file begins."""

    def packet(self, packet: av.Packet[VideoStream], arrival_ns: int) -> None:
        """One packet, whether it will be decoded or not."""

    def ended(self) -> None:
        """Nothing more will come."""


class CpuEngine:
    """FFmpeg's own decoder; its pictures are as the camera sent them."""

    origin: Origin | None = None

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        context.thread_type = ThreadType.NONE  # one thread per camera: fifty cameras share the cores better than one
        context.flags |= Flags.copy_opaque  # carries a packet's arrival through the decoder's reordering

    def decode(self, packet: av.Packet[VideoStream], arrival_ns: int | None) -> list[av.VideoFrame]:
        """The frames that the packet completes. Raises av.FFmpegError."""
        if arrival_ns is not None:
            packet.opaque = arrival_ns
        with _cores:
            return [image for image in packet.decode() if isinstance(image, av.VideoFrame)]


class Decoding:
    """What all decoders of one camera have in common, from one file or connection to the next."""

    def __init__(
        self,
        stream_id: str = "",
        *,
        min_fps: float = 0.0,
        may_skip: bool = False,
        granted: Callable[[], int] = lambda: 0,
        wish: DecodeOn = "cpu",
        plan: NvdecPlan | None = None,
        canvas: Canvas | None = None,
        tap: Tap | None = None,
    ) -> None:
        """`granted` counts the camera's turns so far; by it pictures that no other one needs are left out."""
        self.tap = tap
        self.stream_id = stream_id
        self.tally = Tally()
        self.granted = granted
        self.skipping = Skipping(min_fps) if may_skip else None
        self.facts: StreamFacts | None = None
        self.placement: Placement | None = None
        self.wish: DecodeOn = wish
        self._plan = plan or cpu_only()
        self._canvas = canvas or Canvas()

    def decoder(self, stream: VideoStream) -> Decoder:
        """A decoder for a stream that has just been opened.

        Raises SourceUnusable where CUDA is insisted on and cannot be had, SourceError where it cannot be had now.
        """
        self.facts = StreamFacts.of(stream)
        if self.tap is not None:
            self.tap.opened(stream)
        placement = self._plan.place(self.stream_id, self.wish, self.facts.load)
        if placement.device == "cuda" and stream.container.format.name in _UNTIMED:
            placement = Placement("cpu", "the stream carries no times")
        if placement.device == "cpu":
            if self.wish == "cuda":
                raise SourceUnusable(f"camera {self.stream_id}: decode: cuda is asked for, but {placement.reason}")
            self.falls_back(placement.reason)
            return Decoder(stream, CpuEngine(stream), self)
        try:
            engine = CudaEngine(stream, self.facts, self._canvas)
        except av.FFmpegError as error:
            reason = f"NVDEC cannot open it: {error.strerror}"
            self.falls_back(reason)
            if self.wish == "cuda":
                raise SourceError(f"camera {self.stream_id}: {reason}") from None
            return Decoder(stream, CpuEngine(stream), self)
        self._placed(placement)
        return Decoder(stream, engine, self)

    def falls_back(self, reason: str) -> None:
        """The CPU decodes the camera, until it is opened anew."""
        self._plan.release(self.stream_id)
        self._placed(Placement("cpu", reason))

    def end(self) -> None:
        """No more decoders: what NVDEC had planned for the camera is free."""
        self._plan.release(self.stream_id)
        if self.tap is not None:
            self.tap.ended()

    def _placed(self, placement: Placement) -> None:
        is_news = placement != self.placement and self.wish != "cpu" and placement.reason != self._plan.problem
        self.placement = placement
        if is_news:
            told = about("camera_decoder", camera=self.stream_id, device=placement.device)
            log.info("camera %s: decoded on %s: %s", self.stream_id, placement.device, placement.reason, extra=told)


class Decoder:
    """Decodes the packets of one stream."""

    def __init__(self, stream: VideoStream, engine: Engine, decoding: Decoding) -> None:
        self._stream = stream
        self._engine = engine
        self._decoding = decoding
        context = stream.codec_context
        self._units = Units(context.name, context.extradata)
        self._is_progressive = context.field_order in _PROGRESSIVE
        self._bad_packets = 0

    @property
    def origin(self) -> Origin | None:
        """What the camera sends, where the decoder scales it; None where its frames are that."""
        return self._engine.origin

    def decode(self, packet: av.Packet[VideoStream], arrival_ns: int | None) -> list[av.VideoFrame]:
        """The frames that the packet completes, their arrivals as `opaque`; None as arrival is the end of the stream.

        Raises av.FFmpegError for the hundredth damaged packet in a row.
        """
        if arrival_ns is not None:
            self._arrived(packet, arrival_ns)
            if self._is_left_out(packet, arrival_ns):
                self._decoding.tally.skipped[Skip.NOT_NEEDED] += 1
                return []
        return self._decoded(packet, arrival_ns)

    def _decoded(self, packet: av.Packet[VideoStream], arrival_ns: int | None) -> list[av.VideoFrame]:
        try:
            images = self._engine.decode(packet, arrival_ns)
        except StreamChanged:
            self._move_to_cpu("its size or format has changed")
            return self._decoded(packet, arrival_ns)
        except av.FFmpegError as error:
            self._damaged(error)
            return []
        if images:
            self._bad_packets = 0
        return images

    def leave_out(self, packet: av.Packet[VideoStream], arrival_ns: int) -> None:
        """Count a packet that comes too late to be decoded."""
        self._arrived(packet, arrival_ns)
        self._decoding.tally.skipped[Skip.LATE] += 1

    def _arrived(self, packet: av.Packet[VideoStream], arrival_ns: int) -> None:
        self._decoding.tally.packets += 1
        self._decoding.tally.packet_bytes += packet.size
        if self._decoding.tap is not None:
            self._decoding.tap.packet(packet, arrival_ns)

    def _is_left_out(self, packet: av.Packet[VideoStream], arrival_ns: int) -> bool:
        skipping = self._decoding.skipping
        if skipping is None or not self._is_progressive:
            return False
        is_needed = packet.is_keyframe or self._units.is_needed(memoryview(packet))
        return skipping.skips(is_needed, self._decoding.granted(), arrival_ns)

    def _damaged(self, error: av.FFmpegError) -> None:
        self._bad_packets += 1
        self._decoding.tally.skipped[Skip.DAMAGED] += 1
        is_given_up = self._engine.origin is not None and self._bad_packets >= _MAX_BAD_ON_CUDA
        if is_given_up and self._decoding.wish == "auto":
            self._move_to_cpu(f"NVDEC gave up: {error.strerror}")
        elif is_given_up or self._bad_packets >= _MAX_BAD_PACKETS:
            raise error

    def _move_to_cpu(self, reason: str) -> None:
        self._decoding.falls_back(reason)
        self._engine = CpuEngine(self._stream)
