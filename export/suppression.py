"""How many candidates suppression needs: our boxes beside those of Ultralytics' own suppression, on crowded pictures.

Both sides get the same network's predictions on the same canvases, Ultralytics' all of them, ours the best K through
the postprocess model as OpenVINO serves it. The best K is what an engine of that K would send.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clients.types import Thresholds, Tier
from export import weights
from export.crowds import crowds
from export.engine import Engine, prepare
from export.labelled import labelled_set
from export.serving import compiled
from export.spec import Spec, postprocess
from export.to_onnx import postprocess_onnx

LEAST_SHARE = 99.9  # percent of Ultralytics' boxes that ours must have too, in every kind of picture
THRESHOLDS = Thresholds(score=0.25, iou=0.7)
_SAME_IOU, _SAME_SCORE = 0.99, 1e-4
_POOL = 64  # labelled pictures that crowds are made from
_MOST = 3840  # of TensorRT's TopK


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be measured: the weights (None: official), the labelled folder, pictures of each kind, values of K."""

    tier: Tier
    weights: Path | None
    data: Path
    pictures: int
    top_ks: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.pictures < 1:
            raise ValueError(f"pictures must be at least 1, got {self.pictures}")


@dataclass(frozen=True, slots=True)
class Agreement:
    """One K on one kind of picture.

    `boxes` are Ultralytics'; `lost` holds the scores of those that ours lacks, `cut` how many of these scored below the
    last candidate, so that only a larger K could have them; `extra` counts ours that Ultralytics lacks; `ms` is the
    median time of postprocess for one picture.
    """

    kind: str
    top_k: int
    candidates: int
    boxes: int
    lost: tuple[float, ...]
    cut: int
    extra: int
    ms: float

    @property
    def share(self) -> float:
        """Percent of Ultralytics' boxes that ours has too: same class, IoU 0.99, score within 0.0001."""
        return 100 * (1 - len(self.lost) / max(1, self.boxes))

    def as_json(self) -> dict[str, Any]:
        """For the command line's last line."""
        return {
            "kind": self.kind,
            "top_k": self.top_k,
            "most_candidates": self.candidates,
            "boxes": self.boxes,
            "share": round(self.share, 3),
            "lost": len(self.lost),
            "lost_below_last_candidate": self.cut,
            "lost_score_median": round(float(np.median(self.lost)), 3) if self.lost else None,
            "lost_score_max": round(max(self.lost), 3) if self.lost else None,
            "extra": self.extra,
            "postprocess_ms": round(self.ms, 2),
        }


def measure(spec: Spec, request: Request, progress: Callable[[int, int], None]) -> list[Agreement]:
    """Every K on every kind of picture; `progress` is told pictures done and in all. Raises ExportError."""
    specs = [replace(spec, top_k=top_k) for top_k in request.top_ks]
    predict = _Predictions(spec, request)
    labelled = labelled_set(request.data, predict.classes, spec.canvas, max(_POOL, request.pictures))
    kinds = crowds(list(labelled.pictures), spec.canvas, request.pictures)
    models = {one.top_k: compiled(postprocess_onnx(one)) for one in specs}
    total = len(kinds) * request.pictures
    found: list[Agreement] = []
    done = 0
    for kind, canvases in kinds.items():
        seen = []
        for frames in canvases:
            seen.append(predict(frames))
            done += 1
            progress(done, total)
        found += _agreements(kind, seen, models)
    return found


def smallest(found: Sequence[Agreement]) -> int | None:
    """The least K that keeps enough boxes in every kind of picture; None when none does."""
    enough = {one.top_k for one in found} - {one.top_k for one in found if one.share < LEAST_SHARE}
    return min(enough, default=None)


def temporary_mb(spec: Spec, top_k: int) -> float:
    """One [B, K, K] matrix of FP32 at the postprocess model's largest batch."""
    return postprocess(spec).max_batch * top_k * top_k * 4 / 1e6


def table(spec: Spec, found: Sequence[Agreement]) -> str:
    """For people: a row per kind and K."""
    lines = [["pictures", "K", "boxes", "share %", "lost", "of them cut", "highest lost", "extra", "ms", "matrix MB"]]
    for one in found:
        highest = f"{max(one.lost):.3f}" if one.lost else ""
        counts = [str(one.boxes), f"{one.share:.3f}", str(len(one.lost)), str(one.cut), highest, str(one.extra)]
        cost = [f"{one.ms:.2f}", f"{temporary_mb(spec, one.top_k):.1f}"]
        lines.append([one.kind, str(one.top_k), *counts, *cost])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"{row}\n" for row in rows)


