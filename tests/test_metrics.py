"""What Prometheus is told: numbers that agree with the summary, bounded labels, a port that cannot be had."""

from __future__ import annotations

import socket
import urllib.request
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import moving_square, write_clip
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from clients.config import Monitoring
from clients.control import Decision
from clients.errors import ConfigError, ModelError
from clients.gate import GateRules
from clients.governor import Orders
from clients.gpu import GpuReading
from clients.inference.memory import MemoryTransport
from clients.inference.transport import Request
from clients.lane import Lane
from clients.metrics import BUCKETS_S, served_metrics
from clients.pipeline import Pipeline
from clients.shares import TierLimits
from clients.sources.connection import CameraState
from clients.sources.decoder import Skip
from clients.statistics import CameraReport, Histogram
from clients.types import Detections, StreamSpec, Tier, Verdict

pytestmark = pytest.mark.anyio


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scraped(port: int) -> dict[str, Metric]:
    """What a scrape gives, by name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(metrics: dict[str, Metric], name: str, sample: str = "", **labels: str) -> float:
    """The one sample with these labels."""
    found = [
        s.value for s in metrics[name].samples if s.name == (sample or s.name) and labels.items() <= s.labels.items()
    ]
    assert len(found) == 1, found
    return found[0]


def assert_packets_agree(metrics: dict[str, Metric], report: CameraReport) -> None:
    """Packets, those left out by reason, and the device that decodes are those of the report, and add up."""
    assert value(metrics, "y12_packets", "y12_packets_total", camera=report.stream_id) == report.packets
    devices = {
        s.labels["device"]: s.value
        for s in metrics["y12_camera_decoder"].samples
        if s.labels["camera"] == report.stream_id
    }
    assert devices == {"cpu": int(report.stream_id != "lost"), "cuda": 0}
    assert (report.decoder_reason is None) is (report.stream_id == "lost")
    for reason in Skip:
        told = value(
            metrics, "y12_packets_skipped", "y12_packets_skipped_total", camera=report.stream_id, reason=reason.value
        )
        assert told == report.packets_skipped[reason.value]
    held_back = value(metrics, "y12_packets_held_back", "y12_packets_held_back_total", camera=report.stream_id)
    assert held_back == report.packets_held_back == 0
    assert report.packets == report.decoded + sum(report.packets_skipped.values())


def assert_objectives_and_card(metrics: dict[str, Metric]) -> None:
    """What was promised, what is configured and served, the card as it was read, and the process itself."""
    assert {s.labels["tier"]: s.value for s in metrics["y12_tier_served"].samples} == {"yolo12n": 1, "yolo12m": 0}
    assert {s.labels["camera"]: s.value for s in metrics["y12_least_rate"].samples} == {
        "a": 1.25,
        "b": 0.5,
        "lost": 1.25,
    }
    card = {name.removeprefix("y12_gpu_"): value(metrics, name) for name in metrics if name.startswith("y12_gpu_")}
    ratios = {"utilization_ratio": 0.75, "memory_ratio": 0.5, "decoder_utilization_ratio": 0.25}
    assert card == ratios | {"sm_clock_mhz": 1200, "sm_clock_max_mhz": 1590}
    assert value(metrics, "y12_age_objective_seconds") == 0.15
    for name in ("process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"):
        assert value(metrics, name) > 0


async def test_a_scrape_agrees_with_the_cameras(tmp_path: Path, port: int) -> None:
    """Frames by verdict, inferences, ages, states and failures are those of the cameras' own reports."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(25))
    rules = GateRules(min_interval_s=0.06, max_age_ms=2000, similarity_threshold=None, max_skip_s=0.8)
    specs = [
        StreamSpec("a", str(clip)),
        StreamSpec("b", str(clip), tier=Tier.M, max_fps=0.5),
        StreamSpec("lost", str(tmp_path / "no.mp4")),
    ]
    asked = iter(range(1000))

    def answer(_: Request) -> Detections:
        if next(asked) == 3:
            raise ModelError("broken")
        return Detections.empty()

    async def ready() -> bool:
        return True

    lanes = [Lane(spec, rules, Tier.N) for spec in specs]
    limits = {Tier.N: TierLimits(1.0, 64), Tier.X: TierLimits(7.0, 6)}
    pipeline = Pipeline(lanes, MemoryTransport(answer), [], window=4, limits=limits, server_ready=ready)
    watched = Monitoring(metrics_port=port, age_objective_ms=150)
    with served_metrics(watched, pipeline, lambda: {"jsonl": 5}, [Tier.N, Tier.M]):
        told_first = scraped(port)
        assert "y12_budget_ms_per_second" not in told_first, "nothing was decided yet"
        assert not [name for name in told_first if name.startswith("y12_gpu")], "no card was read"
        await pipeline.run()
        pipeline.gpu = GpuReading("T4", 75.0, 50.0, 1200, 1590, 25.0)
        pipeline.obey(Decision(Orders(3, 640.0, 0.8, "age"), 2.5, {}, {"a": 4.0, "gone": 1.0}))
        lanes[0].audit.judged(Detections.empty(), Detections.from_rows(np.array([[0, 0, 9, 9, 0.9, 1]], np.float32)))
        metrics = scraped(port)
    for lane in lanes:
        report, camera = lane.report(), lane.spec.stream_id
        assert value(metrics, "y12_frames_decoded", "y12_frames_decoded_total", camera=camera) == report.decoded
        assert_packets_agree(metrics, report)
        for verdict in Verdict:
            told = value(metrics, "y12_frames", "y12_frames_total", camera=camera, verdict=verdict.value)
            assert told == report.verdicts.get(verdict, 0)
        count = value(metrics, "y12_result_age_seconds", "y12_result_age_seconds_count", camera=camera)
        assert count == report.verdicts.get(Verdict.INFERRED, 0) == len(report.ages)
        sums = value(metrics, "y12_result_age_seconds", "y12_result_age_seconds_sum", camera=camera)
        assert sums == pytest.approx(report.ages.sum_ms / 1000)
    for camera, count in (("a", 0), ("b", len(lanes[1].ages))):  # m is not served: n stands in
        told = value(metrics, "y12_fallback_inferences", "y12_fallback_inferences_total", camera=camera)
        assert told == count
    told = value(metrics, "y12_inferences", "y12_inferences_total", camera="b", tier="yolo12n")
    assert told == len(lanes[1].ages)
    assert {s.labels["tier"]: s.value for s in metrics["y12_tier_resting"].samples} == {"yolo12n": 0, "yolo12x": 0}
    inferred = sum(len(lane.ages) for lane in lanes)
    assert inferred > 10
    for stage in ("waiting", "inference"):
        assert value(metrics, "y12_stage_seconds", "y12_stage_seconds_count", stage=stage) == inferred
    states = {(s.labels["camera"], s.labels["state"]) for s in metrics["y12_camera_state"].samples if s.value}
    assert states == {("a", "ended"), ("b", "ended"), ("lost", "failed")}
    assert value(metrics, "y12_camera_transitions", "y12_camera_transitions_total", camera="a", state="live") == 1
    assert value(metrics, "y12_failures", "y12_failures_total", kind="ModelError") == 1
    assert value(metrics, "y12_results_dropped", "y12_results_dropped_total", sink="jsonl") == 5
    assert value(metrics, "y12_window") == pipeline.shares.window
    assert {s.labels["tier"]: s.value for s in metrics["y12_in_flight"].samples} == {"yolo12n": 0, "yolo12x": 0}
    assert value(metrics, "y12_server_up") == 1
    for name, told in (("y12_budget_ms_per_second", 640), ("y12_rate_scale", 0.8), ("y12_engine_slowness", 2.5)):
        assert value(metrics, name) == told
    assert [s.labels["reason"] for s in metrics["y12_governor"].samples if s.value] == ["age"]
    assert {s.labels["camera"]: s.value for s in metrics["y12_pace"].samples} == {"a": 4.0}
    assert_objectives_and_card(metrics)
    for name in ("y12_audited_frames", "y12_audited_frames_missed"):
        assert value(metrics, name, f"{name}_total", camera="a") == 1
        assert value(metrics, name, f"{name}_total", camera="b") == 0


