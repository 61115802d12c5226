"""The planner: by hand, against the simulator's card and the emulated one, and what it says to nonsense."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import cv2
import pytest
from conftest import ROOT, moving_square, write_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_city import city

from clients.capacity.batching import DELAY_MS, batches, latency_ms
from clients.capacity.demand import Cameras, Demand, Host, parse_amount, parse_source, parse_tiers
from clients.capacity.limits import limits, place
from clients.capacity.of_settings import demand_of
from clients.capacity.plan import Plan, plan
from clients.config import parse_settings
from clients.data_sheet import GpuProfile, Hardware, sheet
from clients.errors import ConfigError
from clients.fleet import run_fleet
from clients.sources.placement import NvdecPlan
from clients.types import Tier
from deploy.server import TritonServer
from export.spec import RUNTIMES
from loadtest.emulator.card_clock import Card
from loadtest.emulator.repository import Emulation, assemble_emulated, card_of, models_of
from loadtest.simulation.card import VirtualCard, timings
from loadtest.simulation.clock import VirtualClock
from loadtest.simulation.run import Scenario, Simulation
from loadtest.simulation.verdict import Judge

T4 = sheet("t4")
FULL_HD = parse_source("1920x1080@25/h264", parse_amount("4M"))
MIX = parse_tiers("n:0.8,m:0.15,x:0.05")


def fifty(**told: Any) -> Demand:
    """The issue's own example."""
    return Demand((Cameras(**{"count": 50, "source": FULL_HD, "rate_fps": 5.0, "tiers": MIX} | told),))


def shares(found: Plan) -> dict[str, float]:
    return {limit.name: limit.share for limit in found.limits}


def test_fifty_full_hd_cameras_by_hand() -> None:
    """The issue's example on a T4, each limit by a pocket calculator."""
    found = plan(fifty(), T4, Host(cores=4, network_mbit_per_s=1000), price_per_hour=0.35)
    by_hand = {
        # pixels: 50 x 1920 x 1080 x 25 = 2 592 M/s of 2 070 M/s; bits: 200 Mbit/s of 480 are less
        "nvdec": 2592 / 2070,
        # 1 000 MB of contexts, engines 137.5 + 163.1 + 230.4, 50 sessions of 170 MB, of 15 100 MB
        "vram": (1000 + 531 + 8500) / 15100,
        # from the card: 1 250 pictures/s of 640x360 NV12 = 345 600 bytes, of 11 800 MB/s
        "pcie": 1250 * 0.3456 / 11800,
        # 200 n, 37.5 m, 12.5 x a second, batch 1.4 (1 + 200/s x 2 ms), 1.075, 1.025:
        # n (0.984 + 0.4 x 0.5) / 1.4 = 0.846 ms, m (2.916 + 0.075 x 2.6) / 1.075 = 2.894,
        # x (7.074 + 0.025 x 6.9) / 1.025 = 7.07
        "gpu": (200 * 0.846 + 37.5 * 2.894 + 12.5 * 7.07) / 1000,
        # 1 250 pictures/s x (0.08 + 0.15) ms and 250 inferences/s x 1.44 ms, of 4 000 ms/s
        "cpu": (1250 * 0.23 + 250 * 1.44) / 4000,
        "network": 200 / 1000,
    }
    assert shares(found) == {name: pytest.approx(share, rel=0.02) for name, share in by_hand.items()}
    assert not found.fits
    assert found.breaks_first == "nvdec"
    assert found.cost is not None
    assert (found.cost.per_hour, found.cost.per_month) == pytest.approx((0.35 / 50, 0.35 * 730 / 50))


def test_a_second_case_by_hand() -> None:
    """Thirty 720p cameras of H.265, decoded where there is room, x only, on two L4s."""
    camera = parse_source("1280x720@30/hevc", 2e6)
    demand = Demand((Cameras(30, camera, 4.0, {Tier.X: 1.0}, "auto"),))
    found = plan(demand, sheet("l4"), Host(cores=8, network_mbit_per_s=500), cards=2)
    by_hand = {
        "nvdec": 30 * 1280 * 720 * 30 / 1e6 / 8300 / 2,
        "vram": (1000 + 230.4 + 15 * 170 * 921600 / 2073600) / 22650,
        "pcie": 900 * 0.3456 / (23600 * 2),
        # 60 x a second on each card, batch 1.12: (5.514 + 0.12 x 5.378) / 1.12 = 5.50 ms
        "gpu": 60 * 5.50 / 1000,
        "cpu": (900 * 0.23 + 120 * 1.44) / 8000,
        "network": 60 / 500,
    }
    assert shares(found) == {name: pytest.approx(share, rel=0.03) for name, share in by_hand.items()}
    assert found.fits
    assert found.alternatives == ()
    assert found.cost is None


