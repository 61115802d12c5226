"""What the camera saw around an event, as it sent it: cut out of a ring of its packets, nothing is encoded again."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import av

from clients.errors import SinkError
from clients.sinks.keys import ClipKeys
from clients.sinks.losses import Losses
from clients.sinks.outbox import CLOSE_S
from clients.sinks.ring import Ring
from clients.zones.event import Event, as_record, timestamp

_MOST_PENDING = 200  # clips that wait for their end or for the disk
_MOST_EVENTS = 1000  # named beside one clip
_LATE_S = 2.0  # a camera that brings nothing for so long after a clip's end will not
_SLACK_S = 5.0  # an event is told so late after its frame at most, where its clip is to be complete
_LOOK_S = 0.1
SCHEMA = "clip/1"
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pending:
    """A clip that is to be: around `at_ns`, monotonic, when the frame of its first event arrived."""

    ring: Ring
    at_ns: int
    events: list[Event]


class ClipSink:
    """One MP4 per event, with the events beside it as JSON. `dropped` counts events without a clip.

    What happens at the same camera before a clip is over belongs to it. The folder is bounded: the oldest clips go.
    """

    def __init__(self, keys: ClipKeys) -> None:
        """Raises SinkError when there is no folder, or it cannot be created."""
        if keys.folder is None:
            raise SinkError("sinks.clips.folder: is required and missing")
        try:
            keys.folder.mkdir(parents=True, exist_ok=True)
            for unfinished in keys.folder.glob("*.part"):
                unfinished.unlink()
        except OSError as error:
            raise SinkError(f"sinks.clips.folder: {keys.folder} cannot be written: {error.strerror}") from error
        self._keys, self._folder = keys, keys.folder
        self._after_ns = round(keys.after_s * 1e9)
        self._losses = Losses("sinks.clips")
        self._rings: dict[str, Ring] = {}
        self._newest: dict[str, _Pending] = {}
        self._pending: deque[_Pending] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="sink-clips", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Events that have no clip."""
        return self._losses.count

    def ring(self, stream_id: str) -> Ring:
        """A new ring for a camera that begins."""
        seconds = self._keys.before_s + self._keys.after_s + _SLACK_S
        made = self._rings[stream_id] = Ring(seconds, round(self._keys.ring_mb * 1e6))
        return made

    def forget(self, stream_id: str) -> None:
        """A camera is removed; what is pending is still cut from what it has brought."""
        self._rings.pop(stream_id, None)

    def write(self, event: Event) -> None:
        """A clip is to be made; never waits."""
        ring = self._rings.get(event.stream_id)
        if ring is None or event.kind not in self._keys.kinds:
            return
        at_ns = time.monotonic_ns() - round((time.time() - event.wall_time_s) * 1e9)
        with self._changed:
            last = self._newest.get(event.stream_id)
            if last is not None and last.ring is ring and at_ns <= last.at_ns + self._after_ns:
                if len(last.events) < _MOST_EVENTS:
                    last.events.append(event)
                return
            if len(self._pending) >= _MOST_PENDING:
                self._losses.add()
                return
            made = self._newest[event.stream_id] = _Pending(ring, at_ns, [event])
            self._pending.append(made)
            self._changed.notify_all()

    def close(self) -> None:
        """Cut what is pending at what has arrived so far, within seconds."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._is_closing)
                if not self._pending:
                    return
                due = [one for one in self._pending if self._is_due(one)]
                if not due:
                    self._changed.wait(_LOOK_S)
                    continue
                for one in due:
                    self._pending.remove(one)
                    if self._newest.get(one.events[0].stream_id) is one:
                        del self._newest[one.events[0].stream_id]
            for one in due:
                self._make(one)

    def _is_due(self, one: _Pending) -> bool:
        end_ns = one.at_ns + self._after_ns
        has_come = one.ring.newest_ns > end_ns or one.ring.has_ended
        return has_come or self._is_closing or time.monotonic_ns() > end_ns + _LATE_S * 1e9

    def _make(self, one: _Pending) -> None:
        cut = one.ring.cut(one.at_ns - round(self._keys.before_s * 1e9), one.at_ns + self._after_ns)
        first = one.events[0]
        if cut is None:
            self._losses.lost(f"camera {first.stream_id}: there is nothing to be cut yet", len(one.events))
            return
        moment = timestamp(first.wall_time_s).replace(":", "").replace("-", "")
        path = self._folder / f"{first.stream_id}-{moment}-{first.id.rpartition('-')[2]}.mp4"
        starts_s = first.wall_time_s - (one.at_ns - cut.packets[0].arrival_ns) / 1e9
        try:
            part = path.with_suffix(".part")
            cut.write(str(part))
            path.with_suffix(".json").write_text(json.dumps(_beside(path.name, starts_s, one.events), indent=1) + "\n")
            part.replace(path)
            self._prune()
        except (OSError, ValueError, av.FFmpegError) as error:
            problem = f"{path} cannot be written: {getattr(error, 'strerror', None) or error}"
            self._losses.lost(problem, len(one.events))
        else:
            self._losses.delivered()

    def _prune(self) -> None:
        """The oldest clips go until the rest has room."""
        clips = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._folder.glob("*.mp4"))
        total = sum(size for _, size, _ in clips)
        for _, size, path in clips[:-1]:
            if total <= self._keys.most_mb * 1e6:
                return
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            total -= size


def _beside(name: str, starts_s: float, events: list[Event]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "clip": name,
        "camera": events[0].stream_id,
        "starts": timestamp(starts_s),
        "events": [as_record(event) for event in events],
    }
