"""Where a camera is decoded and why; what NVDEC scales gives the canvas that the CPU gives."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.context import CodecContext, OptionFlags
from av.video.reformatter import ColorRange, Colorspace
from conftest import moving_square, write_clip
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.__main__ import main
from clients.config import parse_settings
from clients.errors import ConfigError, SourceError, SourceUnusable
from clients.gate import GateRules
from clients.lane import Lane
from clients.nvdec import nvdec_plan
from clients.sources.colour import tagged_colour
from clients.sources.cuda import DECODERS, CudaEngine, StreamChanged, cuda_problem
from clients.sources.decoder import CpuEngine, Decoder, Decoding, Skip
from clients.sources.file import FileSource, live_timing
from clients.sources.letterbox import letterbox
from clients.sources.picture import AvPicture, Origin, Scalers
from clients.sources.placement import Load, NvdecPlan
from clients.sources.stream import StreamFacts
from clients.types import Canvas, StreamSpec, Tier

T4 = {"h264": 2070e6, "hevc": 4150e6}
HD, FULL_HD = Load("h264", 1280, 720, 25), Load("h264", 1920, 1080, 25)
NO_GPU = cuda_problem()
without_gpu = pytest.mark.skipif(NO_GPU is None, reason="there is a GPU here")
DAMAGED = av.error.InvalidDataError(1, "damaged")


@pytest.mark.parametrize(
    ("load", "fit"),
    [
        (FULL_HD, 31),  # a T4 decodes about 31 to 38 streams of 1080p30, so at 25 fps and 80 % some 31
        (HD, 71),
        (Load("hevc", 1920, 1080, 25), 64),
        (Load("h264", 1280, 720, None), 71),  # without a rate: as a usual camera
        (Load("h264", 1280, 720, 90_000), 71),  # an absurd one too
    ],
)
def test_auto_fills_nvdec_to_its_limit_then_uses_the_cpu(load: Load, fit: int) -> None:
    """As many cameras as 80 % of the planned capacity holds, each with its reason; the next one is the CPU's."""
    plan = NvdecPlan(T4)
    placed = [plan.place(f"cam{number}", "auto", load) for number in range(fit + 2)]
    assert [one.device for one in placed] == ["cuda"] * fit + ["cpu"] * 2
    assert "of NVDEC planned, limit 80%" in placed[0].reason
    assert placed[-1].reason.startswith("NVDEC is full: ")
    assert 0.77 < plan.used <= 0.8
    plan.release("cam0")
    assert plan.place("late", "auto", load).device == "cuda"


def test_what_nvdec_is_not_used_for() -> None:
    """Another codec, a camera that asks for the CPU, and a machine without a GPU: the CPU, and why."""
    plan = NvdecPlan(T4)
    assert plan.place("a", "auto", Load("mjpeg", 1920, 1080, 25)).reason == "NVDEC is not used for mjpeg"
    assert plan.place("b", "cpu", HD) == NvdecPlan(T4, problem="none").place("b", "cpu", HD)
    assert NvdecPlan(T4, problem="no card").place("c", "auto", HD).reason == "no card"
    assert plan.used == 0


def test_who_insists_is_planned_beyond_the_limit() -> None:
    """`cuda` is granted when NVDEC is full, counts, and leaves less for the others."""
    plan = NvdecPlan(T4, limit=0.02)
    assert plan.place("a", "cuda", FULL_HD).device == "cuda"
    assert plan.place("b", "auto", HD).device == "cpu"
    assert plan.used == pytest.approx(0.025, abs=0.001)


SIZES = st.sampled_from([(640, 360), (1280, 720), (1920, 1080), (3840, 2160)])
LOADS = st.builds(
    lambda codec, size, fps: Load(codec, *size, fps), st.sampled_from(["h264", "hevc"]), SIZES, st.integers(1, 60)
)


