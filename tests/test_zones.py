"""Zones and lines: geometry against OpenCV, and what must hold of every walk through them."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clients.result import Result
from clients.types import Detections, Tier
from clients.zones.event import Counts, Event
from clients.zones.geometry import Point, crossing_of, distance, inside, passes
from clients.zones.layout import Layout, Line, Zone
from clients.zones.watch import LOST_S, Watch

SIZE_PX = (1600, 900)
NAMES = ("person", "car")
LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
DOWN_IS_IN = Line("door", ((0.2, 0.5), (0.8, 0.5)))  # looking to the right, left is above
Seen = dict[int, Point]  # where each object stands
PLACE = st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99))


def result(index: int, time_s: float, seen: Seen, classes: dict[int, int] | None = None) -> Result:
    """An inferred frame in which these objects stand there, each 40 pixels wide and 80 high."""
    width, height = SIZE_PX
    rows = [
        (x * width - 20, y * height - 80, x * width + 20, y * height, 0.9, (classes or {}).get(name, 0))
        for name, (x, y) in seen.items()
    ]
    found = Detections.from_rows(np.array(rows, np.float32).reshape(-1, 6))
    ids = np.array(list(seen), np.int64)
    return Result("cam", index, time_s, 20.0, Tier.N, found, ids, size_px=SIZE_PX, wall_time_s=1e9 + time_s)


def watched(layout: Layout, steps: Sequence[Seen], step_s: float = 0.1, *, ends: bool = False) -> list[Event]:
    """What happens while objects go these steps."""
    watch = Watch("cam", layout, "t")
    events = [event for i, seen in enumerate(steps) for event in watch.update(result(i, i * step_s, seen), NAMES)]
    return events + (watch.end() if ends else [])


def told(events: Sequence[Event]) -> list[tuple[str, int]]:
    """Kind and object of each."""
    return [(event.kind, event.object_id) for event in events]


# Geometry


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=3, max_size=9, unique=True),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=20),
)
def test_inside_is_what_opencv_says(corners: list[tuple[int, int]], points: list[tuple[int, int]]) -> None:
    """For every clean polygon and every point that is not on its outline."""
    assume(crossing_of(corners) is None)
    contour = np.array(corners, np.float32)
    sides = np.array([cv2.pointPolygonTest(contour, point, False) for point in points])
    ours = inside(np.array(corners, np.float64), np.array(points, np.float64))
    assert (ours[sides > 0]).all()
    assert not (ours[sides < 0]).any()


@given(st.lists(st.floats(0, 2 * math.pi), min_size=4, max_size=12, unique=True), st.data())
def test_an_outline_that_crosses_itself_is_found(angles: list[float], data: st.DataObject) -> None:
    """Corners on a circle in order are clean; two neighbours that change places cross the outline."""
    angles.sort()
    assume(min(b - a for a, b in zip(angles, [*angles[1:], angles[0] + 2 * math.pi], strict=True)) > 0.01)
    corners = [(0.5 + 0.4 * math.cos(angle), 0.5 + 0.4 * math.sin(angle)) for angle in angles]
    assert crossing_of(corners) is None
    first = data.draw(st.integers(0, len(corners) - 2))
    corners[first], corners[first + 1] = corners[first + 1], corners[first]
    assert crossing_of(corners) is not None


@given(st.tuples(PLACE, PLACE), PLACE, PLACE)
def test_a_way_through_a_line_has_one_direction(line: tuple[Point, Point], one: Point, other: Point) -> None:
    """There and back are opposite, and so are both ends of the line; through it means onto its other side."""
    assume(math.dist(*line) > 0.05)
    ends, a, b = np.array(line), np.array([one]), np.array([other])
    assume(min(abs(distance(ends, a, 1.5)[0]), abs(distance(ends, b, 1.5)[0])) > 1e-6)
    (there,), (back,), (turned,) = passes(ends, a, b), passes(ends, b, a), passes(ends[::-1], a, b)
    assert there == -back == -turned
    if there:
        assert np.sign(distance(ends, b, 1.5)[0]) == there == -np.sign(distance(ends, a, 1.5)[0])


def test_left_and_right_are_those_of_someone_who_walks_along() -> None:
    """Looking to the right of the picture, what is below is to the right, and going down is in."""
    (below,) = distance(np.array(DOWN_IS_IN.points), np.array([[0.5, 0.7]]), 16 / 9)
    assert below == pytest.approx(0.2)
    (event,) = watched(Layout(lines=(DOWN_IS_IN,)), [{1: (0.5, 0.4)}, {1: (0.5, 0.6)}])
    assert (event.kind, event.direction, event.counts) == ("cross", "in", Counts(1, 0))


# What must hold of every walk

WALKS = st.lists(st.dictionaries(st.integers(1, 4), PLACE, max_size=4), min_size=1, max_size=30)
ZONES = Layout(
    (
        Zone("left", LEFT_HALF, dwell_s=0.5, debounce_s=0.0),
        Zone("calm", ((0.2, 0.2), (0.8, 0.1), (0.7, 0.9)), debounce_s=0.3, dwell_s=0.2),
    ),
    (DOWN_IS_IN, Line("far", ((0.0, 0.1), (1.0, 0.9)), margin=0.05, debounce_s=0.2)),
)


@given(WALKS, st.sampled_from([0.1, 0.4, 1.1]))
def test_whoever_enters_leaves_and_the_counts_say_so(steps: list[Seen], step_s: float) -> None:
    """Per object and zone: enter, perhaps one dwell, leave, and so on; counts follow; in the end nobody is inside."""
    events = watched(ZONES, steps, step_s, ends=True)
    inside_of: dict[str, set[int]] = defaultdict(set)
    dwelt: set[tuple[str, int]] = set()
    assert len({event.id for event in events}) == len(events)
    for event in events:
        who, here = event.object_id, inside_of[event.zone]
        if event.kind == "enter":
            assert who not in here
            here.add(who)
        elif event.kind == "dwell":
            assert who in here
            assert (event.zone, who) not in dwelt
            assert event.inside_s is not None
            assert event.inside_s >= (0.5 if event.zone == "left" else 0.2) - 1e-9
            dwelt.add((event.zone, who))
        elif event.kind == "leave":
            here.remove(who)
            dwelt.discard((event.zone, who))
        if event.kind != "cross":
            assert event.counts.inside == len(here) == event.counts.entered - event.counts.left
    assert not any(inside_of.values())


@given(WALKS, st.sampled_from([0.1, 0.4, 1.1]))
def test_objects_know_nothing_of_each_other(steps: list[Seen], step_s: float) -> None:
    """All together see what each alone does, whatever the order in which they stand in a result."""
    together = watched(ZONES, steps, step_s)
    for name in range(1, 5):
        alone = watched(ZONES, [{name: seen[name]} if name in seen else {} for seen in steps], step_s)
        mine = [event for event in together if event.object_id == name]
        assert [(e.kind, e.zone, e.frame_index, e.direction, e.inside_s) for e in mine] == [
            (e.kind, e.zone, e.frame_index, e.direction, e.inside_s) for e in alone
        ]


@given(WALKS)
def test_zones_know_nothing_of_each_other(steps: list[Seen]) -> None:
    """All together tell what each alone does."""
    together = watched(ZONES, steps)
    for place in ZONES.places:
        layout = Layout((place,)) if isinstance(place, Zone) else Layout((), (place,))
        alone = watched(layout, steps)
        mine = [event for event in together if event.zone == place.name]
        assert told(mine) == told(alone)
        assert [event.counts for event in mine] == [event.counts for event in alone]


@given(st.lists(PLACE, min_size=2, max_size=40), st.floats(0, 0.2))
def test_a_line_across_the_picture_counts_sides(way: list[Point], margin: float) -> None:
    """Nobody can go around it: in minus out is 1, 0 or -1, and is the change of the side that is known."""
    line = Line("all", ((0.0, 0.5), (1.0, 0.5)), margin=margin)
    events = watched(Layout((), (line,)), [{1: place} for place in way])
    sides = [math.copysign(1, y - 0.5) for _, y in way if abs(y - 0.5) > margin + 1e-6]
    unsure = any(0 <= abs(abs(y - 0.5) - margin) <= 1e-5 for _, y in way)
    assume(not unsure)
    directions = [event.direction for event in events]
    change = (sides[-1] - sides[0]) / 2 if sides else 0
    assert directions.count("in") - directions.count("out") == change
    assert all(one != other for one, other in itertools.pairwise(directions)), "in and out take turns"


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(-0.0099, 0.0099)), min_size=2, max_size=40))
def test_what_trembles_on_a_line_never_crosses(steps: list[Point]) -> None:
    """Within the margin nothing is told, whichever side it came from."""
    line = Line("all", ((0.0, 0.5), (1.0, 0.5)))
    way = [{1: (0.5, 0.3)}, *({1: (x, 0.5 + off)} for x, off in steps)]
    assert watched(Layout((), (line,)), way) == []
    assert told(watched(Layout((), (line,)), [*way, {1: (0.5, 0.6)}])) == [("cross", 1)]


@given(st.lists(PLACE, min_size=1, max_size=5), st.integers(2, 30))
def test_nothing_comes_of_less_than_the_debounce(rest: list[Point], changes: int) -> None:
    """An object that changes sides of a zone's edge faster than the debounce never enters, or never leaves."""
    zone = Zone("left", LEFT_HALF, debounce_s=0.5)
    flicker = [{1: (0.4 if index % 2 else 0.6, 0.5)} for index in range(changes)]
    assert watched(Layout((zone,)), flicker, 0.4) == []
    stay = [{1: (0.3, 0.5)}] * 3
    assert told(watched(Layout((zone,)), stay + flicker, 0.4)) == [("enter", 1)]


