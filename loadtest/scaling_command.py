"""The command `python -m loadtest scaling`: cameras against cards, the page of it and its plots."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clients.arguments import seconds
from clients.data_sheet import sheet
from clients.errors import FleetError
from loadtest.page_head import head, here
from loadtest.recordings import CAMERAS
from loadtest.scaling import COUNTS, GPUS, KINDS, LOADS, MACHINE, Row, planned, simulated
from loadtest.simulate import replay

_PLANNED = {
    "gpu": "card",
    "kind": "cameras are",
    "cameras": "cameras",
    "cards": "cards",
    "breaks_first": "breaks first",
    "cameras_per_card": "cameras per card",
    "cost_per_camera_month": "a camera's month",
}
_SIMULATED = {
    "cards": "cards",
    "cameras_per_card": "cameras per card",
    "streaming_ap": "streaming AP",
    "inferences_per_camera_s": "inferences per camera and second",
    "gpu_ms_per_camera_s": "GPU ms per camera and second",
    "tiers": "n / m / x",
    "age_p50_ms": "age p50, ms",
    "age_p95_ms": "age p95, ms",
    "busy_share_min": "busy, least",
    "busy_share_max": "busy, most",
}


def add_scaling(commands: Any) -> None:
    """The command and its options."""
    text = "how many cards cameras need and what breaks first; what more cameras on a card cost; writes page and plots"
    parser = commands.add_parser("scaling", help=text, description=text)
    parser.add_argument("--gpu", default="t4", metavar="NAME", help="of the runs in virtual time (default %(default)s)")
    parser.add_argument("--seconds", type=seconds, default=10.0, metavar="S", help="of each (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="DIR", help="default %(default)s")
    parser.set_defaults(command=scaling)


def scaling(options: argparse.Namespace) -> dict[str, Any]:
    """Run it. Raises FleetError and ValueError."""
    from demo.progress import bars

    card = sheet(options.gpu)
    plans = [planned(kind, sheet(gpu), count) for kind in KINDS for gpu in GPUS for count in COUNTS]
    found = replay(len(CAMERAS))
    runs: list[Row] = []
    with bars() as bar:
        task = bar.add_task("scaling", total=sum(cards * cameras for cards, cameras in LOADS))
        for cards, cameras in LOADS:
            bar.update(task, description=f"scaling: {cards} x {cameras} cameras")
            runs.append(simulated(card, found, cards, cameras, options.seconds))
            bar.advance(task, cards * cameras)
    command = f"python -m loadtest scaling --gpu {options.gpu} --seconds {options.seconds:g}"
    write(options.out, page(plans, runs, card.gpu, options.seconds, command), plans, runs)
    return {"kind": "projected and modelled", "gpu": card.gpu, "planned": plans, "simulated": runs}


def page(plans: Sequence[Row], runs: Sequence[Row], gpu: str, run_s: float, command: str) -> str:
    """The text of docs/benchmarks/scaling.md."""
    text = Path(__file__).with_name("scaling_page.md").read_text(encoding="utf-8")
    return text.format(
        head=head(("projected", "modelled"), [command], "data sheets of TensorRT FP16", {"": here(("numpy",))}),
        kinds="\n".join(f"- {kind.name}: {kind}" for kind in KINDS),
        cores=MACHINE.cores,
        network=MACHINE.network_mbit_per_s,
        planned=_table(plans, _PLANNED),
        gpu=gpu,
        seconds=run_s,
        simulated=_table(runs, _SIMULATED),
    )


def _table(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row[key]) for key in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write(folder: Path, text: str, plans: Sequence[Row], runs: Sequence[Row]) -> None:
    """The page and its two plots. Raises FleetError: no matplotlib, not writable."""
    try:
        import matplotlib as mpl

        mpl.use("svg")
    except ImportError as error:
        raise FleetError("the plots need matplotlib: `make test` installs it") from error
    try:
        for name in ("images", "benchmarks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "benchmarks" / "scaling.md").write_text(text, encoding="utf-8")
        mpl.rcParams["svg.hashsalt"] = "scaling"
        _plot_cards(plans, folder / "images" / "scaling-cards.svg")
        _plot_load(runs, folder / "images" / "scaling-load.svg")
    except OSError as error:
        raise FleetError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _plot_cards(plans: Sequence[Row], path: Path) -> None:
    """A curve for each card and kind of cameras; beside its end, what breaks first there."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4))
    for kind, line in zip(KINDS, ("-", "--"), strict=True):
        for gpu, colour in zip(dict.fromkeys(row["gpu"] for row in plans), ("tab:blue", "tab:orange"), strict=True):
            rows = [row for row in plans if (row["gpu"], row["kind"]) == (gpu, kind.name)]
            x, y = [row["cameras"] for row in rows], [row["cards"] for row in rows]
            axes.plot(x, y, line, marker="o", markersize=3, color=colour, label=f"{gpu}, {kind.name}")
            axes.annotate(rows[-1]["breaks_first"], (x[-1], y[-1]), (4, 2), textcoords="offset points", fontsize=8)
    axes.set_xlabel("cameras")
    axes.set_ylabel("cards (projected)")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _plot_load(runs: Sequence[Row], path: Path) -> None:
    """Streaming AP on the left, p95 age on the right; a mark for each number of cards."""
    from matplotlib import pyplot

    figure, left = pyplot.subplots(figsize=(7.2, 4))
    right = left.twinx()
    for cards, line in zip(dict.fromkeys(row["cards"] for row in runs), ("o-", "s:"), strict=True):
        rows = [row for row in runs if row["cards"] == cards]
        x, name = [row["cameras_per_card"] for row in rows], "1 card" if cards == 1 else f"{cards} cards"
        left.plot(x, [row["streaming_ap"] for row in rows], line, color="tab:blue", label=f"streaming AP, {name}")
        right.plot(x, [row["age_p95_ms"] for row in rows], line, color="tab:orange", label=f"age p95, {name}")
    left.set_xlabel("cameras per card")
    left.set_ylabel("streaming AP (modelled)", color="tab:blue")
    right.set_ylabel("age p95, ms (modelled)", color="tab:orange")
    left.set_ylim(0, 1.1 * max(row["streaming_ap"] for row in runs))
    right.set_ylim(0, 1.5 * max(row["age_p95_ms"] for row in runs))
    left.grid(alpha=0.3)
    lines = [*left.get_lines(), *right.get_lines()]
    left.legend(lines, [str(one.get_label()) for one in lines], fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
