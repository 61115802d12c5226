"""Real parts for the tests: clips encoded on the spot, and one real Triton for all who need it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

settings.register_profile("project", deadline=None, derandomize=True)  # a slow machine is no failure, nor is chance
settings.load_profile("project")
ROOT = Path(__file__).resolve().parent.parent
MODELS = Path("/tmp/models")


@pytest.fixture
def anyio_backend() -> str:
    """gRPC's asyncio client runs on asyncio only."""
    return "asyncio"


def write_clip(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    fps: int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    prepare: Callable[[av.VideoFrame], av.VideoFrame] | None = None,
    tags: tuple[int, int] | None = None,
) -> Path:
    """Encode RGB pictures (height, width, 3). `prepare` makes the frame to encode, `tags` are (colorspace, range)."""
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.pix_fmt = pix_fmt
        stream.codec_context.options = options or ({"preset": "ultrafast", "crf": "10"} if codec == "libx264" else {})
        stream.codec_context.time_base = Fraction(1, fps)
        if tags is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = tags
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if prepare is not None:
                frame = prepare(frame)
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def moving_square(count: int, *, width: int = 320, height: int = 192) -> list[NDArray[np.uint8]]:
    """Pictures of a bright square that moves over a grey background."""
    pictures = []
    for index in range(count):
        picture = np.full((height, width, 3), 90, dtype=np.uint8)
        left = (index * 7) % (width - 60)
        picture[60:120, left : left + 60] = (220, 180, 40)
        pictures.append(picture)
    return pictures
