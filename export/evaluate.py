"""Accuracy of the served variants beside PyTorch's, on the same labelled pictures: the gate of an export.

All sides: score 0.001, IoU 0.7, 300 boxes, one class per box. PyTorch runs Ultralytics' own network and suppression on
RGB as OpenCV decodes and scales it; the variants get the canvas that the client sends. FP32 and INT8 run in OpenVINO as
served, FP16 in ONNX Runtime, rounded after every step, because a CPU's OpenVINO would compute it in FP32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from clients.types import Canvas, Tier
from export import weights
from export.average_precision import precision_table
from export.calibration import calibration_canvases
from export.engine import prepare
from export.errors import ExportError
from export.labelled import Labelled, LabelledSet, labelled_set
from export.precision import Precision, converted, rounding
from export.serving import compiled
from export.spec import Spec
from export.to_onnx import engine_onnx, postprocess_onnx

MAX_DROP: dict[Precision, float] = {"fp32": 0.3, "fp16": 0.3, "int8": 1.0}  # mAP50-95, in points of 100
_SCORE, _IOU, _PAD = 0.001, 0.7, 114
_NAME = "pytorch"

# BGR, canvas and geometry in; rows x1, y1, x2, y2 in source pixels, score, class out
Predict = Callable[[Labelled], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Score:
    """Mean average precision in points of 100; `per_class` mAP50-95 of the classes that are labelled."""

    map50_95: float
    map50: float
    per_class: dict[str, float]


@dataclass(frozen=True, slots=True)
class Reference:
    """What is measured against: the network of these weights (None: official) in PyTorch, on a labelled folder."""

    tier: Tier
    weights: Path | None
    data: Path
    pictures: int

    def __post_init__(self) -> None:
        if self.pictures < 1:
            raise ValueError(f"pictures must be at least 1, got {self.pictures}")


def evaluate(
    spec: Spec,
    reference: Reference,
    variants: Sequence[Precision],
    calibration: str,
    progress: Callable[[int, int], None],
) -> dict[str, Score]:
    """Export each variant and measure it: see `measure`. `calibration` as for an export. Raises ExportError."""
    checkpoint, pictures = _read(spec, reference)  # before the long work: labels may be unusable
    engine = engine_onnx(prepare(checkpoint.network), spec)
    frames = None if set(variants) <= {"fp32"} else calibration_canvases(calibration, spec.canvas)
    engines = {
        variant: engine if variant == "fp32" or frames is None else converted(engine, variant, frames)[0]
        for variant in variants
    }
    original = weights.chosen(reference.tier, reference.weights, untrained=False)  # the export changed the first one
    return _measured(spec, original, pictures, engines, progress)


def measure(
    spec: Spec, reference: Reference, engines: Mapping[Precision, bytes], progress: Callable[[int, int], None]
) -> dict[str, Score]:
    """Scores of these ONNX engines by variant, `pytorch` first; `progress` is told pictures done and in all.

    Raises ExportError: unusable weights or labels.
    """
    return _measured(spec, *_read(spec, reference), engines, progress)


def _read(spec: Spec, reference: Reference) -> tuple[weights.Checkpoint, LabelledSet]:
    checkpoint = weights.chosen(reference.tier, reference.weights, untrained=False)
    return checkpoint, labelled_set(reference.data, checkpoint.classes, spec.canvas, reference.pictures)


def _measured(
    spec: Spec,
    checkpoint: weights.Checkpoint,
    pictures: LabelledSet,
    engines: Mapping[Precision, bytes],
    progress: Callable[[int, int], None],
) -> dict[str, Score]:
    post = postprocess_onnx(spec)
    predictors: dict[str, Predict] = {_NAME: in_torch(checkpoint, spec)}
    for variant, engine in engines.items():
        predictors[variant] = _onnx_runtime(engine, post) if variant == "fp16" else served(engine, post)
    return scores_of(pictures, predictors, progress)


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured, and what each variant may lose against PyTorch, in points of mAP50-95."""

    scores: dict[str, Score]
    limits: dict[Precision, float]

    def drops(self) -> dict[str, float]:
        """By variant; negative where it gains."""
        reference = self.scores[_NAME].map50_95
        return {name: round(reference - one.map50_95, 2) for name, one in self.scores.items() if name != _NAME}

    def failures(self) -> list[str]:
        """One line for each variant that loses too much."""
        return [
            f"{name} loses {drop} points of mAP50-95 against PyTorch, at most {self.limits[_variant(name)]} are allowed"
            for name, drop in self.drops().items()
            if not drop <= self.limits[_variant(name)]
        ]

    def table(self) -> str:
        """For people: a row per variant."""
        names = list(self.scores[_NAME].per_class)
        drops = {_NAME: "", **{name: f"{drop:.2f}" for name, drop in self.drops().items()}}
        lines = [["variant", "mAP50-95", "mAP50", "drop", *names]]
        for name, one in self.scores.items():
            classes = [f"{one.per_class[label]:.2f}" for label in names]
            lines.append([name, f"{one.map50_95:.2f}", f"{one.map50:.2f}", drops[name], *classes])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "".join(f"{row}\n" for row in rows)

    def as_json(self) -> dict[str, Any]:
        """For the command line's last line."""
        return {
            "scores": {name: asdict(one) for name, one in self.scores.items()},
            "drops": self.drops(),
            "max_drop": self.limits,
            "passed": not self.failures(),
        }


