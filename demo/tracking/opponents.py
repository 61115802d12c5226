"""Published trackers on given detections. A script of its own: other environments run it, nothing of ours is imported.

    <environment>/bin/python demo/tracking/opponents.py NAME CASE.npz ANSWER.npz

CASE holds, per clip k from 0, `k/fps` (), `k/times_s` (u,), `k/counts` (u,) and `k/rows` FP32 (n, 6): x1, y1, x2, y2,
score, class of all updates, one after the other. ANSWER gets `k/ids` INT64 (n,), 0 where the tracker reports nothing,
and `ms` (updates,), processor time of each update of all clips.

The trackers do not know classes, and here a class never becomes another: each clip has one tracker per class. Each has
its defaults but for this: what the product reports (score 0.25) starts a track, at once, and a track lives 2 s unseen;
lower scores cost them more than they gained. Generalised IoU where that made them better at long gaps.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Rows = NDArray[np.float32]
Update = Callable[[Rows, float], Ids]  # rows and the time in seconds; ids in their order, 0 for none
Build = Callable[[float, float], Update]  # the clip's frames and its updates per second

LOST_S, START_SCORE = 2.0, 0.25
ID_STEP = 1_000_000  # ids of two classes never meet


def of_trackers(kind: str) -> Build:
    """Roboflow's trackers: ByteTrack, OC-SORT and SORT, given the time of each update."""
    import supervision as sv
    from trackers import ByteTrackTracker, GIoU, OCSORTTracker, SORTTracker

    def build(fps: float, _updates_per_s: float) -> Update:
        shared = {"lost_track_buffer": round(LOST_S * 30), "frame_rate": fps, "minimum_consecutive_frames": 1}
        far = {"iou": GIoU(), "minimum_iou_threshold": -0.3}
        if kind == "bytetrack":
            scores = {"track_activation_threshold": START_SCORE, "high_conf_det_threshold": START_SCORE}
            tracker = ByteTrackTracker(**shared, **scores, **far)
        elif kind == "ocsort":
            tracker = OCSORTTracker(**shared, high_conf_det_threshold=START_SCORE)
        else:
            tracker = SORTTracker(**shared, track_activation_threshold=START_SCORE, **far)

        def update(rows: Rows, time_s: float) -> Ids:
            order = {"row": np.arange(len(rows))}
            found = sv.Detections(rows[:, :4], confidence=rows[:, 4], class_id=rows[:, 5].astype(int), data=order)
            tracked = tracker.update(found, timestamp=time_s)
            ids = np.zeros(len(rows), dtype=np.int64)
            if len(tracked):
                ids[tracked.data["row"]] = tracked.tracker_id + 1  # -1 is no id, 0 is one
            return ids

        return update

    return build


def of_supervision() -> Build:
    """Supervision's ByteTrack counts updates: it is told how many come in a second on average."""
    import supervision as sv

    def build(_fps: float, updates_per_s: float) -> Update:
        tracker = sv.ByteTrack(
            track_activation_threshold=START_SCORE,
            lost_track_buffer=round(LOST_S * 30),
            frame_rate=max(1, round(updates_per_s)),
            minimum_consecutive_frames=1,
        )

        def update(rows: Rows, _time_s: float) -> Ids:
            order = {"row": np.arange(len(rows))}
            found = sv.Detections(rows[:, :4], confidence=rows[:, 4], class_id=rows[:, 5].astype(int), data=order)
            tracked = tracker.update_with_detections(found)
            ids = np.zeros(len(rows), dtype=np.int64)
            if len(tracked):
                ids[tracked.data["row"]] = tracked.tracker_id + 1
            return ids

        return update

    return build


def of_norfair() -> Build:
    """Norfair takes a gap as a whole number of frames."""
    from norfair import Detection, Tracker

    def build(fps: float, _updates_per_s: float) -> Update:
        tracker = Tracker("iou", distance_threshold=0.9, hit_counter_max=round(LOST_S * fps), initialization_delay=0)
        last_s: float | None = None

        def update(rows: Rows, time_s: float) -> Ids:
            nonlocal last_s
            period = 1 if last_s is None else max(1, round((time_s - last_s) * fps))
            last_s = time_s
            found = [Detection(row[:4].reshape(2, 2).astype(float), data=k) for k, row in enumerate(rows)]
            ids = np.zeros(len(rows), dtype=np.int64)
            for one in tracker.update(found, period=period):
                if one.last_detection in found:
                    ids[one.last_detection.data] = one.id
            return ids

        return update

    return build


BUILDERS: dict[str, Callable[[], Build]] = {
    "trackers bytetrack": lambda: of_trackers("bytetrack"),
    "trackers ocsort": lambda: of_trackers("ocsort"),
    "trackers sort": lambda: of_trackers("sort"),
    "supervision bytetrack": of_supervision,
    "norfair": of_norfair,
}


def track(build: Build, fps: float, times_s: NDArray[np.float64], updates: Sequence[Rows]) -> tuple[Ids, list[float]]:
    """Ids of all rows of a clip, and milliseconds of processor time per update."""
    per_s = (len(times_s) - 1) / max(times_s[-1] - times_s[0], 1e-9)
    of_class: dict[int, Update] = {}
    ids: list[Ids] = []
    spent_ms: list[float] = []
    classes = sorted({int(c) for rows in updates for c in rows[:, 5]})
    for time_s, rows in zip(times_s.tolist(), updates, strict=True):
        answer = np.zeros(len(rows), dtype=np.int64)
        started_ns = time.thread_time_ns()
        for class_id in classes:
            mine = np.flatnonzero((rows[:, 5] == class_id) & (rows[:, 4] >= START_SCORE))
            if class_id not in of_class:
                of_class[class_id] = build(fps, per_s)
            found = of_class[class_id](rows[mine], time_s)
            answer[mine] = np.where(found > 0, found + ID_STEP * class_id, 0)
        spent_ms.append((time.thread_time_ns() - started_ns) / 1e6)
        ids.append(answer)
    return np.concatenate(ids), spent_ms


def main(name: str, case: str, target: str) -> None:
    """Run one tracker over all clips of a case."""
    warnings.simplefilter("ignore")  # supervision announces its own end
    build = BUILDERS[name]()
    answer: dict[str, Ids] = {}
    ms: list[float] = []
    k = 0
    with np.load(case) as data:
        while f"{k}/rows" in data:
            updates = np.split(data[f"{k}/rows"], np.cumsum(data[f"{k}/counts"])[:-1])
            answer[f"{k}/ids"], spent = track(build, float(data[f"{k}/fps"]), data[f"{k}/times_s"], updates)
            ms += spent
            k += 1
    np.savez(target, ms=np.array(ms), **answer)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