async def test_labels_are_bounded(tmp_path: Path, port: int) -> None:
    """Two more cameras add the same number of series each: nothing but cameras makes new ones."""

    async def ready() -> bool:
        return True

    def series(cameras: int) -> int:
        rules = GateRules(min_interval_s=1, max_age_ms=1)
        lanes = [Lane(StreamSpec(f"c{i}", str(tmp_path / "no.mp4")), rules, Tier.N) for i in range(cameras)]
        limits = {Tier.N: TierLimits(1.0, 1)}
        transport = MemoryTransport(lambda _: Detections.empty())
        pipeline = Pipeline(lanes, transport, [], window=1, limits=limits, server_ready=ready)
        with served_metrics(Monitoring(metrics_port=port), pipeline, dict):
            return sum(len(family.samples) for family in scraped(port).values())

    counts = [series(cameras) for cameras in (1, 2, 3)]
    per_camera = counts[1] - counts[0]
    most = 2 * len(CameraState) + len(Verdict) + len(BUCKETS_S) + len(Skip) + 15
    assert per_camera == counts[2] - counts[1] <= most


async def test_a_port_in_use_is_one_clear_error(port: int) -> None:
    """The key, the address and the reason; without a port nothing is served."""
    limits = {Tier.N: TierLimits(1.0, 1)}

    async def ready() -> bool:
        return True

    pipeline = Pipeline(
        [], MemoryTransport(lambda _: Detections.empty()), [], window=1, limits=limits, server_ready=ready
    )
    with (
        closing(socket.create_server(("127.0.0.1", port))),
        pytest.raises(ConfigError) as raised,
        served_metrics(Monitoring(metrics_port=port), pipeline, dict),
    ):
        pass
    assert str(raised.value) == f"monitoring.metrics_port: 127.0.0.1:{port} cannot be used: Address already in use"
    with served_metrics(Monitoring(), pipeline, dict), pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_buckets_count_what_does_not_exceed_them() -> None:
    """Cumulative counts to 1 %, and the exact sum, through a merge too."""
    times, other = Histogram(), Histogram()
    for value_ms in (1, 9, 90, 900):
        times.add(value_ms)
    other.add(5000)
    times.merge(other)
    assert times.cumulative([0.5, 5, 10, 100, 1000, 10_000]) == [0, 1, 2, 3, 4, 5]
    assert times.sum_ms == 6000
