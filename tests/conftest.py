"""Real parts for the tests: clips encoded on the spot, and one real Triton for all who need it."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from clients.types import Tier
from demo.run import CLIP_S
from deploy.run_repository import assemble
from deploy.server import TritonServer
from export.errors import NoCard
from export.on_card import TheCard

settings.register_profile("project", deadline=None, derandomize=True)  # a slow machine is no failure, nor is chance
settings.load_profile("project")
ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "demo" / "weights"
# how long a test waits for something to happen, on a machine five times slower than ours; how long a program may
# take to answer or to end has a bound of its own, where it is tested
PATIENCE_S = 300.0


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """A command that is run in this process logs to the stderr that pytest shows it: not beyond its test."""
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:  # pytest's own ones are derived from it
            root.removeHandler(handler)


@pytest.fixture
def anyio_backend() -> str:
    """gRPC's asyncio client runs on asyncio only."""
    return "asyncio"


def has_card() -> bool:
    """Whether TensorRT, CUDA's bindings and an NVIDIA GPU are here."""
    try:
        return bool(TheCard())
    except NoCard:
        return False


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


@pytest.fixture(scope="session")
def run_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's tier n, assembled for Triton."""
    return assemble(tmp_path_factory.mktemp("run") / "repository", [Tier.N], models_dir=MODELS).path


@pytest.fixture(scope="session")
def triton(run_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A real Triton with the demo's models, for tests that leave it as it is."""
    with TritonServer(run_repository, log=tmp_path_factory.mktemp("triton") / "triton.log") as server:
        yield server


@pytest.fixture
def own_triton(run_repository: Path, tmp_path: Path) -> Iterator[TritonServer]:
    """A real Triton that the test may stop and kill."""
    with TritonServer(run_repository, log=tmp_path / "triton.log") as server:
        yield server


@functools.cache
def demo_clip() -> Path:
    """A busy clip of the demo, rendered once; its truth lies beside it as JSON."""
    command = [sys.executable, "-m", "demo", "render", "--cameras", "8", "--seconds", str(CLIP_S)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return ROOT / "demo" / "clips" / "cam02.mp4"


@functools.cache
def demo_frame() -> av.VideoFrame:
    """One frame of the demo with objects in it."""
    with av.open(str(demo_clip())) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == 100:
                return frame
    raise AssertionError("the demo's clip is shorter than 101 frames")
