"""`python -m loadtest tuning`: each knob of config.yaml turned alone, in virtual time, and what that changes.

Nine of the demo's cameras, three still, three calm, three busy, on one card with room for a few inferences per camera
and second; everything but the one knob as config.yaml has it. Writes docs/tuning.md and a curve per knob.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clients.audit import AuditRules
from clients.data_sheet import sheet
from clients.errors import FleetError
from clients.types import Tier
from loadtest.recordings import CAMERAS, Recording
from loadtest.simulate import STAND_INS, judged, replay, tier_timings
from loadtest.simulation.report import report
from loadtest.simulation.run import Scenario, Simulation
from loadtest.simulation.verdict import Judge

_MS_PER_CAMERA_S = 5.0  # of the card, for the cameras of most knobs
_SECONDS = 20.0
_COLUMNS = {
    "value": "value",
    "streaming_ap": "streaming AP",
    "inferences": "inferences per camera and second",
    "gpu_ms": "GPU ms per camera and second",
    "age_p95_ms": "age p95, ms",
    "missed": "missed, % of the frames skipped as similar",
}
Set = Callable[[Scenario, float], Scenario]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Knob:
    """One key: the values it is tried at, its default, what it does to a scenario, and where its curve bends."""

    key: str
    values: Sequence[float]
    default: float | None  # None: the fleet chooses
    turn: Set
    says: str
    shows: str = "streaming_ap"


KNOBS = (
    Knob(
        "optimization.similarity_threshold",
        (0.80, 0.90, 0.95, 0.98, 1.0),
        0.95,
        lambda told, value: replace(told, similarity=value),
        "A frame at least this similar to the last inferred one, block by block, is skipped. Lower skips and misses "
        "more; 1 skips only what did not change at all, which with noise is nothing.",
        "missed",
    ),
    Knob(
        "optimization.max_skip_s",
        (0.2, 0.4, 0.8, 1.6, 4.0),
        0.8,
        lambda told, value: replace(told, max_skip_s=value),
        "However similar its frames are, a camera is inferred at least this often: so long the gate can be wrong.",
        "missed",
    ),
    Knob(
        "cameras[].max_fps",
        (2.0, 4.0, 8.0, 15.0, 25.0),
        25.0,
        lambda told, value: replace(told, demand_fps=value),
        "The most a camera may ask for. With a short budget it takes from cameras where much happens; set "
        "it only where you know that more is worth nothing.",
    ),
    Knob(
        "monitoring.gpu_utilization_threshold",
        (10, 20, 40, 60, 80),
        80,
        lambda told, value: replace(told, threshold_percent=value),
        "Percent of the card that may be spent; here of a card that is only as large as nine cameras need. Half the "
        "budget is not half the accuracy: the curve flattens.",
    ),
    Knob(
        "triton.window",
        (1, 2, 4, 8, 16),
        None,
        lambda told, value: replace(told, window=int(value)),
        "Requests at the server at once. Larger means larger batches, less time per inference and a longer queue; the "
        "governor lowers it by the time that requests wait. Flat where, as here, few requests meet.",
        "age_p95_ms",
    ),
    Knob(
        "cameras[].max_age_ms",
        (40, 80, 150, 500),
        500,
        lambda told, value: replace(told, max_age_ms=value),
        "A frame older than this when its turn comes is not sent. It matters when the server is slow or away; below "
        "the time that one inference takes nothing is ever inferred. Flat where, as here, nothing waits.",
        "age_p95_ms",
    ),
    Knob(
        "optimization.audit_share",
        (0.0, 0.02, 0.1, 0.3, 1.0),
        0.02,
        lambda told, value: replace(told, audit=AuditRules(share=value)),
        "Of the frames that the gate skips, inferred all the same to count what it misses. It costs inferences "
        "that are worth little; what you get is the miss rate with its interval.",
        "inferences",
    ),
)


def add_tuning(commands: Any) -> None:
    """The command and its options."""
    text = "turn each knob of the configuration alone, in virtual time; writes docs/tuning.md with a curve per knob"
    parser = commands.add_parser("tuning", help=text, description=text)
    parser.add_argument("--gpu", default="t4", metavar="NAME", help="loadtest/gpus/NAME.json (default %(default)s)")
    parser.add_argument("--only", action="append", metavar="KEY", help="a knob; all without it")
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="DIR", help="default %(default)s")
    parser.set_defaults(command=tuning)


def tuning(options: argparse.Namespace) -> dict[str, Any]:
    """Run it. Raises FleetError and ValueError."""
    from demo.progress import bars

    known = {knob.key: knob for knob in KNOBS}
    for key in options.only or ():
        if key not in known:
            raise ValueError(f"--only: {key} is no knob; there are {', '.join(known)}")
    chosen = [known[key] for key in options.only or known]
    found, tiers = replay(len(CAMERAS)), tier_timings(sheet(options.gpu), "fixed", Tier.N)
    rows: dict[str, list[Row]] = {}
    with bars() as bar:
        task = bar.add_task("knobs", total=sum(len(knob.values) for knob in chosen))
        for knob in chosen:
            rows[knob.key] = []
            for value in knob.values:
                bar.update(task, description=f"{knob.key} {value:g}")
                rows[knob.key].append(measured(knob, value, found, tiers))
                bar.advance(task)
    if not options.only:
        _write(options.out, rows, f"python -m loadtest tuning --gpu {options.gpu}")
    return {"kind": "modelled", "gpu": options.gpu, "knobs": rows}


def measured(knob: Knob, value: float, found: Sequence[Recording], tiers: Mapping[Tier, Any]) -> Row:
    """One value of one knob; everything else as it is by default."""
    cameras = len(found)
    plain = Scenario(
        cameras,
        _SECONDS,
        25.0,
        policy="fixed",
        canvases=dict.fromkeys(Tier, STAND_INS[Tier.M]),
        capacity_ms_per_s=_MS_PER_CAMERA_S * cameras / 0.8,
        window=16,
        judge_every=judged(cameras, _SECONDS),
        counts_missed=True,
    )
    scenario = knob.turn(plain, value)
    simulation = Simulation(scenario, found, tiers, Judge(scenario.judge_every))
    simulation.run()
    told, missed = report(simulation), simulation.population()
    return {
        "value": value,
        "streaming_ap": told["streaming_ap"],
        "inferences": told["inferences_per_camera_s"],
        "gpu_ms": told["gpu_ms_per_camera_s"],
        "age_p95_ms": told["age_ms"]["p95"],
        "missed": None if missed is None else round(100 * missed, 2),
    }


def page(rows: Mapping[str, Sequence[Row]], command: str) -> str:
    """The text of docs/tuning.md."""
    head = Path(__file__).with_name("tuning_page.md").read_text(encoding="utf-8").format(command=command)
    return head + "".join(_section(knob, rows[knob.key]) for knob in KNOBS)


def _section(knob: Knob, rows: Sequence[Row]) -> str:
    lines = [f"\n## `{knob.key}`\n", f"{knob.says} Default: {_default(knob)}.\n", f"![Its curve]({_picture(knob)})\n"]
    lines += ["| " + " | ".join(_COLUMNS.values()) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in _COLUMNS) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _default(knob: Knob) -> str:
    return "chosen by the fleet" if knob.default is None else f"{knob.default:g}"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _picture(knob: Knob) -> str:
    return f"images/tuning-{knob.key.rpartition('.')[2].replace('_', '-')}.svg"


def _write(folder: Path, rows: Mapping[str, Sequence[Row]], command: str) -> None:
    """The page and its plots. Raises FleetError."""
    try:
        import matplotlib as mpl

        mpl.use("svg")
    except ImportError as error:
        raise FleetError("the plots need matplotlib: `make test` installs it") from error
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "tuning.md").write_text(page(rows, command), encoding="utf-8")
        for knob in KNOBS:
            _plot(knob, rows[knob.key], folder / _picture(knob))
    except OSError as error:
        raise FleetError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _plot(knob: Knob, rows: Sequence[Row], path: Path) -> None:
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = knob.key
    figure, left = pyplot.subplots(figsize=(5.6, 2.8))
    values = [row["value"] for row in rows]
    left.plot(values, [row["streaming_ap"] for row in rows], "o-", color="tab:blue")
    left.set_xlabel(knob.key)
    left.set_ylabel(_COLUMNS["streaming_ap"], color="tab:blue")
    if knob.default is not None:
        left.axvline(knob.default, color="0.8", zorder=0)
    if knob.shows != "streaming_ap":
        right = left.twinx()
        points = [(row["value"], row[knob.shows]) for row in rows if row[knob.shows] is not None]
        right.plot(*zip(*points, strict=True), "s--", color="tab:orange")
        right.set_ylabel(_COLUMNS[knob.shows].split(",")[0], color="tab:orange")
        right.set_ylim(bottom=0)
    left.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
