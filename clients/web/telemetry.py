"""What the wall shows in numbers: a look a second at every camera, the last minutes of each kept, rates from them.

The look reads counters that are there anyway, whether somebody looks or not, so that the timeline of a page that has
just been opened is full; it costs about 20 microseconds a camera. Nothing here touches a picture.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from clients.audit import merged
from clients.fleet import Fleet
from clients.gpu import read_gpu
from clients.inference.server import EngineCounts
from clients.roster import Entry, Roster
from clients.shares import T4_COST_MS
from clients.statistics import CameraReport, Summary
from clients.types import Tier, Verdict

LOOK_S = 1.0
KEPT = 300  # looks: five minutes
_OVER = 3  # looks that a rate is an average of
_TROUBLED = ("failed", "backing_off", "stalled")
_WORTH_SAYING = {
    "age": "results are too old: the governor has cut the budget",
    "queue": "requests queue up: the governor has cut the budget",
    "clock": "the GPU's clock has sagged: the governor has cut the budget",
    "decoder": "the GPU's decoders are full",
    "bottom": "results are too old, and there is nothing left to cut",
}
_MUCH_MISSED = 0.05  # of audited frames, with 95 % confidence


@dataclass(frozen=True, slots=True)
class Sample:
    """One camera's counters at one moment."""

    at_s: float
    decoded: int
    undecoded: int
    verdicts: Mapping[Verdict, int]
    inferred: Mapping[Tier, int]