def test_bits_count_where_pixels_do_not_fill_the_decoder() -> None:
    """20 Mbit/s of 1080p25: 20/480 of the bits are more than 51.84/2070 of the pixels."""
    loud = fifty(count=10, source=parse_source("1920x1080@25/h264", 20e6))
    assert shares(plan(loud, T4, Host()))["nvdec"] == pytest.approx(10 * 20 / 480)
    quiet = fifty(count=10)
    assert shares(plan(quiet, T4, Host()))["nvdec"] == pytest.approx(10 * 51.84 / 2070)


def test_the_cpu_decodes_what_it_is_given() -> None:
    """1080p at 4 Mbit/s: 0.225 + 2.0736 x 0.76 + 27e-6 x (160 000 - 64 282) bits = 4.39 ms a picture, 25 a second."""
    found = plan(fifty(count=4, decode="cpu", rate_fps=1.0, tiers={Tier.N: 1.0}), T4, Host(cores=4))
    assert shares(found)["nvdec"] == 0
    scaled = 4 * (0.1 + 0.87 * 2.0736)
    assert shares(found)["cpu"] == pytest.approx((100 * 4.39 + 100 * 0.08 + scaled + 4 * 1.44) / 4000, rel=0.01)


@pytest.mark.parametrize(
    ("mix", "count"),
    [
        ({Tier.N: 100.0}, 50),
        ({Tier.N: 400.0}, 50),
        ({Tier.N: 1000.0}, 50),
        ({Tier.N: 1500.0}, 100),
        ({Tier.N: 1850.0}, 100),
        ({Tier.M: 200.0}, 50),
        ({Tier.N: 200.0, Tier.M: 37.5, Tier.X: 12.5}, 50),
        ({Tier.N: 400.0, Tier.M: 75.0, Tier.X: 25.0}, 50),
    ],
    ids=str,
)
def test_a_planned_card_is_as_busy_as_a_simulated_one(mix: dict[Tier, float], count: int) -> None:
    """Cameras spread over time, each asking when it is due, on the simulator's card and batchers: within 10 %."""
    busy, mean = simulated_card(mix, count)
    found = batches(mix, {tier: T4.models[tier.value] for tier in mix}, DELAY_MS["card"])
    assert found.share == pytest.approx(busy, rel=0.10)
    assert sum(mix.values()) / sum(rate / found.mean_batch[tier] for tier, rate in mix.items()) == pytest.approx(
        mean, rel=0.25
    )


def simulated_card(mix: dict[Tier, float], count: int, run_s: int = 40) -> tuple[float, float]:
    """Busy share and mean batch of cameras that ask again and again; each starts at another moment."""
    clock, random = VirtualClock(), Random(1)
    card = VirtualCard(clock, {tier: timings(T4)[tier] for tier in mix})

    def camera(tier: Tier, period_ns: int) -> None:
        waits = [False]

        def answered() -> None:
            waits[0] = False

        def due() -> None:
            clock.at(clock.now_ns + period_ns, due)
            if not waits[0]:
                waits[0] = True
                card.send(tier, answered)

        clock.at(round(period_ns * random.random()), due)

    for tier, rate in mix.items():
        for _ in range(count):
            camera(tier, round(count / rate * 1e9))
    clock.run(run_s * 1_000_000_000)
    return card.busy_ms / 1000 / run_s, card.inferences / card.batches


def test_a_plan_is_what_the_simulator_shows() -> None:
    """The fleet's own gate, scheduler and tracker in virtual time, 24 cameras at 5 a second: within 10 %."""
    scenario = Scenario(24, 12, 5.0, similarity=None, by_need=False, judge_every=10**9)
    run = Simulation(scenario, city(), {Tier.N: timings(T4)[Tier.N]}, Judge(scenario.judge_every))
    run.run()
    found = plan(fifty(count=24, tiers={Tier.N: 1.0}), T4, Host())
    assert sum(run.answered.values()) / 12 == pytest.approx(24 * 5, rel=0.10)
    assert shares(found)["gpu"] == pytest.approx(run.pool.busy_ms / 12000, rel=0.10)


