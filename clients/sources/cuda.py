"""NVDEC through FFmpeg's `*_cuvid` decoders: scaled to the canvas by the decoder itself, colours as they are sent.

All decoders share the device's primary CUDA context (`primary_ctx`); each on its own context would cost hundreds of
megabytes apiece. Low delay takes away the four pictures that cuvid holds back otherwise. The number of surfaces is left
to FFmpeg 8, whose option for it is deprecated and which takes the least the stream needs. Nothing of this file has met
a GPU yet; what is tested without one is that it fails cleanly.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import av
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecContext, Flags
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from clients.sources.letterbox import letterbox
from clients.sources.picture import Origin
from clients.sources.stream import StreamFacts
from clients.sources.units import Units
from clients.types import Canvas

DECODERS = {"h264": "h264_cuvid", "hevc": "hevc_cuvid"}
_MOST_WAITING = 256  # packets whose picture has not come; far more than any decoder holds


class StreamChanged(Exception):
    """The stream goes on with other parameters, such as another size; cuvid would not notice when it scales."""


def cuda_problem() -> str | None:
    """Why nothing can be decoded on a GPU here; None when it can. Opens the device for a moment."""
    try:
        _context("h264")
    except UnknownCodecError:
        return "this FFmpeg has no cuvid decoders"
    except av.FFmpegError as error:
        return f"no CUDA device (FFmpeg: {error.strerror})"
    return None


class CudaEngine:
    """One stream on NVDEC. `origin` is what the camera sent; the frames are NV12 at the canvas's letterboxed size."""

    def __init__(self, stream: VideoStream, facts: StreamFacts, canvas: Canvas) -> None:
        """Raises av.FFmpegError where the device or the decoder cannot be opened.

        Colours are those of the stream: cuvid's frames have a scaled height, and tags from inside the stream only.
        """
        coded = stream.codec_context
        fit = letterbox(facts.width, facts.height, canvas)
        self.origin = Origin(facts.width, facts.height, facts.colour)
        self._units = Units(coded.name, coded.extradata)
        self._parameters: bytes | None = None
        self._arrivals: OrderedDict[int, int] = OrderedDict()
        self._context = _context(coded.name)
        self._context.extradata = coded.extradata
        self._context.options = {"resize": f"{fit.width}x{fit.height}"}
        self._context.flags |= Flags.low_delay
        self._context.open()

    def decode(self, packet: av.Packet[VideoStream], arrival_ns: int | None) -> list[av.VideoFrame]:
        """The frames that the packet completes, each with its own packet's arrival as `opaque`.

        cuvid loses what FFmpeg carries along with a packet; the packet's time is what comes back with its frame.
        Raises av.FFmpegError for a packet that cannot be decoded, StreamChanged before one that begins anew.
        """
        if arrival_ns is not None:
            self._look_for_change(packet)
            if packet.pts is not None:
                self._arrivals[packet.pts] = arrival_ns
                while len(self._arrivals) > _MOST_WAITING:
                    self._arrivals.popitem(last=False)
        frames = self._context.decode(packet)
        for frame in frames:
            frame.opaque = self._arrivals.pop(frame.pts, arrival_ns) if frame.pts is not None else arrival_ns
        return frames

    def _look_for_change(self, packet: av.Packet[VideoStream]) -> None:
        if not packet.is_keyframe:
            return
        parameters = self._units.parameters(memoryview(packet))
        if parameters is None:
            return
        if self._parameters is not None and parameters != self._parameters:
            raise StreamChanged
        self._parameters = parameters


def _context(codec: str) -> VideoCodecContext:
    """A cuvid decoder that is not open yet, on the shared CUDA context. Raises UnknownCodecError, av.FFmpegError."""
    device = HWAccel("cuda", allow_software_fallback=False, options={"primary_ctx": "1"})
    return cast("VideoCodecContext", CodecContext.create(DECODERS[codec], "r", hwaccel=device))
