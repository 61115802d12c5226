"""Clips around events: what the camera sent, bit for bit, out of a ring that never holds too much."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import PATIENCE_S, demo_clip, moving_square, write_clip
from hypothesis import given
from hypothesis import strategies as st
from live_servers import hls_server, jpegs, mjpeg, rtsp_server, tcp_server, udp_camera
from numpy.typing import NDArray
from test_events import EVENT, validator
from test_library import content
from test_sinks import view
from test_webhook import event

from clients.config import parse_settings
from clients.errors import SinkError
from clients.fleet import Fleet
from clients.sinks.clips import ClipSink
from clients.sinks.keys import ClipKeys
from clients.sinks.ring import Ring
from clients.sinks.videos import VideosSink
from clients.sources.address import Address
from clients.sources.decoder import Decoding
from clients.sources.file import live_timing
from clients.sources.live import UNTIMED, LiveSource
from clients.types import LiveOptions
from deploy.server import TritonServer

S = 1_000_000_000
FPS = 25


def filled(path: Path, ring: Ring, *, first_ns: int = 0) -> Ring:
    """The ring after a file's packets, 25 a second from `first_ns` on."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        ring.opened(stream)
        packets = (packet for packet in container.demux(stream) if packet.size)
        for number, packet in enumerate(packets):
            ring.packet(packet, first_ns + number * S // FPS)
    return ring


def pictures(path: Path) -> list[NDArray[np.uint8]]:
    """Every picture of a video as it was coded."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


CODECS: dict[str, dict[str, Any]] = {
    "b-frames.ts": {"codec": "libx264", "options": {"bf": "2", "g": "25"}},
    "plain.mp4": {"codec": "libx264", "options": {"preset": "ultrafast", "g": "25"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=25:open-gop=0"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "annexb.h264": {"codec": "libx264", "options": {"bf": "0", "g": "25"}},
}


@pytest.mark.parametrize("name", CODECS)
def test_a_clip_is_what_the_camera_sent(tmp_path: Path, name: str) -> None:
    """From the key frame before its beginning to its end, pixel for pixel, at the camera's pace, from 0 on."""
    source = write_clip(tmp_path / name, moving_square(150), **CODECS[name])
    ring = filled(source, Ring(100, 1 << 30))
    cut = ring.cut(3 * S, 4 * S)
    assert cut is not None
    cut.write(str(tmp_path / "clip.mp4"))
    sent, shown = pictures(source), pictures(tmp_path / "clip.mp4")
    first = 75  # a key frame
    assert len(shown) == len(cut.packets) >= 25
    for index, picture in enumerate(shown):
        assert np.array_equal(picture, sent[first + index]), index
    with av.open(str(tmp_path / "clip.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times[0] == 0
    assert np.diff(times) == pytest.approx(1 / FPS, abs=0.001)


def test_a_camera_without_usable_times_has_those_of_its_packets(tmp_path: Path) -> None:
    """A clock that jumps back does not stop the clip."""
    source = write_clip(tmp_path / "c.mp4", moving_square(50), options={"bf": "0", "g": "25"})
    ring = Ring(100, 1 << 30)
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        ring.opened(stream)
        for number, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
            packet.dts = packet.pts = None if number == 7 else number % 20
            ring.packet(packet, number * S // 10)
    cut = ring.cut(0, 100 * S)
    assert cut is not None
    cut.write(str(tmp_path / "clip.mp4"))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([number / 10 for number in range(50)])


def stream_of_nothing() -> Any:
    """A stream to copy from."""
    container = av.open(io.BytesIO(), "w", format="matroska")
    stream = container.add_stream("libx264")
    stream.width = stream.height = 32
    return stream


NOTHING = stream_of_nothing()


def test_times_that_ffmpeg_invents_are_not_used(tmp_path: Path) -> None:
    """MJPEG has none: FFmpeg says 25 a second, the clip is played as the pictures came."""
    source = write_clip(tmp_path / "c.mjpeg", moving_square(30), codec="mjpeg", pix_fmt="yuvj420p")
    ring = Ring(100, 1 << 30)
    with av.open(str(source)) as container:
        assert container.format.name in UNTIMED
        stream = container.streams.video[0]
        ring.opened(stream)
        for number, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
            ring.packet(packet, number * S // 4)
    cut = ring.cut(0, 100 * S)
    assert cut is not None
    cut.write(str(tmp_path / "clip.mp4"))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx([n / 4 for n in range(30)])


PACKETS = st.lists(st.tuples(st.booleans(), st.integers(1, 4000), st.integers(0, 2 * S)), min_size=1, max_size=80)


@given(PACKETS, st.integers(1, 10), st.integers(2000, 20_000))
def test_a_ring_never_holds_too_much_nor_too_little(
    packets: list[tuple[bool, int, int]], seconds: int, most: int
) -> None:
    """It begins with a key frame, is never larger than it may be, and has the last seconds whole where they fit."""
    ring, now_ns, sent = Ring(seconds, most), 0, list[tuple[int, bool, int, int]]()
    ring.opened(NOTHING)
    for number, (is_keyframe, size, later_ns) in enumerate(packets):
        now_ns += later_ns
        packet = av.Packet(size)
        packet.is_keyframe, packet.pts, packet.dts, packet.time_base = is_keyframe, number, number, Fraction(1, FPS)
        ring.packet(packet, now_ns)
        sent.append((number, is_keyframe, size, now_ns))
        assert ring.size_bytes <= most
        cut = ring.cut(0, now_ns)
        if cut is None:
            assert ring.size_bytes == 0
            continue
        assert cut.packets[0].is_keyframe
        assert ring.size_bytes == sum(len(one.data) for one in cut.packets)
        held = [one.dts for one in cut.packets]
        assert held == list(range(held[0], number + 1)), "nothing is missing in between"
        keys = [one for one, is_key, _, _ in sent if is_key]
        due = [one for one in keys if sent[one][3] <= now_ns - seconds * S]
        start = due[-1] if due else keys[0]  # the key frame before the last seconds
        if sum(size for *_, size, _ in sent[start:]) <= most:
            assert held[0] <= start or starved(sent, start, most)


def starved(sent: list[tuple[int, bool, int, int]], start: int, most: int) -> bool:
    """Whether a group of pictures alone was too large at some time since then, which empties the ring."""
    group = 0
    for _, is_keyframe, size, _ in sent[start:]:
        group = size if is_keyframe else group + size
        if group > most:
            return True
    return False


def test_what_was_before_a_new_connection_is_gone(tmp_path: Path) -> None:
    """A clip never mixes two connections, which may differ in codec and size."""
    one = write_clip(tmp_path / "one.mp4", moving_square(50), options={"g": "10"})
    two = write_clip(tmp_path / "two.mp4", moving_square(25, width=640, height=384), options={"g": "10"})
    ring = filled(one, Ring(100, 1 << 30))
    filled(two, ring, first_ns=2 * S)
    cut = ring.cut(0, 100 * S)
    assert cut is not None
    assert len(cut.packets) == 25
    assert (cut.template.width, cut.template.height) == (640, 384)


def test_a_stream_that_cannot_be_kept_costs_its_clips_only(caplog: pytest.LogCaptureFixture) -> None:
    """The camera's reader is not troubled: it is said, and the ring stays empty."""
    container = av.open(io.BytesIO(), "w", format="matroska")
    ring = Ring(10, 1 << 20)
    ring.opened(container.add_mux_stream("h264", width=32, height=32))
    packet = av.Packet(100)
    packet.is_keyframe = True
    ring.packet(packet, 1)
    assert ring.cut(0, 2) is None
    assert ring.size_bytes == 0
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize("kind", ["rtsp", "hls", "udp", "mjpeg"])
def test_a_live_camera_has_clips(tmp_path: Path, kind: str) -> None:
    """Whatever way its packets come: all that were kept can be played, at the pace at which they came."""
    with ExitStack() as servers:
        ring, frames = Ring(100, 1 << 30), []
        address = Address.parse(SERVERS[kind](servers, tmp_path), {})
        source = LiveSource("cam", address, LiveOptions(), Decoding("cam", tap=ring))
        for frame in source.frames(live_timing(threading.Event().wait)):
            frames.append(frame.media_time_s)
            if len(frames) == 40:
                break
        cut = ring.cut(0, 1 << 62)
    assert cut is not None
    cut.write(str(tmp_path / "clip.mp4"))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        times = [image.time for image in container.decode(video=0)]
    assert len(times) >= 38
    assert times[-1] == pytest.approx(frames[-1] - frames[0], abs=0.3)


def rtsp_camera(servers: ExitStack, folder: Path) -> str:
    """A camera of GStreamer's RTSP server."""
    clip = write_clip(folder / "clip.mp4", moving_square(75), options={"preset": "ultrafast", "g": "25"})
    return f"rtsp://127.0.0.1:{servers.enter_context(rtsp_server(f'a={clip}'))}/a"


SERVERS: dict[str, Callable[[ExitStack, Path], str]] = {
    "rtsp": rtsp_camera,
    "hls": lambda servers, folder: f"http://127.0.0.1:{servers.enter_context(hls_server(folder))}/live.m3u8",
    "udp": lambda servers, _: f"udp://127.0.0.1:{servers.enter_context(udp_camera())}",
    "mjpeg": lambda servers, _: f"http://127.0.0.1:{servers.enter_context(tcp_server(mjpeg(jpegs())))}/v.mjpg",
}


# The sink


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six seconds with a key frame each second."""
    return write_clip(tmp_path / "source.mp4", moving_square(150), options={"bf": "0", "g": "25"})


def at(number: int, ago_s: float, **more: Any) -> Any:
    """An event of a frame that arrived so long ago."""
    return replace(event(number), wall_time_s=time.time() - ago_s, **more)


def clips_in(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The clips with what is beside them, oldest first."""
    return [(path, json.loads(path.with_suffix(".json").read_text())) for path in sorted(folder.glob("*.mp4"))]


def until(condition: Any) -> None:
    """Until it holds."""
    while not condition():
        threading.Event().wait(0.01)


@contextmanager
def opened(folder: Path, **keys: Any) -> Iterator[ClipSink]:
    """A sink that is closed in the end."""
    sink = ClipSink(ClipKeys(folder=folder / "clips", before_s=1, after_s=1, **keys))
    try:
        yield sink
    finally:
        sink.close()


def test_events_that_are_near_share_a_clip(tmp_path: Path, source: Path) -> None:
    """The later one does not lengthen it; what comes after it has its own; kinds that are not asked for have none."""
    with opened(tmp_path) as sink:
        filled(source, sink.ring("cam"), first_ns=time.monotonic_ns() - 6 * S)  # ends now
        sink.write(at(0, 4.5, kind="leave"))
        sink.write(at(1, 4.5))
        sink.write(at(2, 4.1))
        sink.write(at(3, 2.5))
        sink.write(at(4, 2.5, stream_id="unknown"))
        until(lambda: len(clips_in(tmp_path / "clips")) == 2)
    (one, beside), (other, beside_other) = clips_in(tmp_path / "clips")
    assert [record["id"] for record in beside["events"]] == ["cam-1", "cam-2"]
    assert [record["id"] for record in beside_other["events"]] == ["cam-3"]
    for record in beside["events"]:
        EVENT.validate(record)
    validator("clip-1").validate(beside)
    assert one.name == beside["clip"]
    assert one.name.startswith("cam-2")
    assert one.name.endswith("-1.mp4")
    assert len(pictures(one)) in range(49, 77), "a second before, from the key frame on, and a second after"
    assert len(pictures(other)) in range(49, 77)
    assert sink.dropped == 0
    assert not list((tmp_path / "clips").glob("*.part"))


def test_a_clip_waits_for_its_end_or_for_the_cameras(tmp_path: Path, source: Path) -> None:
    """An event of a moment ago has its clip when the camera ends; one that is pending when the sink closes is cut."""
    with opened(tmp_path) as sink:
        ring = filled(source, sink.ring("cam"), first_ns=time.monotonic_ns() - 6 * S)
        sink.write(at(1, 0.1))
        ring.ended()
        until(lambda: clips_in(tmp_path / "clips"))
        filled(source, sink.ring("cam"), first_ns=time.monotonic_ns() - 6 * S)
        sink.write(at(2, 0.05))
        sink.forget("cam")
    assert len(clips_in(tmp_path / "clips")) == 2
    assert sink.dropped == 0


def test_the_folder_is_bounded(tmp_path: Path, source: Path) -> None:
    """The oldest clips go with what is beside them; the newest stays however large it is."""
    with opened(tmp_path, most_mb=0.001) as sink:
        filled(source, sink.ring("cam"), first_ns=time.monotonic_ns() - 6 * S)
        for number, ago_s in enumerate((4.9, 3.7, 2.5)):
            sink.write(at(number, ago_s))
    ((_, beside),) = clips_in(tmp_path / "clips")
    assert beside["events"][0]["id"] == "cam-2"
    assert len(list((tmp_path / "clips").iterdir())) == 2


def test_a_folder_that_is_gone_costs_clips_and_works_again(
    tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each event without a clip is counted, said once; when the folder is back, clips are made again."""
    with opened(tmp_path) as sink:
        filled(source, sink.ring("cam"), first_ns=time.monotonic_ns() - 6 * S)
        (tmp_path / "clips").rmdir()
        (tmp_path / "clips").write_text("not a folder")
        sink.write(at(1, 4.9))
        sink.write(at(2, 3.7))
        until(lambda: sink.dropped == 2)
        (tmp_path / "clips").unlink()
        (tmp_path / "clips").mkdir()
        sink.write(at(3, 2.5))
        until(lambda: clips_in(tmp_path / "clips"))
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "clips/cam-" in caplog.text


def test_more_events_than_clips_can_be_made_are_counted(tmp_path: Path) -> None:
    """Cameras that bring nothing: so many clips wait, the rest is dropped at once, and in the end all are."""
    with opened(tmp_path) as sink:
        for number in range(500):
            sink.ring(f"c{number}")
            sink.write(at(number, 0.0, stream_id=f"c{number}"))
        assert sink.dropped == 300
    assert sink.dropped == 500


def test_a_folder_that_cannot_be_is_a_clear_error() -> None:
    """The line names the key and the path."""
    with pytest.raises(SinkError, match=r"sinks\.clips\.folder: /proc/nowhere cannot be written"):
        ClipSink(ClipKeys(folder=Path("/proc/nowhere")))
    with pytest.raises(SinkError, match=r"sinks\.videos: /proc/nowhere cannot be written"):
        VideosSink(list, Path("/proc/nowhere"), 5)


def test_each_camera_has_its_own_video(tmp_path: Path) -> None:
    """With boxes; one of a camera that has gone is whole while the others go on, and can be played while it grows."""
    drawn = threading.Event()
    views = [view(drawn), replace(view(drawn), stream_id="other")]
    sink = VideosSink(lambda: views, tmp_path, 20)
    until((tmp_path / "other.mp4").exists)
    del views[1]
    until(lambda: closed(tmp_path / "other.mp4"))
    sink.close()
    for name in ("cam", "other"):
        (first, *_) = pictures(tmp_path / f"{name}.mp4")
        assert first.shape == (360 * 3 // 2, 640)
    with av.open(str(tmp_path / "cam.mp4")) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="bgr24").astype(int)
    assert np.abs(shown[120, 200] - (200, 60, 30)).max() < 12
    assert (np.abs(shown[120, 97:104] - (243, 150, 33)).max(axis=1) < 70).any(), "the box"
    assert sink.dropped == 0


def closed(path: Path) -> bool:
    """Whether a video has its end."""
    return b"mfra" in path.read_bytes()


# A fleet


@pytest.mark.anyio
async def test_a_fleet_makes_clips_and_videos(triton: TritonServer, tmp_path: Path) -> None:
    """An event of the demo's city has a clip of what the camera sent around it, and the camera a video."""
    zone = {"name": "whole", "points": [[0, 0], [1, 0], [1, 1], [0, 1]], "debounce_s": 0}
    folder, videos = tmp_path / "clips", tmp_path / "videos"
    sinks = {"clips": {"folder": str(folder), "before_s": 1, "after_s": 0.5}, "videos": str(videos)}
    async with Fleet(parse_settings(content(triton.grpc_url, sinks=sinks), origin="test")) as fleet:
        await fleet.add_stream("city", str(demo_clip()), loop=True, zones=[zone])
        async with asyncio.timeout(PATIENCE_S):
            while not list(folder.glob("*.json")):
                await asyncio.sleep(0.05)
        await fleet.remove_stream("city")
    assert fleet.stats().errors == 0
    assert fleet.stats().dropped["clips"] == fleet.stats().dropped["videos"] == 0
    path, beside = clips_in(folder)[0]
    assert beside["camera"] == "city"
    with av.open(str(path)) as container, av.open(str(demo_clip())) as sent:
        assert container.streams.video[0].codec_context.name == sent.streams.video[0].codec_context.name
        assert container.streams.video[0].width == sent.streams.video[0].width
    assert len(pictures(path)) > 5
    assert len(pictures(videos / "city.mp4")) >= 1
