"""Every tracker on the same clips: ours in this process, the others by a script in an environment of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from clients.tracking.tracker import Tracker
from clients.types import Detections, Thresholds
from demo.tracking.cases import Clip
from demo.tracking.environments import NEWER, OLDER, run_script
from demo.tracking.score import Reported

OURS = "ours"
OPPONENTS = {
    "trackers bytetrack": NEWER,
    "trackers ocsort": NEWER,
    "trackers sort": NEWER,
    "supervision bytetrack": OLDER,
    "norfair": OLDER,
}
_REPORTED_SCORE = Thresholds().score


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What one tracker reported, per clip; `ms` FP64: processor time of every update of all clips."""

    reports: Sequence[Sequence[Reported]]
    ms: NDArray[np.float64]


def run(name: str, clips: Sequence[Clip]) -> Answer:
    """Raises BenchmarkError when an opponent fails."""
    return _ours(clips) if name == OURS else _opponent(name, clips)


def reported(found: Detections) -> Detections:
    """What the product's score threshold leaves of the detections."""
    return chosen(found, found.confidence >= _REPORTED_SCORE)


def chosen(found: Detections, which: NDArray[np.bool_]) -> Detections:
    """Some of the detections."""
    return Detections(found.xyxy[which], found.confidence[which], found.class_id[which])


def _ours(clips: Sequence[Clip]) -> Answer:
    reports, spent_ns = [], []
    for clip in clips:
        tracker, mine = Tracker(), []
        for frame, found in zip(clip.inferred.tolist(), map(reported, clip.found), strict=True):
            started_ns = time.thread_time_ns()
            ids = tracker.update(found, float(clip.times_s[frame]))
            spent_ns.append(time.thread_time_ns() - started_ns)
            mine.append(Reported(frame, found, ids))
        reports.append(mine)
    return Answer(reports, np.array(spent_ns) / 1e6)


def _opponent(name: str, clips: Sequence[Clip]) -> Answer:
    with TemporaryDirectory() as folder:
        case, target = Path(folder) / "case.npz", Path(folder) / "answer.npz"
        arrays = {f"{k}/{key}": value for k, clip in enumerate(clips) for key, value in _arrays(clip).items()}
        np.savez(case, **arrays)  # type: ignore[arg-type]
        run_script(OPPONENTS[name], "opponents.py", name, str(case), str(target))
        with np.load(target) as answer:
            return Answer([_reports(clip, answer[f"{k}/ids"]) for k, clip in enumerate(clips)], answer["ms"])


def _arrays(clip: Clip) -> dict[str, NDArray[np.generic]]:
    rows = [np.column_stack((found.xyxy, found.confidence, found.class_id)) for found in clip.found]
    return {
        "fps": np.array(clip.fps),
        "times_s": clip.times_s[clip.inferred],
        "counts": np.array([len(some) for some in rows]),
        "rows": np.concatenate(rows).astype(np.float32),
    }


def _reports(clip: Clip, ids: NDArray[np.int64]) -> list[Reported]:
    split = np.split(ids, np.cumsum([len(found) for found in clip.found])[:-1])
    return [Reported(*one) for one in zip(clip.inferred.tolist(), clip.found, split, strict=True)]
