"""What a camera's colour tags mean, and the one conversion that ends them: every canvas is BT.601, limited range.

PyAV's plain `reformat` converts neither matrix nor range; both ends are passed to swscale here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import av
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from clients.errors import SourceError

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

_NAMES = {Colorspace.ITU709: "BT.709", Colorspace.ITU601: "BT.601", Colorspace.BT2020: "BT.2020"}


@dataclass(frozen=True, slots=True)
class SourceColour:
    """Matrix and range of pixels; RGB has no matrix."""

    matrix: Colorspace
    range: ColorRange

    def __str__(self) -> str:
        return f"{_NAMES.get(self.matrix, self.matrix.name)} {'full' if self.range == ColorRange.JPEG else 'limited'}"


def source_colour(frame: av.VideoFrame) -> SourceColour:
    """Read a frame's tags; what is missing follows the contract: BT.709 from 720 lines up, else BT.601; limited."""
    return tagged_colour(int(frame.colorspace), int(frame.color_range), frame.format.name, frame.height)


def tagged_colour(matrix: int, value_range: int, pixels: str, lines: int) -> SourceColour:
    """The same from FFmpeg's numbers, the pixel format's name and the coded height, where a decoder has scaled."""
    untagged = Colorspace.ITU709 if lines >= _HD_LINES else Colorspace.ITU601
    full = value_range == ColorRange.JPEG or pixels.startswith("yuvj")
    return SourceColour(_TAGGED.get(matrix, untagged), ColorRange.JPEG if full else ColorRange.MPEG)


def is_tagged(matrix: int) -> bool:
    """Whether FFmpeg's number says which matrix a camera uses."""
    return matrix in _TAGGED


class Scaler:
    """swscale's state for one purpose of one camera, kept between its frames.

    `lock` is the camera's: PyAV writes matrix and range into the frame while it converts, so two conversions of the
    same frame, by whichever scalers, must not overlap.
    """

    def __init__(self, lock: threading.Lock | None = None) -> None:
        self._reformatter = VideoReformatter()
        self._lock = lock or threading.Lock()

    def convert(
        self,
        frame: av.VideoFrame,
        width: int,
        height: int,
        pixels: str,
        wanted: SourceColour | None,
        colour: SourceColour | None = None,
    ) -> av.VideoFrame:
        """Scale to `width` x `height` in the format `pixels`; `wanted` None leaves matrix and range as they come.

        `colour` is what the frame's pixels are; None asks its tags. Raises SourceError for a frame that FFmpeg cannot
        convert.
        """
        colour = colour or source_colour(frame)
        try:
            with self._lock:
                return self._reformatter.reformat(
                    frame,
                    width=width,
                    height=height,
                    format=pixels,
                    src_colorspace=colour.matrix if wanted else None,
                    dst_colorspace=wanted.matrix if wanted else None,
                    src_color_range=colour.range if wanted else None,
                    dst_color_range=wanted.range if wanted else None,
                    interpolation=Interpolation.BILINEAR,
                    threads=1,
                )
        except av.FFmpegError as error:
            raise SourceError(f"a {frame.format.name} frame cannot be converted: {error.strerror}") from error


def to_nv12(
    frame: av.VideoFrame, width: int, height: int, scaler: Scaler, colour: SourceColour | None = None
) -> av.VideoFrame:
    """Scale to `width` x `height` and convert to NV12, BT.601, limited range, whatever the camera sends."""
    return scaler.convert(frame, width, height, "nv12", SourceColour(Colorspace.ITU601, ColorRange.MPEG), colour)


def to_bgr(
    frame: av.VideoFrame, width: int, height: int, scaler: Scaler, colour: SourceColour | None = None
) -> av.VideoFrame:
    """Scale to `width` x `height` and convert to 8-bit BGR, for pictures that people look at."""
    return scaler.convert(frame, width, height, "bgr24", SourceColour(Colorspace.ITU601, ColorRange.JPEG), colour)


def to_grey(frame: av.VideoFrame, width: int, height: int, scaler: Scaler) -> av.VideoFrame:
    """Scale to `width` x `height`, 8-bit luma in the camera's own range."""
    return scaler.convert(frame, width, height, "gray", None)
