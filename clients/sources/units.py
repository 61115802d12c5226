"""What a packet of H.264 or H.265 says about itself before it is decoded: its NAL units' first bytes. Pure.

Sources: ITU-T H.264, 7.3.1 and 7.4.1 (nal_ref_idc 0: no other picture is predicted from this one); ITU-T H.265,
7.3.1.2 and table 7-1 (types 0, 2, … 14: not a reference within its own temporal layer). Other codecs say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

_HEAD_BYTES = 4096  # what stands before a picture's first slice; a packet with more of it counts as needed
_H264_SLICES, _H264_SPS, _H264_PARAMETERS = range(1, 6), 7, (7, 8)
_H265_PICTURES, _H265_SUBLAYER_LAST, _H265_SPS, _H265_PARAMETERS = range(32), 14, 33, (32, 33, 34)


class Units:
    """Reads the packets of one stream. `extradata` tells whether units are led by lengths (MP4) or start codes."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        """`codec` is FFmpeg's name, such as h264 or hevc."""
        self._codec = codec
        self._length_bytes = _length_bytes(codec, extradata or b"")
        self._highest_layer = 0

    def is_needed(self, packet: bytes | memoryview) -> bool:
        """Whether other pictures may be predicted from this one; True wherever that cannot be told.

        A picture of H.265 below the highest temporal layer seen so far may serve the layers above it.
        """
        if self._codec == "h264":
            return self._h264_needed(packet)
        return self._codec != "hevc" or self._h265_needed(packet)

    def _h264_needed(self, packet: bytes | memoryview) -> bool:
        for head, _ in self._heads(packet):
            if head & 31 in _H264_PARAMETERS:
                return True
            if head & 31 in _H264_SLICES:
                return head >> 5 & 3 != 0
        return True

    def _h265_needed(self, packet: bytes | memoryview) -> bool:
        for head, layer in self._heads(packet):
            kind = head >> 1 & 63
            if kind in _H265_PARAMETERS:
                return True
            if kind in _H265_PICTURES:
                self._highest_layer = max(self._highest_layer, layer & 7)
                is_top = layer & 7 == self._highest_layer
                return kind > _H265_SUBLAYER_LAST or kind % 2 == 1 or not is_top
        return True

    def parameters(self, packet: bytes | memoryview) -> bytes | None:
        """The sequence parameter set in the packet, which holds the picture's size; None where there is none."""
        data = bytes(packet[:_HEAD_BYTES])
        for start, end in self._spans(data):
            head = data[start]
            if (self._codec == "h264" and head & 31 == _H264_SPS) or (
                self._codec == "hevc" and head >> 1 & 63 == _H265_SPS
            ):
                return data[start:end].rstrip(b"\0")
        return None

    def _heads(self, packet: bytes | memoryview) -> Iterator[tuple[int, int]]:
        """The first two bytes of each unit."""
        data = bytes(packet[:_HEAD_BYTES])
        for start, _ in self._spans(data):
            if start + 1 < len(data):
                yield data[start], data[start + 1]

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Begin and end of each unit that begins within `data`."""
        if self._length_bytes:
            at = 0
            while at + self._length_bytes < len(data):
                start = at + self._length_bytes
                at = start + int.from_bytes(data[at:start], "big")
                yield start, min(at, len(data))
            return
        start = data.find(b"\0\0\1")
        while 0 <= start < len(data) - 3:
            following = data.find(b"\0\0\1", start + 3)
            yield start + 3, len(data) if following < 0 else following
            start = following


def _length_bytes(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each unit; 0 for start codes (ISO/IEC 14496-15: avcC byte 4, hvcC byte 21)."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        return (extradata[21] & 3) + 1
    return 0
