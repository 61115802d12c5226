"""When pictures that no other picture needs are worth decoding. Pure: the time is an argument.

A camera that is inferred far less often than it sends gains nothing from its non-reference pictures (most B-frames):
each inference takes the newest picture, and enough others remain. They are left out while the pictures that remain
are at least twice as many as the inferences granted, and as the camera's `min_fps`. A scene that begins to move is
still seen, by the remaining pictures; the rates are looked at anew every two seconds.
"""

from __future__ import annotations

_WINDOW_S = 2.0
_LEAST_RATIO = 2.0  # the gate sees at least so many pictures for each inference
_LEAST_SHARE = 0.1  # fewer than this, and nothing is gained


class Skipping:
    """Decides for one camera, packet by packet."""

    def __init__(self, min_fps: float = 0.0) -> None:
        self._min_fps = min_fps
        self._since_ns: int | None = None
        self._granted_before = 0
        self._packets = self._needed = 0
        self._is_on = False

    def skips(self, is_needed: bool, granted: int, now_ns: int) -> bool:
        """Whether a packet that arrives now is left out; `granted` counts the camera's turns so far."""
        if self._since_ns is None:
            self._since_ns, self._granted_before = now_ns, granted
        elapsed_s = (now_ns - self._since_ns) / 1e9
        if elapsed_s >= _WINDOW_S:
            self._is_on = self._decide(elapsed_s, granted - self._granted_before)
            self._since_ns, self._granted_before = now_ns, granted
            self._packets = self._needed = 0
        self._packets += 1
        self._needed += is_needed
        return self._is_on and not is_needed

    def _decide(self, elapsed_s: float, granted: int) -> bool:
        if self._packets - self._needed < _LEAST_SHARE * self._packets:
            return False
        asked_fps = max(granted / elapsed_s, self._min_fps)
        return self._needed / elapsed_s >= _LEAST_RATIO * asked_fps