@given(st.lists(st.tuples(st.integers(0, 20), LOADS, st.booleans()), max_size=80), st.floats(0.1, 1))
def test_auto_never_exceeds_the_limit(steps: list[tuple[int, Load, bool]], limit: float) -> None:
    """Whatever cameras come, return with another need and go: the plan stays within its limit and forgets nobody."""
    plan, expected = NvdecPlan(T4, limit=limit), dict[int, float]()
    for camera, load, leaves in steps:
        if leaves:
            plan.release(str(camera))
            expected.pop(camera, None)
            continue
        expected.pop(camera, None)
        if plan.place(str(camera), "auto", load).device == "cuda":
            expected[camera] = load.pixels_per_s / T4[load.codec]
        assert plan.used == pytest.approx(sum(expected.values()))
        assert plan.used <= limit + 1e-9


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds of H.264 with two B-frames."""
    return write_clip(tmp_path / "clip.mp4", moving_square(50), options={"bf": "2", "crf": "20", "g": "10"})


def played(path: Path, decoding: Decoding) -> int:
    """How many frames of a file are decoded, unpaced."""
    now = [0]

    def sleep(seconds: float) -> bool:
        now[0] += round(seconds * 1e9)
        return False

    timing = live_timing(threading.Event().wait)
    return len(list(FileSource("cam", path, decoding=decoding).frames(type(timing)(lambda: now[0], sleep))))


@without_gpu
def test_a_gpu_that_cannot_be_opened_is_replaced_by_the_cpu(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    """NVDEC was planned and is not there: every frame is decoded all the same, the reason is told once."""
    caplog.set_level(logging.INFO)
    plan = NvdecPlan(T4)
    decoding = Decoding("gate", wish="auto", plan=plan)
    for _ in range(2):
        assert played(clip, decoding) == 50
    assert decoding.placement is not None
    assert decoding.placement.device == "cpu"
    assert decoding.placement.reason.startswith("NVDEC cannot open it: ")
    assert caplog.text.count("camera gate: decoded on cpu: NVDEC cannot open it") == 1
    assert plan.used == 0


@without_gpu
def test_who_insists_on_cuda_gets_one_clear_error(clip: Path) -> None:
    """No device: an error of the configuration. A codec that NVDEC is not used for: unusable. Not now: tried again."""
    assert NO_GPU is not None
    assert "CUDA" in NO_GPU
    rules = GateRules(min_interval_s=1, max_age_ms=1)
    with pytest.raises(ConfigError, match="camera gate: decode: cuda is asked for, but no card"):
        Lane(StreamSpec("gate", str(clip), decode="cuda"), rules, Tier.N, nvdec=NvdecPlan(T4, problem="no card"))
    cameras = [
        {"id": name, "source": "x", "decode": wish} for name, wish in (("a", "cuda"), ("b", "auto"), ("c", "cuda"))
    ]
    with pytest.raises(ConfigError) as raised:
        nvdec_plan(parse_settings({"cameras": cameras}, origin="test"))
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == ["camera a", "camera c"]
    with pytest.raises(SourceUnusable, match="camera gate: decode: cuda is asked for, but NVDEC is not used for h264"):
        played(clip, Decoding("gate", wish="cuda", plan=NvdecPlan({})))
    with pytest.raises(SourceError, match="camera gate: NVDEC cannot open it: ") as failed:
        played(clip, Decoding("gate", wish="cuda", plan=NvdecPlan(T4)))
    assert not isinstance(failed.value, SourceUnusable)


@without_gpu
@pytest.mark.parametrize("command", ["run", "check"])
def test_the_command_says_so_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """One line that names the camera, exit code 2, no server started."""
    config = tmp_path / "config.yaml"
    config.write_text(f"sources: {{decode: cuda}}\ncameras: [{{id: gate, source: {tmp_path}/x.mp4}}]\n")
    assert main([command, "--config", str(config)]) == 2
    assert capsys.readouterr().err.splitlines() == [f"ERROR camera gate: decode: cuda is asked for, but {NO_GPU}"]


@without_gpu
def test_auto_without_a_gpu_is_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    """Said once for all cameras; who asks for the CPU only is not even told."""
    caplog.set_level(logging.INFO)
    cameras = [{"id": f"c{number}", "source": "x"} for number in range(3)]
    plan = nvdec_plan(parse_settings({"cameras": cameras}, origin="test"))
    assert plan.place("c0", "auto", HD).device == "cpu"
    assert caplog.text.count("cameras are decoded on the CPU") == 1
    caplog.clear()
    nvdec_plan(parse_settings({"sources": {"decode": "cpu"}, "cameras": cameras}, origin="test"))
    assert caplog.text == ""


def test_a_raw_stream_is_the_cpus(tmp_path: Path) -> None:
    """Without times cuvid's pictures could not be told apart."""
    path = write_clip(tmp_path / "raw.h264", moving_square(30))
    decoding = Decoding("cam", wish="auto", plan=NvdecPlan(T4))
    assert played(path, decoding) == 30
    assert decoding.placement is not None
    assert decoding.placement.reason == "the stream carries no times"