# Cases


def test_around_the_end_of_a_line_is_not_through_it() -> None:
    """Past its end nothing is counted; back through it is the other direction."""
    line = Line("short", ((0.4, 0.5), (0.6, 0.5)))
    around = [{1: (0.5, 0.4)}, {1: (0.9, 0.4)}, {1: (0.9, 0.6)}, {1: (0.5, 0.6)}]
    assert watched(Layout((), (line,)), around) == []
    (event,) = watched(Layout((), (line,)), [*around, {1: (0.5, 0.4)}])
    assert event.direction == "out"


def test_a_fast_object_crosses_between_two_looks() -> None:
    """One that is seen far on both sides has crossed where its way meets the line, not where it is seen."""
    (event,) = watched(Layout((), (DOWN_IS_IN,)), [{1: (0.1, 0.05)}, {1: (0.9, 0.95)}])
    assert event.direction == "in"
    assert watched(Layout((), (DOWN_IS_IN,)), [{1: (0.02, 0.05)}, {1: (0.1, 0.95)}]) == []


def test_only_the_classes_that_are_named_count() -> None:
    """A car in a zone for persons is nobody; without names every class counts."""
    zones = (Zone("people", LEFT_HALF, ("person",), debounce_s=0), Zone("all", LEFT_HALF, debounce_s=0))
    watch = Watch("cam", Layout(zones, (Line("cars", ((0.0, 0.5), (1.0, 0.5)), ("car",)),)), "t")
    events = watch.update(result(0, 0.0, {1: (0.2, 0.4), 2: (0.3, 0.4)}, {2: 1}), NAMES)
    assert [(event.zone, event.class_name) for event in events] == [
        ("people", "person"),
        ("all", "person"),
        ("all", "car"),
    ]
    (crossed,) = watch.update(result(1, 0.1, {1: (0.2, 0.6), 2: (0.3, 0.6)}, {2: 1}), NAMES)
    assert (crossed.zone, crossed.class_name) == ("cars", "car")


