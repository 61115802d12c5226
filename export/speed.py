"""Frames in to detections out on this CPU, beside Ultralytics' own ONNX predictor: same frames, same weights, one run.

A frame comes decoded. Ultralytics gets it as BGR from OpenCV, letterboxes, infers and suppresses; ours gets it as the
client's decoder delivers it, scales it to the canvas, and runs engine and postprocess with the server's options. One
frame a call on both sides. All rows take turns, round after round, so that other work on the machine hits all alike;
what is reported is the quietest quarter of the rounds, and ratios are taken within a round. Neither side's decoding is
counted, nor our server and its transports.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.sources.picture import Picture
from clients.types import Canvas, Thresholds, Tier
from deploy.run_repository import cpu_precision
from export import weights
from export.calibration import calibration_canvases
from export.engine import prepare
from export.errors import ExportError
from export.evaluate import Predict, Score, scores_of, served
from export.labelled import Labelled, client_pictures, labelled_set
from export.precision import converted
from export.serving import compiled
from export.spec import Spec
from export.to_onnx import engine_onnx, postprocess_onnx

SQUARE = Canvas(640, 640)  # Ultralytics' default
TARGETS = {"square": 2.5, "equal": 1.3, "int8": 1.4}
THRESHOLDS = Thresholds(score=0.25, iou=0.7)
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Request:
    """The weights (None: official), a folder of clips, calibration; pictures for accuracy; how many a round times."""

    tier: Tier
    weights: Path | None
    data: Path
    calibration: str
    pictures: int
    per_round: int
    rounds: int

    def __post_init__(self) -> None:
        for name in ("pictures", "per_round", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Row:
    """One side: `fps` by round. `precision` is the arithmetic: of an INT8 graph, `int8` and what the rest runs in."""

    name: str
    runtime: str
    precision: str
    canvas: str
    fps: tuple[float, ...]
    score: Score

    def median(self, rounds: Sequence[int]) -> float:
        """Frames per second over these rounds."""
        return float(np.median([self.fps[index] for index in rounds]))

    def times(self, other: Row, rounds: Sequence[int]) -> float:
        """How many times as fast as another row: the median over these rounds, in which both ran."""
        return float(np.median([self.fps[index] / other.fps[index] for index in rounds]))


@dataclass(frozen=True, slots=True)
class Report:
    """Rows in order: Ultralytics at its default square, at our canvas, then ours, `f32` first."""

    rows: tuple[Row, ...]

    def quiet(self) -> list[int]:
        """The quarter of the rounds that took all rows together the least time: other work disturbed them least."""
        spent = np.sum([1 / np.array(row.fps) for row in self.rows], axis=0)
        return [int(index) for index in np.argsort(spent, kind="stable")[: max(1, len(spent) // 4)]]

    def ratios(self, row: Row) -> dict[str, float]:
        """Of one of our rows: times Ultralytics' square, Ultralytics at our canvas, and our own f32."""
        names = ("square", "equal", "f32")
        quiet = self.quiet()
        return {name: round(row.times(other, quiet), 2) for name, other in zip(names, self.rows[:3], strict=True)}

    def reached(self) -> dict[str, bool]:
        """The targets: the fastest row of FP32 weights against both of Ultralytics', the fastest INT8 against f32."""
        ratios = {row.precision: self.ratios(row) for row in self.rows[2:]}
        plain = [found for precision, found in ratios.items() if not precision.startswith("int8")]
        int8 = [found for precision, found in ratios.items() if precision.startswith("int8")]
        return {
            "square": max(found["square"] for found in plain) >= TARGETS["square"],
            "equal": max(found["equal"] for found in plain) >= TARGETS["equal"],
            "int8": max(found["f32"] for found in int8) >= TARGETS["int8"],
        }

    def table(self) -> str:
        """For people: a row per side."""
        lines = [
            ["", "runtime", "precision", "canvas", "frames/s", "x square", "x equal", "x f32", "mAP50-95", "mAP50"]
        ]
        quiet = self.quiet()
        for index, row in enumerate(self.rows):
            ratios = [f"{ratio:.2f}" for ratio in self.ratios(row).values()] if index >= 2 else ["", "", ""]
            cells = [row.name, row.runtime, row.precision, row.canvas, f"{row.median(quiet):.1f}", *ratios]
            lines.append([*cells, f"{row.score.map50_95:.2f}", f"{row.score.map50:.2f}"])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "".join(f"{row}\n" for row in rows)

    def as_json(self) -> dict[str, Any]:
        """For the command line's last line."""
        rows = [
            {
                "name": row.name,
                "runtime": row.runtime,
                "precision": row.precision,
                "canvas": row.canvas,
                "fps": round(row.median(self.quiet()), 2),
                "fps_by_round": [round(fps, 2) for fps in row.fps],
                **({"times": self.ratios(row)} if index >= 2 else {}),
                "map50_95": row.score.map50_95,
                "map50": row.score.map50,
            }
            for index, row in enumerate(self.rows)
        ]
        return {"rows": rows, "quiet_rounds": self.quiet(), "targets": TARGETS, "reached": self.reached()}


@dataclass(frozen=True, slots=True)
class Side:
    """Something that is timed: seconds for the pictures of these numbers, and what it finds for the measure."""

    name: str
    runtime: str
    precision: str
    canvas: Canvas
    seconds: Callable[[Sequence[int]], float]
    predict: Predict


