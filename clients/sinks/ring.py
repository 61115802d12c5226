"""The newest encoded packets of one camera, from a key frame on, bounded in seconds and bytes."""

from __future__ import annotations

import io
import logging
import threading
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av
from av.video.stream import VideoStream

from clients.sources.live import UNTIMED

_CLOCK = Fraction(1, 1_000_000)  # where a camera gives no usable times, those of its packets' arrival count
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Coded:
    """One packet; `arrival_ns` is monotonic, `pts` and `dts` are in `time_base` where the camera gives them."""

    data: bytes
    pts: int | None
    dts: int | None
    time_base: Fraction
    is_keyframe: bool
    arrival_ns: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Packets that can be played, the first a key frame, and a stream to make others of its kind from."""

    template: VideoStream
    packets: tuple[Coded, ...]

    def write(self, path: str) -> None:
        """Put them into an MP4 as they are; its clock begins at 0. Raises av.FFmpegError, OSError, ValueError."""
        packets = self.packets if self._are_timed() else _by_arrival(self.packets)
        start = packets[0].dts if packets[0].pts is None else packets[0].pts
        first = start or 0
        with av.open(path, "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = container.add_stream_from_template(self.template, opaque=True)
            for one, duration in zip(packets, _durations(packets), strict=True):
                packet = av.Packet(one.data)
                packet.stream = stream
                packet.time_base = one.time_base
                packet.dts = None if one.dts is None else one.dts - first
                packet.pts = packet.dts if one.pts is None else one.pts - first
                packet.duration = duration
                packet.is_keyframe = one.is_keyframe
                container.mux_one(packet)

    def _are_timed(self) -> bool:
        times = [packet.dts for packet in self.packets if packet.dts is not None]
        return len(times) == len(self.packets) and all(one < other for one, other in pairwise(times))


class Ring:
    """The camera's reader fills it, whoever makes clips cuts from it; both in threads of their own.

    It holds at least `seconds` (and the beginning of their group of pictures), unless they are more than `most_bytes`.
    """

    def __init__(self, seconds: float, most_bytes: int) -> None:
        self.newest_ns = 0
        self.has_ended = False
        self._seconds_ns, self._most_bytes = round(seconds * 1e9), most_bytes
        self._groups: deque[list[Coded]] = deque()  # each begins with a key frame
        self._bytes = 0
        self._template: VideoStream | None = None
        self._is_timed = True
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """What its packets take."""
        return self._bytes

    def opened(self, stream: VideoStream) -> None:
        """A connection or file begins: what was before it cannot be played together with what comes."""
        template, self._is_timed = None, stream.container.format.name not in UNTIMED
        try:
            nowhere = av.open(io.BytesIO(), "w", format="matroska")  # holds most codecs; nothing is written to it
            template = nowhere.add_stream_from_template(stream, opaque=True)
        except (ValueError, av.FFmpegError) as error:  # the camera goes on, without clips
            log.warning("sinks.clips: a camera's packets cannot be kept: %s", error)
        with self._lock:
            self._groups.clear()
            self._bytes = 0
            self._template = template

    def packet(self, packet: av.Packet[VideoStream], arrival_ns: int) -> None:
        """One more; those that are too old make room, a whole group of pictures at a time."""
        time_base = packet.time_base or Fraction(1, 90_000)
        pts, dts = (packet.pts, packet.dts) if self._is_timed else (None, None)
        coded = Coded(bytes(packet), pts, dts, time_base, packet.is_keyframe, arrival_ns)
        with self._lock:
            if coded.is_keyframe and self._template is not None:
                self._groups.append([])
            self.newest_ns = arrival_ns
            if self._groups:  # what comes before the first key frame cannot be played
                self._groups[-1].append(coded)
                self._bytes += len(coded.data)
            while self._has_too_much(arrival_ns):
                self._bytes -= sum(len(one.data) for one in self._groups.popleft())

    def ended(self) -> None:
        """Nothing more will come."""
        self.has_ended = True

    def cut(self, from_ns: int, to_ns: int) -> Cut | None:
        """What arrived in between, from the key frame before; None when there is nothing."""
        with self._lock:
            groups, template = [list(group) for group in self._groups], self._template
        while len(groups) > 1 and groups[1][0].arrival_ns <= from_ns:
            groups.pop(0)
        packets = tuple(one for group in groups for one in group if one.arrival_ns <= to_ns)
        return Cut(template, packets) if template is not None and packets else None

    def _has_too_much(self, now_ns: int) -> bool:
        groups = self._groups
        if self._bytes > self._most_bytes:
            return True
        return len(groups) > 1 and groups[1][0].arrival_ns <= now_ns - self._seconds_ns


def _durations(packets: tuple[Coded, ...]) -> list[int]:
    """How long each is shown: until the next; without the last one's, players leave it out."""
    times = [packet.dts or 0 for packet in packets]
    steps = [max(1, later - one) for one, later in pairwise(times)]
    return [*steps, steps[-1] if steps else 1]


def _by_arrival(packets: tuple[Coded, ...]) -> tuple[Coded, ...]:
    """With the times at which they arrived, each later than the one before."""
    timed: list[Coded] = []
    for one in packets:
        least = timed[-1].dts + 1 if timed and timed[-1].dts is not None else 0
        time = max(least, (one.arrival_ns - packets[0].arrival_ns) // 1000)
        timed.append(Coded(one.data, time, time, _CLOCK, one.is_keyframe, one.arrival_ns))
    return tuple(timed)