def test_who_is_not_seen_any_more_has_left() -> None:
    """As soon as the tracker would give it another id; its stay ended when it was seen last."""
    layout = Layout((Zone("left", LEFT_HALF, debounce_s=0),))
    watch = Watch("cam", layout, "t")
    watch.update(result(0, 0.0, {7: (0.2, 0.5)}), NAMES)
    watch.update(result(1, 1.0, {7: (0.25, 0.5)}), NAMES)
    assert watch.update(result(2, 1.0 + LOST_S, {}), NAMES) == []
    (event,) = watch.update(result(3, 1.1 + LOST_S, {}), NAMES)
    assert (event.kind, event.reason, event.object_id, event.inside_s) == ("leave", "lost", 7, 1.0)
    assert event.xyxy == pytest.approx((380, 370, 420, 450))
    assert watch.counts() == {"left": Counts(1, 1, 0)}


def test_a_box_at_the_edge_of_the_picture_stands_in_it() -> None:
    """A box cut by the lower or right edge is in a zone that reaches to that edge."""
    layout = Layout((Zone("whole", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), debounce_s=0),))
    seen = {1: (0.5, 1.0), 2: (1.0, 1.0), 3: (0.0, 0.0), 4: (0.0, 1.0), 5: (1.02, 0.5)}
    assert len(watched(layout, [seen])) == len(seen)


def test_zones_change_while_people_are_inside() -> None:
    """A zone that stays keeps them and its counts, one that goes makes them leave, a new one begins at nothing."""
    keep, gone = Zone("keep", LEFT_HALF, debounce_s=0), Zone("gone", LEFT_HALF, debounce_s=0)
    watch = Watch("cam", Layout((gone, keep)), "t")
    watch.update(result(0, 0.0, {1: (0.2, 0.5)}), NAMES)
    new = Zone("new", LEFT_HALF, debounce_s=0)
    (left,) = watch.change(Layout((keep, new)))
    assert (left.zone, left.reason) == ("gone", "ended")
    (entered,) = watch.update(result(1, 0.1, {1: (0.2, 0.5)}), NAMES)
    assert (entered.zone, entered.kind) == ("new", "enter")
    assert watch.counts() == {"keep": Counts(1, 0, 1), "new": Counts(1, 0, 1)}


