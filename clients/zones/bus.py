"""The events of all cameras: made of their results, kept for who comes late, given to readers and sinks.

It is a sink of the pipeline and never waits: a reader is bounded, and so is what a sink does with `write`.
"""

from __future__ import annotations

import difflib
import logging
import secrets
import weakref
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from clients.errors import ConfigError
from clients.result import Result
from clients.subscriptions import Subscription
from clients.types import Tier
from clients.zones.event import Counts, Event
from clients.zones.layout import Layout
from clients.zones.watch import Watch

KEPT = 500  # newest events of all cameras
MOST_WAITING = 256  # events that a subscription holds for its reader
log = logging.getLogger(__name__)


class EventSink(Protocol):
    """Takes events; `write` never waits."""

    def write(self, event: Event) -> None:
        """One event."""


class EventBus:
    """One event loop owns it. `dropped` counts the events that all readers together have missed."""

    def __init__(self) -> None:
        self.dropped = 0
        self._labels: Mapping[Tier, tuple[str, ...]] = {}
        self._sinks: Sequence[EventSink] = ()
        self._watches: dict[str, Watch] = {}
        self._newest: deque[Event] = deque(maxlen=KEPT)
        self._readers: weakref.WeakKeyDictionary[Subscription[Event], str | None] = weakref.WeakKeyDictionary()
        self._has_ended = False

    def start(self, labels: Mapping[Tier, tuple[str, ...]], sinks: Sequence[EventSink]) -> None:
        """What the models call their classes, and who takes events besides the readers."""
        self._labels, self._sinks = labels, sinks

    def open(self, stream_id: str, layout: Layout) -> None:
        """A camera begins. Raises ConfigError for a class that no model knows."""
        self._check(stream_id, layout)
        self._watches[stream_id] = Watch(stream_id, layout, f"{stream_id}-{secrets.token_hex(4)}")

    def write(self, result: Result) -> None:
        """One result of a camera; what was predicted makes no events, nor does a camera that is not open."""
        watch = self._watches.get(result.stream_id)
        if watch is not None and not result.is_predicted:
            self._tell(watch.update(result, self._labels.get(result.tier, ())))

    def end(self, stream_id: str) -> None:
        """A camera brings no more results: everybody leaves its zones."""
        watch = self._watches.get(stream_id)
        if watch is not None:
            self._tell(watch.end())

    def end_all(self) -> None:
        """The fleet stops: everybody leaves, then the readers end."""
        for stream_id in self._watches:
            self.end(stream_id)
        self._has_ended = True
        for reader in self._readers:
            reader.end()

    def close(self, stream_id: str) -> None:
        """A camera is removed, and its counts with it."""
        self.end(stream_id)
        self._watches.pop(stream_id, None)

    def layout(self, stream_id: str) -> Layout:
        """A camera's zones and lines. Raises KeyError for one that is not open."""
        return self._watches[stream_id].layout

    def change(self, stream_id: str, layout: Layout) -> None:
        """Other zones and lines for a camera. Raises KeyError for one that is not open, ConfigError as `open` does."""
        watch = self._watches[stream_id]
        self._check(stream_id, layout)
        self._tell(watch.change(layout))

    def counts(self, stream_id: str) -> dict[str, Counts]:
        """Of each zone and line, by name. Raises KeyError for a camera that is not open."""
        return self._watches[stream_id].counts()

    def newest(self, most: int = KEPT) -> list[Event]:
        """The newest events, oldest first, at most `KEPT`."""
        return list(self._newest)[-most:] if most > 0 else []

    def subscribe(self, stream_id: str | None = None, most: int = MOST_WAITING) -> Subscription[Event]:
        """The events of one camera, whether it is there or not, or of all. Who reads too slowly misses the oldest."""
        reader = Subscription[Event](most)
        if self._has_ended:
            reader.end()
        else:
            self._readers[reader] = stream_id
        return reader

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._newest.append(event)
            for reader, wanted in self._readers.items():
                if wanted in (None, event.stream_id):
                    self.dropped += reader.put(event)
            for sink in self._sinks:
                sink.write(event)

    def _check(self, stream_id: str, layout: Layout) -> None:
        known = {name for labels in self._labels.values() for name in labels}
        for name in sorted(layout.classes - known):
            if known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                raise ConfigError(
                    f"camera {stream_id}: a zone or line counts {name!r}, a class that no model has; "
                    f"did you mean {near[0]!r}?"
                )
