"""FFmpeg's decoder of one camera on the CPU: one thread, no delay of its own, patient with damaged packets."""

from __future__ import annotations

from typing import Any

import av
from av.codec.context import Flags, ThreadType
from av.video.stream import VideoStream

_MAX_BAD_PACKETS = 100  # in a row, before the camera is given up


class Decoder:
    """Decodes the packets of one stream; what is handed over as `opaque` comes back on the packet's own frame."""

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        context.thread_type = ThreadType.NONE  # one thread per camera: fifty cameras share the cores better than one
        context.flags |= Flags.copy_opaque  # carries a packet's arrival through the decoder's reordering
        self._bad_packets = 0

    def decode(self, packet: av.Packet[VideoStream], opaque: Any = None) -> list[av.VideoFrame]:
        """The frames that the packet completes. Raises av.FFmpegError for the hundredth damaged packet in a row."""
        if opaque is not None:
            packet.opaque = opaque
        try:
            images = [image for image in packet.decode() if isinstance(image, av.VideoFrame)]
        except av.FFmpegError:
            self._bad_packets += 1
            if self._bad_packets >= _MAX_BAD_PACKETS:
                raise
            return []
        if images:
            self._bad_packets = 0
        return images
