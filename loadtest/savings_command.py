"""The command `python -m loadtest savings`: runs the experiment, prints its tables, writes the page and its plots."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clients.arguments import seconds
from clients.errors import FleetError
from loadtest.engine_cost import engine_costs_ms
from loadtest.page_head import here
from loadtest.policies import Outcome, governors, routers
from loadtest.profile import read_profile
from loadtest.recordings import CAMERAS
from loadtest.savings import Experiment, Row
from loadtest.simulate import PROFILES, judged, named, replay

_FRONTIER_FPS = (2.0, 4.0, 6.0, 9.0, 12.0)
_ROUTER_MS = (4.0, 15.0, 30.0)  # budgets of the routers, GPU-milliseconds per camera and second
_COLUMNS = {
    "name": "technique",
    "tier": "tier",
    "inferences_per_camera_s": "inferences/s",
    "engine_ms_per_camera_s": "engine ms/s",
    "saved_percent": "saved %",
    "t4_share_percent": "T4 %",
    "t4_saved_percent": "T4 saved %",
    "memory_mb_per_stream": "MB",
    "streams_per_t4": "streams",
    "streaming_ap": "streaming AP",
    "ap": "AP",
    "ap_retained_percent": "kept %",
    "added_latency_ms_p50": "added p50",
    "added_latency_ms_p95": "added p95",
}
_POLICY_COLUMNS = {
    "name": "policy",
    "streaming_ap": "streaming AP",
    "ap": "AP",
    "gpu_ms_per_camera_s": "GPU ms per camera s",
    "inferences_per_camera_s": "inferences/s",
    "in_time_per_camera_s": "in time/s",
    "tiers": "n / m / x",
}
Told = list[dict[str, Any]]


def add_savings(commands: Any) -> None:
    """The command and its options."""
    text = "what each technique saves and what it costs, the frontier of both, routers and governors compared"
    parser = commands.add_parser("savings", help=text, description=text)
    parser.add_argument("--gpu", default="t4", metavar="NAME", help="loadtest/gpus/NAME.json (default %(default)s)")
    parser.add_argument("--cameras", type=int, default=18, metavar="N", help="default %(default)s")
    parser.add_argument("--seconds", type=seconds, default=24.0, metavar="S", help="default %(default)s")
    text = "inferences per second and camera, on average, that all techniques together may spend (default %(default)s)"
    parser.add_argument("--rate", type=float, default=5.0, metavar="FPS", help=text)
    parser.add_argument(
        "--recordings", type=int, default=len(CAMERAS), metavar="N", help="different clips (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), metavar="DIR", help="default %(default)s")
    parser.set_defaults(command=savings)


def savings(options: argparse.Namespace) -> dict[str, Any]:
    """Run it. Raises FleetError and ValueError."""
    from demo.progress import bars

    if not options.rate > 0:
        raise ValueError(f"--rate must be positive, got {options.rate}")
    profile = read_profile(PROFILES / f"{options.gpu}.json")
    found = replay(options.recordings)
    every = 2 * judged(options.cameras, options.seconds)
    experiment = Experiment(profile, found, options.cameras, options.seconds, options.rate, every)
    with bars() as bar:
        task = bar.add_task("savings", total=1.0)

        def part(start: float, share: float) -> Callable[[str, float], None]:
            return lambda name, done: bar.update(task, completed=start + share * done, description=f"savings: {name}")

        costs = engine_costs_ms(lambda done: part(0, 0.1)("engines", done))
        rows = experiment.rows(part(0.1, 0.35))
        told = [row.as_json(costs, rows[0], options.cameras) for row in rows]
        frontier = _frontier(experiment, part(0.45, 0.3), rows[0])
        routed = []
        for number, budget in enumerate(_ROUTER_MS):
            share = part(0.75 + 0.05 * number, 0.05)
            routed += routers(profile, found, experiment.plain, budget, share)
        governed = governors(profile, found, experiment.plain, part(0.9, 0.1))
    page = _page(told, frontier, routed, governed, costs, options)
    sys.stderr.write(page)
    _write(options.out, page, frontier)
    ours, uniform = told[-2], told[-1]
    return {
        "saved_percent": ours["saved_percent"],
        "ap_retained_percent": ours["ap_retained_percent"],
        "streaming_ap": ours["streaming_ap"],
        "uniform_streaming_ap": uniform["streaming_ap"],
        "added_latency_ms_p95": ours["added_latency_ms_p95"],
        "rows": told,
        "frontier": frontier,
        "routers": [one.as_json() for one in routed],
        "governors": [one.as_json() for one in governed],
        "engine_ms": costs,
        "stand_ins": named(),
        "kind": f"engine time measured on this CPU, {profile.gpu} {profile.kind}, precision measured in virtual time",
    }


def _frontier(experiment: Experiment, progress: Callable[[str, float], None], before: Row) -> Told:
    """Ours and the uniform rate at the same GPU time, for rising budgets."""
    points = []
    for number, fps in enumerate(_FRONTIER_FPS):
        progress(f"frontier {fps:g}", number / len(_FRONTIER_FPS))
        ours = experiment.together(fps)
        uniform = experiment.uniform(ours["gpu_ms_per_camera_s"], ours["inferences_per_camera_s"])
        base = before.told["inferences_per_camera_s"] * before.t4_ms
        points.append(
            {
                "fps": fps,
                "t4_saved_percent": round(100 * (1 - ours["gpu_ms_per_camera_s"] / base), 2),
                "gpu_ms_per_camera_s": ours["gpu_ms_per_camera_s"],
                "uniform_gpu_ms_per_camera_s": uniform["gpu_ms_per_camera_s"],
                "streaming_ap": ours["streaming_ap"],
                "uniform_streaming_ap": uniform["streaming_ap"],
                "kept_percent": round(100 * ours["streaming_ap"] / before.told["streaming_ap"], 2),
                "uniform_kept_percent": round(100 * uniform["streaming_ap"] / before.told["streaming_ap"], 2),
            }
        )
    return points


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(key, "")) for key in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _policies(outcomes: Sequence[Outcome]) -> Told:
    rows = []
    for one in outcomes:
        told = one.as_json()
        shares = [f"{told['tier_share'].get(f'yolo12{name}', 0):.0%}" for name in "nmx"]
        rows.append(told | {"tiers": " / ".join(shares)})
    return rows


def _page(
    told: Told,
    frontier: Told,
    routed: Sequence[Outcome],
    governed: Sequence[Outcome],
    costs: Mapping[str, float],
    options: argparse.Namespace,
) -> str:
    head = Path(__file__).with_name("savings_page.md").read_text(encoding="utf-8")
    points = {
        "fps": "budget, inferences/s",
        "t4_saved_percent": "T4 saved %",
        "streaming_ap": "ours",
        "uniform_streaming_ap": "uniform",
        "kept_percent": "ours keeps %",
        "uniform_kept_percent": "uniform keeps %",
    }
    options_text = " ".join(f"--{name} {getattr(options, name):g}" for name in ("cameras", "seconds", "rate"))
    return head.format(
        command=f"python -m loadtest savings {options_text} --recordings {options.recordings}",
        machine=here(("numpy", "openvino")),
        costs=", ".join(f"{step} {ms:.1f}" for step, ms in costs.items()),
        rows=_table(told, _COLUMNS),
        frontier=_table(frontier, points),
        routers=_table(_policies(routed), _POLICY_COLUMNS),
        governors=_table(_policies(governed), _POLICY_COLUMNS),
    )


def _write(folder: Path, page: str, frontier: Told) -> None:
    """The page and its plot. Raises FleetError."""
    try:
        import matplotlib as mpl

        mpl.use("svg")
        from matplotlib import pyplot
    except ImportError as error:
        raise FleetError("the plots need matplotlib: `make test` installs it") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "savings.md").write_text(page, encoding="utf-8")
        mpl.rcParams["svg.hashsalt"] = "frontier"
        figure, axes = pyplot.subplots(figsize=(6.4, 4))
        x = [point["t4_saved_percent"] for point in frontier]
        axes.plot(x, [point["streaming_ap"] for point in frontier], "o-", label="ours: gate, need, one shared card")
        axes.plot(x, [point["uniform_streaming_ap"] for point in frontier], "s--", label="one rate for all cameras")
        axes.set_xlabel("GPU time saved, % (T4, projected)")
        axes.set_ylabel("streaming AP")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.tight_layout()
        figure.savefig(folder / "savings-frontier.svg", metadata={"Date": None})
        pyplot.close(figure)
    except OSError as error:
        raise FleetError(f"{folder}: cannot be written: {error.strerror or error}") from error
