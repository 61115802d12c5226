"""The emulated card: it takes a profile's time, serves one batch at a time, and answers with the asker's own number."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from clients.errors import ConfigError, FleetError
from clients.types import Canvas, Tier
from deploy.server import TritonServer
from loadtest import __main__ as loadtest
from loadtest.coded_clips import coded_clips
from loadtest.emulator.camera_code import MOST, code_squares, read_code
from loadtest.emulator.card_clock import Card, CardState, write_card
from loadtest.emulator.exporter import CardCollector, Utilisation, decoder_share, served_card
from loadtest.emulator.repository import Emulation, assemble_emulated, models_of
from loadtest.fifty import PROFILES, cross_talk, fair_share_min, slope_per_min
from loadtest.profile import GpuProfile, read_profile

SLOW = 100.0  # a card so slow that no machine's noise is as long as its work


@pytest.fixture(scope="module")
def profile() -> GpuProfile:
    """The T4 that is committed."""
    return read_profile(PROFILES / "t4.json")


@pytest.fixture(scope="module")
def client(profile: GpuProfile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton.InferenceServerClient]:
    """A real Triton on an emulated T4, a hundred times slower."""
    folder = tmp_path_factory.mktemp("emulated")
    assemble_emulated(folder / "card", profile, tuple(Tier), Emulation(time_scale=SLOW))
    with TritonServer(models_of(folder / "card"), log=folder / "triton.log") as server:
        channel = triton.InferenceServerClient(server.grpc_url)
        yield channel
        channel.close()


def canvas(number: int | None) -> np.ndarray:
    """An NV12 canvas of a 640x360 camera, with its number or without."""
    frame = np.full(Canvas().nv12_shape, 128, np.uint8)
    if number is not None:
        squares = code_squares(number)
        frame[12 : 12 + squares.shape[0], : squares.shape[1]] = squares
    return frame


def ask(client: triton.InferenceServerClient, tier: Tier, numbers: list[int | None]) -> tuple[float, np.ndarray]:
    """One request with a frame per number: how long it took in ms, and the detections."""
    count = len(numbers)
    arrays: dict[str, Any] = {
        "frames": np.stack([canvas(number) for number in numbers]),
        "geometry": np.tile(np.float32([2, 2, 0, 12]), (count, 1)),
        "thresholds": np.tile(np.float32([0.25, 0.7]), (count, 1)),
    }
    inputs = []
    for name, array in arrays.items():
        tensor = triton.InferInput(name, list(array.shape), "UINT8" if array.dtype == np.uint8 else "FP32")
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    started = time.monotonic()
    answer = client.infer(tier.value, inputs)
    assert (answer.as_numpy("count") == 1).all()
    return (time.monotonic() - started) * 1000, answer.as_numpy("detections")[:, 0]


def test_an_answer_carries_the_number_in_the_pixels(client: triton.InferenceServerClient) -> None:
    """One detection per frame, in source pixels: its class is the number, or 255 where none can be read."""
    _, rows = ask(client, Tier.N, [0, 7, 254, None])
    assert rows[:, 5].tolist() == [0, 7, 254, 255]
    np.testing.assert_allclose(rows[:, :4], np.tile([50, 44, 70, 74], (4, 1)))


@pytest.mark.parametrize(("tier", "batch"), [(Tier.N, 1), (Tier.N, 12), (Tier.M, 4), (Tier.X, 2)])
def test_a_batch_takes_the_profiles_time(
    client: triton.InferenceServerClient, profile: GpuProfile, tier: Tier, batch: int
) -> None:
    """Never less than the profile says, times the scale; between two sizes of the table it lies between their times."""
    sizes, times = zip(*((size, one.p50_ms) for size, one in profile.models[tier.value].latency.items()), strict=True)
    expected_ms = SLOW * float(np.interp(batch, sizes, times))
    assert ask(client, tier, [1] * batch)[0] >= expected_ms


def test_tiers_share_one_card(client: triton.InferenceServerClient, profile: GpuProfile) -> None:
    """A batch of m and one of x at the same time take the time of both."""
    both_ms = SLOW * sum(profile.models[tier.value].latency[1].p50_ms for tier in (Tier.M, Tier.X))
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda tier: ask(client, tier, [3]), (Tier.M, Tier.X)))
    assert (time.monotonic() - started) * 1000 >= both_ms


@given(st.integers(0, MOST), st.integers(0, 60))
def test_a_number_survives_noise(number: int, noise: int) -> None:
    """What is written is read, through noise of up to 60 grey levels."""
    frame = canvas(number).astype(np.int16)
    frame += np.random.default_rng(number).integers(-noise, noise + 1, frame.shape, dtype=np.int16)
    assert read_code(np.clip(frame, 0, 255).astype(np.uint8)) == number


@given(st.integers(0, MOST), st.integers(0, 15))
def test_a_torn_picture_is_not_read_as_another_camera(number: int, square: int) -> None:
    """With one of its squares from somewhere else it is no number at all."""
    frame = canvas(number)
    area = frame[12:28, square * 16 : square * 16 + 16]
    area[:] = 30 if area[0, 0] > 128 else 220
    assert read_code(frame) is None


def test_a_clip_carries_its_number_through_h264(tmp_path: Path) -> None:
    """Every frame of every clip, at 640x360 and 25 fps; a second call renders nothing."""
    told: list[tuple[int, int]] = []
    paths = coded_clips(2, 1, tmp_path, lambda done, of: told.append((done, of)))
    for number, path in enumerate(paths):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height, stream.average_rate) == (640, 360, 25)
            for frame in container.decode(stream):
                assert read_code(frame.to_ndarray(format="nv12"), top_px=0) == number
    before = [path.stat().st_mtime_ns for path in paths]
    assert coded_clips(2, 1, tmp_path, lambda done, of: told.append((done, of))) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before
    assert told == [(0, 2), (1, 2), (2, 2), (2, 2)]


def test_impossible_wishes_are_one_line(profile: GpuProfile, tmp_path: Path) -> None:
    """A scale of none, a tier without a profile, too many cameras, a folder that is a file."""
    with pytest.raises(ConfigError, match="time scale must be positive, got 0"):
        assemble_emulated(tmp_path / "a", profile, [Tier.N], Emulation(time_scale=0))
    alone = replace(profile, models={"yolo12n": profile.models["yolo12n"]}, variants={})
    with pytest.raises(ConfigError, match="the profile of Tesla T4 has no yolo12x; it has yolo12n"):
        assemble_emulated(tmp_path / "b", alone, [Tier.N, Tier.X])
    with pytest.raises(ValueError, match="cameras must be 1 to 255, got 256"):
        coded_clips(256, 1, tmp_path, lambda _done, _of: None)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FleetError, match="file: cannot be written"):
        coded_clips(1, 1, tmp_path / "file", lambda _done, _of: None)


# --- fifty cameras ---------------------------------------------------------------------------------------------


def test_a_few_cameras_run_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decoded, sent, answered, judged: every frame seen is accounted for and every answer is the camera's own."""
    slow = ["--time-scale", "8"]  # its queues wait as much longer: a busy machine must not make it refuse frames
    code = loadtest.main(["fifty", "--cameras", "3", "--seconds", "4", "--demand", "5", "--out", str(tmp_path), *slow])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0
    assert (report["cameras"], report["cross_talk"], report["errors"]) == (3, 0, 0)
    assert report["frames_decoded"] == report["inferences"] + sum(report["frames_skipped"].values()) > 100
    assert report["inferences"] >= 3 * 5
    assert report["kind"] == "emulated"
    assert report["client_cpu_ms_per_gated_frame"] > 0
    parts = report["client_cpu_ms_by_part"]
    assert {"loop", "decode", "scale"} <= parts.keys()
    assert min(parts.values()) >= 0