def parse_variants(text: str) -> tuple[Precision, ...]:
    """`fp32,int8` -> ("fp32", "int8"). Raises ValueError that lists them."""
    return tuple(dict.fromkeys(_variant(name.strip()) for name in text.split(",")))


def parse_limits(text: str) -> dict[Precision, float]:
    """`0.5` for all, or `fp16=0.3,int8=1`; what is not named keeps its default. Raises ValueError."""
    limits = dict(MAX_DROP)
    for part in filter(None, text.split(",")):
        name, _, value = part.rpartition("=")
        try:
            limit = float(value)
        except ValueError as error:
            raise ValueError(f"--max-drop: expected points such as 0.5 or int8=1, got {part!r}") from error
        limits |= dict.fromkeys(limits, limit) if not name else {_variant(name.strip()): limit}
    return limits


def _variant(name: str) -> Precision:
    for known in MAX_DROP:
        if name == known:
            return known
    raise ValueError(f"expected one of {', '.join(MAX_DROP)}, got {name!r}")


def scores_of(
    pictures: LabelledSet, predictors: dict[str, Predict], progress: Callable[[int, int], None]
) -> dict[str, Score]:
    """Every predictor on every picture, as `evaluate` does; `progress` is told pictures done and in all."""
    truths, rows = answers_of(pictures, predictors, progress)
    return {name: score(pictures.classes, truths, found) for name, found in rows.items()}


def answers_of(
    pictures: LabelledSet, predictors: dict[str, Predict], progress: Callable[[int, int], None]
) -> tuple[list[Labelled], dict[str, NDArray[np.float64]]]:
    """Truths without pixels, and by predictor the rows that `score` judges."""
    truths: list[Labelled] = []
    rows: dict[str, list[NDArray[np.float64]]] = {name: [] for name in predictors}
    for index, one in enumerate(pictures.pictures):
        for name, predict in predictors.items():
            found = predict(one)
            rows[name].append(np.column_stack((np.full(len(found), index), found)))
        truths.append(Labelled(one.picture[:0], one.frames[:0], one.geometry, one.boxes, one.ignored))
        progress(index + 1, pictures.count)
    return truths, {name: np.concatenate(found) for name, found in rows.items()}


def score(classes: Sequence[str], truths: Sequence[Labelled], rows: NDArray[np.float64]) -> Score:
    """By pycocotools; `rows` (n, 7): picture, x1, y1, x2, y2, score, class. Raises ExportError: nothing labelled."""
    precision = precisions(classes, truths, rows)[..., 0]
    per_class = {
        name: float(precision[:, :, index].mean()) * 100
        for index, name in enumerate(classes)
        if precision[:, :, index].min() >= 0
    }
    if not per_class:
        raise ExportError("no picture has a label of the network's classes")
    labelled = precision[:, :, [index for index, name in enumerate(classes) if name in per_class]]
    rounded = {name: round(value, 2) for name, value in per_class.items()}
    return Score(round(float(labelled.mean()) * 100, 3), round(float(labelled[0].mean()) * 100, 3), rounded)