class Broken:
    """An engine on a GPU that has gone: every packet raises."""

    origin = Origin(320, 192, tagged_colour(6, 1, "yuv420p", 192))

    def __init__(self, error: Exception) -> None:
        self.error = error

    def decode(self, packet: object, arrival_ns: int | None) -> list[av.VideoFrame]:
        raise self.error


@pytest.mark.parametrize(
    ("wish", "error", "lost", "reason"),
    [("auto", DAMAGED, 25, "NVDEC gave up: damaged"), ("cuda", StreamChanged(), 0, "its size or format has changed")],
)
def test_a_camera_moves_to_the_cpu_in_the_middle(
    clip: Path, wish: str, error: Exception, lost: int, reason: str
) -> None:
    """After 25 failures in a row, or at once when the stream changes; from the next key frame on all is decoded."""
    decoding = Decoding("cam", wish=wish, plan=NvdecPlan(T4))  # type: ignore[arg-type]
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        decoder = Decoder(stream, Broken(error), decoding)
        frames = []
        for number, packet in enumerate(container.demux(stream)):
            frames += decoder.decode(packet, number if packet.size else None)
    assert decoder.origin is None
    assert decoding.placement is not None
    assert (decoding.placement.device, decoding.placement.reason) == ("cpu", reason)
    assert decoding.tally.skipped[Skip.DAMAGED] == lost
    assert decoding.tally.packets == 50
    assert len(frames) == (50 if lost == 0 else 20)
    assert len({frame.opaque for frame in frames}) == len(frames)


def test_who_insists_is_connected_anew_when_the_gpu_gives_up(clip: Path) -> None:
    """A GPU that fails 25 times in a row is an error of the camera, not a silent move to the CPU."""
    decoding = Decoding("cam", wish="cuda", plan=NvdecPlan(T4))
    with av.open(str(clip)) as container, pytest.raises(av.FFmpegError):  # noqa: PT012 - the 25th raises
        stream = container.streams.video[0]
        decoder = Decoder(stream, Broken(DAMAGED), decoding)
        for number, packet in enumerate(container.demux(stream)):
            decoder.decode(packet, number)
    assert decoding.tally.skipped[Skip.DAMAGED] == 25


@pytest.mark.parametrize("name", DECODERS.values())
def test_the_decoders_have_the_options_that_are_used(name: str) -> None:
    """cuvid's own scaling is there; its `surfaces` is deprecated and chosen by FFmpeg, so it is left alone."""
    options = {option.name: option for option in CodecContext.create(name, "r").supported_options.private}
    assert "resize" in options
    assert OptionFlags.DEPRECATED in OptionFlags(options["surfaces"].flags)
    assert options["surfaces"].default == "-1"


CAMERAS = {
    # name: (size, matrix, tags)
    "bt601": ((640, 360), Colorspace.ITU601, (6, 1)),
    "bt709, scaled below 720 lines": ((1280, 720), Colorspace.ITU709, (1, 1)),
    "untagged, scaled below 720 lines": ((1280, 720), Colorspace.ITU709, None),
    "full range": ((1280, 720), Colorspace.ITU709, (1, 2)),
    "portrait, smaller than the canvas": ((180, 320), Colorspace.ITU601, (6, 1)),
}


