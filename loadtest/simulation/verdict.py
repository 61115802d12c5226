"""How good the boxes are that a user has, against the truth of each frame.

**Streaming** average precision (Li, Wang, Ramanan, Towards Streaming Perception, ECCV 2020): at each frame's own time,
the newest boxes that had been delivered by then, brought forward to that time by the tracker, against that frame's
truth. What is late costs precision. **Plain** average precision forgives the wait: a frame that was inferred counts
with its own answer, one between two inferences with what was predicted for it from the one before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.sources.frame import Frame
from clients.types import Detections
from demo.scenes import CLASSES
from demo.truth import is_ignored
from loadtest.average_precision import Precision, average_precision
from loadtest.recordings import Recording
from loadtest.simulation.camera import SimulatedCamera


class Judge:
    """Collects boxes of every `every`-th frame of each camera."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._streaming = _Answers()
        self._plain = _Answers()
        self._pictures: dict[tuple[str, int], int] = {}
        self._truth: list[NDArray[np.float64]] = []
        self._ignored: list[NDArray[np.bool_]] = []
        self._plain_from: dict[str, int] = {}

    def captured(self, one: SimulatedCamera, number: int) -> None:
        """This frame happens now: what does the user see?"""
        if number % self._every:
            return
        picture = len(self._pictures)
        self._pictures[one.name, number] = picture
        rows, ignored = _truth(one.recording, one.place(number))
        self._truth.append(rows)
        self._ignored.append(ignored)
        self._streaming.add(picture, one.now_shown(number / one.recording.fps))

    def answered(self, one: SimulatedCamera, frame: Frame, found: Detections) -> None:
        """Before the camera takes the answer over: the frames up to this one are now known."""
        self._settle(one, frame.index)
        if (picture := self._pictures.get((one.name, frame.index))) is not None:
            self._plain.add(picture, found)
        self._plain_from[one.name] = frame.index + 1

    def ended(self, one: SimulatedCamera, frames: int) -> None:
        """No more answers: what is left was predicted from the last one."""
        self._settle(one, frames)

    def _settle(self, one: SimulatedCamera, until: int) -> None:
        first = self._plain_from.get(one.name, 0)
        for number in range(first + -first % self._every, until, self._every):
            if (picture := self._pictures.get((one.name, number))) is not None:
                self._plain.add(picture, one.now_shown(number / one.recording.fps))
        self._plain_from[one.name] = max(first, until)

    def scores(self) -> tuple[Precision, Precision]:
        """(streaming, plain)."""
        streaming, plain = (
            average_precision(CLASSES, self._truth, self._ignored, some.table())
            for some in (self._streaming, self._plain)
        )
        return streaming, plain


class _Answers:
    def __init__(self) -> None:
        self._rows: list[NDArray[np.float64]] = []

    def add(self, picture: int, found: Detections) -> None:
        if len(found):
            columns = (np.full(len(found), picture), found.xyxy, found.confidence, found.class_id)
            self._rows.append(np.column_stack(columns).astype(np.float64))

    def table(self) -> NDArray[np.float64]:
        return np.concatenate(self._rows) if self._rows else np.zeros((0, 7))


def _truth(recording: Recording, place: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(n, 5): class, x1, y1, x2, y2 in source pixels; which of them are ignored."""
    objects = recording.truth[place]
    rows = np.array([(one.class_id, *one.xyxy) for one in objects], dtype=np.float64).reshape(-1, 5)
    ignored = [is_ignored(one.xyxy, one.visibility, recording.size_px) for one in objects]
    return rows, np.array(ignored, dtype=bool)
