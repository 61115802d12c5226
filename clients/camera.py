"""One camera between its decoder thread and the event loop: a gate and one slot, newest wins, nothing uncounted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clients.gate import Gate
from clients.sources.frame import Frame
from clients.types import Verdict


class Camera:
    """The hand-off of one camera.

    The decoder thread calls `offer`, the event loop the rest; a lock that is held for microseconds guards both.
    A frame that has passed the gate waits in the slot; while one waits, every newer frame takes its place without
    being judged again, so what is granted is always the newest there is.
    """

    def __init__(self, gate: Gate, audit: Callable[[], bool] = lambda: False) -> None:
        """`audit` says of a similar frame whether it is to be inferred all the same."""
        self._gate = gate
        self._audit = audit
        self._is_audit = False  # the frame in the slot
        self.took_audit = False  # the frame taken last
        self.similar = 0  # frames that the gate called so, those included that were audited
        self._lock = threading.Lock()
        self._slot: Frame | None = None
        self._newest: Frame | None = None
        self._verdicts: Counter[Verdict] = Counter()
        self._decoded = 0
        self.granted = 0  # turns so far

    def offer(self, frame: Frame, now_ns: int) -> bool:
        """A new frame is decoded. True when the empty slot has been filled: the camera now waits for a turn."""
        with self._lock:
            self._decoded += 1
            self._newest = frame
            if self._slot is not None:
                self._verdicts[Verdict.SUPERSEDED] += 1
                self._slot, self._is_audit = frame, False
                return False
            verdict = self._gate.decide(frame.picture.thumbnail, frame.captured_ns, now_ns)
            self.similar += verdict is Verdict.SIMILAR
            self._is_audit = verdict is Verdict.SIMILAR and self._audit()
            if verdict is not None and not self._is_audit:
                self._verdicts[verdict] += 1
                return False
            self._slot = frame
            return True

    def take(self, now_ns: int) -> Frame | None:
        """The waiting frame, for a turn just granted; None when it has grown stale, which is counted."""
        with self._lock:
            frame, self._slot = self._slot, None
            if frame is None:
                return None
            if self._gate.is_stale(frame.captured_ns, now_ns):
                self._verdicts[Verdict.STALE] += 1
                return None
            self._gate.granted(frame.picture.thumbnail, frame.captured_ns)
            self.granted += 1
            self.took_audit = self._is_audit
            return frame

    def pace(self, fps: float) -> None:
        """At most so many turns per second from the next one on."""
        with self._lock:
            self._gate.pace(fps)

    @property
    def likeness(self) -> float | None:
        """How similar the frame taken last is to the one inferred before it; None for the first."""
        return self._gate.likeness

    def expire(self, now_ns: int) -> None:
        """Count a waiting frame as stale when it is."""
        with self._lock:
            if self._slot is not None and self._gate.is_stale(self._slot.captured_ns, now_ns):
                self._slot = None
                self._verdicts[Verdict.STALE] += 1

    def end(self) -> None:
        """The run is over: a frame that still waits is counted as such."""
        with self._lock:
            if self._slot is not None:
                self._slot = None
                self._verdicts[Verdict.ENDED] += 1

    def settle(self, verdict: Verdict, boxes: NDArray[np.float32] | None = None) -> None:
        """What became of the frame that was taken: INFERRED, with its boxes in 0..1 of the picture, or FAILED."""
        with self._lock:
            self._verdicts[verdict] += 1
            if verdict is not Verdict.INFERRED:
                self._gate.forget()
            elif boxes is not None:
                self._gate.learn(boxes)

    @property
    def has_waiting(self) -> bool:
        """Whether a frame waits for a turn."""
        return self._slot is not None

    @property
    def newest(self) -> Frame | None:
        """The newest decoded frame, whatever was decided about it."""
        return self._newest

    def counts(self) -> tuple[int, Counter[Verdict]]:
        """Frames decoded, and how many of them ended in which way. At most two more wait or are in flight."""
        with self._lock:
            return self._decoded, Counter(self._verdicts)
