"""`python -m demo tracking`: the table of docs/benchmarks.md, ours beside the published trackers, in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.tracking.between import visible
from clients.tracking.tracker import Tracker
from clients.types import Detections
from demo.clips import Job
from demo.detections import Seen, look
from demo.tracking.cases import Clip, Detector, Rhythm, TrueFrame, clips_of
from demo.tracking.contenders import OPPONENTS, OURS, reported, run
from demo.tracking.environments import NEWER, require
from demo.tracking.score import Reported, Score, score
from demo.truth import LEAST_SIDE_PX, LEAST_VISIBILITY, read_truth

OBJECTS, UPDATES, GAP_S = 30, 400, 0.125
Progress = Callable[[str, float], None]  # what is being done, and the share of all that is done
Seconds = int


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    detections: str
    inferences: str
    tracker: str
    score: Score

    def as_json(self) -> dict[str, Any]:
        """Flat."""
        return {"detections": self.detections, "inferences": self.inferences, "tracker": self.tracker} | asdict(
            self.score
        )


@dataclass(frozen=True, slots=True)
class Report:
    """`accuracy` in inferred frames, `between` in all frames with the boxes predicted or held between inferences;
    `ms_per_update` median processor time with 30 objects, 8 updates per second."""

    accuracy: Sequence[Row]
    between: Sequence[Row]
    ms_per_update: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """For the last line of stdout."""
        return {
            "accuracy": [row.as_json() for row in self.accuracy],
            "between": [row.as_json() for row in self.between],
            "ms_per_update": self.ms_per_update,
            "objects_that_count": {"visibility": LEAST_VISIBILITY, "side_on_canvas_px": LEAST_SIDE_PX},
        }

    def table(self) -> str:
        """For people, as it stands in docs/benchmarks.md."""
        return "\n".join((*_table(self.accuracy), "", *_table(self.between), "", *self._times()))

    def _times(self) -> Iterator[str]:
        yield "| tracker | ms per update |"
        yield "|---|---|"
        for name, ms in self.ms_per_update.items():
            yield f"| {name} | {ms:.2f} |"


def benchmark(jobs: Sequence[Job], seconds: Seconds, cache: Path, progress: Progress) -> Report:
    """Run all trackers on the first `seconds` of the clips. Raises BenchmarkError, DetectionsError, TruthError."""
    require()
    truths = [read_truth(job.truth) for job in jobs]
    seen = look(jobs, seconds, cache, lambda done, total: progress("detections", 0.4 * done / total))
    names = (OURS, *OPPONENTS)
    ms = {}
    for name in names:
        progress(f"time: {name}", 0.4)
        ms[name] = round(float(np.median(run(name, [crowd()]).ms)), 3)
    steps = [(detector, rhythm) for detector in Detector for rhythm in Rhythm]
    accuracy, between = [], []
    for number, (detector, rhythm) in enumerate(steps):
        clips = clips_of(truths, _detections(detector, seen), rhythm, seconds)
        for place, name in enumerate(names):
            progress(f"{detector}, {rhythm}: {name}", 0.4 + 0.6 * (number + place / len(names)) / len(steps))
            accuracy.append(Row(detector, rhythm, name, score(clips, run(name, clips).reports, NEWER)))
        if rhythm is not Rhythm.EVERY:
            for name, keeps_still in (("predicted", False), ("held", True)):
                answers = [in_all_frames(clip, keeps_still=keeps_still) for clip in clips]
                between.append(Row(detector, rhythm, name, score(clips, answers, NEWER)))
    return Report(accuracy, between, ms)


def in_all_frames(clip: Clip, *, keeps_still: bool) -> list[Reported]:
    """What `sinks.emit: all` writes of a clip; for comparison, the last boxes unchanged until the next inference."""
    tracker = Tracker()
    answers = {frame: reported(found) for frame, found in zip(clip.inferred.tolist(), clip.found, strict=True)}
    reports: list[Reported] = []
    held = Reported(0, Detections.empty(), np.zeros(0, dtype=np.int64))
    for frame, time_s in enumerate(clip.times_s.tolist()):
        if frame in answers:
            held = Reported(frame, answers[frame], tracker.update(answers[frame], time_s))
            reports.append(held)
        elif keeps_still:
            reports.append(Reported(frame, held.boxes, held.ids))
        else:
            reports.append(Reported(frame, *visible(tracker.predict(time_s), clip.size_px)))
    return reports


def crowd() -> Clip:
    """30 objects of one class that walk through a picture of 1280x720 and never leave it, seen to within a pixel."""
    rng = np.random.default_rng(0)
    start, speed = rng.uniform(0, 1, (OBJECTS, 2)), rng.uniform(-0.06, 0.06, (OBJECTS, 2))
    size = rng.uniform((30, 60), (60, 120), (OBJECTS, 2))
    times_s = np.arange(UPDATES, dtype=np.float64) * GAP_S
    found = []
    for time_s in times_s.tolist():
        corner = (1 - np.abs(1 - (start + speed * time_s) % 2)) * (1220, 600) + rng.normal(0, 1, (OBJECTS, 2))
        boxes = np.concatenate((corner, corner + size), axis=1).astype(np.float32)
        found.append(Detections(boxes, np.full(OBJECTS, 0.8, np.float32), np.zeros(OBJECTS, np.int32)))
    nothing = TrueFrame.of(())
    every = np.arange(UPDATES)
    return Clip("crowd", 25, (1280, 720), times_s, [nothing] * UPDATES, every, found)


def _detections(detector: Detector, seen: Mapping[str, Seen]) -> Mapping[str, Seen] | None:
    return seen if detector is Detector.WEIGHTS else None


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| detections | inferences | tracker | HOTA | IDF1 | MOTA | id switches |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        one = row.score
        yield (
            f"| {row.detections} | {row.inferences} | {row.tracker} "
            f"| {one.hota:.1f} | {one.idf1:.1f} | {one.mota:.1f} | {one.id_switches} |"
        )