def precisions(classes: Sequence[str], truths: Sequence[Labelled], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """FP64 [IoU 0.5 to 0.95, recall, class, size], 0..1, as pycocotools fills it: -1 where nothing is labelled.

    Sizes are COCO's: all, below 32 x 32, up to 96 x 96, above; in the pixels of the boxes.
    """
    boxes, ignored = [one.boxes for one in truths], [one.ignored for one in truths]
    return precision_table(classes, boxes, ignored, rows, by_size=True)


def in_torch(checkpoint: weights.Checkpoint, spec: Spec) -> Predict:
    """The reference: Ultralytics' network and suppression on the picture as OpenCV decoded it."""
    suppress = weights.ultralytics_suppression()

    def predict(one: Labelled) -> NDArray[np.float32]:
        picture, ratio, left, top = _letterboxed(one.picture, spec.canvas)
        rgb = torch.from_numpy(np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1))).float()[None] / 255
        with torch.no_grad():
            found = suppress(checkpoint.network(rgb)[0], _SCORE, _IOU, multi_label=False, max_det=spec.max_detections)
        rows = found[0].numpy().copy()
        height, width = one.picture.shape[:2]
        rows[:, [0, 2]] = ((rows[:, [0, 2]] - left) / ratio).clip(0, width)
        rows[:, [1, 3]] = ((rows[:, [1, 3]] - top) / ratio).clip(0, height)
        return np.asarray(rows, dtype=np.float32)

    return predict


def _letterboxed(picture: NDArray[np.uint8], canvas: Canvas) -> tuple[NDArray[np.uint8], float, int, int]:
    """As Ultralytics does it: one ratio, bilinear, grey. BGR of the canvas' size, ratio, left, top."""
    height, width = picture.shape[:2]
    ratio = min(canvas.width / width, canvas.height / height)
    size = round(width * ratio), round(height * ratio)
    left, top = (round((full - part) / 2 - 0.1) for full, part in zip((canvas.width, canvas.height), size, strict=True))
    result = np.full((canvas.height, canvas.width, 3), _PAD, dtype=np.uint8)
    scaled = picture if size == (width, height) else cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    result[top : top + size[1], left : left + size[0]] = scaled
    return result, ratio, left, top


def served(engine: bytes, post: bytes, precision: str | None = None) -> Predict:
    """Engine and postprocess in OpenVINO as the server runs them; `precision` as in `export.serving.options`."""
    first, second = compiled(engine, precision), compiled(post, precision)

    def predict(one: Labelled) -> NDArray[np.float32]:
        candidates = first({"frames": one.frames[None]})["candidates"]
        found = second(_second_inputs(candidates, one))
        return _rows(found["detections"], found["count"])

    return predict


def _onnx_runtime(engine: bytes, post: bytes) -> Predict:
    import onnxruntime

    rounded = rounding(onnx.load_from_string(engine)).SerializeToString()
    first, second = (
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]) for model in (rounded, post)
    )

    def predict(one: Labelled) -> NDArray[np.float32]:
        (candidates,) = first.run(["candidates"], {"frames": one.frames[None]})
        return _rows(*second.run(["detections", "count"], _second_inputs(candidates, one)))

    return predict


def _second_inputs(candidates: NDArray[np.float32], one: Labelled) -> dict[str, NDArray[np.float32]]:
    thresholds = np.array([[_SCORE, _IOU]], dtype=np.float32)
    return {"candidates": candidates, "geometry": one.geometry.as_array()[None], "thresholds": thresholds}


def _rows(detections: NDArray[np.float32], count: NDArray[np.int32]) -> NDArray[np.float32]:
    return detections[0, : int(count[0, 0])].copy()