class Telemetry:
    """One fleet's. `run` looks until it is cancelled."""

    def __init__(self, fleet: Fleet, roster: Roster) -> None:
        self._fleet = fleet
        self._roster = roster
        self._history: dict[str, deque[Sample]] = {}
        self._counts: deque[EngineCounts] = deque(maxlen=_OVER + 2)
        self.device = "CPU"
        self.busy_percent: float | None = None
        self.now: dict[str, Any] = {"cameras": []}
        self.text = "{}"  # the same as JSON
        self.look()

    async def run(self) -> None:
        """A look a second."""
        while True:
            gpu = await asyncio.to_thread(read_gpu)
            if gpu is not None:
                self.device, self.busy_percent = gpu.name, gpu.utilization_percent
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Read the counters, and say what they mean."""
        at_s, summary = time.monotonic(), self._fleet.stats()
        reports = {report.stream_id: report for report in summary.cameras}
        for stream_id in [stream_id for stream_id in self._history if stream_id not in reports]:
            del self._history[stream_id]
        for stream_id, report in reports.items():
            kept = self._history.setdefault(stream_id, deque(maxlen=KEPT))
            if kept and kept[-1].decoded > report.decoded:
                kept.clear()  # another camera of the same name
            kept.append(_sample(report, at_s))
        counts = self._fleet.server_counts
        if counts is not None:
            self._counts.append(counts)
        self.now = self._overview(reports, summary)
        self.text = json.dumps(self.now, separators=(",", ":"))

    def history(self, stream_id: str) -> list[dict[str, Any]]:
        """What was decided in each of the last seconds, oldest first; empty for a camera that does not run."""
        kept = list(self._history.get(stream_id, ()))
        return [_between(before, after) for before, after in pairwise(kept)]

    def camera(self, stream_id: str) -> dict[str, Any]:
        """One camera at the last look, empty before the first."""
        cameras: Sequence[dict[str, Any]] = self.now["cameras"]
        return next((camera for camera in cameras if camera["id"] == stream_id), {})

    def _overview(self, reports: Mapping[str, CameraReport], summary: Summary) -> dict[str, Any]:
        decision = self._fleet.decision
        slowness = 1.0 if decision is None else decision.slowness
        cameras = [self._camera(entry, reports.get(entry.camera.id), slowness) for entry in self._roster]
        budget = None if decision is None else decision.orders.budget_ms_per_s
        audit = merged([report.audit for report in reports.values()])
        return {
            "device": self.device,
            "precision": summary.precision,
            "server_up": self._fleet.is_ready,
            "mean_batch": self._mean_batch(),
            "busy_percent": None if self.busy_percent is None else round(self.busy_percent),
            "budget": {
                "ms_per_s": None if budget is None else round(budget, 1),
                "spent_ms_per_s": round(sum(camera["spends_ms_per_s"] for camera in cameras), 1),
                "slowness": round(slowness, 2),
                "reason": None if decision is None else decision.orders.reason,
                "rate_scale": None if decision is None else round(decision.orders.rate_scale, 3),
            },
            "saved": _saved(summary),
            "audit": audit.as_json(),
            "alerts": self._alerts(reports, summary),
            "cameras": cameras,
        }

    def _camera(self, entry: Entry, report: CameraReport | None, slowness: float) -> dict[str, Any]:
        stream_id = entry.camera.id
        kept = self._history.get(stream_id)
        rates = _between(kept[max(0, len(kept) - 1 - _OVER)], kept[-1]) if kept and len(kept) > 1 else _NOTHING
        lane = self._fleet.lanes.get(stream_id)
        latest = None if lane is None or lane.latest is None else lane.latest
        decision = self._fleet.decision
        pace = None if decision is None else decision.paces.get(stream_id)
        work_ms = sum(rates["inferred"][tier] * T4_COST_MS[Tier(tier)] for tier in Tier)
        return {
            "id": stream_id,
            "state": "paused" if entry.is_paused else "connecting" if report is None else report.state,
            "problem": None if report is None or not _is_troubled(report) else report.last_problem,
            "tier": None if report is None else report.tier.value,
            "wanted": None if report is None or not report.is_on_fallback else str(report.wanted),
            "decoder": None if report is None else report.decoder,
            "objects": 0 if report is None else report.objects,
            "age_ms": None if latest is None else round(latest[1].age_ms),
            "seen_s": None if latest is None else round((time.monotonic_ns() - latest[0].captured_ns) / 1e9, 1),
            "pace_fps": None if pace is None else round(pace, 2),
            "spends_ms_per_s": round(work_ms * slowness, 2),
            "rates": rates,
        }

    def _mean_batch(self) -> float | None:
        if len(self._counts) < 2:
            return None
        mean = self._counts[-1].mean_batch_since(self._counts[0])
        return None if mean is None else round(mean, 2)

    def _alerts(self, reports: Mapping[str, CameraReport], summary: Summary) -> list[dict[str, Any]]:
        alerts: list[dict[str, Any]] = []
        if not self._fleet.is_ready:
            alerts.append(_alert("bad", "The inference server does not answer."))
        for report in reports.values():
            name = report.stream_id
            if _is_troubled(report):
                alerts.append(_alert("bad", f"{report.state.replace('_', ' ')}: {report.last_problem}", name))
            if report.is_on_fallback:
                alerts.append(_alert("warn", f"{report.tier} serves it in place of {report.wanted}", name))
        decision = self._fleet.decision
        if decision is not None and decision.orders.reason in _WORTH_SAYING:
            alerts.append(_alert("warn", _WORTH_SAYING[decision.orders.reason]))
        interval = merged([report.audit for report in reports.values()]).interval
        if interval is not None and interval[0] > _MUCH_MISSED:
            alerts.append(_alert("warn", f"the gate misses objects in more than {_MUCH_MISSED:.0%} of audited frames"))
        lost = sum(dropped for sink, dropped in summary.dropped.items() if sink != "subscriptions")
        if lost:
            alerts.append(_alert("warn", f"{lost} results were dropped: a sink is too slow"))
        return alerts


def _sample(report: CameraReport, at_s: float) -> Sample:
    undecoded = sum(report.packets_skipped.values())
    return Sample(at_s, report.decoded, undecoded, dict(report.verdicts), dict(report.inferred))


_NOTHING: dict[str, Any] = {
    "decoded": 0.0,
    "undecoded": 0.0,
    "inferred": {tier.value: 0.0 for tier in Tier},
    "skipped": {verdict.value: 0.0 for verdict in Verdict if verdict is not Verdict.INFERRED},
}


def _between(before: Sample, after: Sample) -> dict[str, Any]:
    """Frames a second between two looks, by what became of them."""
    seconds = max(1e-3, after.at_s - before.at_s)

    def rate(now: int, then: int) -> float:
        return round((now - then) / seconds, 2)

    return {
        "decoded": rate(after.decoded, before.decoded),
        "undecoded": rate(after.undecoded, before.undecoded),
        "inferred": {tier.value: rate(after.inferred.get(tier, 0), before.inferred.get(tier, 0)) for tier in Tier},
        "skipped": {
            verdict.value: rate(after.verdicts.get(verdict, 0), before.verdicts.get(verdict, 0))
            for verdict in Verdict
            if verdict is not Verdict.INFERRED
        },
    }


def _saved(summary: Summary) -> float | None:
    """The share 0..1 of all frames so far that needed no inference; None before the first frame."""
    frames = summary.removed.decoded + sum(
        camera.decoded + sum(camera.packets_skipped.values()) for camera in summary.cameras
    )
    return round(1 - summary.inferences / frames, 4) if frames else None


def _is_troubled(report: CameraReport) -> bool:
    return report.state in _TROUBLED or report.is_down


def _alert(level: str, text: str, camera: str | None = None) -> dict[str, Any]:
    return {"level": level, "camera": camera, "text": text[:1].upper() + text[1:]}
