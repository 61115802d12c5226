"""`python -m loadtest sweep`: the load tests whose figures docs/benchmarks/locust.md shows, one after another.

Each is kept, so that a sweep that was broken off goes on. Locust runs in a process of its own and starts the emulated
card itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clients.arguments import seconds
from clients.errors import FleetError
from loadtest.page_head import here

ROOT = Path(__file__).resolve().parents[2]
_PAGE = Path(__file__).with_name("sweep_page.md")


@dataclass(frozen=True, slots=True)
class Run:
    """One test. `load` is a share of the capacity; `times` as long as the others.

    The time scale is as low as two cores can feed, or so high that what Triton takes between two batches is nothing.
    """

    name: str
    cameras: int
    load: float
    time_scale: int
    more: tuple[str, ...] = ()
    times: int = 1

    def arguments(self, run_s: float) -> list[str]:
        """What Locust is told."""
        shared = (
            "-f",
            "loadtest/locustfile.py",
            "--headless",
            "-r",
            "200",
            "-t",
            f"{run_s * self.times:g}s",
            "--report=",
        )
        load = ("-u", str(self.cameras), "--load", f"{self.load:g}", "--time-scale", str(self.time_scale))
        return [*shared, *load, *self.more]


RUNS = (
    Run("as planned", 50, 0.6, 10),
    Run("card three times slower", 50, 0.6, 10, ("--slower", "3")),
    Run("80 %", 50, 0.8, 10),
    Run("saturated", 50, 1.5, 100, times=3),
    *(Run(f"saturated, {count} cameras", count, 1.5, 5, times=max(1, count // 50)) for count in (10, 50, 100, 200)),
    Run("80 %, tiers mixed", 50, 0.8, 10, ("--tier-mix", "n:0.8,m:0.15,x:0.05")),
    Run("80 %, JPEG", 50, 0.8, 10, ("--path", "jpeg")),
    Run("80 %, key frames together", 50, 0.8, 10, ("--burst-s", "1")),
    Run("60 %, the clock sags", 50, 0.6, 5, ("--sag", "thermal")),
)
_COLUMNS: dict[str, str] = {
    "load": "load",
    "exit_code": "exit",
    "goodput": "goodput",
    "capacity_used": "capacity used",
    "p95": "age p95, ms",
    "p99": "p99",
    "mean_batch": "mean batch",
    "jain": "Jain",
    "worst_of_fair": "worst camera",
    "gpu_ms": "card, ms/frame",
    "cpu_ms": "client CPU, ms/frame",
}


def add_sweep(commands: Any) -> None:
    """The subcommand."""
    text = "Locust's load tests of an emulated T4, for docs/benchmarks/locust.md; goes on where it was broken off"
    parser = commands.add_parser("sweep", help=text, description=text)
    parser.add_argument("--seconds", type=seconds, default=40.0, metavar="S", help="of each (default %(default)s)")
    text = "instead of each run's own, for a machine that cannot feed cards as fast as those; then longer runs say more"
    parser.add_argument("--time-scale", type=int, metavar="X", help=text)
    parser.add_argument("--only", action="append", metavar="NAME", help="one of them; may be given several times")
    parser.add_argument("--again", action="store_true", help="also what has run already")
    parser.add_argument("--kept", type=Path, default=Path("out/loadtest/sweep"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), metavar="DIR", help="default %(default)s")
    parser.set_defaults(command=sweep)


def sweep(options: argparse.Namespace) -> dict[str, Any]:
    """Run what has not run yet, and write the page of all that has. Raises FleetError."""
    names = [run.name for run in RUNS]
    for name in options.only or ():
        if name not in names:
            raise FleetError(f"there is no run {name!r}; there are {', '.join(names)}")
    found: dict[str, dict[str, Any]] = {}
    runs = [run if options.time_scale is None else replace(run, time_scale=options.time_scale) for run in RUNS]
    for run in runs:
        wanted = not options.only or run.name in options.only
        path, arguments = _kept(options.kept, run), run.arguments(options.seconds)
        report = _read(path, arguments)
        if wanted and (options.again or report is None):
            report = _run(run, arguments)
            _write(path, json.dumps(report) + "\n")
        if report is not None:
            found[run.name] = report
    rows = {name: _row(report) for name, report in found.items()}
    _write(options.out / "locust.md", page(rows, [run for run in runs if run.name in rows], options.seconds))
    return {"runs": rows}


def _kept(folder: Path, run: Run) -> Path:
    return folder / f"{run.name.replace(' ', '-').replace(',', '').replace('%', 'percent')}.json"


def _read(path: Path, arguments: list[str]) -> dict[str, Any] | None:
    """What a run with these very arguments has shown; None where there is none."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if report.get("arguments") == arguments else None


def _run(run: Run, arguments: list[str]) -> dict[str, Any]:
    """The report, with what was asked for beside it. Raises FleetError: there is none."""
    command = [str(Path(sys.executable).with_name("locust")), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if not lines:
        told = [line for line in done.stderr.splitlines() if line.startswith("locust: ")]
        raise FleetError(f"{run.name}: {(told or ['Locust said nothing'])[-1]}")
    report: dict[str, Any] = json.loads(lines[-1])
    return report | {"load": run.load, "exit_code": done.returncode, "arguments": arguments}


def _row(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a report."""
    answered = report["frames"]["good"] + report["frames"]["late"]
    used, card_ms = report["gpu"]["utilisation"], report["seconds"] / report["time_scale"] * 1000
    return {
        "cameras": report["cameras"],
        "time_scale": report["time_scale"],
        "load": report["load"],
        "exit_code": report["exit_code"],
        "goodput": report["goodput"],
        "capacity_used": report["capacity_used"],
        "p95": report["age_ms"]["p95"],
        "p99": report["age_ms"]["p99"],
        "mean_batch": report["mean_batch"],
        "jain": report["jain"],
        "worst_of_fair": report["worst_of_fair"],
        "gpu_ms": round(used * card_ms / answered, 3) if used is not None and answered else None,
        "cpu_ms": report["client_cpu_ms_per_frame"],
        "sm_clock_mhz": report["gpu"]["sm_clock_mhz"],
    }


def page(rows: Mapping[str, Mapping[str, Any]], runs: Sequence[Run], run_s: float) -> str:
    """The page's text: a row of each of these runs."""
    columns = {"cameras": "cameras", "time_scale": "time scale"} | _COLUMNS
    head = f"| run | {' | '.join(columns.values())} |\n|{'---|' * (len(columns) + 1)}\n"
    lines = (f"| {name} | {' | '.join(_cell(row[key]) for key in columns)} |" for name, row in rows.items())
    return _PAGE.read_text(encoding="utf-8").format(
        machine=here(("locust", "tritonclient", "gevent")),
        seconds=f"{run_s:g}",
        table=head + "\n".join(lines),
        commands="\n".join(f"locust {' '.join(run.arguments(run_s))}" for run in runs),
    )


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FleetError(f"{path}: cannot be written: {error.strerror or error}") from error
