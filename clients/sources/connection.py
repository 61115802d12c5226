"""What a camera is doing, as a state machine. Pure: the time and the chance are arguments, nothing is opened here.

    connecting ──frame──► live ──silence──► stalled
        ▲   │              │ ▲───frame────────┘ │
        │   └────lost──────┴──────lost──────────┤
        └──────────────── backing off ◄─────────┘        ended, failed: files only, and what can never work

A live camera is tried again for ever. The pause doubles from 0.5 s to 30 s while it does not come back; a connection
that lasted longer than the pause before it is worth a new beginning at 0.5 s.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


class CameraState(StrEnum):
    """What a camera is doing. The values are the metric labels."""

    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"  # connected, but no frame comes
    BACKING_OFF = "backing_off"  # lost; it waits before it tries again
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state and, where there is one, its reason."""

    state: CameraState
    reason: str = ""


class Connection:
    """The state of one camera. Each method returns the transition it made, or None."""

    def __init__(self, silence_s: float) -> None:
        """`silence_s` without a frame make a live camera a stalled one."""
        self.state = CameraState.CONNECTING
        self.entered = Counter({CameraState.CONNECTING: 1})
        self.reason = ""
        self._silence_s = silence_s
        self._live_ns: int | None = None
        self._frame_ns = 0
        self._doublings = 0
        self._pause_s = 0.0

    def frame(self, now_ns: int) -> Transition | None:
        """A frame has been decoded."""
        self._frame_ns = now_ns
        if self.state is CameraState.LIVE:
            return None
        if self._live_ns is None:
            self._live_ns = now_ns
        return self._enter(CameraState.LIVE)

    def look(self, now_ns: int) -> Transition | None:
        """Asked now and then: a live camera without frames is stalled."""
        silent_s = (now_ns - self._frame_ns) / 1e9
        if self.state is not CameraState.LIVE or silent_s < self._silence_s:
            return None
        return self._enter(CameraState.STALLED, f"no frame for {silent_s:.1f} s")

    def lost(self, now_ns: int, reason: str, chance: float) -> tuple[Transition, float]:
        """The connection failed or ended. Also returns the pause in seconds; `chance` in 0..1 spreads the cameras."""
        lived_s = 0.0 if self._live_ns is None else (now_ns - self._live_ns) / 1e9
        if lived_s > self._pause_s:
            self._doublings = 0
        ceiling_s = min(LONGEST_PAUSE_S, 2 * FIRST_PAUSE_S * 2.0**self._doublings)
        self._pause_s = ceiling_s * (0.5 + 0.5 * chance)
        self._doublings = min(self._doublings + 1, 10)
        self._live_ns = None
        return self._enter(CameraState.BACKING_OFF, reason), self._pause_s

    def opening(self) -> Transition | None:
        """It is tried again."""
        return None if self.state is CameraState.CONNECTING else self._enter(CameraState.CONNECTING)

    def ended(self) -> Transition:
        """A file has come to its end."""
        return self._enter(CameraState.ENDED)

    def failed(self, reason: str) -> Transition:
        """It cannot be read, and trying again would not help."""
        return self._enter(CameraState.FAILED, reason)

    def _enter(self, state: CameraState, reason: str = "") -> Transition:
        self.state = state
        self.entered[state] += 1
        self.reason = reason or self.reason
        return Transition(state, reason)