def parse_top_ks(text: str) -> tuple[int, ...]:
    """`300,512` -> (300, 512), ascending. Raises ValueError that shows the expected form."""
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise ValueError(f"--candidates: expected numbers such as 512,768, got {text!r}") from error


class _Predictions:
    """One network twice: as the engine sorts its candidates, and raw as Ultralytics' suppression wants them."""

    def __init__(self, spec: Spec, request: Request) -> None:
        ours, theirs = (weights.chosen(request.tier, request.weights, untrained=False) for _ in range(2))
        self.classes = ours.classes
        self._limit = spec.max_detections
        every = replace(spec, top_k=min(_MOST, spec.anchors))
        self._engine = Engine(prepare(ours.network), every).eval()
        self._network = prepare(theirs.network)
        self._suppress = weights.ultralytics_suppression()
        self._canvas = (spec.canvas.width, spec.canvas.height)

    def __call__(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A canvas -> candidates (n, 6), sorted; Ultralytics' boxes (m, 6), clipped to the canvas as ours are."""
        batch = torch.from_numpy(frames[None])
        with torch.no_grad():
            candidates = self._engine(batch)[0].numpy()
            raw = self._network(self._engine.front(batch))[0]
            (boxes,) = self._suppress(raw, THRESHOLDS.score, THRESHOLDS.iou, max_det=self._limit)
        rows = np.asarray(boxes.numpy(), dtype=np.float32).copy()
        rows[:, :4] = rows[:, :4].clip(0, np.tile(np.array(self._canvas, dtype=np.float32), 2))
        return candidates, rows


def _agreements(
    kind: str, seen: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], models: dict[int, Any]
) -> Iterator[Agreement]:
    """The models take turns on every picture, so that noise on the machine hits all alike."""
    lost: dict[int, list[float]] = {top_k: [] for top_k in models}
    cut, extra = dict.fromkeys(models, 0), dict.fromkeys(models, 0)
    times: dict[int, list[float]] = {top_k: [] for top_k in models}
    for candidates, boxes in seen:
        for top_k, model in models.items():
            kept = np.ascontiguousarray(candidates[None, :top_k])
            start = time.perf_counter()
            rows = _suppressed(model, kept)
            times[top_k].append((time.perf_counter() - start) * 1e3)
            same = _same(boxes, rows)
            missing = boxes[~same.any(axis=1), 4]
            lost[top_k] += missing.tolist()
            cut[top_k] += int((missing <= kept[0, -1, 4]).sum())
            extra[top_k] += int((~same.any(axis=0)).sum())
    most = max(int((candidates[:, 4] > THRESHOLDS.score).sum()) for candidates, _ in seen)
    boxes_in_all = sum(len(boxes) for _, boxes in seen)
    for top_k in models:
        ms = float(np.median(times[top_k]))
        yield Agreement(kind, top_k, most, boxes_in_all, tuple(lost[top_k]), cut[top_k], extra[top_k], ms)


def _suppressed(model: Any, candidates: NDArray[np.float32]) -> NDArray[np.float32]:
    geometry = np.array([[1, 1, 0, 0]], dtype=np.float32)
    answer = model({"candidates": candidates, "geometry": geometry, "thresholds": THRESHOLDS.as_array()[None]})
    rows: NDArray[np.float32] = answer["detections"][0, : int(answer["count"][0, 0])].copy()
    return rows


def _same(theirs: NDArray[np.float32], ours: NDArray[np.float32]) -> NDArray[np.bool_]:
    """BOOL (theirs, ours). What survived suppression at 0.7 has at most one partner at 0.99."""
    one, other = theirs[:, None].astype(np.float64), ours[None].astype(np.float64)
    sides = np.minimum(one[..., 2:4], other[..., 2:4]) - np.maximum(one[..., :2], other[..., :2])
    shared = sides.clip(0).prod(axis=2)
    union = (one[..., 2:4] - one[..., :2]).prod(axis=2) + (other[..., 2:4] - other[..., :2]).prod(axis=2) - shared
    alike = (np.abs(one[..., 4] - other[..., 4]) <= _SAME_SCORE) & (one[..., 5] == other[..., 5])
    result: NDArray[np.bool_] = alike & (shared >= _SAME_IOU * union)
    return result