def test_an_answer_of_another_camera_is_cross_talk(tmp_path: Path) -> None:
    """Another number, no number, or two: each is counted."""
    lines = [("cam007", ["camera 7"]), ("cam007", ["camera 8"]), ("cam007", []), ("cam007", ["camera 7"] * 2)]
    path = tmp_path / "detections.jsonl"
    records = [{"camera": camera, "objects": [{"class": name} for name in classes]} for camera, classes in lines]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert cross_talk(path) == 3


def test_the_worst_served_camera_is_judged_by_its_share() -> None:
    """Equal cameras that want 8: with 6 for all on average the fair share is 6, with plenty it is 8."""
    assert fair_share_min([6, 6, 6], 8) == 1.0
    assert fair_share_min([8, 8, 4], 8) == 0.6
    assert fair_share_min([10, 10, 4], 8) == 0.5
    assert fair_share_min([0, 0], 8) == 0.0


def test_memory_that_grows_shows_as_a_slope() -> None:
    """Two MB per minute in the second half, whatever the first half did."""
    samples = [(float(second), 100 + max(0, second - 30) * 2 / 60) for second in range(61)]
    assert slope_per_min(samples) == pytest.approx(2, abs=0.01)
    assert slope_per_min(samples[:6]) is None


def test_an_unknown_card_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file that was looked for is named, before anything is rendered."""
    assert loadtest.main(["fifty", "--gpu", "t5", "--out", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "t5.json: cannot be read: No such file or directory" in line


# --- the card's clock, and who reads it --------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**8)), max_size=30), st.floats(0.3, 1), st.floats(1, 5)
)
def test_the_card_works_on_one_batch_at_a_time(works: list[tuple[int, int]], floor: float, slowness: float) -> None:
    """Batches never overlap, none is quicker than at the highest clock, and busy time is what they took."""
    state, now_ns, busy_ns = CardState(slowness=slowness, floor=floor, heat_s=0.5), 0, 0
    for gap_ns, nominal_ns in works:
        now_ns += gap_ns
        before = state
        state = state.worked(nominal_ns, 4, now_ns)
        took_ns = state.free_ns - max(before.free_ns, now_ns)
        assert nominal_ns * slowness - 1 <= took_ns <= nominal_ns * slowness / floor + 1
        busy_ns += took_ns
        assert floor <= state.clock_share(now_ns) <= 1
    assert (state.busy_ns, state.batches, state.inferences) == (busy_ns, len(works), 4 * len(works))
    assert state.done_ns(state.free_ns) == busy_ns


def test_the_clock_sags_under_work_and_recovers() -> None:
    """After five time constants of work it is at its floor but for a hundredth, after five of rest back at the top."""
    state = CardState(floor=900 / 1590, heat_s=1.0)
    while state.free_ns < 5_000_000_000:
        state = state.worked(10_000_000, 1, 0)
    assert state.clock_share(0) == pytest.approx(900 / 1590, abs=0.01)
    assert state.worked(10_000_000, 1, 0).free_ns - state.free_ns == pytest.approx(10_000_000 * 1590 / 900, rel=0.02)
    assert state.clock_share(state.free_ns + 5_000_000_000) == pytest.approx(1, abs=0.01)
    cold = CardState(heat_s=1.0)
    assert cold.worked(10_000_000, 1, 0).clock_share(0) == 1


def test_a_card_that_is_slowed_down_is_slow_for_all(tmp_path: Path) -> None:
    """One process tells the file, another reads it; a factor that is none is refused."""
    write_card(tmp_path / "card", CardState())
    one, other = Card(tmp_path / "card"), Card(tmp_path / "card")
    one.slow_down(3)
    assert other.read().slowness == 3
    other.reserve(10_000_000, 2)
    assert (one.read().busy_ns, one.read().inferences) == (30_000_000, 2)
    for bad in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="how many times slower must be a positive number"):
            one.slow_down(bad)
    one.close()
    other.close()


def test_utilisation_is_the_share_of_the_time_between_two_looks() -> None:
    """Work that is reserved and not done yet does not count; more than all is all."""
    idle = CardState()
    use = Utilisation(idle, 0)
    queued = idle.worked(3_000_000_000, 1, 500_000_000)
    use.look(queued, 1_000_000_000)
    assert use.share == 0.5
    use.look(queued, 2_000_000_000)
    assert use.share == 1.0
    use.look(queued, 6_000_000_000)
    assert use.share == pytest.approx(1.5 / 4)


def test_the_exporter_speaks_tritons_and_dcgms_names(profile: GpuProfile, tmp_path: Path) -> None:
    """Every name with its unit: a hot card with two tiers and decoders at work; a port that is taken is one line."""
    hot = CardState(free_ns=time.monotonic_ns() + 10**12, heat=1.0, floor=900 / 1590)
    write_card(tmp_path / "card", hot)
    card = Card(tmp_path / "card")
    collector = CardCollector(card, profile, [Tier.N, Tier.M], decoded_mpixels_per_s=1035)
    with served_card(collector, "127.0.0.1", 0) as url:
        text = urllib.request.urlopen(url, timeout=10).read().decode()
        with pytest.raises(ConfigError, match="cannot be used"), served_card(collector, "127.0.0.1", int(url[17:-8])):
            pass
    card.close()
    samples = {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}
    assert profile.hardware is not None
    sessions_mb = 1035 / (1920 * 1080 / 1e6 * 25) * profile.hardware.session_mb
    used = 1e6 * (137.5 + 163.1 + profile.hardware.context_mb + sessions_mb)
    expected = {
        "nv_gpu_utilization": 0,
        "nv_gpu_memory_total_bytes": 15.1e9,
        "nv_gpu_memory_used_bytes": used,
        "DCGM_FI_DEV_GPU_UTIL": 0,
        "DCGM_FI_DEV_SM_CLOCK": 900,
        "DCGM_FI_DEV_FB_USED": round(used / 2**20),
        "DCGM_FI_DEV_FB_FREE": round((15.1e9 - used) / 2**20),
        "DCGM_FI_DEV_DEC_UTIL": 50,
    }
    assert {name: sample.value for name, sample in samples.items()} == pytest.approx(expected)
    assert samples["nv_gpu_utilization"].labels == {"gpu_uuid": "GPU-emulated-0"}
    assert samples["DCGM_FI_DEV_DEC_UTIL"].labels["modelName"] == "Tesla T4"


def test_what_cannot_be_emulated_is_one_line(capsys: pytest.CaptureFixture[str], profile: GpuProfile) -> None:
    """An unknown card or variant, a scale of none, a clock that cannot sag, decoders that are not there."""
    for options, told in (
        (["--gpu", "t5"], "there is no data sheet of 't5'"),
        (["--variant", "rosy"], "has no variant 'rosy'; it has central"),
        (["--time-scale", "0"], "the time scale must be positive, got 0"),
        (["--slower", "-3"], "how many times slower the card is must be positive, got -3"),
    ):
        assert loadtest.main(["emulator", *options]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    bare = replace(profile, sm_clock_max_mhz=None, hardware=None)
    with pytest.raises(ConfigError, match="has no sm_clock_max_mhz, from which the clock could sag"):
        Emulation(sag=True).card(bare)
    with pytest.raises(ConfigError, match=r"has no decoder of H\.264"):
        decoder_share(bare, 1.0)
    assert Emulation(3, 2, sag=True).card(profile) == CardState(slowness=2, floor=900 / 1590, heat_s=180)
