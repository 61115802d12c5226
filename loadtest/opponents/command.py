"""`python -m loadtest opponents`: what a user would run instead, beside ours, on the same frames, in one run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clients.arguments import seconds
from clients.errors import FleetError
from demo.clips import Job
from demo.run import CLIP_S as DEMO_CLIP_S
from demo.scenes import camera_name
from loadtest.coded_clips import coded_clips
from loadtest.fifty import CLIP_S
from loadtest.opponents.at_equal_age import Asked, carried, naive, ours
from loadtest.opponents.at_equal_precision import FORMS, cameras_at, curve, our_speed, ultralytics_speed
from loadtest.opponents.naive_client import WARM_S
from loadtest.page_head import head, here
from loadtest.profile import sheet
from loadtest.recordings import CAMERAS
from loadtest.simulate import CLIPS, replay

PARTS = ("naive", "ultralytics")
_LIVE_CAMERAS = 8  # of the demo: what both sides infer as fast as they can
_CODED = 50
_KEPT = (0.98, 0.95, 0.90)  # of the AP of the best that anybody reaches
Progress = Callable[[str], None]


def add_opponents(commands: Any) -> None:
    """The command and its options."""
    text = "beside ours: a naive tritonclient per camera at equal age, Ultralytics' multi-stream predict at equal AP"
    parser = commands.add_parser("opponents", help=text, description=text)
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; both without it")
    parser.add_argument("--fps", type=float, default=5.0, metavar="FPS", help="per camera, beside the naive client")
    parser.add_argument(
        "--age", type=float, default=150.0, metavar="MS", help="95 %% are younger (default %(default)s)"
    )
    parser.add_argument("--seconds", type=seconds, default=10.0, metavar="S", help="of each run (default %(default)s)")
    parser.add_argument("--gpu", default="t4", metavar="NAME", help="the emulated card (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), metavar="DIR", help="default %(default)s")
    parser.set_defaults(command=opponents)


def opponents(options: argparse.Namespace) -> dict[str, Any]:
    """Run it. Raises FleetError and ValueError. A page is written when both parts have run."""
    from demo.progress import bars

    if options.seconds <= WARM_S:
        raise ValueError(f"--seconds must be more than the {WARM_S:g} s that do not count, got {options.seconds:g}")
    if not (options.fps > 0 and options.age > 0):
        raise ValueError(f"--fps and --age must be positive, got {options.fps:g} and {options.age:g}")
    sheet(options.gpu)
    parts = options.only or PARTS
    told: dict[str, Any] = {}
    with bars() as bar:
        task = bar.add_task("opponents", total=None)

        def progress(text: str) -> None:
            bar.update(task, description=f"opponents: {text}")

        if "naive" in parts:
            told["naive"] = beside_naive(options, progress)
        if "ultralytics" in parts:
            told["ultralytics"] = beside_ultralytics(options, progress)
    if set(parts) == set(PARTS):
        _write(options, told)
    return told


def beside_naive(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Runs of both sides, and how many cameras each carries."""
    asked = Asked(options.fps, options.age, options.seconds)
    clips = coded_clips(_CODED, CLIP_S, Path("out/fifty/clips"), lambda done, of: progress(f"clips {done} of {of}"))
    runs = {"naive": naive(clips, asked, progress), "ours": ours(clips, sheet(options.gpu), asked, progress)}
    most = {side: carried(some, asked) for side, some in runs.items()}
    return {
        "asked": asdict(asked),
        "runs": [asdict(one) | {"holds": one.holds(asked)} for some in runs.values() for one in some],
        "cameras": most,
        "ratio": round(most["ours"] / most["naive"], 1) if most["naive"] else None,
        "kind": "emulated card, measured clients",
    }


