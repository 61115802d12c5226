"""Video files played as a camera: packets arrive at the pace of their timestamps, late frames are late.

It knows nothing of gates or servers. One generator per camera, run in a thread of its own.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from clients.errors import SourceError
from clients.sources.decoder import Decoder, Decoding
from clients.sources.frame import Frame
from clients.sources.picture import AvPicture, Scalers

_MAX_LAG_NS = 1_000_000_000  # further behind than this, the clock is set anew instead of chasing it for ever
_MAX_AHEAD_NS = 10_000_000_000  # a packet that is due later than this is a clock that jumped, not a pause
_DEFAULT_FPS = 25.0  # of a stream that says neither times nor rate
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """The clock that a file is paced by. `sleep(seconds)` returns early, with True, when the camera is to stop."""

    now_ns: Callable[[], int]
    sleep: Callable[[float], bool]


class FileSource:
    """Frames of a file, or of several one after another, at their own pace, again and again when `loop` is set."""

    def __init__(
        self, stream_id: str, path: Path | Sequence[Path], *, loop: bool = False, decoding: Decoding | None = None
    ) -> None:
        self._stream_id = stream_id
        self._decoding = decoding or Decoding()
        self._paths = (path,) if isinstance(path, Path) else tuple(path)
        self._loop = loop
        self._scalers = Scalers()
        self._frame_s = 1 / _DEFAULT_FPS

    def frames(self, timing: Timing) -> Generator[Frame]:
        """Decode until the end, or for ever; ends early when `timing.sleep` says so.

        Raises SourceError: no such file, not a video, no video stream, not decodable. Of several files a bad one is
        named and left out; an error is raised when none of them gave a frame.
        """
        pace = Pace(timing)
        index, offset_s = 0, 0.0
        while True:
            before = index
            for path in self._paths:
                end_s = offset_s
                for captured_ns, media_s, picture in self._played(path, pace, offset_s):
                    yield Frame(self._stream_id, index, captured_ns, media_s, picture)
                    index, end_s = index + 1, media_s + self._frame_s
                if pace.stopped:
                    return
                offset_s = end_s
            if index == before:
                raise SourceError(f"camera {self._stream_id}: none of {len(self._paths)} files could be played")
            if not self._loop:
                return

    def _played(self, path: Path, pace: Pace, offset_s: float) -> Iterator[tuple[int, float, AvPicture]]:
        """One file's pictures; among several, one that cannot be played further costs itself only."""
        empty = True
        try:
            for played in self._play(path, pace, offset_s):
                empty = False
                yield played
            if empty and not pace.stopped:
                raise self._error(path, "no frame in it could be decoded")
        except SourceError as error:
            if len(self._paths) == 1:
                raise
            log.warning("%s", error)

    def _play(self, path: Path, pace: Pace, offset_s: float) -> Iterator[tuple[int, float, AvPicture]]:
        with self._open(path) as container:
            stream = container.streams.video[0]
            decoder = self._decoding.decoder(stream)
            start_s = _start_s(container, stream)
            self._frame_s = 1 / float(stream.average_rate or stream.guessed_rate or _DEFAULT_FPS)
            untimed = itertools.count()  # a raw stream has no times: its frames are counted
            for number, packet in enumerate(self._packets(path, container, stream)):
                arrival_ns = None
                if packet.size:
                    packet_s = number * self._frame_s if packet.dts is None else seconds(packet.dts, packet) - start_s
                    arrival_ns = pace.wait_until(packet_s + offset_s)
                if pace.stopped:
                    return
                for image in self._decode(path, decoder, packet, arrival_ns):
                    captured_ns = image.opaque if isinstance(image.opaque, int) else pace.now_ns()
                    image_s = next(untimed) * self._frame_s if image.time is None else float(image.time) - start_s
                    yield captured_ns, image_s + offset_s, AvPicture(image, self._scalers, decoder.origin)

    def _packets(self, path: Path, container: InputContainer, stream: VideoStream) -> Iterator[av.Packet[VideoStream]]:
        try:
            yield from container.demux(stream)
        except av.FFmpegError as error:
            raise self._error(path, f"cannot be read further: {error.strerror}") from error

    def _decode(
        self, path: Path, decoder: Decoder, packet: av.Packet[VideoStream], arrival_ns: int | None
    ) -> list[av.VideoFrame]:
        try:
            return decoder.decode(packet, arrival_ns)
        except av.FFmpegError as error:
            raise self._error(path, f"cannot be decoded: {error.strerror}") from error

    def _error(self, path: Path, what: str) -> SourceError:
        return SourceError(f"camera {self._stream_id}: {path}: {what}")

    def _open(self, path: Path) -> InputContainer:
        if not path.exists():
            raise self._error(path, "no such file")
        if not path.is_file():
            raise self._error(path, "not a file")
        try:
            container = av.open(str(path), mode="r")
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise self._error(path, f"not a video that can be read: {reason}") from error
        if not container.streams.video:
            container.close()
            raise self._error(path, "has no video stream")
        return container


class Pace:
    """Turns media time into arrival times, and keeps to them."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._zero_ns: int | None = None
        self.stopped = False

    def now_ns(self) -> int:
        return self._timing.now_ns()

    def wait_until(self, media_s: float) -> int:
        """Wait for the packet's time and return it: the monotonic time at which the packet arrives.

        Asks to sleep even when the packet is late, since that is how a camera learns that it is to stop.
        """
        now_ns = self._timing.now_ns()
        if self._zero_ns is None:
            self._zero_ns = now_ns - round(media_s * 1e9)
        due_ns = self._zero_ns + round(media_s * 1e9)
        if not -_MAX_LAG_NS <= due_ns - now_ns <= _MAX_AHEAD_NS:
            self._zero_ns += now_ns - due_ns
            due_ns = now_ns
        self.stopped = self._timing.sleep(max(0, due_ns - now_ns) / 1e9)
        return due_ns


def live_timing(sleep: Callable[[float], bool]) -> Timing:
    """The machine's monotonic clock, with `sleep` such as `threading.Event.wait`."""
    return Timing(time.monotonic_ns, sleep)


def seconds(ticks: int, packet: av.Packet[VideoStream]) -> float:
    """A packet's `dts` or `pts` in seconds."""
    return float(ticks * (packet.time_base or Fraction(1, 90_000)))


def _start_s(container: InputContainer, stream: VideoStream) -> float:
    if stream.start_time is not None and stream.time_base is not None:
        return float(stream.start_time * stream.time_base)
    return (container.start_time or 0) / 1e6
