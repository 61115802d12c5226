"""H.264 out and in: the colour that the tags promise, a group of pictures of two seconds, one thread.

Up to 719 lines BT.601 (tagged smpte170m), from 720 up BT.709; always limited range.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from demo.scenes import View

_GOP_S = 2
_SMPTE170M, _BT709, _LIMITED = 6, 1, 1  # AVColorSpace, AVColorPrimaries, AVColorTransferCharacteristic; AVColorRange
_KBIT_PER_S = {360: 900, 720: 2500, 1080: 4500}  # upper bound by lines; quiet scenes need far less
_CRF = "23"


def encode(target: Path | io.BytesIO, view: View, images: Iterable[NDArray[Any]]) -> None:
    """Write UINT8 (H, W, 3) BGR pictures as an MP4 at the view's rate. Raises OSError when it cannot be written."""
    is_hd = view.height >= 720
    matrix = Colorspace.ITU709 if is_hd else Colorspace.ITU601
    tag = _BT709 if is_hd else _SMPTE170M
    kbit = _KBIT_PER_S.get(view.height, 2500)
    options = {
        "preset": "veryfast",
        "crf": _CRF,
        "maxrate": f"{kbit}k",
        "bufsize": f"{2 * kbit}k",
        "g": str(view.fps * _GOP_S),
        "bf": str(view.b_frames),
        "x264-params": "threads=1",
    }
    scaler = VideoReformatter()
    file = str(target) if isinstance(target, Path) else target
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=view.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = view.width, view.height, "yuv420p"
        stream.time_base = Fraction(1, view.fps)
        context = cast("Any", stream.codec_context)
        context.thread_count = 1
        context.colorspace = context.color_primaries = context.color_trc = tag
        context.color_range = _LIMITED
        for index, image in enumerate(images):
            frame = scaler.reformat(
                av.VideoFrame.from_ndarray(image, format="bgr24"),
                format="yuv420p",
                dst_colorspace=matrix,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            frame.pts, frame.time_base = index, Fraction(1, view.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decode(source: Path | io.BytesIO) -> Iterator[av.VideoFrame]:
    """The frames of a video, in order."""
    with av.open(str(source) if isinstance(source, Path) else source, mode="r") as container:
        yield from container.decode(video=0)