def test_an_object_without_an_id_is_nobody() -> None:
    """The tracker is not sure of it yet."""
    watch = Watch("cam", ZONES, "t")
    assert watch.update(result(0, 0.0, {0: (0.2, 0.5)}), NAMES) == []


def test_a_clock_that_goes_back_stands() -> None:
    """A moment outside is no longer than the time that has passed, and no stay has a negative length."""
    watch = Watch("cam", Layout((Zone("left", LEFT_HALF, debounce_s=0.5, dwell_s=1),)), "t")
    times = (9.0, 10.0, 2.0, 10.2, 3.0, 10.8)
    places = (0.2, 0.2, 0.7, 0.7, 0.2, 0.2)
    events = [
        event
        for index, (time_s, x) in enumerate(zip(times, places, strict=True))
        for event in watch.update(result(index, time_s, {1: (x, 0.5)}), NAMES)
    ]
    assert told(events) == [("enter", 1), ("dwell", 1)]


def test_every_stay_has_its_own_dwell() -> None:
    """Once while it lasts, and again after the object has left and come back."""
    zone = Zone("left", LEFT_HALF, debounce_s=0, dwell_s=0.25)
    stay, away = [{1: (0.2, 0.5)}] * 6, [{1: (0.7, 0.5)}]
    events = watched(Layout((zone,)), [*stay, *away, *stay])
    assert [event.kind for event in events] == ["enter", "dwell", "leave", "enter", "dwell"]
    assert [event.inside_s for event in events] == pytest.approx([None, 0.3, 0.6, None, 0.3])


SQUARE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
BAD = {
    "two corners": (lambda: Zone("z", ((0, 0), (1, 1))), r"zone 'z': points must be 3 to 64 corners, got 2"),
    "too many corners": (lambda: Zone("z", tuple((i / 99, 0.1) for i in range(65))), "3 to 64 corners, got 65"),
    "outside": (lambda: Zone("z", (*SQUARE[:3], (0.1, 1.2))), r"must lie in 0\.\.1 of the picture, got \(0\.1, 1\.2\)"),
    "no number": (lambda: Zone("z", (*SQUARE[:3], (math.nan, 0.2))), r"must lie in 0\.\.1 .*got \(nan, 0\.2\)"),
    "crossed": (
        lambda: Zone("z", (SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3])),
        "must not cross themselves, got edges",
    ),
    "flat": (lambda: Zone("z", ((0.1, 0.1), (0.9, 0.1), (0.5, 0.1))), "must not cross themselves, got edges 0 and 1"),
    "closed twice": (lambda: Zone("z", (*SQUARE, SQUARE[0])), r"neighbouring points must differ, got \(0\.1, 0\.1\)"),
    "a spike": (lambda: Zone("z", (*SQUARE, (0.1, 0.5), (0.0, 0.5), (0.1, 0.5))), "must not cross themselves"),
    "no name": (lambda: Zone("", SQUARE), "a zone's name is 1 to 64 printable characters, got ''"),
    "a name of control characters": (lambda: Line("a\x00b", ((0, 0), (1, 1))), r"a line's name .*got 'a\\x00b'"),
    "a negative dwell": (lambda: Zone("z", SQUARE, dwell_s=-1), r"dwell_s must lie in 0\.\.86400 seconds, got -1"),
    "an endless debounce": (lambda: Zone("z", SQUARE, debounce_s=math.inf), r"debounce_s must lie in .*got inf"),
    "three ends": (lambda: Line("l", ((0, 0), (1, 1), (0, 1))), "line 'l': points must be 2 ends, got 3"),
    "a point": (lambda: Line("l", ((0.5, 0.5), (0.5, 0.5))), "neighbouring points must differ"),
    "a margin": (lambda: Line("l", ((0, 0), (1, 1)), margin=0.6), r"margin must lie in 0\.\.0\.5, got 0\.6"),
    "a name twice": (
        lambda: Layout((Zone("a", SQUARE),), (Line("a", ((0, 0), (1, 1))),)),
        "zones and lines need names of their own, got 'a' 2 times",
    ),
    "too many": (
        lambda: Layout(tuple(Zone(str(index), SQUARE) for index in range(65))),
        "at most 64 zones and lines, got 65",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_zone_that_cannot_be_is_refused(name: str) -> None:
    """The line says what was expected and what came."""
    make, expected = BAD[name]
    with pytest.raises(ValueError, match=expected):
        make()


def test_a_concave_zone_is_a_zone() -> None:
    """A notch is outside."""
    notched = Zone("u", ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.5, 0.2), (0.1, 0.9)), debounce_s=0)
    assert told(watched(Layout((notched,)), [{1: (0.5, 0.6), 2: (0.15, 0.6), 3: (0.5, 0.15)}])) == [
        ("enter", 2),
        ("enter", 3),
    ]
