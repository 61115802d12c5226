"""The zones and lines of one camera at work: results in, events out. Pure; all objects of a result at once.

Only what was inferred counts: a predicted box is a guess, and what is guessed should not ring a bell. An object that is
not seen keeps its place for as long as the tracker would give it its id back, then it has left.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clients.result import Result, label
from clients.zones.crossings import Crossings
from clients.zones.event import Counts, Direction, Event, Kind, Reason
from clients.zones.geometry import Points, anchors, distance, inside, passes
from clients.zones.layout import Layout, Line, Zone
from clients.zones.stays import Stays
from clients.zones.table import Flags, columns, joined, places

LOST_S = 2.0  # TrackerRules.max_lost_s: after that the tracker gives a new id in any case


@dataclass(frozen=True, slots=True, eq=False)
class _Objects:
    """Objects as they were seen last: ids, classes, confidence, `seen_s` (n,), boxes (4, n), feet (2, n) relative."""

    ids: NDArray[np.int64]
    class_id: NDArray[np.int32]
    confidence: NDArray[np.float32]
    xyxy: NDArray[np.float32]
    feet: NDArray[np.float64]
    seen_s: NDArray[np.float64]

    @classmethod
    def of(cls, result: Result, now_s: float) -> _Objects:
        """Those of a result that have an id, by id."""
        order, found = np.argsort(result.track_ids), result.detections
        known = order[np.searchsorted(result.track_ids, 0, side="right", sorter=order) :]
        xyxy = found.xyxy[known]
        feet = anchors(xyxy, result.size_px)
        ids = result.track_ids[known]
        return cls(
            ids, found.class_id[known], found.confidence[known], xyxy.T, feet.T, np.full(len(ids), now_s, np.float64)
        )


_NOBODY = _Objects(
    np.zeros(0, np.int64),
    np.zeros(0, np.int32),
    np.zeros(0, np.float32),
    np.zeros((4, 0), np.float32),
    np.zeros((2, 0)),
    np.zeros(0),
)


class Watch:
    """One camera. Every method that returns events must have them told, in this order."""

    def __init__(self, stream_id: str, layout: Layout, prefix: str) -> None:
        """Event ids are `prefix`-1, `prefix`-2, and so on."""
        self.layout = layout
        self._stream_id = stream_id
        self._ids = (f"{prefix}-{number}" for number in itertools.count(1))
        self._objects = _NOBODY
        self._names: tuple[str, ...] = ()
        self._last: Result | None = None
        self._now_s = -np.inf
        self._counts: dict[str, Counts] = {}
        self._stays, self._crossings = Stays.none(0, 0), Crossings.none(0, 0)
        self._adopt(Layout(), layout)

    def counts(self) -> dict[str, Counts]:
        """Of each zone and line, by name."""
        return dict(self._counts)

    def update(self, result: Result, names: tuple[str, ...]) -> list[Event]:
        """The camera's next inferred result; `names` are the classes of its model. A time that goes back stands."""
        self._last, self._names = result, names
        self._now_s = max(self._now_s, result.media_time_s)
        if not self.layout:
            return []
        now = _Objects.of(result, self._now_s)
        if np.array_equal(self._objects.ids, now.ids):  # nobody came or went: the usual case, and the cheap one
            return self._step(now, self._objects.feet)
        events = self._leave(self._are_lost(now), "lost")
        same = self._objects.ids[:, np.newaxis] == now.ids
        old, found = np.nonzero(same)
        new = np.flatnonzero(~same.any(axis=0))
        unseen = np.flatnonzero(~same.any(axis=1))
        others, their_stays = columns(self._objects, unseen), columns(self._stays, unseen)
        their_crossings = columns(self._crossings, unseen)
        before = np.concatenate((self._objects.feet[:, old], now.feet[:, new]), axis=1)
        self._stays = joined(columns(self._stays, old), Stays.none(len(self.layout.zones), len(new)))
        self._crossings = joined(columns(self._crossings, old), Crossings.none(len(self.layout.lines), len(new)))
        events += self._step(columns(now, np.concatenate((found, new))), before)
        if len(unseen):
            self._objects, self._stays = joined(self._objects, others), joined(self._stays, their_stays)
            self._crossings = joined(self._crossings, their_crossings)
        return events

    def change(self, layout: Layout) -> list[Event]:
        """Other zones and lines from now on; those that stay as they are keep who is inside and their counts."""
        kept = set(layout.zones) & set(self.layout.zones)
        events = [
            event
            for index, zone in enumerate(self.layout.zones)
            if zone not in kept
            for event in self._leave_zone(index, self._stays.is_in[index], "ended")
        ]
        self._adopt(self.layout, layout)
        return events

    def end(self) -> list[Event]:
        """The camera brings no more results: everybody leaves."""
        return self._leave(np.ones(len(self._objects.ids), np.bool_), "ended")

    def _adopt(self, old: Layout, new: Layout) -> None:
        self.layout, count = new, len(self._objects.ids)
        zones, lines = _places(old.zones, new.zones), _places(old.lines, new.lines)
        self._stays = places(self._stays, Stays.none(len(zones), count), zones)
        self._crossings = places(self._crossings, Crossings.none(len(lines), count), lines)
        kept = {place.name for place in new.places if place in old.places}
        self._counts = {
            place.name: self._counts[place.name] if place.name in kept else Counts() for place in new.places
        }
        self._zone_points = [np.array(zone.points) for zone in new.zones]
        self._line_points = [np.array(line.points) for line in new.lines]
        self._debounce_s = np.array([zone.debounce_s for zone in new.zones])
        self._dwell_s = np.array([np.inf if zone.dwell_s is None else zone.dwell_s for zone in new.zones])
        self._margin = np.array([line.margin for line in new.lines])
        self._line_debounce_s = np.array([line.debounce_s for line in new.lines])
        self._classes: tuple[tuple[str, ...], int] | None = None  # what `_counted` was made for

    def _step(self, now: _Objects, before: NDArray[np.float64]) -> list[Event]:
        """The tables hold those who are seen now, in this order, and no others; `before` (2, n) is where they were."""
        self._objects = now
        if not len(now.ids):
            return []
        return self._at_zones(now) + self._at_lines(now, before.T)

    def _at_zones(self, now: _Objects) -> list[Event]:
        zones = self.layout.zones
        if not zones:
            return []
        is_inside = np.stack([inside(points, now.feet.T) for points in self._zone_points])
        is_inside &= self._counting(now)[: len(zones)]
        self._stays, changes = self._stays.seen(is_inside, self._now_s, self._debounce_s, self._dwell_s)
        kinds: tuple[tuple[Kind, Flags], ...] = (
            ("enter", changes.enters),
            ("dwell", changes.dwells),
            ("leave", changes.leaves),
        )
        return [
            self._zone_event(kind, zones[index].name, now, row, float(changes.inside_s[index, row]))
            for index, row in np.argwhere(changes.enters | changes.dwells | changes.leaves).tolist()
            for kind, flags in kinds
            if flags[index, row]
        ]

    def _at_lines(self, now: _Objects, before: Points) -> list[Event]:
        lines, last = self.layout.lines, self._last
        if not lines or last is None:
            return []
        aspect = last.size_px[0] / last.size_px[1]
        away = np.stack([distance(points, now.feet.T, aspect) for points in self._line_points])
        passed = np.stack([passes(points, before, now.feet.T) for points in self._line_points])
        self._crossings, crossed = self._crossings.seen(away, passed, self._now_s, self._margin, self._line_debounce_s)
        crossed *= self._counting(now)[len(self.layout.zones) :]
        return [
            self._line_event(lines[index].name, now, row, "in" if crossed[index, row] > 0 else "out")
            for index, row in np.argwhere(crossed).tolist()
        ]

    def _counting(self, now: _Objects) -> Flags:
        """(places, objects): whose class a zone or line counts."""
        most = max(len(self._names), int(now.class_id.max(initial=0)) + 1)
        if self._classes != (self._names, most):
            known = [label(self._names, class_id) for class_id in range(most)]
            table = [[not place.classes or name in place.classes for name in known] for place in self.layout.places]
            self._classes, self._counted = (self._names, most), np.array(table, np.bool_)
        counting: Flags = self._counted[:, now.class_id]
        return counting

    def _are_lost(self, now: _Objects) -> Flags:
        """Which of the known objects are not seen now and have not been for too long."""
        is_old = self._now_s - self._objects.seen_s > LOST_S
        return is_old & ~np.isin(self._objects.ids, now.ids)

    def _leave(self, leaving: Flags, reason: Reason) -> list[Event]:
        """These objects leave every zone that they are in, and are forgotten."""
        if not leaving.any():
            return []
        events = [
            event
            for index in range(len(self.layout.zones))
            for event in self._leave_zone(index, leaving & self._stays.is_in[index], reason)
        ]
        self._objects = columns(self._objects, ~leaving)
        self._stays, self._crossings = columns(self._stays, ~leaving), columns(self._crossings, ~leaving)
        return events

    def _leave_zone(self, index: int, leaving: Flags, reason: Reason) -> list[Event]:
        name, objects = self.layout.zones[index].name, self._objects
        return [
            self._zone_event(
                "leave", name, objects, row, float(objects.seen_s[row] - self._stays.entered_s[index, row]), reason
            )
            for row in np.flatnonzero(leaving).tolist()
        ]

    def _zone_event(
        self, kind: Kind, zone: str, objects: _Objects, row: int, inside_s: float, reason: Reason = "left"
    ) -> Event:
        before = self._counts[zone]
        entered, left = before.entered + (kind == "enter"), before.left + (kind == "leave")
        self._counts[zone] = Counts(entered, left, entered - left)
        event = self._event(kind, zone, objects, row)
        if kind == "enter":
            return event
        return replace(event, inside_s=max(0.0, inside_s), reason=reason if kind == "leave" else None)

    def _line_event(self, line: str, objects: _Objects, row: int, direction: Direction) -> Event:
        before = self._counts[line]
        self._counts[line] = Counts(before.entered + (direction == "in"), before.left + (direction == "out"))
        return replace(self._event("cross", line, objects, row), direction=direction)

    def _event(self, kind: Kind, place: str, objects: _Objects, row: int) -> Event:
        last = self._last
        assert last is not None  # there is no object before the first result
        x1, y1, x2, y2 = objects.xyxy[:, row].tolist()
        return Event(
            id=next(self._ids),
            kind=kind,
            stream_id=self._stream_id,
            zone=place,
            object_id=int(objects.ids[row]),
            class_name=label(self._names, int(objects.class_id[row])),
            confidence=float(objects.confidence[row]),
            xyxy=(x1, y1, x2, y2),
            size_px=last.size_px,
            frame_index=last.frame_index,
            media_time_s=last.media_time_s,
            wall_time_s=last.wall_time_s,
            counts=self._counts[place],
        )


def _places(old: Sequence[Zone | Line], new: Sequence[Zone | Line]) -> NDArray[np.intp]:
    """Where each of the new ones stood, -1 for one that is not as it was."""
    before = {place: index for index, place in enumerate(old)}
    return np.array([before.get(place, -1) for place in new], dtype=np.intp)
