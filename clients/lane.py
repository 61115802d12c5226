"""Everything that belongs to one camera while it runs: its thread, hand-off, tracker and numbers."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from enum import StrEnum
from pathlib import Path

from clients.camera import Camera
from clients.config import Emit, Settings
from clients.errors import SourceError
from clients.gate import Gate, GateRules
from clients.result import Result
from clients.sources.file import FileSource, live_timing
from clients.sources.frame import Frame
from clients.statistics import CameraReport, Histogram
from clients.tracking.between import visible
from clients.tracking.tracker import Tracker
from clients.types import Detections, StreamSpec, Tier

_MOST_BETWEEN = 512  # frames between two answers, at 25 fps 20 s; long before that there is nothing left to predict
log = logging.getLogger(__name__)


class CameraState(StrEnum):
    """What a camera is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    ENDED = "ended"
    FAILED = "failed"


class Lane:
    """One camera. The thread decodes and offers; everything else is called from the event loop."""

    def __init__(self, spec: StreamSpec, rules: GateRules, tier: Tier, emit: Emit = "inferred") -> None:
        self.spec = spec
        self.tier = tier
        self.camera = Camera(Gate(rules))
        self.tracker = Tracker()
        self.ages = Histogram()
        self.latest: tuple[Frame, Result] | None = None
        self.state = CameraState.CONNECTING
        self._between: deque[tuple[int, float, int]] = deque()  # frames not answered yet: index, media time, captured
        self._emits_all = emit == "all"
        self._longest_gap_ns = 0
        self._last_answer_ns: int | None = None
        self._ended_ns: int | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, on_waiting: Callable[[], None], on_end: Callable[[], None]) -> None:
        """Begin to decode. The thread calls `on_waiting` when a frame wants a turn, `on_end` when it is done."""
        name = f"camera-{self.spec.stream_id}"
        self._thread = threading.Thread(target=self._read, args=(on_waiting, on_end), name=name)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; `join` waits for it."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread, and count the frame that still waits."""
        if self._thread is not None:
            self._thread.join()
        self.camera.end()

    def answered(self, frame: Frame, detections: Detections, now_ns: int) -> Result:
        """The server's answer has come: ids, numbers, and the result for the sinks."""
        track_ids = self.tracker.update(detections, frame.media_time_s)
        age_ms = frame.age_ms(now_ns)
        self.ages.add(age_ms)
        self._longest_gap_ns = max(self._longest_gap_ns, self._open_gap_ns(now_ns))
        self._last_answer_ns = now_ns
        result = Result(frame.stream_id, frame.index, frame.media_time_s, age_ms, self.tier, detections, track_ids)
        self.latest = (frame, result)
        return result

    def between(self, frame: Frame, now_ns: int) -> list[Result]:
        """Predicted results of the frames between the last inferred one and `frame`, which has just been answered.

        In order; to be called before `answered`. None unless all frames are to be emitted, nor before the first answer.
        """
        results: list[Result] = []
        while self._between and self._between[0][0] <= frame.index:
            index, media_time_s, captured_ns = self._between.popleft()
            if index == frame.index or self.latest is None:
                continue
            boxes, ids = visible(self.tracker.predict(media_time_s), frame.picture.size_px)
            age_ms = (now_ns - captured_ns) / 1e6
            results.append(
                Result(frame.stream_id, index, media_time_s, age_ms, self.tier, boxes, ids, is_predicted=True)
            )
        return results

    def shown(self) -> tuple[Frame, Result | None] | None:
        """The newest inferred frame with its result; before the first answer, the newest decoded frame."""
        newest = self.camera.newest
        return self.latest or (None if newest is None else (newest, None))

    @property
    def is_over(self) -> bool:
        """Whether the camera will bring no more frames, and none waits."""
        return self.state in (CameraState.ENDED, CameraState.FAILED) and not self.camera.has_waiting

    def report(self) -> CameraReport:
        """The camera's numbers so far."""
        decoded, verdicts = self.camera.counts()
        open_ns = self._open_gap_ns(self._ended_ns or time.monotonic_ns())
        gap_s = None if self._last_answer_ns is None else max(self._longest_gap_ns, open_ns) / 1e9
        objects = 0 if self.latest is None else len(self.latest[1].detections)
        return CameraReport(
            self.spec.stream_id, self.state.value, self.tier, decoded, dict(verdicts), objects, self.ages, gap_s
        )

    def _read(self, on_waiting: Callable[[], None], on_end: Callable[[], None]) -> None:
        source = FileSource(self.spec.stream_id, Path(self.spec.source), loop=self.spec.loop)
        try:
            with closing(source.frames(live_timing(self._stop.wait))) as frames:
                for frame in frames:
                    if self.state is CameraState.CONNECTING:
                        self.state, self._last_answer_ns = CameraState.LIVE, time.monotonic_ns()
                    if self._emits_all and len(self._between) < _MOST_BETWEEN:
                        self._between.append((frame.index, frame.media_time_s, frame.captured_ns))
                    if self.camera.offer(frame, time.monotonic_ns()):
                        on_waiting()
        except SourceError as error:
            self.state = CameraState.FAILED
            log.error("%s", error)
        except Exception:  # a defect in one camera's path must not take the others down, nor pass silently
            self.state = CameraState.FAILED
            log.exception("camera %s: failed unexpectedly", self.spec.stream_id)
        else:
            if not self._stop.is_set():
                self.state = CameraState.ENDED
        finally:
            self._ended_ns = time.monotonic_ns()
            on_end()

    def _open_gap_ns(self, now_ns: int) -> int:
        """Time without an answer so far; it begins with the camera's first frame."""
        return 0 if self._last_answer_ns is None else max(0, now_ns - self._last_answer_ns)


def gate_rules(settings: Settings, spec: StreamSpec) -> GateRules:
    """The gate of one camera under the configuration."""
    saving = settings.optimization
    return GateRules(
        min_interval_s=1 / spec.max_fps,
        max_age_ms=spec.max_age_ms,
        similarity_threshold=saving.similarity_threshold if saving.enable_memory_optimization else None,
        max_skip_s=saving.max_skip_s,
    )