def beside_ultralytics(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Speeds as they are measured, the curves that follow from them, and cameras at equal AP."""
    found = replay(len(CAMERAS))
    jobs = [Job(index, 0, DEMO_CLIP_S, CLIPS) for index in CAMERAS[:_LIVE_CAMERAS]]
    clips = [job.clip for job in jobs]
    speeds: dict[str, dict[str, Any]] = {}
    for name, (form, size) in FORMS.items():
        progress(f"Ultralytics, {name}")
        speeds[name] = ultralytics_speed(clips, form, size, options.seconds)
    progress("ours, as fast as it can")
    speeds["ours"] = our_speed(clips, Path("demo/weights"), options.seconds)
    curves = {
        name: curve(found, told["frames_per_s"], is_ours=name == "ours", progress=progress)
        for name, told in speeds.items()
    }
    best = max(max(points.values()) for points in curves.values())
    carried_by = {
        name: {f"{kept:.0%}": cameras_at(points, kept * best) for kept in _KEPT} for name, points in curves.items()
    }
    return {
        "speeds": speeds,
        "streaming_ap": curves,
        "best_streaming_ap": best,
        "cameras": carried_by,
        "ratio": {
            name: {kept: _ratio(carried_by["ours"][kept], count) for kept, count in by_kept.items()}
            for name, by_kept in carried_by.items()
            if name != "ours"
        },
        "same_ap": {name: _same_ap(curves["ours"], points) for name, points in curves.items() if name != "ours"},
        "clips": [camera_name(job.index) for job in jobs],
        "kind": "speeds measured, AP in virtual time",
    }


def _same_ap(ours_keeps: Mapping[int, float], theirs: Mapping[int, float]) -> list[dict[str, float]]:
    """For each number of their cameras: the AP that they have then, and with how many ours has it."""
    rows = []
    for count, precision in theirs.items():
        most = cameras_at(ours_keeps, precision)
        rows.append({"cameras": count, "ap": precision, "ours": most, "ratio": round(most / count, 1)})
    return rows


def _ratio(ours_carries: float, other: float) -> float | None:
    return round(ours_carries / other, 1) if other else None


def _write(options: argparse.Namespace, told: Mapping[str, Any]) -> None:
    """The page and its plot. Raises FleetError."""
    page = _page(options, told)
    sys.stderr.write(page)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "opponents.md").write_text(page, encoding="utf-8")
        _plot(told["ultralytics"]["streaming_ap"], options.out / "opponents-ap.svg")
    except OSError as error:
        raise FleetError(f"{options.out}: cannot be written: {error.strerror or error}") from error


def _page(options: argparse.Namespace, told: Mapping[str, Any]) -> str:
    text = Path(__file__).with_name("page.md").read_text(encoding="utf-8")
    beside, ultralytics = told["naive"], told["ultralytics"]
    command = f"python -m loadtest opponents --fps {options.fps:g} --age {options.age:g} --seconds {options.seconds:g}"
    precision = f"ours {ultralytics['speeds']['ours']['precision']}, Ultralytics f32 (OpenVINO: its default)"
    packages = ("ultralytics", "torch", "onnxruntime", "openvino", "tritonclient", "opencv-python", "numpy")
    return text.format(
        head=head(("measured", "emulated"), [command], precision, {"": here(packages)}),
        fps=f"{options.fps:g}",
        age=f"{options.age:g}",
        naive_cameras=beside["cameras"]["naive"],
        our_cameras=beside["cameras"]["ours"],
        naive_ratio=beside["ratio"],
        runs=_run_table(beside["runs"]),
        live=_LIVE_CAMERAS,
        speeds=_speed_table(ultralytics),
        same=_same_table(ultralytics["same_ap"]),
        curves=_curve_table(ultralytics["streaming_ap"]),
        best=f"{ultralytics['best_streaming_ap']:.1f}",
    )


def _run_table(runs: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| | cameras | inferences/s | age p50, ms | age p95, ms | failed | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in runs:
        ages = f"{one['age_p50_ms']:.0f} | {one['age_p95_ms']:.0f}"
        holds = "yes" if one["holds"] else "no"
        lines.append(
            f"| {one['side']} | {one['cameras']} | {one['inferences_per_s']:.0f} | {ages} | {one['failed']} | {holds} |"
        )
    return "\n".join(lines)


def _speed_table(told: Mapping[str, Any]) -> str:
    kept = list(told["cameras"]["ours"])
    lines = [
        "| | frames/s | " + " | ".join(f"cameras at {one}" for one in kept) + " | ours carries |",
        "|---|---|" + "---|" * (len(kept) + 1),
    ]
    for name, speed in told["speeds"].items():
        counts = " | ".join(f"{told['cameras'][name][one]:g}" for one in kept)
        ratios = [f"{ratio:g}" for ratio in told["ratio"].get(name, {}).values() if ratio is not None]
        times = f"{' / '.join(ratios)} times as many" if ratios else ""
        lines.append(f"| {name} | {speed['frames_per_s']:.1f} | {counts} | {times} |")
    return "\n".join(lines)


def _same_table(told: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    counts = [f"{row['cameras']:g}" for row in next(iter(told.values()))]
    lines = ["| as many of ours as of | " + " | ".join(counts) + " cameras |", "|---|" + "---|" * len(counts)]
    for name, rows in told.items():
        cells = [f"{row['ours']:g} ({row['ratio']:g}x)" for row in rows]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _curve_table(curves: Mapping[str, Mapping[int, float]]) -> str:
    counts = list(next(iter(curves.values())))
    lines = ["| cameras | " + " | ".join(map(str, counts)) + " |", "|---|" + "---|" * len(counts)]
    lines += [
        f"| {name} | " + " | ".join(f"{points[count]:.1f}" for count in counts) + " |"
        for name, points in curves.items()
    ]
    return "\n".join(lines)


def _plot(curves: Mapping[str, Mapping[int, float]], path: Path) -> None:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FleetError("the plot needs matplotlib: `make test` installs it") from error
    with mpl.rc_context({"svg.hashsalt": "opponents"}):
        figure = Figure(figsize=(6.4, 4))
        axes = figure.add_subplot()
        for name, points in curves.items():
            axes.plot(list(points), list(points.values()), "o-" if name == "ours" else "s--", label=name)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(next(iter(curves.values()))), [str(count) for count in next(iter(curves.values()))])
        axes.set_xlabel("cameras on this machine")
        axes.set_ylabel("streaming AP")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
