"""What Prometheus sees of the fleet: every metric's name, labels and meaning stand in this file.

Values are read when somebody asks, so metrics cost the cameras nothing. The label `camera` takes as many values as
there are cameras, which `system.max_streams` bounds; all other labels are enumerations. Mean batch and queue times are
Triton's own metrics (`nv_inference_*`) and are not repeated here. Of the card, what the governor reads of it is told,
because Triton knows neither its clocks nor its decoders. `process_*` are prometheus_client's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from clients.config import Monitoring
from clients.errors import ConfigError
from clients.governor import REASONS
from clients.gpu import GpuReading
from clients.pipeline import Pipeline
from clients.sources.connection import CameraState
from clients.sources.decoder import Skip
from clients.statistics import CameraReport, Histogram
from clients.types import Tier, Verdict

BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
log = logging.getLogger(__name__)


class FleetCollector(Collector):
    """Reads a running pipeline. `dropped` tells the results that each sink could not take, `tiers` the configured."""

    def __init__(
        self,
        pipeline: Pipeline,
        dropped: Callable[[], Mapping[str, int]],
        *,
        age_objective_ms: float,
        tiers: Sequence[Tier] = (),
    ) -> None:
        self._pipeline = pipeline
        self._dropped = dropped
        self._age_objective_ms = age_objective_ms
        self._tiers = tiers

    def collect(self) -> Iterator[Metric]:
        """Everything at this moment."""
        reports = [lane.report() for lane in self._pipeline.lanes.values()]
        yield from _frames(reports)
        yield from _connections(reports)
        yield self._ages(reports)
        yield from self._objectives()
        yield from _audits(reports)
        yield from self._budget()
        yield from self._turns()
        yield from _card(self._pipeline.gpu)

    def _ages(self, reports: Sequence[CameraReport]) -> Metric:
        text = "Age of a result: from the arrival of the frame's packet to the answer."
        ages = HistogramMetricFamily("y12_result_age_seconds", text, labels=["camera"])
        for report in reports:
            _add(ages, [report.stream_id], report.ages)
        return ages

    def _objectives(self) -> Iterator[Metric]:
        """What is promised, so that an alert needs no number of its own."""
        objective = "Age that 95 % of the results are to keep: monitoring.age_objective_ms."
        yield GaugeMetricFamily("y12_age_objective_seconds", objective, value=self._age_objective_ms / 1000)
        text = "Inferences per second that the camera is to get however still its picture is."
        least = GaugeMetricFamily("y12_least_rate", text, labels=["camera"])
        for stream_id, lane in self._pipeline.lanes.items():
            least.add_metric([stream_id], lane.least_fps)
        yield least
        served = GaugeMetricFamily("y12_tier_served", "1 where the server has the configured tier.", labels=["tier"])
        for tier in self._tiers:
            served.add_metric([tier.value], int(tier in self._pipeline.shares.tiers))
        yield served

    def _budget(self) -> Iterator[Metric]:
        """Nothing before the first decision, or without a governor."""
        decision = self._pipeline.decision
        if decision is None:
            return
        orders = decision.orders
        budget = "GPU-milliseconds per second that the governor allows to be spent."
        yield GaugeMetricFamily("y12_budget_ms_per_second", budget, value=orders.budget_ms_per_s)
        scale = "0..1: what is left of the cameras' highest rates."
        yield GaugeMetricFamily("y12_rate_scale", scale, value=orders.rate_scale)
        slowness = "How many times as long as their data sheet says the engines take."
        yield GaugeMetricFamily("y12_engine_slowness", slowness, value=decision.slowness)
        reasons = GaugeMetricFamily("y12_governor", "1 for why the orders are what they are.", labels=["reason"])
        for reason in REASONS:
            reasons.add_metric([reason], int(reason == orders.reason))
        yield reasons
        paces = GaugeMetricFamily("y12_pace", "Inferences per second that the camera may have.", labels=["camera"])
        for stream_id, pace in decision.paces.items():
            if stream_id in self._pipeline.lanes:
                paces.add_metric([stream_id], pace)
        yield paces

    def _turns(self) -> Iterator[Metric]:
        pipeline = self._pipeline
        stages = HistogramMetricFamily(
            "y12_stage_seconds",
            "Time of an inferred frame in a stage: waiting for its turn, or inference (sent to answered).",
            labels=["stage"],
        )
        for stage, times in pipeline.stages.items():
            _add(stages, [stage], times)
        yield stages
        in_flight = GaugeMetricFamily("y12_in_flight", "Requests in flight.", labels=["tier"])
        for tier in pipeline.shares.tiers:
            in_flight.add_metric([tier.value], pipeline.shares.in_flight_of(tier))
        yield in_flight
        resting = GaugeMetricFamily(
            "y12_tier_resting", "1 while a tier fails and its cameras use the fallback.", labels=["tier"]
        )
        for tier in pipeline.shares.tiers:
            resting.add_metric([tier.value], int(tier in pipeline.fallback.resting))
        yield resting
        window = "Requests of the cheapest tier that may be in flight; shared in GPU-milliseconds."
        yield GaugeMetricFamily("y12_window", window, value=pipeline.shares.window)
        yield GaugeMetricFamily("y12_server_up", "1 while Triton answers.", value=int(pipeline.server_up))
        share = "0..1: of the configured Tritons, those that answer."
        yield GaugeMetricFamily("y12_servers_alive_ratio", share, value=pipeline.alive_share())
        yield CounterMetricFamily("y12_server_outages", "Times that Triton went away.", value=pipeline.outages)
        failures = CounterMetricFamily(
            "y12_failures", "Turns and sinks that failed, by kind of error.", labels=["kind"]
        )
        for kind, failed in dict(pipeline.failures).items():
            failures.add_metric([kind], failed)
        yield failures
        dropped = CounterMetricFamily("y12_results_dropped", "Results that a sink could not take.", labels=["sink"])
        for sink, results in self._dropped().items():
            dropped.add_metric([sink], results)
        yield dropped


@contextmanager
def served_metrics(
    monitoring: Monitoring,
    pipeline: Pipeline,
    dropped: Callable[[], Mapping[str, int]],
    tiers: Sequence[Tier] = (),
) -> Iterator[None]:
    """Serve `/metrics` while open, where a port is configured. Raises ConfigError when it cannot be had.

    `tiers` are the configured ones, served or not.
    """
    collector = FleetCollector(pipeline, dropped, age_objective_ms=monitoring.age_objective_ms, tiers=tiers)
    with served_collector(monitoring, collector):
        yield


@contextmanager
def served_collector(monitoring: Monitoring, collector: Collector) -> Iterator[None]:
    """The same of whatever is to be read. Raises ConfigError."""
    port, host = monitoring.metrics_port, monitoring.metrics_host
    if port is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)  # its start, memory and open files: what restarts or leaks shows there
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(
            f"monitoring.metrics_port: {host}:{port} cannot be used: {error.strerror or error}"
        ) from error
    log.info("metrics: http://%s:%d/metrics", host, port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _frames(reports: Sequence[CameraReport]) -> Iterator[Metric]:
    decoded = CounterMetricFamily("y12_frames_decoded", "Frames that were decoded.", labels=["camera"])
    frames = CounterMetricFamily("y12_frames", "What became of the decoded frames.", labels=["camera", "verdict"])
    inferences = CounterMetricFamily("y12_inferences", "Frames that were inferred.", labels=["camera", "tier"])
    fallbacks = CounterMetricFamily(
        "y12_fallback_inferences", "Frames that another tier than the camera's own inferred.", labels=["camera"]
    )
    objects = GaugeMetricFamily("y12_objects", "Objects in the newest result.", labels=["camera"])
    for report in reports:
        name = [report.stream_id]
        decoded.add_metric(name, report.decoded)
        for verdict in Verdict:
            frames.add_metric([*name, verdict.value], report.verdicts.get(verdict, 0))
        for tier in {report.tier: 0, **report.inferred}:
            inferences.add_metric([*name, tier.value], report.inferred.get(tier, 0))
        fallbacks.add_metric(name, report.fallbacks)
        objects.add_metric(name, report.objects)
    yield from (decoded, frames, inferences, fallbacks, objects)


def _card(gpu: GpuReading | None) -> Iterator[Metric]:
    """Nothing without a card, or without a governor that reads it."""
    if gpu is None:
        return
    figures = (
        ("y12_gpu_utilization_ratio", "0..1: time that the card was busy.", gpu.utilization_percent / 100),
        ("y12_gpu_memory_ratio", "0..1: the card's memory that is used.", gpu.memory_percent / 100),
        ("y12_gpu_decoder_utilization_ratio", "0..1: time that NVDEC was busy.", gpu.decoder_percent / 100),
        ("y12_gpu_sm_clock_mhz", "Clock of the card's multiprocessors.", gpu.sm_clock_mhz),
        ("y12_gpu_sm_clock_max_mhz", "Their highest clock.", gpu.sm_clock_max_mhz),
    )
    for name, text, value in figures:
        yield GaugeMetricFamily(name, text, value=value)


def _audits(reports: Sequence[CameraReport]) -> Iterator[Metric]:
    audited = CounterMetricFamily(
        "y12_audited_frames", "Skipped frames that were inferred to see what was missed.", labels=["camera"]
    )
    missed = CounterMetricFamily(
        "y12_audited_frames_missed",
        "Of them, those that showed an object which the user did not see.",
        labels=["camera"],
    )
    for report in reports:
        audited.add_metric([report.stream_id], report.audit.frames)
        missed.add_metric([report.stream_id], report.audit.missed)
    yield from (audited, missed)


def _connections(reports: Sequence[CameraReport]) -> Iterator[Metric]:
    state = GaugeMetricFamily("y12_camera_state", "1 for the state that the camera is in.", labels=["camera", "state"])
    entered = CounterMetricFamily(
        "y12_camera_transitions", "Times that the camera entered a state.", labels=["camera", "state"]
    )
    skipped = CounterMetricFamily(
        "y12_packets_skipped", "Packets that were not decoded, by reason.", labels=["camera", "reason"]
    )
    decoder = GaugeMetricFamily(
        "y12_camera_decoder", "1 for the device that decodes the camera.", labels=["camera", "device"]
    )
    packets = CounterMetricFamily("y12_packets", "Video packets that came.", labels=["camera"])
    held_back = CounterMetricFamily(
        "y12_packets_held_back", "Packets that waited, because the camera sends too much.", labels=["camera"]
    )
    for report in reports:
        for one in CameraState:
            state.add_metric([report.stream_id, one.value], int(report.state == one.value))
            entered.add_metric([report.stream_id, one.value], report.states.get(one.value, 0))
        for device in ("cpu", "cuda"):
            decoder.add_metric([report.stream_id, device], int(report.decoder == device))
        packets.add_metric([report.stream_id], report.packets)
        held_back.add_metric([report.stream_id], report.packets_held_back)
        for reason in Skip:
            skipped.add_metric([report.stream_id, reason.value], report.packets_skipped.get(reason.value, 0))
    yield from (state, entered, decoder, packets, held_back, skipped)


def _add(family: HistogramMetricFamily, labels: Sequence[str], times: Histogram) -> None:
    total, sum_ms = len(times), times.sum_ms
    counts = times.cumulative([bound * 1000 for bound in BUCKETS_S])
    buckets = [(str(bound), float(count)) for bound, count in zip(BUCKETS_S, counts, strict=True)]
    family.add_metric(labels, [*buckets, ("+Inf", float(max(total, *counts)))], sum_ms / 1000)
