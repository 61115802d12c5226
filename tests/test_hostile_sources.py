"""Cameras that flood, lie about time or send damage: bounded, counted, and the others never notice."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest
from conftest import moving_square, write_clip
from hypothesis import given
from hypothesis import strategies as st
from live_fleet import running, two_clips
from live_servers import flipped, floods, http_server, jpegs, tcp_server, udp_camera

from clients.sources.address import Address
from clients.sources.decoder import Decoding
from clients.sources.file import Timing
from clients.sources.live import LiveSource
from clients.sources.throttle import Throttle
from clients.types import LiveOptions
from loadtest import __main__ as loadtest

pytestmark = pytest.mark.anyio
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of H.264."""
    return two_clips(tmp_path_factory.mktemp("clips"))[0]


async def test_a_camera_that_floods_is_held_back(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    """MJPEG as fast as it is taken: no more pictures than allowed, told once; the other cameras go on as ever."""
    caplog.set_level(logging.WARNING)
    with tcp_server(floods(jpegs())) as port:
        sources = {"flood": f"http://127.0.0.1:{port}/x", "file": str(clip), "other": str(clip)}
        started_s = time.monotonic()
        async with running(sources, LiveOptions(most_fps=40)) as fleet:
            await fleet.until(lambda: fleet.lanes["flood"].report().packets_held_back > 40)
            await fleet.until_others_go_on("file", "other", results=50)
            fleet.assert_undisturbed(*sources)
            packets = fleet.lanes["flood"].report().packets
            assert packets <= 40 * (time.monotonic() - started_s + 1) + 1
            assert packets > 80
            assert fleet.lanes["file"].report().packets_held_back == 0
    assert caplog.text.count("camera flood: sends more than 40 pictures a second") == 1


class Counted:
    """A clock that moves only when it is slept on."""

    def __init__(self) -> None:
        self.now_ns = SECOND

    def timing(self) -> Timing:
        return Timing(lambda: self.now_ns, self.sleep)

    def sleep(self, seconds: float) -> bool:
        self.now_ns += round(seconds * SECOND)
        return False


def test_a_camera_that_lies_about_its_time_is_held_back_too(tmp_path: Path) -> None:
    """A thousand pictures a second by its own clock: they take what 120 a second take."""
    path = write_clip(tmp_path / "fast.ts", moving_square(600), fps=1000)
    clock, decoding = Counted(), Decoding()
    with http_server(lambda _: path.read_bytes()) as port:
        source = LiveSource("cam", Address.parse(f"http://127.0.0.1:{port}/x", {}), LiveOptions(), decoding)
        assert len(list(source.frames(clock.timing()))) == 600 == decoding.tally.packets
    assert (clock.now_ns - SECOND) / SECOND == pytest.approx((600 - 120) / 120, abs=0.2)
    assert decoding.tally.held_back > 300


@given(st.lists(st.tuples(st.floats(0, 0.5), st.sampled_from([1.0, 0.2])), max_size=300), st.floats(1, 200))
def test_a_bucket_of_one_second(steps: list[tuple[float, float]], most_fps: float) -> None:
    """Whatever comes when, who waits as told takes at most a second's worth at once and the rate after that."""
    throttle, now_ns, taken = Throttle(most_fps), 0, 0.0
    for pause_s, cost in steps:
        now_ns += round(pause_s * SECOND)
        now_ns += round(throttle.wait_s(now_ns, cost) * SECOND)
        taken += cost
        assert taken <= most_fps * (1 + now_ns / SECOND) + 0.01


def test_a_usual_camera_never_waits() -> None:
    """Sixty pictures and fifty packets of sound a second, or a burst of a second's pictures at the start."""
    throttle = Throttle(120)
    events = sorted([(n / 60, 1.0) for n in range(600)] + [(n / 50, 0.2) for n in range(500)])
    assert all(throttle.wait_s(round(at_s * SECOND), cost) == 0 for at_s, cost in events)
    burst = Throttle(120)
    for now_ns in (0, 100 * SECOND):  # and no more after a long pause
        assert all(burst.wait_s(now_ns) == 0 for _ in range(120))
        assert burst.wait_s(now_ns) > 0


async def test_a_jump_of_a_live_cameras_clock_is_followed(clip: Path) -> None:
    """An hour forward, then three back: the camera stays live and its own time runs on as if nothing had been."""
    jump, back = threading.Event(), threading.Event()
    with udp_camera(phases=[("libx264", at_s) for at_s in (7200, 10_800, 60)], changes=(jump, back)) as port:
        async with running({"cam": f"udp://127.0.0.1:{port}", "file": str(clip)}, LiveOptions()) as fleet:
            for event in (None, jump, back):
                if event is not None:
                    event.set()
                await fleet.until_others_go_on("cam", "file")
            fleet.assert_undisturbed("cam", "file")
            times = [result.media_time_s for result in fleet.results["cam"]]
            assert times[-1] - times[0] < 300, "no hour has passed"


def damaged(whole: bytes, seed: int, share: float = 1e-3) -> bytes:
    """Every thousandth byte is another, the first kilobyte left as it is."""
    chance, data = random.Random(seed), bytearray(whole)
    for _ in range(int(len(data) * share)):
        data[chance.randrange(1000, len(data))] = chance.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("container", ["ts", "mp4", "mkv", "h264"])
async def test_flipped_bytes_and_cut_files_harm_nobody(tmp_path: Path, clip: Path, container: str) -> None:
    """Files with random damage and files cut in the middle, all at once, each in its own camera: they show what they
    can or fail with one reason, every packet and frame is accounted for, and a sound file goes on as ever."""
    options = {"preset": "ultrafast", "g": "12", "bf": "2"}
    if container == "mp4":
        options |= {"movflags": "faststart"}
    whole = write_clip(tmp_path / f"whole.{container}", moving_square(50), options=options).read_bytes()
    sources = {"file": str(clip)}
    for number in range(6):
        path = tmp_path / f"bad{number}.{container}"
        path.write_bytes(damaged(whole, number) if number < 4 else whole[: len(whole) * (number - 3) // 3])
        sources[f"bad{number}"] = str(path)
    async with running(sources) as fleet:
        await fleet.until_others_go_on("file", results=75)
        fleet.assert_undisturbed("file")
        seen = sum(bool(fleet.results[name]) for name in sources if name != "file")
        assert seen >= (1 if container == "mp4" else 4)
        for name, lane in fleet.lanes.items():
            report = lane.report()
            assert report.state in ("live", "failed", "connecting"), name
            assert (report.last_problem is None) is (report.state != "failed"), name


async def test_a_stream_of_random_damage_goes_on(clip: Path) -> None:
    """H.264 whose bytes are flipped on their way, for ever: never lost, and a sound camera beside it undisturbed."""
    with udp_camera(damage_every=7, spoil=flipped) as port:
        async with running({"cam": f"udp://127.0.0.1:{port}", "file": str(clip)}, LiveOptions()) as fleet:
            await fleet.until_others_go_on("cam", "file", results=50)
            fleet.assert_undisturbed("file")


def test_the_claimed_rate_of_a_stream_is_not_believed(tmp_path: Path) -> None:
    """A stream that claims 1000 pictures a second is planned as a usual camera."""
    path = write_clip(tmp_path / "fast.ts", moving_square(30), fps=1000)
    with av.open(str(path)) as container:
        rate = container.streams.video[0].guessed_rate
        assert rate is not None
        assert rate > Fraction(240)
        decoding = Decoding()
        decoding.decoder(container.streams.video[0])
        assert decoding.facts is not None
        assert decoding.facts.load.pixels_per_s == 320 * 192 * 25


def test_what_a_bad_camera_costs_is_measured(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m loadtest neighbours`: two good cameras alone, beside a flood, and beside one that flaps."""
    run = ["neighbours", str(clip), "--cameras", "2", "--seconds", "1", "--rounds", "1"]
    kinds = ("none", "floods", "flaps")
    assert loadtest.main([*run, *(word for kind in kinds for word in ("--beside", kind))]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["beside"]
    assert list(rows) == list(kinds)
    for row in rows.values():
        assert row["inferences_per_s"][0] > 0
        assert row["p99_age_ms"][0] > 0
    assert [bool(rows[kind]["bad_pictures_per_s"][0]) for kind in kinds] == [False, True, True]
    assert loadtest.main([*run, "--beside", "sings"]) == 1
    assert "expected one of none, hangs, " in capsys.readouterr().err
    assert loadtest.main(["neighbours", "nowhere.mp4"]) == 1
    assert "nowhere.mp4: no such file" in capsys.readouterr().err