def test_a_plan_is_what_the_emulated_card_shows(tmp_path: Path) -> None:
    """Real client, real Triton, an engine that waits eight times as long.

    A card that is eight times slower at a rate is as busy as the card at eight times the rate. The cameras' frame rates
    differ, so that their frames do not come in step. With the batches that there were the busy share is exact; planned
    ones are within 10 % on a quiet machine, and on a busy one, where frames come in clumps, never too few.
    """
    scale = 8.0
    clips = [write_clip(tmp_path / f"{fps}.mp4", moving_square(2 * fps), fps=fps) for fps in range(20, 30)]
    assemble_emulated(tmp_path / "card", T4, [Tier.N], Emulation(time_scale=scale))
    with TritonServer(models_of(tmp_path / "card"), log=tmp_path / "triton.log") as server:
        told = parse_settings(
            {
                "model": {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"},
                "optimization": {"enable_memory_optimization": False, "governor": "off", "audit_share": 0.0},
                "triton": {"url": server.grpc_url, "window": 48},
                "sinks": {"jsonl": None},
                "cameras": [
                    {"id": f"cam{clip.stem}", "source": str(clip), "loop": True, "max_fps": 6} for clip in clips
                ],
            },
            origin="test",
        )
        before, started_s = worked_s(tmp_path / "card"), time.monotonic()
        summary = asyncio.run(run_fleet(told, 6)).as_json()
        busy = (worked_s(tmp_path / "card") - before) / (time.monotonic() - started_s)
        per_s = summary["inferences"] / (time.monotonic() - started_s)
    planned = batches({Tier.N: per_s * scale}, {Tier.N: T4.models["yolo12n"]}, DELAY_MS["card"])
    assert summary["errors"] == 0
    assert per_s > 20
    batch = summary["mean_batch"]
    assert per_s * scale / 1000 * latency_ms(T4.models["yolo12n"], batch) / batch == pytest.approx(busy, rel=0.10)
    assert 0.9 * busy < planned.share < 1.3 * busy


def worked_s(card: Path) -> float:
    """Seconds that an emulated card has worked until now."""
    clock = Card(card_of(card))
    worked_ns = clock.read().done_ns(time.monotonic_ns())
    clock.close()
    return worked_ns / 1e9


def test_delays_are_those_of_the_configurations() -> None:
    """What Triton's batchers are told to wait, on a card and on a CPU."""
    assert {
        "card": RUNTIMES["tensorrt"].engine_delay_us / 1000,
        "cpu": RUNTIMES["openvino"].engine_delay_us / 1000,
    } == DELAY_MS


@pytest.mark.parametrize(("source", "count"), [("1920x1080@25/h264", 31), ("1280x720@25/h264", 71)])
def test_auto_puts_as_many_on_the_card_as_the_client_does(source: str, count: int) -> None:
    """31 cameras of 1080p25, 71 of 720p25 (docs/decisions/0017), one after another through the client's own rule."""
    camera = parse_source(source)
    client = NvdecPlan({"h264": 2070e6}, limit=0.8)
    on_card = sum(client.place(str(number), "auto", camera.load).device == "cuda" for number in range(100))
    assert T4.hardware is not None
    (placed,) = place(fifty(count=100, source=camera, decode="auto"), T4, T4.hardware, 1)
    assert placed.on_card == on_card == count


@settings(max_examples=15)
@given(
    st.integers(1, 200),
    st.floats(0.6, 25),
    st.sampled_from(["n", "m", "n:0.8,m:0.15,x:0.05", "x"]),
    st.sampled_from(["1920x1080@25/h264", "1280x720@15/hevc", "3840x2160@25/h264"]),
    st.sampled_from(["cuda", "auto"]),
)
def test_every_alternative_fits_and_none_is_larger_than_it_must_be(
    count: int, rate: float, tiers: str, source: str, decode: Any
) -> None:
    """All limits are kept; one card less, or five percent more inferences, would break one."""
    asked = fifty(count=count, rate_fps=rate, tiers=parse_tiers(tiers), source=parse_source(source), decode=decode)
    found = plan(asked, T4, Host())
    assert found.fits == all(limit.share <= limit.allowed for limit in found.limits)
    assert not (found.fits and found.alternatives)
    for one in found.alternatives:
        assert all(limit.load <= 1 for limit in one.limits), one.change
        if one.levers == ("cards",):
            assert any(limit.load > 1 for limit in limits(asked, T4, Host(), one.cards - 1))
        if one.levers == ("rate",):
            slower = float(one.change.split()[0])
            assert any(limit.load > 1 for limit in limits(fasten(asked, slower * 1.05 + 0.01), T4, Host(), 1))


def fasten(demand: Demand, rate: float) -> Demand:
    return replace(demand, groups=tuple(replace(group, rate_fps=rate) for group in demand.groups))


def test_the_nearest_plans_of_each_kind_are_named() -> None:
    """Fifty m at 25 a second: too much for kernels and decoders; what is proposed says what is to be changed."""
    kernels = plan(fifty(rate_fps=25.0, tiers={Tier.M: 1.0}, source=parse_source("640x360@25/h264")), T4, Host(16))
    assert {one.levers for one in kernels.alternatives} == {("cards",), ("rate",), ("tier",)}
    text = {one.levers[0]: one.change for one in kernels.alternatives}
    assert text["tier"] == "yolo12n instead of yolo12m"
    assert text["cards"] == "5 cards"  # 1 250 m a second, 268 of which keep a card busy to 0.8: by hand 4.7
    assert float(text["rate"].split()[0]) == pytest.approx(0.8 / 2.805e-3 / 50, rel=0.10)
    decoders = plan(fifty(), T4, Host())
    assert {"H.265 instead of H.264", "the cameras' sub-stream of 720 lines", "2 cards"} <= {
        one.change for one in decoders.alternatives
    }


def without(**changes: Any) -> GpuProfile:
    """The T4's sheet with something missing."""
    return replace(T4, **changes)


@pytest.mark.parametrize(
    ("card", "complaint"),
    [
        (without(hardware=None), "has no `hardware`"),
        (without(memory_mb=None), "has no memory_mb"),
        (without(models={"yolo12n": T4.models["yolo12n"]}, variants={}), "has no times of yolo12m, yolo12x"),
        (
            without(models={name: replace(one, device_mb=None) for name, one in T4.models.items()}, variants={}),
            "has no models.yolo12n.device_mb",
        ),
        (without(hardware=replace(T4.hardware, pcie_mb_per_s=None)), "has no hardware.pcie_mb_per_s"),
        (without(hardware=replace(T4.hardware, decoders={"hevc": T4.hardware.decoders["hevc"]})), "not decode h264"),
        (without(canvas="960x576"), "for a canvas of 960x576, asked for 640x384"),
    ],
)
def test_a_sheet_that_lacks_a_number_is_refused_by_its_name(card: GpuProfile, complaint: str) -> None:
    """One line that says what is missing."""
    with pytest.raises(ConfigError, match=complaint):
        plan(fifty(), card, Host())


def test_a_cpu_decodes_itself_and_its_engines_count() -> None:
    """A sheet of a processor: no decoders, no bus, no card's memory; the engines take part of the cores."""
    cpu = replace(T4, hardware=Hardware("cpu", {}, 0, 0, None), memory_mb=None)
    found = shares(plan(fifty(count=2, rate_fps=2.0), cpu, Host()))
    assert (found["nvdec"], found["vram"], found["pcie"]) == (0, 0, 0)
    alone = shares(plan(fifty(count=2, rate_fps=2.0, decode="cpu"), T4, Host()))
    assert found["cpu"] == pytest.approx(alone["cpu"] + found["gpu"])


def test_a_configuration_becomes_groups_of_equal_cameras(tmp_path: Path) -> None:
    """What has been looked at sends what it sends, the others what is usual; files do not cross the network."""
    camera = {"source": "rtsp://10.0.0.9/stream", "max_fps": 5, "model": "yolo12n"}
    told = parse_settings(
        {
            "cameras": [
                *({**camera, "id": f"gate{number}"} for number in range(3)),
                {**camera, "id": "yard", "model": "yolo12m", "decode": "cpu"},
                {"id": "file", "source": "clip.mp4", "max_fps": 5, "model": "yolo12n"},
            ]
        },
        origin="test",
    )
    groups = demand_of(told, FULL_HD, {}).groups
    assert [(one.count, dict(one.tiers), one.decode, one.is_remote) for one in groups] == [
        (3, {Tier.N: 1.0}, "auto", True),
        (1, {Tier.M: 1.0}, "cpu", True),
        (1, {Tier.N: 1.0}, "auto", False),
    ]


def test_five_hundred_cameras_are_cards_decoders_network_and_a_price() -> None:
    """By hand: 625 inferences/s a card on five; 500 x 720p25 of H.265 on five cards; 500 x 2 Mbit/s; 5 x 0.35 x 730."""
    asked = fifty(count=500, source=parse_source("1280x720@25/h265", 2e6))
    found = plan(asked, T4, Host(16, 10_000), cards=4, price_per_hour=0.35)
    assert (found.fits, found.breaks_first) == (False, "gpu")
    (more,) = (one for one in found.alternatives if one.levers == ("cards",))
    assert more.cards == 5
    named = {limit.name: limit.share for limit in more.limits}
    assert named["nvdec"] == pytest.approx(500 * 1280 * 720 * 25 / 4150e6 / 5)
    assert named["network"] == pytest.approx(0.1)
    assert more.as_json()["cost_per_camera_month"] == 2.555
    assert more.as_json()["cost_per_camera_hour"] == 0.0035


def run_plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest", "plan", *arguments]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_command_ends_with_the_plan(tmp_path: Path) -> None:
    """The issue's own words; the last line is JSON, tables are on stderr, the plot is a picture."""
    told = "--gpu t4 --cameras 50 --source 1920x1080@25/h264 --bitrate 4M --rate 5 --tiers n:0.8,m:0.15,x:0.05"
    done = run_plan(*told.split(), "--price-per-hour", "0.35", "--plot", str(tmp_path / "plan.png"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"fits", "limits", "breaks_first", "alternatives", "cards", "cost_per_camera_month"} <= found.keys()
    assert list(found["limits"]) == ["nvdec", "vram", "pcie", "gpu", "cpu", "network"]
    assert all({"share", "source", "headroom"} <= one.keys() and one["source"] for one in found["limits"].values())
    assert (found["fits"], found["breaks_first"], found["cost_per_camera_hour"]) == (False, "nvdec", 0.007)
    assert found["cost_per_camera_month"] == 5.11
    assert all(one["cost_per_camera_month"] == 5.11 * one["cards"] for one in found["alternatives"])
    assert "nvdec breaks first" in done.stderr
    assert "a camera costs 0.007 an hour, 5.11 a month of 730 hours" in done.stderr
    assert re.search(r"2 cards.* 0\.014 .* 10\.22 ", done.stderr)
    picture = cv2.imread(str(tmp_path / "plan.png"))
    assert picture is not None
    assert picture.std() > 10


def test_the_command_plans_a_configuration(tmp_path: Path) -> None:
    """A file is looked at, a live camera is not asked, and what is assumed of it is said."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(3, width=640, height=360))
    config = tmp_path / "config.yaml"
    cameras = f"  - {{id: file, source: {clip}, loop: true}}\n  - {{id: gate, source: 'rtsp://u:secret@10.0.0.9/a'}}\n"
    config.write_text(f"system: {{target_fps: 5}}\nmodel: {{default: yolo12n}}\ncameras:\n{cameras}")
    done = run_plan("--from-config", str(config), "--source", "1280x720@25/hevc")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["cameras"] == 2
    pixels = (640 * 360 * 25 / 2070e6) + (1280 * 720 * 25 / 4150e6)
    assert found["limits"]["nvdec"]["share"] == pytest.approx(pixels, abs=1e-4)
    assert found["limits"]["network"]["share"] == pytest.approx(1.106 / 1000, abs=1e-4)  # the file crosses none
    assert found["assumed"] == ["gate: each sends 1280x720@25/hevc, 1.11 Mbit/s"]
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--gpu", "a100"], "no data sheet of 'a100'"),
        (["--variant", "hopeful"], "no variant 'hopeful'"),
        (["--rate", "-5"], "rate: expected a positive number"),
        (["--tiers", "n:0.5"], "shares of at least 0 that sum to 1"),
        (["--tiers", "q"], "expected one of yolo12n"),
        (["--source", "1080p"], "a source is WIDTHxHEIGHT@FPS/CODEC"),
        (["--bitrate", "-4M"], "expected a positive number such as"),
        (["--cameras", "0"], "cameras: expected at least 1"),
        (["--from-config", "nowhere.yaml"], "no such configuration file"),
        (["--price-per-hour", "-1"], "price: expected at least 0"),
        (["--plot", "plan.txt"], "must end in .png or .svg"),
    ],
)
def test_nonsense_is_one_line(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, the complaint is the last line of stderr, and no traceback."""
    from loadtest.__main__ import main

    joined = [f"{arguments[0]}={arguments[1]}"]  # a value may begin with a dash
    assert main(["plan", *joined]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert complaint in told.err.splitlines()[-1]
    assert "Traceback" not in told.err
