"""What a camera's colour tags mean, and the one conversion that ends them: every canvas is BT.601, limited range.

PyAV's plain `reformat` converts neither matrix nor range; both ends are passed to swscale here.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

_HD_LINES = 720  # untagged video from this height up is BT.709 (ITU-R BT.709), below it BT.601
_TAGGED = {  # AVColorSpace (libavutil/pixfmt.h) -> what swscale calls the same matrix
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


@dataclass(frozen=True, slots=True)
class SourceColour:
    """Matrix and range of pixels; RGB has no matrix."""

    matrix: Colorspace
    range: ColorRange


def source_colour(frame: av.VideoFrame) -> SourceColour:
    """Read a frame's tags; what is missing follows the contract: BT.709 from 720 lines up, else BT.601; limited."""
    untagged = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return SourceColour(
        matrix=_TAGGED.get(int(frame.colorspace), untagged),
        range=ColorRange.JPEG if full else ColorRange.MPEG,
    )


def to_nv12(frame: av.VideoFrame, width: int, height: int, scaler: VideoReformatter) -> av.VideoFrame:
    """Scale to `width` x `height` and convert to NV12, BT.601, limited range, whatever the camera sends."""
    return _converted(frame, width, height, scaler, "nv12", SourceColour(Colorspace.ITU601, ColorRange.MPEG))


def to_bgr(frame: av.VideoFrame, width: int, height: int, scaler: VideoReformatter) -> av.VideoFrame:
    """Scale to `width` x `height` and convert to 8-bit BGR, for pictures that people look at."""
    return _converted(frame, width, height, scaler, "bgr24", SourceColour(Colorspace.ITU601, ColorRange.JPEG))


def _converted(
    frame: av.VideoFrame, width: int, height: int, scaler: VideoReformatter, pixels: str, wanted: SourceColour
) -> av.VideoFrame:
    colour = source_colour(frame)
    return scaler.reformat(
        frame,
        width=width,
        height=height,
        format=pixels,
        src_colorspace=colour.matrix,
        dst_colorspace=wanted.matrix,
        src_color_range=colour.range,
        dst_color_range=wanted.range,
        interpolation=Interpolation.BILINEAR,
        threads=1,
    )
