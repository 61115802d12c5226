"""Pictures that no other one needs: told from the packet, left out only while enough others remain, and counted."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import av
import pytest
from conftest import PATIENCE_S, moving_square, write_clip
from hypothesis import given
from hypothesis import strategies as st

import loadtest.__main__ as loadtest
from clients.config import Emit
from clients.gate import GateRules
from clients.inference.memory import MemoryTransport
from clients.lane import Lane
from clients.pipeline import Pipeline
from clients.shares import TierLimits
from clients.sources import decoder
from clients.sources.decoder import Decoding, Skip
from clients.sources.file import FileSource, Timing
from clients.sources.skipping import Skipping
from clients.sources.units import Units
from clients.types import Detections, StreamSpec, Tier, Verdict

SECOND = 1_000_000_000
FRAME_NS = SECOND // 25
QUICK = {"preset": "fast", "crf": "20", "b_strategy": "0"}  # always as many B-frames as asked for
CLIPS = {
    # name: (codec, container, options, whether it has pictures that no other one needs)
    "h264, two B-frames, mp4": ("libx264", "mp4", QUICK | {"bf": "2", "b-pyramid": "none"}, True),
    "h264, pyramid, mp4": ("libx264", "mp4", QUICK | {"bf": "3", "b-pyramid": "normal"}, True),
    "h264, two B-frames, start codes": ("libx264", "ts", QUICK | {"bf": "2"}, True),
    "h264, slices, start codes": ("libx264", "ts", QUICK | {"bf": "2", "x264-params": "slices=4:aud=1"}, True),
    "h264, interlaced": ("libx264", "mp4", QUICK | {"bf": "2", "x264-params": "tff=1:b-adapt=0"}, False),
    "h264, no B-frames": ("libx264", "mp4", QUICK | {"bf": "0"}, False),
    "h265, B-frames, mp4": ("libx265", "mp4", {"preset": "ultrafast", "x265-params": "bframes=2:log-level=none"}, True),
    "h265, layers, mp4": (
        "libx265",
        "mp4",
        {"preset": "ultrafast", "x265-params": "bframes=3:b-pyramid=1:temporal-layers=2:log-level=none"},
        True,
    ),
    "mpeg-4": ("mpeg4", "mp4", {"bf": "2"}, False),
}


def instant() -> Timing:
    """A clock that moves when it is slept on."""
    now = [0]

    def sleep(seconds: float) -> bool:
        now[0] += round(seconds * SECOND)
        return False

    return Timing(lambda: now[0], sleep)


@pytest.mark.parametrize("name", CLIPS)
def test_what_is_left_out_changes_no_other_picture(tmp_path: Path, name: str) -> None:
    """Frames decoded + packets skipped = packets, and what is decoded is bit for bit what it is among all others."""
    codec, container, options, has_some = CLIPS[name]
    path = write_clip(tmp_path / f"clip.{container}", moving_square(150), codec=codec, options=options)
    with av.open(str(path)) as whole:
        expected = {frame.time - frame_zero(path): frame.to_ndarray().tobytes() for frame in whole.decode(video=0)}
    decoding = Decoding(may_skip=True)
    seen = list(FileSource("cam", path, decoding=decoding).frames(instant()))
    tally = decoding.tally
    assert tally.packets == 150
    assert len(seen) + tally.skipped[Skip.NOT_NEEDED] == tally.packets
    assert (tally.skipped[Skip.NOT_NEEDED] > 10) is has_some
    assert tally.skipped[Skip.DAMAGED] == tally.skipped[Skip.LATE] == 0
    for frame in seen:
        nearest = min(expected, key=lambda time: abs(time - frame.media_time_s))
        assert frame.picture._frame.to_ndarray().tobytes() == expected[nearest], frame.media_time_s


def frame_zero(path: Path) -> float:
    """Where the stream's time begins."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return float(stream.start_time * stream.time_base)


def test_who_may_not_skip_decodes_everything(tmp_path: Path) -> None:
    """Without leave, no packet is left out, however rarely the camera is inferred."""
    path = write_clip(tmp_path / "clip.mp4", moving_square(150), options=QUICK | {"bf": "2"})
    decoding = Decoding()
    assert len(list(FileSource("cam", path, decoding=decoding).frames(instant()))) == 150 == decoding.tally.packets