def measure(spec: Spec, request: Request, progress: Callable[[str, int, int], None]) -> Report:
    """All rows; `progress` is told what is done, how much of it, and of how much. Raises ExportError."""
    checkpoint = weights.chosen(request.tier, request.weights, untrained=False)
    if checkpoint.path is None:
        raise ExportError("a comparison needs trained weights")
    pictures = client_pictures(request.data, request.pictures)
    labelled = list(labelled_set(request.data, checkpoint.classes, spec.canvas, request.pictures).pictures)
    with opponent(checkpoint.path, labelled) as ask:
        sides = [
            *(_theirs(ask, canvas) for canvas in (SQUARE, spec.canvas)),
            *_ours(prepare(checkpoint.network), spec, request, pictures),
        ]
        fps = _rounds(sides, _plan(len(pictures), request), progress)
        again = labelled_set(request.data, checkpoint.classes, spec.canvas, request.pictures)
        predictors = {str(index): side.predict for index, side in enumerate(sides)}
        scores = scores_of(again, predictors, lambda done, of: progress("accuracy", done, of))
    return Report(
        tuple(
            Row(side.name, side.runtime, side.precision, str(side.canvas), tuple(fps[index]), scores[str(index)])
            for index, side in enumerate(sides)
        )
    )


def _rounds(
    sides: Sequence[Side], plan: Sequence[Sequence[int]], progress: Callable[[str, int, int], None]
) -> list[list[float]]:
    """Frames per second by side and round; a first round warms up and is not kept."""
    fps: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side.seconds(plan[0])
    for done, timed in enumerate(plan, start=1):
        for side, kept in zip(sides, fps, strict=True):
            kept.append(len(timed) / side.seconds(timed))
        progress("speed", done, len(plan))
    return fps


def _plan(pictures: int, request: Request) -> list[list[int]]:
    """The pictures of each round, all cameras mixed, the same every time. Short rounds: noise outlasts a long one."""
    mixed = np.random.default_rng(0).permutation(pictures)
    numbers = np.resize(mixed, request.rounds * request.per_round)
    return [[int(index) for index in part] for part in numbers.reshape(request.rounds, request.per_round)]


def _ours(network: Any, spec: Spec, request: Request, pictures: Sequence[Picture]) -> Iterator[Side]:
    full, post = engine_onnx(network, spec), postprocess_onnx(spec)
    int8, _ = converted(full, "int8", calibration_canvases(request.calibration, spec.canvas))
    arithmetic = ("f32", "bf16") if cpu_precision() == "bf16" else ("f32",)
    for weights_name, engine in (("", full), ("int8+", int8)):
        for rest in arithmetic:
            seconds = _pipeline(engine, post, rest, spec.canvas, pictures)
            predict = served(engine, post, rest)
            yield Side("ours", "OpenVINO", f"{weights_name}{rest}", spec.canvas, seconds, predict)


def _pipeline(
    engine: bytes, post: bytes, precision: str, canvas: Canvas, pictures: Sequence[Picture]
) -> Callable[[Sequence[int]], float]:
    first, second = compiled(engine, precision), compiled(post, precision)
    frames = np.empty((1, *canvas.nv12_shape), dtype=np.uint8)
    thresholds = THRESHOLDS.as_array()[None]

    def detect(picture: Picture) -> NDArray[np.float32]:
        geometry = picture.write_canvas(canvas, frames[0]).as_array()[None]
        candidates = first({"frames": frames}, share_inputs=True, share_outputs=True)["candidates"]
        inputs = {"candidates": candidates, "geometry": geometry, "thresholds": thresholds}
        found = second(inputs, share_inputs=True, share_outputs=True)
        rows: NDArray[np.float32] = found["detections"][0, : int(found["count"][0, 0])].copy()
        return rows

    def seconds(indices: Sequence[int]) -> float:
        start = time.perf_counter()
        for index in indices:
            detect(pictures[index])
        return time.perf_counter() - start

    return seconds


Ask = Callable[[dict[str, Any]], dict[str, Any]]


def _theirs(ask: Ask, canvas: Canvas) -> Side:
    size = [canvas.height, canvas.width]
    ask({"load": size})
    rows: Iterator[NDArray[np.float32]] | None = None

    def seconds(indices: Sequence[int]) -> float:
        return float(ask({"time": size, "pictures": list(indices)})["seconds"])

    def predict(_: Labelled) -> NDArray[np.float32]:
        """The pictures come in the order in which they were handed over."""
        nonlocal rows
        if rows is None:
            with np.load(ask({"detect": size})["file"]) as stored:
                rows = iter([stored[str(index)] for index in range(len(stored.files))])
        return next(rows)

    return Side("Ultralytics", "ONNX Runtime", "f32", canvas, seconds, predict)


@contextlib.contextmanager
def opponent(checkpoint: Path, pictures: Sequence[Labelled]) -> Iterator[Ask]:
    """Ultralytics' predictor in a process of its own, as long as the context lasts. Raises ExportError: it failed."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        shutil.copy(checkpoint, Path(folder) / "weights.pt")
        stored: dict[str, Any] = {str(index): one.picture for index, one in enumerate(pictures)}
        np.savez(Path(folder) / "pictures.npz", **stored)
        process = subprocess.Popen(
            [sys.executable, "-m", "export.opponent", folder],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

        def ask(request: dict[str, Any]) -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                told = log.read().strip().splitlines() or ["it said nothing"]
                raise ExportError(f"Ultralytics' predictor ended: {told[-1]}")
            answer: dict[str, Any] = json.loads(line)
            return answer

        with process:
            try:
                yield ask
            finally:
                process.kill()
