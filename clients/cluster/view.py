"""One view over the fleets of all nodes: the summary as JSON, and the metrics with a label `node`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from clients.statistics import SKIPPED, CameraReport, Summary, Totals
from clients.types import Verdict


@dataclass(slots=True)
class NodeView:
    """What is known of a node: the newest summary of its fleet, and the sums of fleets that it had before."""

    name: str
    capacity: float = 0.0
    is_up: bool = False
    lost: int = 0
    last: Summary | None = None
    before: Totals = field(default_factory=Totals)
    errors_before: int = 0

    def closed(self) -> None:
        """Its fleet is lost."""
        self.before, self.errors_before = self.totals(), self.errors
        self.is_up, self.last = False, None
        self.lost += 1

    def totals(self) -> Totals:
        """Of all its fleets, the cameras that are there now included."""
        totals = Totals()
        totals.merge(self.before)
        if self.last is not None:
            totals.merge(self.last.removed.with_cameras(self.last.cameras))
        return totals

    @property
    def errors(self) -> int:
        """Of all its fleets."""
        return self.errors_before + (0 if self.last is None else self.last.errors)

    @property
    def cameras(self) -> Sequence[CameraReport]:
        """Those that it runs."""
        return () if self.last is None else self.last.cameras

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        totals, last = self.totals(), self.last
        told = {
            "up": self.is_up,
            "lost": self.lost,
            "capacity": self.capacity,
            "cameras": len(self.cameras),
            "inferences": totals.verdicts[Verdict.INFERRED],
            "result_age_ms": totals.ages.summary(),
            "errors": self.errors,
        }
        if last is not None:
            mean_batch = None if last.mean_batch is None else round(last.mean_batch, 2)
            told |= {"mean_batch": mean_batch, "precision": last.precision, "transport": last.transport}
            told["results_dropped"] = last.dropped
        return told


def summary_of(seconds: float, nodes: Sequence[NodeView], moves: int, idle: Mapping[str, str]) -> dict[str, Any]:
    """What `python -m clients cluster` prints on its last line; `idle` are cameras that do not run, and why.

    What a node that was lost had done since its last beat is not counted.
    """
    totals = Totals()
    for node in nodes:
        totals.merge(node.totals())
    inferences = totals.verdicts[Verdict.INFERRED]
    per_camera = {
        report.stream_id: {"node": node.name, **report.as_json(seconds)} for node in nodes for report in node.cameras
    }
    return {
        "nodes": sum(node.is_up for node in nodes),
        "nodes_lost": sum(node.lost for node in nodes),
        "cameras": len(per_camera),
        "cameras_moved": moves,
        "cameras_not_running": dict(idle),
        "seconds": round(seconds, 2),
        "frames_decoded": totals.decoded,
        "frames_skipped": {verdict.value: totals.verdicts[verdict] for verdict in SKIPPED},
        "inferences": inferences,
        "inferences_per_s": round(inferences / seconds, 2),
        "result_age_ms": totals.ages.summary(),
        "per_node": {node.name: node.as_json() for node in nodes},
        "per_camera": per_camera,
        "errors": sum(node.errors for node in nodes),
    }


class ClusterCollector(Collector):
    """`ask` brings each node's own metrics at this moment, of those that answer; `moves` counts cameras that moved."""

    def __init__(
        self,
        ask: Callable[[], Mapping[str, Sequence[Metric]]],
        nodes: Callable[[], Sequence[NodeView]],
        moves: Callable[[], int],
    ) -> None:
        self._ask, self._nodes, self._moves = ask, nodes, moves

    def collect(self) -> Iterator[Metric]:
        """Everything at this moment."""
        up = GaugeMetricFamily("y12_node_up", "1 while the node's fleet answers.", labels=["node"])
        takes = GaugeMetricFamily("y12_node_capacity", "Cameras that the planner gives the node.", labels=["node"])
        runs = GaugeMetricFamily("y12_node_cameras", "Cameras that the node runs.", labels=["node"])
        for node in self._nodes():
            up.add_metric([node.name], int(node.is_up))
            takes.add_metric([node.name], node.capacity)
            runs.add_metric([node.name], len(node.cameras))
        yield from (up, takes, runs)
        yield CounterMetricFamily("y12_camera_moves", "Times that a camera went to another node.", value=self._moves())
        yield from labelled(self._ask())


def labelled(told: Mapping[str, Sequence[Metric]]) -> list[Metric]:
    """The metrics of several nodes as one of each name, every sample with its node."""
    found: dict[str, Metric] = {}
    for node, metrics in told.items():
        for metric in metrics:
            whole = found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type, metric.unit))
            whole.samples += [sample._replace(labels={**sample.labels, "node": node}) for sample in metric.samples]
    return list(found.values())