def test_no_more_cameras_than_cores_decode_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its core taken a camera waits, decoding nothing; given back, it decodes all of its pictures."""
    path = write_clip(tmp_path / "clip.mp4", moving_square(25))
    core = threading.BoundedSemaphore(1)
    monkeypatch.setattr(decoder, "_cores", core)
    seen: list[object] = []
    camera = threading.Thread(target=lambda: seen.extend(FileSource("cam", path).frames(instant())))
    with core:
        camera.start()
        camera.join(1)
        assert (camera.is_alive(), seen) == (True, [])
    camera.join(PATIENCE_S)
    assert len(seen) == 25
    assert core.acquire(blocking=False), "given back"


def run(skipping: Skipping, needed: list[bool], turns_per_s: float, start_s: float, seconds: float) -> list[bool]:
    """25 packets a second, `needed` again and again; whether each was left out."""
    first = round(start_s * 25)
    return [
        skipping.skips(needed[n % len(needed)], round(turns_per_s * n / 25), n * FRAME_NS)
        for n in range(first, first + round(seconds * 25))
    ]


TWO_OF_THREE = [True, False, False]


@pytest.mark.parametrize(
    ("turns_per_s", "min_fps", "needed", "expected"),
    [
        (1, 0, TWO_OF_THREE, True),
        (4, 0, TWO_OF_THREE, True),  # 8.3 pictures/s remain, twice 4.2
        (5, 0, TWO_OF_THREE, False),
        (25, 0, TWO_OF_THREE, False),
        (1, 5, TWO_OF_THREE, False),  # a minimum counts as asked for
        (1, 4, TWO_OF_THREE, True),
        (0, 0, [True], False),
        (0, 0, [True] * 19 + [False], False),  # a twentieth is not worth it
    ],
)
def test_enough_pictures_remain(turns_per_s: float, min_fps: float, needed: list[bool], expected: bool) -> None:
    """Left out only while twice the inferences granted, and the minimum, remain, and only what no other one needs."""
    skipped = run(Skipping(min_fps), needed, turns_per_s, 0, 12)
    assert any(skipped) is expected
    assert not any(skipped[:50]), "the first two seconds are for measuring"
    assert not any(left and needed[n % len(needed)] for n, left in enumerate(skipped))


def test_it_begins_and_ends_with_the_rate() -> None:
    """A quiet camera that becomes a busy one is decoded whole again within two windows."""
    skipping = Skipping()
    assert any(run(skipping, TWO_OF_THREE, 1, 0, 6))
    busy = [
        skipping.skips(TWO_OF_THREE[n % 3], 6 + round((n - 150) * 8 / 25), n * FRAME_NS) for n in range(150, 150 + 200)
    ]
    assert any(busy[:50])
    assert not any(busy[100:])


@given(st.binary(max_size=300), st.sampled_from(["h264", "hevc", "mjpeg"]), st.binary(max_size=40))
def test_any_bytes_are_read_without_a_fault(data: bytes, codec: str, extradata: bytes) -> None:
    """Whatever a packet holds, it is needed or not; nothing is raised, nothing loops."""
    units = Units(codec, extradata)
    assert units.is_needed(data) in (True, False)
    assert units.parameters(data) is None or codec != "mjpeg"


def test_a_packet_with_parameters_is_needed() -> None:
    """What later pictures are decoded with is never left out, and it is found."""
    slice_alone = b"\0\0\1\x01\xaa"
    sps = b"\x67\x42\x00\x1e"
    units = Units("h264", None)
    assert units.is_needed(slice_alone) is False
    assert units.is_needed(b"\0\0\1" + sps + slice_alone) is True
    assert units.parameters(b"\0\0\0\1" + sps + slice_alone) == sps
    assert units.is_needed(b"\0\0\1\x21\xaa") is True, "nal_ref_idc 1"


@pytest.mark.anyio
@pytest.mark.parametrize("emit", ["inferred", "all"])
async def test_a_rarely_inferred_camera_skips_unless_all_frames_are_wanted(tmp_path: Path, emit: Emit) -> None:
    """In a running pipeline: the camera's own turns decide, the report adds up, and `emit: all` decodes everything."""
    path = write_clip(tmp_path / "clip.mp4", moving_square(100), options=QUICK | {"bf": "2", "b-pyramid": "none"})
    rules = GateRules(min_interval_s=0.5, max_age_ms=2000, similarity_threshold=None)
    lane = Lane(StreamSpec("cam", str(path), max_fps=2), rules, Tier.N, emit)

    async def ready() -> bool:
        return True

    transport, limits = MemoryTransport(lambda _: Detections.empty()), {Tier.N: TierLimits(1.0, 4)}
    await Pipeline([lane], transport, [], window=1, limits=limits, server_ready=ready).run()
    report = lane.report()
    assert report.packets == 100 == report.decoded + sum(report.packets_skipped.values())
    assert report.verdicts[Verdict.INFERRED] > 3
    assert (report.packets_skipped["not_needed"] > 10) is (emit == "inferred")


def test_the_measurement_counts_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m loadtest decode` on a clip with B-frames and on a file that is none."""
    path = write_clip(tmp_path / "clip.mp4", moving_square(100), options=QUICK | {"bf": "2", "b-pyramid": "none"})
    assert loadtest.main(["decode", str(path)]) == 0
    row = json.loads(capsys.readouterr().out)["clips"][str(path)]
    assert row["packets"] == 100
    assert 10 < row["not_needed"] < 67
    assert row["wait_ms"]["skipping"] >= row["wait_ms"]["all"] > 0
    assert loadtest.main(["decode", str(tmp_path / "nowhere.mp4")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_a_lower_layer_of_h265_is_needed_once_a_higher_one_is_seen() -> None:
    """A picture that its own layer does not refer to may still serve the layers above it."""
    low, high, referred_to = (b"\0\0\1" + bytes([kind << 1, layer, 0xAA]) for kind, layer in ((0, 1), (0, 2), (1, 2)))
    units = Units("hevc", None)
    assert units.is_needed(low) is False
    assert units.is_needed(high) is False
    assert units.is_needed(low) is True
    assert units.is_needed(referred_to) is True
