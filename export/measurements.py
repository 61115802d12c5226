"""The command lines that choose and compare: `python -m export suppression` and `python -m export speed`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clients.types import Tier
from export.calibration import DEMO
from export.spec import Spec

_DEMO_CLIPS = Path("demo/clips")
_DEMO_WEIGHTS = Path("demo/weights/yolo12n.pt")


def run(spec: Spec, arguments: argparse.Namespace) -> int:
    """The command that was asked for; returns its exit code. Raises ExportError and ValueError."""
    return COMMANDS[arguments.command](spec, arguments)


def add(commands: Any, shape: argparse.ArgumentParser) -> None:
    """Every command of this file, below `commands`; `shape` brings --canvas and --top-k."""
    _add_suppression(commands, shape)
    _add_speed(commands, shape)


def _suppression(spec: Spec, arguments: argparse.Namespace) -> int:
    from demo.progress import bars
    from export import suppression  # torch, ultralytics: seconds to import

    top_ks = suppression.parse_top_ks(f"{arguments.candidates},{spec.top_k}")
    data, checkpoint = _demo(arguments)
    request = suppression.Request(Tier(arguments.model), checkpoint, data, arguments.pictures, top_ks)
    with bars() as bar:
        task = bar.add_task("suppression", total=None)
        found = suppression.measure(spec, request, lambda done, of: bar.update(task, completed=done, total=of))
    sys.stderr.write(suppression.table(spec, found))
    failures = [one for one in found if one.top_k == spec.top_k and one.share < suppression.LEAST_SHARE]
    for one in failures:
        text = f"K {one.top_k} keeps {one.share:.3f} % of Ultralytics' boxes on {one.kind} pictures"
        sys.stderr.write(f"export: {text}, at least {suppression.LEAST_SHARE} % are asked for\n")
    report = {
        "model": arguments.model,
        "canvas": str(spec.canvas),
        "score": suppression.THRESHOLDS.score,
        "iou": suppression.THRESHOLDS.iou,
        "top_k": spec.top_k,
        "smallest_top_k": suppression.smallest(found),
        "results": [
            one.as_json() | {"matrix_mb": round(suppression.temporary_mb(spec, one.top_k), 1)} for one in found
        ],
        "passed": not failures,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return int(bool(failures))


def _speed(spec: Spec, arguments: argparse.Namespace) -> int:
    from demo.progress import bars
    from export import speed  # torch, ultralytics: seconds to import

    data, checkpoint = _demo(arguments)
    counts = (arguments.pictures, arguments.per_round, arguments.rounds)
    request = speed.Request(Tier(arguments.model), checkpoint, data, arguments.calibration, *counts)
    with bars() as bar:
        tasks = {name: bar.add_task(name, total=None) for name in ("speed", "accuracy")}
        report = speed.measure(spec, request, lambda name, done, of: bar.update(tasks[name], completed=done, total=of))
    sys.stderr.write(report.table())
    sys.stdout.write(json.dumps({"model": arguments.model, "data": str(data), **report.as_json()}) + "\n")
    return 0


def _demo(arguments: argparse.Namespace) -> tuple[Path, Path | None]:
    """Labelled pictures and weights: what was named, else the demo's, whose clips are rendered when missing."""
    from export.labelled import render_demo

    if arguments.data is not None:
        return arguments.data, arguments.weights
    render_demo(_DEMO_CLIPS)
    return _DEMO_CLIPS, arguments.weights or _DEMO_WEIGHTS


def _add_suppression(commands: Any, shape: argparse.ArgumentParser) -> None:
    text = (
        "compare postprocess with Ultralytics' own suppression on crowded pictures, for several numbers of candidates"
    )
    command = commands.add_parser("suppression", parents=[shape], help=text, description=text)
    _add_model(command)
    command.add_argument("--pictures", type=int, default=24, help="of each kind (default %(default)s)")
    command.add_argument(
        "--candidates", default="300,384,512,640,768,1024", help="values of K beside --top-k (default %(default)s)"
    )


def _add_speed(commands: Any, shape: argparse.ArgumentParser) -> None:
    text = "time frames in to detections out on this CPU, beside Ultralytics' own ONNX predictor, with each accuracy"
    command = commands.add_parser("speed", parents=[shape], help=text, description=text)
    _add_model(command)
    command.add_argument("--calibration", default=DEMO, metavar="SOURCE", help="of INT8 (default %(default)s)")
    command.add_argument("--pictures", type=int, default=96, help="for accuracy, about (default %(default)s)")
    command.add_argument("--per-round", type=int, default=4, help="pictures of a round (default %(default)s)")
    command.add_argument("--rounds", type=int, default=40, help="of all rows in turn (default %(default)s)")


def _add_model(command: argparse.ArgumentParser) -> None:
    models = [tier.value for tier in Tier]
    command.add_argument(
        "model", nargs="?", default=models[0], choices=models, metavar="MODEL", help="default %(default)s"
    )
    command.add_argument("--weights", type=Path, help="a checkpoint (default: the demo's on its clips, else official)")
    command.add_argument(
        "--data", type=Path, help="a folder in COCO format, or of rendered clips (default: the demo's)"
    )


COMMANDS: dict[str, Callable[[Spec, argparse.Namespace], int]] = {"suppression": _suppression, "speed": _speed}
