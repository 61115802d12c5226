"""The fleet as a table in the terminal, or as a line now and then where there is no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from clients.statistics import SKIPPED, CameraReport
from clients.types import Verdict

_SHORT = {
    Verdict.SIMILAR: "similar",
    Verdict.TOO_SOON: "too soon",
    Verdict.STALE: "stale",
    Verdict.SUPERSEDED: "superseded",
    Verdict.FAILED: "failed",
}
_STATE_STYLE = {
    "live": "green",
    "connecting": "yellow",
    "stalled": "yellow",
    "backing_off": "red",
    "failed": "bold red",
    "ended": "dim",
}


@dataclass(frozen=True, slots=True)
class Rates:
    """What a camera did per second between two reports."""

    decoded_fps: float
    inferred_fps: float
    skipped_fps: dict[Verdict, float]

    @classmethod
    def between(cls, earlier: CameraReport | None, later: CameraReport, elapsed_s: float) -> Rates:
        """Rates over `elapsed_s` seconds; without an earlier report, since the start."""
        before = {} if earlier is None else earlier.verdicts
        decoded = later.decoded - (0 if earlier is None else earlier.decoded)
        change = {v: (later.verdicts.get(v, 0) - before.get(v, 0)) / elapsed_s for v in Verdict}
        return cls(decoded / elapsed_s, change[Verdict.INFERRED], {v: change[v] for v in SKIPPED})


def fleet_table(
    reports: Sequence[CameraReport], earlier: Sequence[CameraReport], elapsed_s: float, title: str
) -> Table:
    """One row per camera: what it decodes, what is inferred, what is skipped and why, objects, age."""
    table = Table(title=title, title_justify="left", expand=False)
    for heading in ("camera", "state", "tier", "decoded/s", "inferred/s"):
        table.add_column(heading, justify="right" if heading.endswith("/s") else "left", no_wrap=True)
    for name in _SHORT.values():
        table.add_column(f"{name}/s", justify="right")
    table.add_column("objects", justify="right")
    table.add_column("age p95 ms", justify="right")
    before = {report.stream_id: report for report in earlier}
    for report in reports:
        rates = Rates.between(before.get(report.stream_id), report, elapsed_s)
        table.add_row(*_cells(report, rates))
    return table


def fleet_line(reports: Sequence[CameraReport], earlier: Sequence[CameraReport], elapsed_s: float) -> str:
    """The fleet in one line."""
    live = sum(report.state == "live" for report in reports)
    before = {report.stream_id: report for report in earlier}
    rates = [Rates.between(before.get(report.stream_id), report, elapsed_s) for report in reports]
    decoded, inferred = sum(rate.decoded_fps for rate in rates), sum(rate.inferred_fps for rate in rates)
    instead = sum(report.is_on_fallback for report in reports)
    note = f", {instead} on another tier than their own" if instead else ""
    return f"{live} of {len(reports)} cameras live, {decoded:.0f} frames/s decoded, {inferred:.1f} inferences/s{note}"


def _cells(report: CameraReport, rates: Rates) -> list[str]:
    age_ms = report.ages.quantile(0.95)
    style = _STATE_STYLE[report.state]
    return [
        report.stream_id,
        f"[{style}]{report.state}[/{style}]",
        f"[red]{report.tier}[/red] for {report.wanted}" if report.is_on_fallback else report.tier.value,
        f"{rates.decoded_fps:.1f}",
        f"{rates.inferred_fps:.1f}",
        *(f"{rates.skipped_fps[verdict]:.1f}" for verdict in _SHORT),
        str(report.objects),
        "-" if age_ms is None else f"{age_ms:.0f}",
    ]
