"""Whose turn it is. Earliest virtual deadline first; pure and synchronous, the time is an argument.

A camera that has a frame waiting is *ready*. Each grant moves its virtual deadline one period on, counted from the
old deadline or from now, whichever is later; `period = 1 / (rate * weight)` with the largest rate it may ask for. Of
the ready cameras the one with the earliest deadline is granted the next turn, and is marked in flight before anything
else happens; it has one request in flight at most, all together have `window`.

**Bounded wait.** Let camera i be ready from time t on with deadline D_i. Another camera j is granted before i only
while D_j <= D_i. The first such grant leaves D_j >= t + P_j, each further one adds P_j, so the k-th needs
t + (k - 1) P_j <= D_i. Hence, however long turns take, i is granted after at most

    sum over j != i of 1 + floor(max(0, D_i - t) / P_j)    turns of others.

`max_turns_before` computes it; the tests hold the scheduler to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class _Entry:
    period_ns: int
    deadline_ns: int
    deadline_before_ns: int = 0
    ready: bool = False
    in_flight: bool = False


class Scheduler:
    """Grants turns to cameras. Not thread-safe; one event loop, or one simulation, owns it."""

    def __init__(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"the in-flight window must be at least 1, got {window}")
        self.window = window
        self._entries: dict[str, _Entry] = {}
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Turns granted and not yet finished."""
        return self._in_flight

    def add(self, stream_id: str, *, max_fps: float, weight: float, now_ns: int) -> None:
        """Admit a camera. Raises ValueError when it is there already, or for a rate or weight that is not positive."""
        if stream_id in self._entries:
            raise ValueError(f"camera {stream_id!r} is scheduled already")
        if not (max_fps > 0 and weight > 0):
            raise ValueError(f"camera {stream_id!r}: max_fps and weight must be positive, got {max_fps} and {weight}")
        period_ns = max(1, round(1e9 / (max_fps * weight)))
        self._entries[stream_id] = _Entry(period_ns, deadline_ns=now_ns)

    def ready(self, stream_id: str) -> None:
        """The camera has a frame waiting; saying so twice changes nothing."""
        self._entries[stream_id].ready = True

    def grant(self, now_ns: int) -> str | None:
        """Give the next turn away, or None when nobody waits or the window is full."""
        if self._in_flight >= self.window:
            return None
        waiting = ((e.deadline_ns, name) for name, e in self._entries.items() if e.ready and not e.in_flight)
        chosen = min(waiting, default=None)
        if chosen is None:
            return None
        entry = self._entries[chosen[1]]
        entry.ready, entry.in_flight = False, True
        entry.deadline_before_ns = entry.deadline_ns
        entry.deadline_ns = max(entry.deadline_ns, now_ns) + entry.period_ns
        self._in_flight += 1
        return chosen[1]

    def finish(self, stream_id: str) -> None:
        """The camera's turn is over, well or not. Raises ValueError when it had none."""
        entry = self._entries[stream_id]
        if not entry.in_flight:
            raise ValueError(f"camera {stream_id!r} has no turn to finish")
        entry.in_flight = False
        self._in_flight -= 1

    def withdraw(self, stream_id: str) -> None:
        """The turn just granted was not used: it costs the camera nothing. Raises ValueError when it had none."""
        self.finish(stream_id)
        self._entries[stream_id].deadline_ns = self._entries[stream_id].deadline_before_ns

    def max_turns_before(self, stream_id: str, now_ns: int) -> int:
        """Most turns that others can be granted before this camera, ready from now on, is."""
        entry = self._entries[stream_id]
        slack_ns = max(0, entry.deadline_ns - now_ns)
        others: Iterable[_Entry] = (e for name, e in self._entries.items() if name != stream_id)
        return sum(1 + slack_ns // e.period_ns for e in others)
