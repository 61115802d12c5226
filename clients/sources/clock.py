"""When a packet of a live camera arrived, and the camera's own clock made steady. Pure arithmetic on times.

A camera's clock starts anywhere, may jump, and begins anew with each connection; ours is the machine's monotonic one.
"""

from __future__ import annotations

_MAX_APART_S = 2.0  # further from the machine's clock than this, a camera's clock has jumped
_LEAST_STEP_S = 1e-3  # two frames of one camera are never at the same time


class LiveClock:
    """The times of one camera, across all its connections."""

    def __init__(self) -> None:
        self._zero_ns: int | None = None
        self._last_s = -_LEAST_STEP_S
        self._offset_s: float | None = None
        self._anchor: tuple[int, float] | None = None

    def restart(self) -> None:
        """A new connection: its times have nothing to do with those before."""
        self._offset_s = self._anchor = None

    def arrival_ns(self, packet_s: float | None, now_ns: int, *, waited: bool) -> int:
        """When a packet read at `now_ns` arrived; `packet_s` is its time on the camera's clock.

        One that was waited for has arrived just now. One that was there already has queued while an earlier one was
        decoded: it arrived as much later than the last one waited for as the camera says, and not after now.
        """
        if packet_s is None:
            return now_ns
        if waited or self._anchor is None or packet_s < self._anchor[1]:
            self._anchor = (now_ns, packet_s)
            return now_ns
        anchor_ns, anchor_s = self._anchor
        return min(now_ns, anchor_ns + round((packet_s - anchor_s) * 1e9))

    def media_s(self, image_s: float | None, captured_ns: int) -> float:
        """The frame's time in seconds since the camera's first frame: the camera's own pace, never running back."""
        if self._zero_ns is None:
            self._zero_ns = captured_ns
        elapsed_s = (captured_ns - self._zero_ns) / 1e9
        media_s = elapsed_s
        if image_s is not None:
            if self._offset_s is None or abs(image_s + self._offset_s - elapsed_s) > _MAX_APART_S:
                self._offset_s = elapsed_s - image_s
            media_s = image_s + self._offset_s
        self._last_s = max(media_s, self._last_s + _LEAST_STEP_S)
        return self._last_s