def as_nvdec_gives_it(frame: av.VideoFrame, canvas: Canvas) -> av.VideoFrame:
    """The frame scaled to its letterboxed size as NV12, no colour converted, its tags lost."""
    fit = letterbox(frame.width, frame.height, canvas)
    scaled = frame.reformat(width=fit.width, height=fit.height, format="nv12", interpolation="BILINEAR")
    pixels = scaled.to_ndarray()
    return av.VideoFrame.from_ndarray(pixels, format="nv12")


def canvas_of(picture: AvPicture) -> tuple[NDArray[np.uint8], object]:
    """The canvas and its geometry."""
    out = np.empty(Canvas().nv12_shape, np.uint8)
    return out, picture.write_canvas(Canvas(), out)


@pytest.mark.parametrize("name", CAMERAS)
def test_what_nvdec_scales_is_converted_by_the_same_code(tmp_path: Path, name: str) -> None:
    """Canvas, geometry, JPEG and size are as on the CPU: size and colour are the stream's, not the frame's."""
    (width, height), matrix, tags = CAMERAS[name]
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2], picture[:, width // 2 :] = (200, 40, 40), (40, 60, 220)
    to_range = ColorRange.JPEG if tags and tags[1] == 2 else ColorRange.MPEG
    path = write_clip(
        tmp_path / "clip.mp4",
        [picture] * 3,
        options={"preset": "ultrafast", "crf": "2"},
        prepare=lambda frame: frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=to_range),
        tags=tags,
    )
    with av.open(str(path)) as container:
        colour = StreamFacts.of(container.streams.video[0]).colour
        frame = next(container.decode(video=0))
    on_cpu = AvPicture(frame, Scalers())
    on_cuda = AvPicture(as_nvdec_gives_it(frame, Canvas()), Scalers(), Origin(width, height, colour))
    assert on_cuda.size_px == on_cpu.size_px == (width, height)
    (expected, geometry), (got, same) = canvas_of(on_cpu), canvas_of(on_cuda)
    assert geometry == same
    away = np.abs(expected.astype(int) - got.astype(int))
    assert away.mean() < 1, "two roundings instead of one"
    assert np.percentile(away, 99) <= 4, "but for the edge between the colours"
    data, scale = on_cuda.encode_jpeg((1280, 720))
    assert data[:2] == b"\xff\xd8"
    assert scale <= min(1.0, 640 / width)
    assert np.abs(on_cuda.to_bgr(64, 36).astype(int) - on_cpu.to_bgr(64, 36).astype(int)).mean() < 3


def test_the_need_of_a_stream_is_read_from_it(clip: Path) -> None:
    """Codec, coded size and rate; on the CPU nothing has scaled its pictures."""
    with av.open(str(clip)) as container:
        facts = StreamFacts.of(container.streams.video[0])
        assert facts.load == Load("h264", 320, 192, 25.0)
        assert str(facts) == "h264 320x192, 25 fps, untagged, read as BT.601 limited"
        assert CpuEngine(container.streams.video[0]).origin is None


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU is not None, reason=f"needs NVDEC: {NO_GPU}")
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_nvdec_gives_the_canvas_that_the_cpu_gives(tmp_path: Path, codec: str) -> None:
    """On a card: all frames, in order, each with its own packet's arrival, and the CPU's canvas within a few levels."""
    path = write_clip(tmp_path / "clip.mp4", moving_square(60, width=1280, height=720), codec=codec)
    canvases: list[dict[int, NDArray[np.uint8]]] = []
    for engine_of in (CpuEngine, lambda stream: CudaEngine(stream, StreamFacts.of(stream), Canvas())):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            engine, shown = engine_of(stream), {}
            for number, packet in enumerate(container.demux(stream)):
                for frame in engine.decode(packet, number if packet.size else None):
                    shown[frame.opaque] = canvas_of(AvPicture(frame, Scalers(), engine.origin))[0]
            canvases.append(shown)
    on_cpu, on_cuda = canvases
    assert list(on_cuda) == list(on_cpu)
    for number, expected in on_cpu.items():
        assert np.abs(expected.astype(int) - on_cuda[number].astype(int)).mean() < 2
