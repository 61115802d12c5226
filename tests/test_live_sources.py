"""Live cameras on real protocols, good and bad, in one run with others: nobody disturbs anybody, nobody gives up."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import pytest
from conftest import moving_square, write_clip
from live_fleet import QUICK, running, two_clips
from live_servers import (
    closes,
    drips,
    drips_on,
    garbage,
    hangs,
    hls_server,
    http_server,
    jpegs,
    mjpeg,
    rtsp_server,
    send_jpegs,
    tcp_server,
    udp_camera,
)

from clients.errors import SourceError
from clients.sources.address import Address
from clients.sources.decoder import Decoding, Skip
from clients.sources.file import Timing, live_timing
from clients.sources.live import LiveSource
from clients.types import LiveOptions

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three seconds of H.264 in two sizes."""
    return two_clips(tmp_path_factory.mktemp("clips"))


async def test_every_kind_side_by_side(clips: tuple[Path, Path], tmp_path: Path) -> None:
    """RTSP, also with a login, MJPEG, HLS, MPEG-TS by UDP and a file: each is seen, none is lost."""
    small, large = clips
    with ExitStack() as servers:
        open_port = servers.enter_context(rtsp_server(f"a={small}", f"b={large}"))
        shut_port = servers.enter_context(rtsp_server(f"c={small}", login="viewer:p@ss/w:rd"))
        sources = {
            "rtsp": f"rtsp://127.0.0.1:{open_port}/a",
            "large": f"rtsp://127.0.0.1:{open_port}/b",
            "login": f"rtsp://viewer:p%40ss%2Fw%3Ard@127.0.0.1:{shut_port}/c",
            "mjpeg": f"http://127.0.0.1:{servers.enter_context(tcp_server(mjpeg(jpegs())))}/video.mjpg",
            "hls": f"http://127.0.0.1:{servers.enter_context(hls_server(tmp_path))}/live.m3u8",
            "udp": f"udp://127.0.0.1:{servers.enter_context(udp_camera())}",
            "file": str(small),
        }
        async with running(sources, LiveOptions()) as fleet:
            await fleet.until(lambda: all(len(results) >= 30 for results in fleet.results.values()))
            fleet.assert_undisturbed(*sources)
            assert fleet.sizes["large"] == {(640, 384)}
            assert all(fleet.sizes[name] == {(320, 192)} for name in sources if name != "large")


