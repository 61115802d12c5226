"""From tracked boxes to HOTA, IDF1 and MOTA: what does not count is taken out first, then TrackEval judges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clients.types import Detections
from demo.scenes import CLASSES
from demo.tracking.cases import Clip, TrueFrame
from demo.tracking.environments import run_script

_SAME_IOU = 0.5  # as MOTChallenge decides that a box belongs to an object that does not count


@dataclass(frozen=True, slots=True)
class Score:
    """In percent over all cameras and classes, every box weighing the same; and how often an object changed its id."""

    hota: float
    assa: float
    deta: float
    idf1: float
    mota: float
    id_switches: int


@dataclass(frozen=True, slots=True, eq=False)
class Reported:
    """What a tracker reported in one frame of a clip: boxes with their ids, INT64 (n,)."""

    frame: int
    boxes: Detections
    ids: NDArray[np.int64]


def score(clips: Sequence[Clip], answers: Sequence[Sequence[Reported]], python: Path) -> Score:
    """Judge one answer per clip; frames without a report are not judged. Raises BenchmarkError."""
    arrays: dict[str, NDArray[Any]] = {}
    sequences = (pair for clip, reports in zip(clips, answers, strict=True) for pair in _sequences(clip, reports))
    for number, (frames, truth, tracks) in enumerate(sequences):
        arrays |= {f"{number}/frames": np.array(frames), f"{number}/truth": truth, f"{number}/tracks": tracks}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sequences.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return Score(**json.loads(run_script(python, "judge.py", str(path)).splitlines()[-1]))


def _sequences(clip: Clip, reports: Sequence[Reported]) -> list[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Per class: frames, and the rows (frame, id, x1, y1, x2, y2) of truth and tracks."""
    truth: list[NDArray[np.float64]] = []
    tracks: list[NDArray[np.float64]] = []
    for number, report in enumerate(reports):
        true = clip.truth[report.frame]
        counted = true.counts
        judged = ~of_no_account(true, report.boxes) & (report.ids > 0)
        truth.append(_rows(number, true.class_id[counted], true.object_id[counted], true.xyxy[counted]))
        tracks.append(_rows(number, report.boxes.class_id[judged], report.ids[judged], report.boxes.xyxy[judged]))
    whole, found = np.concatenate(truth), np.concatenate(tracks)
    of_class = [(whole[whole[:, 0] == number, 1:], found[found[:, 0] == number, 1:]) for number in range(len(CLASSES))]
    return [(len(reports), *pair) for pair in of_class if len(pair[0]) or len(pair[1])]


def of_no_account(true: TrueFrame, boxes: Detections) -> NDArray[np.bool_]:
    """Which boxes lie on an object that does not count, when all are paired at their best."""
    overlap = _iou(true.xyxy, boxes.xyxy)
    overlap[(true.class_id[:, np.newaxis] != boxes.class_id[np.newaxis]) | (overlap < _SAME_IOU)] = 0
    objects, found = linear_sum_assignment(overlap, maximize=True)
    excused = np.zeros(len(boxes), dtype=bool)
    paired = overlap[objects, found] > 0
    excused[found[paired]] = ~true.counts[objects[paired]]
    return excused


def _rows(
    number: int, class_id: NDArray[np.int32], ids: NDArray[np.int64], xyxy: NDArray[np.float32]
) -> NDArray[np.float64]:
    return np.column_stack((class_id, np.full(len(ids), number), ids, xyxy)).astype(np.float64).reshape(-1, 7)


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    low = np.maximum(a[:, np.newaxis, :2], b[np.newaxis, :, :2])
    high = np.minimum(a[:, np.newaxis, 2:], b[np.newaxis, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b))
    overlap: NDArray[np.float32] = shared / np.maximum(area_a[:, np.newaxis] + area_b[np.newaxis] - shared, 1e-9)
    return overlap
