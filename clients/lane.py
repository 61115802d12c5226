"""Everything that belongs to one camera while it runs: its reader, hand-off, tracker and numbers."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clients.audit import Audit, AuditRules
from clients.camera import Camera
from clients.config import Emit, Settings
from clients.control import SceneReader
from clients.errors import ConfigError
from clients.gate import Gate, GateRules, relative
from clients.reader import Reader
from clients.result import Result
from clients.scene import Scene
from clients.sources.connection import CameraState
from clients.sources.decoder import Decoding, Tap
from clients.sources.frame import Frame
from clients.sources.letterbox import letterbox
from clients.sources.placement import NvdecPlan, cpu_only
from clients.statistics import CameraReport, Histogram
from clients.tracking.between import visible
from clients.tracking.tracker import Tracker
from clients.types import Canvas, Detections, StreamSpec, Tier, Verdict

_MOST_BETWEEN = 512  # frames between two answers, at 25 fps 20 s; long before that there is nothing left to predict


class Lane:
    """One camera. The reader's thread decodes and offers; everything else is called from the event loop."""

    def __init__(
        self,
        spec: StreamSpec,
        rules: GateRules,
        tier: Tier,
        emit: Emit = "inferred",
        *,
        canvas: Canvas | None = None,
        audit: AuditRules | None = None,
        nvdec: NvdecPlan | None = None,
        tap: Tap | None = None,
    ) -> None:
        """`tier` is what serves it now; `wanted` is what it is to have, at first `spec.tier`, which may be missing.

        `tap` sees its packets, `nvdec` is what the decoder goes by; without it, it is the CPU's. Raises ConfigError for
        an impossible source, and where CUDA is insisted on and there is none.
        """
        nvdec = nvdec or cpu_only()
        if spec.decode == "cuda" and nvdec.problem is not None:
            raise ConfigError(f"camera {spec.stream_id}: decode: cuda is asked for, but {nvdec.problem}")
        self.spec = spec
        self.least_fps = min(spec.max_fps, 1 / rules.max_skip_s)  # inferences that it is to get however still it is
        self.tier = tier
        self.wanted = self.asked = spec.tier  # asked: what was wanted when the last turn was granted
        self._is_replaced = tier is not spec.tier
        self.fallbacks = 0
        self.has_room: Callable[[], bool] = lambda: False  # for an audit
        self.audit = Audit(spec.stream_id, audit)
        self.scene: Scene | None = None
        self.camera = Camera(Gate(rules), lambda: self.has_room() and self.audit.wants())
        self._canvas = canvas or Canvas()
        self._scenes: SceneReader | None = None
        self.tracker = Tracker()
        self.ages = Histogram()
        self.inferred: Counter[Tier] = Counter()
        self.latest: tuple[Frame, Result] | None = None
        self._between: deque[tuple[int, float, int]] = deque()  # frames not answered yet: index, media time, captured
        self._emits_all = emit == "all"
        self._longest_gap_ns = 0
        self._last_answer_ns: int | None = None
        self._ended_ns: int | None = None
        self._on_waiting: Callable[[], None] = lambda: None
        may_skip = spec.skip_not_needed and not self._emits_all  # who wants all frames gets all
        decoding = Decoding(
            spec.stream_id,
            min_fps=spec.min_fps,
            may_skip=may_skip,
            granted=lambda: self.camera.granted,
            wish=spec.decode,
            plan=nvdec,
            canvas=self._canvas,
            tap=tap,
        )
        self._reader = Reader(spec, self._offer, decoding)

    def start(self, on_waiting: Callable[[], None], on_end: Callable[[], None]) -> None:
        """Begin to decode. The thread calls `on_waiting` when a frame wants a turn, `on_end` when it is done."""
        self._on_waiting = on_waiting

        def ended() -> None:
            self._ended_ns = time.monotonic_ns()
            on_end()

        self._reader.start(ended)

    def stop(self) -> None:
        """Ask the thread to end; `join` waits for it."""
        self._reader.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread, and count the frame that still waits."""
        self._reader.join(timeout_s)
        self.camera.end()

    def watch(self, now_ns: int) -> None:
        """Notice a camera that has fallen silent; to be called several times a second."""
        self._reader.watch(now_ns)

    @property
    def state(self) -> CameraState:
        """What the camera is doing."""
        return self._reader.state

    @property
    def is_down(self) -> bool:
        """Whether the camera has failed, or was lost and has not come back."""
        return self._reader.report().is_down

    def answered(self, frame: Frame, detections: Detections, now_ns: int, edges: float | None = None) -> Result:
        """The answer has come: ids, numbers, the result for the sinks, and the scene where `edges` are known."""
        if self.camera.took_audit and self.latest is not None:
            self.audit.judged(self._shown_at(frame)[0], detections)
        track_ids = self.tracker.update(detections, frame.media_time_s)
        self.camera.settle(Verdict.INFERRED, relative(detections.xyxy, frame.picture.size_px))
        age_ms = frame.age_ms(now_ns)
        self.ages.add(age_ms)
        self.inferred[self.tier] += 1
        self.fallbacks += self._is_replaced or self.tier is not self.asked
        self._longest_gap_ns = max(self._longest_gap_ns, self._open_gap_ns(now_ns))
        self._last_answer_ns = now_ns
        result = Result(
            frame.stream_id,
            frame.index,
            frame.media_time_s,
            age_ms,
            self.tier,
            detections,
            track_ids,
            size_px=frame.picture.size_px,
            wall_time_s=time.time() - age_ms / 1000,
        )
        self.latest = (frame, result)
        if edges is not None:
            self.scene = self._scene_reader(frame).read(detections, track_ids, edges, self.camera.likeness)
        return result

    def _scene_reader(self, frame: Frame) -> SceneReader:
        if self._scenes is None:
            self._scenes = SceneReader(letterbox(*frame.picture.size_px, self._canvas).geometry.scale_x)
        return self._scenes

    def _shown_at(self, frame: Frame) -> tuple[Detections, NDArray[np.int64]]:
        return visible(self.tracker.predict(frame.media_time_s), frame.picture.size_px)

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
                Result(
                    frame.stream_id,
                    index,
                    media_time_s,
                    age_ms,
                    self.tier,
                    boxes,
                    ids,
                    is_predicted=True,
                    size_px=frame.picture.size_px,
                    wall_time_s=time.time() - age_ms / 1000,
                )
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
        connection = self._reader.report()
        return CameraReport(
            self.spec.stream_id,
            connection.state.value,
            self.tier,
            decoded,
            dict(verdicts),
            objects,
            self.ages,
            gap_s,
            states={state.value: times for state, times in connection.entered.items()},
            last_problem=connection.reason or None,
            wanted=self.spec.tier if self._is_replaced else self.asked,
            fallbacks=self.fallbacks,
            decoder=None if connection.placement is None else connection.placement.device,
            decoder_reason=None if connection.placement is None else connection.placement.reason,
            packets=connection.packets,
            packets_held_back=connection.held_back,
            packets_skipped={reason.value: packets for reason, packets in connection.skipped.items()},
            audit=self.audit.report(),
            inferred=dict(self.inferred),
            is_down=connection.is_down,
        )

    def _offer(self, frame: Frame) -> None:
        now_ns = time.monotonic_ns()
        if self._last_answer_ns is None:
            self._last_answer_ns = now_ns
        if self._emits_all and len(self._between) < _MOST_BETWEEN:
            self._between.append((frame.index, frame.media_time_s, frame.captured_ns))
        if self.camera.offer(frame, now_ns):
            self._on_waiting()

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
        max_skip_s=min(saving.max_skip_s, 1 / spec.min_fps) if spec.min_fps else saving.max_skip_s,
    )
