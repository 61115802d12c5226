"""A live camera: RTSP, MJPEG or HLS over HTTP, MPEG-TS over UDP, a USB device. One call of `frames` is one connection.

Packets are taken as they come; only what HTTP may deliver faster than it happens (HLS, files) is held to its own pace,
since a camera that rushes would cost the others their turns. Errors are made of the address as it may be shown, and
carry no cause: FFmpeg's own texts repeat the URL with its password.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, cast

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from clients.errors import SourceError, SourceUnusable
from clients.logs import about
from clients.sources import tls
from clients.sources.address import Address, Kind
from clients.sources.clock import LiveClock
from clients.sources.decoder import Decoder, Decoding
from clients.sources.file import Pace, Timing, seconds
from clients.sources.frame import Frame
from clients.sources.picture import AvPicture, Scalers
from clients.sources.throttle import Throttle
from clients.types import LiveOptions

_ANALYSIS = {"analyzeduration": "500000", "probesize": "500000", "fpsprobesize": "0"}  # FFmpeg's own is 5 s of video
_MERGED = {"merge_pmt_versions": "1"}  # MPEG-TS: a stream that is announced anew stays the same stream to us
_OPTIONS: dict[Kind, dict[str, str]] = {
    Kind.RTSP: _ANALYSIS | {"allowed_media_types": "video"},
    Kind.HTTP: _ANALYSIS | _MERGED | {"seg_format_options": "merge_pmt_versions=1"},
    Kind.UDP: _ANALYSIS | _MERGED | {"overrun_nonfatal": "1", "fifo_size": "16384"},
    Kind.USB: {},
}
_FORMATS = {Kind.UDP: "mpegts", Kind.USB: "video4linux2"}
UNTIMED = ("mpjpeg", "mjpeg")  # FFmpeg invents their times
_WAITED_S = 0.010  # a read that took longer has waited for its packet; one that took less found it queued
_BEHIND_S = 1.0  # a decoder that lags more skips to the next key frame
_PICTURE_S = 20.0  # packets without one picture for this long are no video; some cameras send a key frame every 10 s
_OTHER_COST = 0.2  # of a picture: sound is some 50 packets a second, and cheap
log = logging.getLogger(__name__)


class LiveSource:
    """Frames of one live camera; index and time go on from one connection to the next."""

    def __init__(
        self, stream_id: str, address: Address, options: LiveOptions, decoding: Decoding | None = None
    ) -> None:
        self._stream_id = stream_id
        self._address = address
        self._options = options
        self._scalers = Scalers()
        self._clock = LiveClock()
        self._index = 0
        self._decoding = decoding or Decoding()
        self._throttle = Throttle(options.most_fps)

    def frames(self, timing: Timing) -> Generator[Frame]:
        """Connect and decode until the connection ends, or `timing.sleep` says stop.

        Raises SourceError when it cannot be opened, falls silent, breaks off or cannot be decoded, SourceUnusable
        when trying again cannot help.
        """
        with closing(open_live(self._stream_id, self._address, self._options)) as container:
            self._clock.restart()
            for captured_ns, image_s, picture in self._pictures(container, timing):
                media_s = self._clock.media_s(image_s, captured_ns)
                yield Frame(self._stream_id, self._index, captured_ns, media_s, picture)
                self._index += 1

    def _pictures(self, container: InputContainer, timing: Timing) -> Iterator[tuple[int, float | None, AvPicture]]:
        stream = container.streams.video[0]
        decoder = self._decoding.decoder(stream)
        is_timed = container.format.name not in UNTIMED
        pace = Pace(timing) if self._address.kind is Kind.HTTP and is_timed else None
        seen_ns, skipping = timing.now_ns(), False
        for packet, waited in self._packets(container, timing):
            now_ns = timing.now_ns()
            if now_ns - seen_ns > _PICTURE_S * 1e9:
                raise self._error(f"no picture for {_PICTURE_S:g} s, though packets come")
            if packet.stream_index != stream.index:
                continue
            packet_s = seconds(packet.dts, packet) if is_timed and packet.dts is not None else None
            arrival_ns = self._clock.arrival_ns(packet_s, now_ns, waited=waited)
            if pace is not None and packet_s is not None and packet.size:
                arrival_ns = pace.wait_until(packet_s)
                if pace.stopped:
                    return
            is_behind = now_ns - arrival_ns > _BEHIND_S * 1e9
            skipping = is_behind or (skipping and not packet.is_keyframe)
            if skipping and packet.size and not packet.is_keyframe:
                decoder.leave_out(packet, arrival_ns)
                continue
            for image in self._decode(decoder, packet, arrival_ns):
                seen_ns = timing.now_ns()
                captured_ns = image.opaque if isinstance(image.opaque, int) else arrival_ns
                picture = AvPicture(image, self._scalers, decoder.origin)
                yield captured_ns, image.time if is_timed else None, picture

    def _packets(self, container: InputContainer, timing: Timing) -> Iterator[tuple[av.Packet[VideoStream], bool]]:
        """Every packet, of whatever stream, so that silence and a stop are noticed, and whether it was waited for.

        PyAV's read timeout bounds each read, except that of a USB device whose driver hangs: it has none.
        """
        packets = container.demux()
        while not timing.sleep(0):
            before_ns = timing.now_ns()
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                # an interrupted read says so, or what it made of the half that it has read
                elapsed_s = (timing.now_ns() - before_ns) / 1e9
                if isinstance(error, av.error.ExitError) or elapsed_s >= self._options.read_timeout_s:
                    raise self._error(f"no data for {self._options.read_timeout_s:g} s") from None
                raise self._error(f"broken off: {error.strerror}") from None
            if packet is None or self._is_stopped_in_a_flood(packet, timing):
                return
            yield cast("av.Packet[VideoStream]", packet), timing.now_ns() - before_ns > _WAITED_S * 1e9

    def _is_stopped_in_a_flood(self, packet: av.Packet[Any], timing: Timing) -> bool:
        """Hold a camera that sends too much back, and say so once; True when it is to stop meanwhile."""
        cost = 1.0 if packet.stream.type == "video" else _OTHER_COST
        wait_s = self._throttle.wait_s(timing.now_ns(), cost)
        if wait_s == 0:
            return False
        if not self._decoding.tally.held_back:
            text = "camera %s: sends more than %g pictures a second, and is held to that (sources.max_fps)"
            told = about("camera_floods", camera=self._stream_id)
            log.warning(text, self._stream_id, self._options.most_fps, extra=told)
        self._decoding.tally.held_back += 1
        return timing.sleep(wait_s)

    def _decode(self, decoder: Decoder, packet: av.Packet[VideoStream], arrival_ns: int) -> list[av.VideoFrame]:
        try:
            return decoder.decode(packet, arrival_ns if packet.size else None)
        except av.FFmpegError as error:
            raise self._error(f"cannot be decoded: {error.strerror}") from None

    def _error(self, what: str) -> SourceError:
        return SourceError(f"camera {self._stream_id}: {self._address}: {what}")


def open_live(stream_id: str, address: Address, options: LiveOptions) -> InputContainer:
    """Open a live source that has video. Raises SourceError, or SourceUnusable when FFmpeg lacks what it needs."""
    settings = _OPTIONS[address.kind] | ({"rtsp_transport": options.transport} if address.kind is Kind.RTSP else {})
    settings |= tls.ffmpeg_options(address.target, options.tls)
    timeouts = (options.open_timeout_s, options.read_timeout_s)
    about = f"camera {stream_id}: {address}"
    started_s = time.monotonic()
    try:
        container = av.open(address.target, format=_FORMATS.get(address.kind), options=settings, timeout=timeouts)
        if container.format.name == "hls" and tls.is_encrypted(address.target) and options.tls.verify:
            container.close()  # FFmpeg verifies the playlist only, not what it names
            opener = tls.verified_opener(about, options.tls, options.read_timeout_s)
            settings |= tls.NATIVE_PLAYLIST
            container = av.open(address.target, options=settings, timeout=timeouts, io_open=opener)
    except av.error.ProtocolNotFoundError:
        raise SourceUnusable(f"{about}: this FFmpeg cannot read such an address") from None
    except av.FFmpegError as error:
        if time.monotonic() - started_s >= options.open_timeout_s:  # an interrupted RTSP says "invalid data"
            raise SourceError(f"{about}: no answer within {options.open_timeout_s:g} s") from None
        reason = tls.refusal(address.target, options.tls, options.open_timeout_s)
        if reason is not None:
            raise SourceError(f"{about}: {tls.refused(reason)}") from None
        raise SourceError(f"{about}: cannot be opened: {error.strerror}") from None
    if not container.streams.video:
        container.close()
        raise SourceError(f"{about}: has no video stream")
    return container
