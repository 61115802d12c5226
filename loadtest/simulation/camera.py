"""One simulated camera: a recording played in a loop through the client's own gate and tracker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from clients.audit import Audit, AuditRules
from clients.camera import Camera
from clients.gate import Gate, GateRules, relative
from clients.sources.frame import Frame
from clients.sources.picture import Picture
from clients.tracking.between import visible
from clients.tracking.tracker import Tracker
from clients.types import Detections, Tier, Verdict
from loadtest.recordings import Recording

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RecordedPicture:
    """What the gate asks of a picture: its thumbnail."""

    thumbnail_px: NDArray[np.uint8]
    size_px: tuple[int, int]

    def thumbnail(self) -> NDArray[np.uint8]:
        """UINT8 (36, 64), luma."""
        return self.thumbnail_px


class SimulatedCamera:
    """`canvas_of` names the detections that stand for each tier. `tracks` off holds boxes where they were."""

    def __init__(
        self,
        name: str,
        recording: Recording,
        first_frame: int,
        rules: GateRules,
        canvas_of: dict[Tier, str],
        tier: Tier,
        *,
        tracks: bool = True,
        audit: AuditRules | None = None,
    ) -> None:
        self.name = name
        self.recording = recording
        self.tier = tier
        self.gate = Gate(rules)
        self.audit = Audit(name, audit)
        self.camera = Camera(self.gate, self.audit.wants)
        self.tracker = Tracker()
        self.shown = Detections.empty()
        self.inferred_at: list[int] = []  # frame numbers
        self._first = first_frame
        self._canvas_of = canvas_of
        self._tracks = tracks

    def frame(self, number: int, captured_ns: int) -> Frame:
        """Frame `number`, from 0, of the endless camera."""
        place = self.place(number)
        picture = RecordedPicture(self.recording.thumbnails[place], self.recording.size_px)
        return Frame(self.name, number, captured_ns, number / self.recording.fps, cast("Picture", picture))

    def place(self, number: int) -> int:
        """The frame of the recording."""
        return (self._first + number) % len(self.recording)

    def detections(self, number: int, tier: Tier) -> Detections:
        """What this tier answers for a frame."""
        return self.recording.seen[self._canvas_of[tier]][self.place(number)]

    def answered(self, frame: Frame, found: Detections) -> Ids:
        """The answer has come: what the user is shown from now on. Returns the ids."""
        ids = self.tracker.update(found, frame.media_time_s)
        self.shown = found
        self.inferred_at.append(frame.index)
        self.camera.settle(Verdict.INFERRED, relative(found.xyxy, self.recording.size_px))
        return ids

    def now_shown(self, media_time_s: float) -> Detections:
        """The boxes that a user has who asks for this moment: predicted, or held."""
        if not self._tracks or not self.inferred_at:
            return self.shown
        return visible(self.tracker.predict(media_time_s), self.recording.size_px)[0]
