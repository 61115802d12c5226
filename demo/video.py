"""Video as cameras send it, out and in: H.264 and H.265, with the colour that the tags promise, or without tags.

BT.601 is tagged smpte170m, limited range unless the view says full; without tags it is what the contract assumes:
BT.709 from 720 lines up, BT.601 below. One thread, so the same pictures are the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from demo.city.cameras import View

_SMPTE170M, _BT709, _UNSPECIFIED = 6, 1, 2  # AVColorSpace, AVColorPrimaries, AVColorTransferCharacteristic
_LIMITED, _FULL, _UNKNOWN = 1, 2, 0  # AVColorRange
_KBIT_PER_S = {360: 700, 720: 2000, 1080: 4000}  # by lines, H.264; cameras spend it on noise where nothing happens
_H265_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Tags:
    """How pixels are coded, and what the stream says of it: AVColorSpace and AVColorRange."""

    matrix: Colorspace
    range: ColorRange
    told_matrix: int
    told_range: int


def tags_of(view: View) -> Tags:
    """The colour variant of a view."""
    if view.colour == "untagged":
        matrix = Colorspace.ITU709 if view.height >= 720 else Colorspace.ITU601
        return Tags(matrix, ColorRange.MPEG, _UNSPECIFIED, _UNKNOWN)
    is_709, is_full = view.colour.startswith("bt709"), view.colour.endswith("full")
    return Tags(
        Colorspace.ITU709 if is_709 else Colorspace.ITU601,
        ColorRange.JPEG if is_full else ColorRange.MPEG,
        _BT709 if is_709 else _SMPTE170M,
        _FULL if is_full else _LIMITED,
    )


def encode(target: Path | io.BytesIO, view: View, images: Iterable[NDArray[Any]]) -> None:
    """Write UINT8 (H, W, 3) BGR pictures as an MP4 at the view's rate. Raises OSError when it cannot be written."""
    tags = tags_of(view)
    scaler = VideoReformatter()
    file = str(target) if isinstance(target, Path) else target
    with av.open(file, "w", format="mp4") as container:
        codec = "libx265" if view.codec == "h265" else "libx264"
        stream = cast("av.VideoStream", container.add_stream(codec, rate=view.fps, options=_options(view)))
        stream.width, stream.height, stream.pix_fmt = view.width, view.height, "yuv420p"
        stream.time_base = Fraction(1, view.fps)
        context = cast("Any", stream.codec_context)
        context.thread_count = 1
        context.colorspace = context.color_primaries = context.color_trc = tags.told_matrix
        context.color_range = tags.told_range
        for index, image in enumerate(images):
            frame = scaler.reformat(
                av.VideoFrame.from_ndarray(image, format="bgr24"),
                format="yuv420p",
                dst_colorspace=tags.matrix,
                src_color_range=ColorRange.JPEG,
                dst_color_range=tags.range,
                threads=1,
            )
            frame.pts, frame.time_base = index, Fraction(1, view.fps)
            if tags.told_range == _UNKNOWN:
                frame.colorspace, frame.color_range = Colorspace.DEFAULT, ColorRange.UNSPECIFIED
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decode(source: Path | io.BytesIO) -> Iterator[av.VideoFrame]:
    """The frames of a video, in order."""
    with av.open(str(source) if isinstance(source, Path) else source, mode="r") as container:
        yield from container.decode(video=0)


def _options(view: View) -> dict[str, str]:
    kbit, gop = _KBIT_PER_S.get(view.height, 2000), view.fps * view.gop_s
    kbit = round(kbit * (_H265_SHARE if view.codec == "h265" else 1))
    rate = {"b": f"{kbit}k", "maxrate": f"{kbit * 3 // 2}k", "bufsize": f"{2 * kbit}k", "g": str(gop)}
    if view.codec == "h265":
        own = f"log-level=error:pools=none:frame-threads=1:bframes={view.b_frames}:keyint={gop}:min-keyint={gop}"
        return rate | {"preset": "ultrafast", "x265-params": own}
    return rate | {"preset": "veryfast", "bf": str(view.b_frames), "x264-params": "threads=1"}