BAD: dict[str, tuple[str, Any, str]] = {
    "hangs after the handshake, rtsp": ("rtsp://u:hunter22@127.0.0.1:{}/x", hangs, "no answer within 0.5 s"),
    "hangs after the handshake, http": ("http://u:hunter22@127.0.0.1:{}/x", hangs, "no answer within 0.5 s"),
    "drips, rtsp": ("rtsp://127.0.0.1:{}/x?hunter22", drips, "no answer within 0.5 s"),
    "drips, http": ("http://127.0.0.1:{}/x?hunter22", drips, "no answer within 0.5 s"),
    "garbage, rtsp": ("rtsp://127.0.0.1:{}/hunter", garbage, ""),
    "garbage, http": ("http://u:hunter22@127.0.0.1:{}/x", garbage, ""),
    "hangs up": ("rtsp://u:hunter22@127.0.0.1:{}/x", closes, "cannot be opened"),
    "flaps": ("http://u:hunter22@127.0.0.1:{}/x", mjpeg(jpegs(5), then=closes), "broken off"),
    "falls silent": ("http://u:hunter22@127.0.0.1:{}/x", mjpeg(jpegs(5), then=hangs), "no data for 1 s"),
    "drips after a while": ("http://u:hunter22@127.0.0.1:{}/x", mjpeg(jpegs(5), then=drips_on), "no data for 1 s"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_camera_is_retried_and_disturbs_nobody(
    clips: tuple[Path, Path], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Whatever it does: named with its reason, tried again and again, and the other two never notice."""
    url, behave, reason = BAD[name]
    caplog.set_level(logging.DEBUG)
    with tcp_server(behave) as port, rtsp_server(f"a={clips[0]}") as rtsp_port:
        sources = {"bad": url.format(port), "file": str(clips[0]), "rtsp": f"rtsp://127.0.0.1:{rtsp_port}/a"}
        async with running(sources) as fleet:
            await fleet.until(lambda: fleet.results["rtsp"] != [] and fleet.entered("bad", "connecting") >= 3)
            await fleet.until_others_go_on("file", "rtsp")
            fleet.assert_undisturbed("file", "rtsp")
            assert bool(fleet.results["bad"]) is (behave not in (hangs, drips, garbage, closes))
    told = [record.getMessage() for record in caplog.records if "camera bad" in record.getMessage()]
    assert all(reason in line for line in told if "camera bad: backing off: " in line)
    assert sum("camera bad: backing off: " in line for line in told) == fleet.entered("bad", "backing_off")
    assert sum("camera bad: stalled: " in line for line in told) == fleet.entered("bad", "stalled")
    assert "hunter22" not in caplog.text + repr(fleet.lanes["bad"].report())


async def test_silence_is_a_state_of_its_own(clips: tuple[Path, Path]) -> None:
    """A camera that falls silent is stalled first; it goes on by itself when data comes again in time."""
    go_on = threading.Event()

    def pauses(connection: socket.socket, stop: threading.Event) -> None:
        while not (go_on.wait(0.05) or stop.is_set()):
            pass
        send_jpegs(connection, stop, jpegs())

    with tcp_server(mjpeg(jpegs(5), then=pauses)) as port:
        sources = {"mute": f"http://127.0.0.1:{port}/x", "file": str(clips[0])}
        async with running(sources, LiveOptions(open_timeout_s=5, read_timeout_s=8)) as fleet:
            await fleet.until(lambda: fleet.entered("mute", "stalled") == 1)
            go_on.set()
            await fleet.until(lambda: fleet.entered("mute", "live") == 2)
            await fleet.until_others_go_on("file", "mute", results=15)
            fleet.assert_undisturbed("file")
            assert fleet.entered("mute", "backing_off") == 0


async def test_a_change_of_resolution_is_followed(clips: tuple[Path, Path]) -> None:
    """The stream switches between two sizes: both are inferred at their size, nothing reconnects, nobody notices."""
    small, large = clips
    with rtsp_server(f"both={small},{large}", f"one={small}") as port:
        sources = {"both": f"rtsp://127.0.0.1:{port}/both", "one": f"rtsp://127.0.0.1:{port}/one", "file": str(small)}
        async with running(sources, LiveOptions()) as fleet:
            await fleet.until(lambda: fleet.sizes["both"] == {(320, 192), (640, 384)})
            await fleet.until_others_go_on(*sources, results=60)
            fleet.assert_undisturbed(*sources)
            assert fleet.sizes["one"] == {(320, 192)}


async def test_rtsp_comes_over_tcp_unless_a_camera_says_udp(clips: tuple[Path, Path]) -> None:
    """A server that sends datagrams only: the camera with transport udp is live, the other is refused and goes on."""
    with rtsp_server(f"a={clips[0]}", "--udp-only") as port:
        sources = dict.fromkeys(("udp", "tcp"), f"rtsp://127.0.0.1:{port}/a")
        async with running(sources, LiveOptions(transport="udp"), tcp=LiveOptions()) as fleet:
            await fleet.until(lambda: fleet.entered("tcp", "backing_off") >= 2)
            await fleet.until_others_go_on("udp")
            fleet.assert_undisturbed("udp")
            assert "cannot be opened" in fleet.problem("tcp")


async def test_a_server_that_dies_is_found_again(clips: tuple[Path, Path]) -> None:
    """The RTSP server is killed and started again: its camera is lost and returns, index and time going on."""
    small = clips[0]
    with rtsp_server(f"a={small}") as stable_port:
        with rtsp_server(f"a={small}") as port:
            sources = {"lost": f"rtsp://127.0.0.1:{port}/a", "rtsp": f"rtsp://127.0.0.1:{stable_port}/a"}
            fleet_running = running(sources | {"file": str(small)}, LiveOptions())
            fleet = await fleet_running.__aenter__()
            await fleet.until_others_go_on(*sources)
        await fleet.until(lambda: fleet.entered("lost", "backing_off") >= 1)
        with rtsp_server(f"a={small}", port=port):
            await fleet.until(lambda: fleet.entered("lost", "live") == 2)
            await fleet.until_others_go_on("lost", "rtsp", "file")
            fleet.assert_undisturbed("rtsp", "file")
            order = [result.frame_index for result in fleet.results["lost"]]
            times = [result.media_time_s for result in fleet.results["lost"]]
            assert order == sorted(set(order))
            assert times == sorted(set(times))
            await fleet_running.__aexit__(None, None, None)


async def test_damage_on_the_wire_costs_frames_only(clips: tuple[Path, Path]) -> None:
    """Every fifth datagram is noise: the camera goes on as well as it can, and the others as ever."""
    with udp_camera(damage_every=5) as port:
        async with running({"noisy": f"udp://127.0.0.1:{port}", "file": str(clips[0])}, LiveOptions()) as fleet:
            await fleet.until_others_go_on("noisy", "file")
            fleet.assert_undisturbed("file")


async def test_a_change_of_codec_is_followed(clips: tuple[Path, Path]) -> None:
    """The stream goes on in another codec: the camera is lost, connected again and seen as before."""
    change = threading.Event()
    with udp_camera(phases=(("libx264", 0), ("mpeg2video", 0)), changes=(change,)) as port:
        async with running({"cam": f"udp://127.0.0.1:{port}", "file": str(clips[0])}, QUICK) as fleet:
            await fleet.until_others_go_on("cam")
            change.set()
            await fleet.until(lambda: fleet.entered("cam", "backing_off") >= 1)
            await fleet.until(lambda: fleet.lanes["cam"].state == "live")
            await fleet.until_others_go_on("cam", "file")
            fleet.assert_undisturbed("file")


async def test_what_is_not_there_is_tried_for_ever_but_a_file_is_not(clips: tuple[Path, Path], tmp_path: Path) -> None:
    """A refused port, a wrong login, a page that is not there, a missing device: retried. A missing file: failed."""
    with rtsp_server(f"a={clips[0]}", login="viewer:secret99") as shut, http_server(_not_found) as web:
        sources = {
            "refused": "rtsp://127.0.0.1:9/x",
            "login": f"rtsp://viewer:hunter22@127.0.0.1:{shut}/a",
            "page": f"http://127.0.0.1:{web}/x.m3u8",
            "device": "/dev/video63",
            "missing": str(tmp_path / "nowhere.mp4"),
            "pattern": str(tmp_path / "nowhere-*.mp4"),
            "file": str(clips[0]),
        }
        async with running(sources) as fleet:
            live = ("refused", "login", "page", "device")
            await fleet.until(lambda: all(fleet.entered(name, "backing_off") >= 2 for name in live))
            await fleet.until_others_go_on("file")
            fleet.assert_undisturbed("file")
            assert "Connection refused" in fleet.problem("refused")
            assert "401" in fleet.problem("login")
            assert "404" in fleet.problem("page")
            assert "No such file" in fleet.problem("device")
            assert fleet.problem("missing") == f"{tmp_path}/nowhere.mp4: no such file"
            assert fleet.problem("pattern") == f"{tmp_path}/nowhere-*.mp4: no file has such a name"
            for name in ("missing", "pattern"):
                assert fleet.lanes[name].report().states == {"connecting": 1, "failed": 1}


def _not_found(path: str) -> bytes:
    raise FileNotFoundError(path)


async def test_a_camera_that_hangs_does_not_hold_the_end_up(clips: tuple[Path, Path]) -> None:
    """Five minutes of open timeout, and the run ends all the same: the thread is left behind, and that is said."""
    with tcp_server(hangs) as port:
        live = LiveOptions(open_timeout_s=300, read_timeout_s=300)
        async with running({"hung": f"rtsp://127.0.0.1:{port}/x", "file": str(clips[0])}, live) as fleet:
            await fleet.until_others_go_on("file")
        assert fleet.entered("hung", "backing_off") == 0, "it was still hanging in its first attempt"


def test_a_decoder_that_lags_skips_instead_of_growing_old(clips: tuple[Path, Path]) -> None:
    """Five frames a second where 25 come: their age shows it, and packets are skipped up to a key frame and counted."""
    with rtsp_server(f"a={clips[0]}") as port:
        decoding = Decoding()
        source = live_source(f"rtsp://127.0.0.1:{port}/a", LiveOptions(), decoding)
        stop = threading.Event()
        oldest_ms = 0.0
        for frame in source.frames(live_timing(stop.wait)):
            oldest_ms = max(oldest_ms, frame.age_ms(time.monotonic_ns()))
            if decoding.tally.skipped[Skip.LATE]:
                stop.set()
            time.sleep(0.2)  # this is the slow decoder
    assert oldest_ms > 500, "the lag must show"
    assert decoding.tally.skipped[Skip.LATE] > 10, "up to the next key frame, not one by one"


def live_source(url: str, options: LiveOptions = QUICK, decoding: Decoding | None = None) -> LiveSource:
    """A source without a fleet around it."""
    return LiveSource("cam", Address.parse(url, {}), options, decoding)


def test_pictures_that_cannot_be_decoded_are_given_up() -> None:
    """A hundred damaged pictures in a row are no camera."""
    damaged = b"\xff\xd8\xff\xe0" + bytes(300) + b"\xff\xd9"
    with tcp_server(mjpeg([damaged])) as port, pytest.raises(SourceError, match="cannot be decoded"):
        list(live_source(f"http://127.0.0.1:{port}/x").frames(live_timing(threading.Event().wait)))


class Clock:
    """Virtual time: sleeping moves it on."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000
        self.slept_s = 0.0

    def timing(self) -> Timing:
        return Timing(lambda: self.now_ns, self.sleep)

    def sleep(self, seconds: float) -> bool:
        self.now_ns += round(seconds * 1e9)
        self.slept_s += seconds
        return False


def test_packets_without_a_picture_are_given_up(tmp_path: Path) -> None:
    """A stream whose key frame never comes has packets and never a picture: after 20 s it is connected anew."""
    whole = write_clip(tmp_path / "whole.mkv", moving_square(600), options={"g": "1000", "preset": "ultrafast"})
    headless = tmp_path / "headless.mkv"
    with av.open(str(whole)) as source, av.open(str(headless), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None and not packet.is_keyframe:
                packet.stream = stream
                target.mux(packet)
    with http_server(lambda _: headless.read_bytes()) as port, pytest.raises(SourceError, match="no picture for 20 s"):
        list(live_source(f"http://127.0.0.1:{port}/x").frames(Clock().timing()))


def test_what_http_delivers_at_once_is_held_to_its_own_pace(clips: tuple[Path, Path]) -> None:
    """Three seconds of video that arrive in one go last three seconds: a camera that rushes would harm the others."""
    clock = Clock()
    with http_server(lambda _: clips[0].read_bytes()) as port:
        frames = list(live_source(f"http://127.0.0.1:{port}/x").frames(clock.timing()))
    assert len(frames) == 75
    assert clock.slept_s == pytest.approx(74 / 25, abs=0.1)
