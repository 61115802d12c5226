"""From a result to an event and to whoever wants it: the bus, the published schemas, a fleet on a real Triton."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from conftest import PATIENCE_S, ROOT, demo_clip
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from test_library import content
from test_zones import LEFT_HALF, NAMES, WALKS, ZONES, Seen, result, watched

from clients.config import parse_layout, parse_settings
from clients.errors import ConfigError, UnknownStream
from clients.fleet import Fleet
from clients.result import Result
from clients.sinks.jsonl import as_record as detections_record
from clients.types import Detections, Tier
from clients.zones.bus import KEPT, EventBus
from clients.zones.event import Counts, Direction, Event, Kind, Reason, as_record
from clients.zones.layout import Layout, Line, Zone
from deploy.server import TritonServer

pytestmark = pytest.mark.anyio
WHOLE = [[0, 0], [1, 0], [1, 1], [0, 1]]
HERE = Layout((Zone("left", LEFT_HALF, debounce_s=0),))
LABELS = {Tier.N: NAMES}


def validator(name: str) -> Draft202012Validator:
    """A published schema."""
    schema = json.loads((ROOT / "docs" / "schema" / f"{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


EVENT, DETECTIONS = validator("event-1"), validator("detections-1")


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)


def opened(*sinks: Kept, layout: Layout = HERE) -> EventBus:
    """A bus with one camera."""
    bus = EventBus()
    bus.start(LABELS, sinks)
    bus.open("cam", layout)
    return bus


# The schemas


@given(WALKS, st.sampled_from([0.1, 0.4, 1.1]))
def test_every_event_is_as_the_schema_says(steps: list[Seen], step_s: float) -> None:
    """Whatever happens at zones and lines, its JSON is valid, and survives the way through JSON."""
    for event in watched(ZONES, steps, step_s, ends=True):
        record = as_record(event)
        EVENT.validate(record)
        assert json.loads(json.dumps(record)) == record


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.integers(0, 90)), max_size=5), st.booleans())
def test_every_result_is_as_the_schema_says(objects: list[tuple[int, float, int]], is_predicted: bool) -> None:
    """With ids and without, with names and without, inferred and predicted."""
    rows = np.array([(1, 2, 30.04, 40, score, kind) for _, score, kind in objects], np.float32).reshape(-1, 6)
    ids = np.array([name for name, _, _ in objects], np.int64)
    seen = Result(
        "a", 3, 0.1, 7.0, Tier.M, Detections.from_rows(rows), ids, is_predicted, size_px=(9, 8), wall_time_s=1
    )
    record = detections_record(seen, NAMES)
    DETECTIONS.validate(record)
    assert json.loads(json.dumps(record)) == record


def test_the_schemas_know_what_the_code_knows() -> None:
    """Every kind, direction, reason and tier; a missing key, one too many and any other value are refused."""
    known = EVENT.schema["properties"]
    assert known["kind"]["enum"] == list(get_args(Kind))
    assert known["direction"]["enum"] == [*get_args(Direction), None]
    assert known["reason"]["enum"] == [*get_args(Reason), None]
    assert DETECTIONS.schema["properties"]["tier"]["enum"] == [tier.value for tier in Tier]
    record = as_record(watched(HERE, [{1: (0.2, 0.5)}])[0])
    assert EVENT.is_valid(record)
    assert sorted(record) == sorted(known) == sorted(EVENT.schema["required"])
    for key in record:
        assert not EVENT.is_valid({name: value for name, value in record.items() if name != key})
    wrong = {
        "schema": "event/2",
        "kind": "fly",
        "object": 0,
        "direction": "in",
        "reason": "left",
        "inside_s": 1,
        "x": 1,
    }
    wrong |= {"time": "yesterday", "counts": {"in": 1, "out": 0}, "size": [1], "xyxy": [1, 2, 3]}
    for key, value in wrong.items():
        assert not EVENT.is_valid(record | {key: value}), key


# The bus


async def test_readers_and_sinks_get_what_happens() -> None:
    """All of it or one camera's, in order, once; predicted frames make nothing happen; in the end readers end."""
    sink = Kept()
    bus = opened(sink)
    bus.open("other", HERE)
    everything, mine, others = bus.subscribe(), bus.subscribe("cam"), bus.subscribe("other")
    predicted = result(0, 0.0, {5: (0.2, 0.5)})
    bus.write(Result(**{**fields_of(predicted), "is_predicted": True}))
    assert sink.events == []
    bus.write(result(1, 0.1, {1: (0.2, 0.5)}))
    bus.write(Result(**{**fields_of(result(1, 0.1, {1: (0.2, 0.5)})), "stream_id": "other"}))
    bus.write(result(2, 0.2, {1: (0.7, 0.5)}))
    bus.end_all()
    told = [event async for event in everything]
    assert [(event.stream_id, event.kind) for event in told] == [
        ("cam", "enter"),
        ("other", "enter"),
        ("cam", "leave"),
        ("other", "leave"),
    ]
    assert told == sink.events == bus.newest()
    assert [event async for event in mine] == [event for event in told if event.stream_id == "cam"]
    assert [event async for event in others] == [event for event in told if event.stream_id == "other"]
    assert [event.reason for event in told] == [None, None, "left", "ended"]
    assert [event async for event in bus.subscribe()] == [], "who comes too late is not left waiting"


def fields_of(one: Result) -> dict[str, Any]:
    """A result's values by name."""
    return {name: getattr(one, name) for name in Result.__dataclass_fields__}


async def test_a_slow_reader_misses_the_oldest_and_holds_nobody_up() -> None:
    """It is counted, with the reader and in all; one that nobody holds any more is forgotten."""
    bus = opened()
    slow, gone = bus.subscribe(most=4), bus.subscribe()
    del gone
    for index in range(KEPT + 20):
        bus.write(result(index, index * 0.1, {1: (0.2 if index % 2 == 0 else 0.8, 0.5)}))
    bus.end_all()
    frames = [event.frame_index async for event in slow]
    assert len(frames) == 4
    assert frames[-1] == KEPT + 19
    assert bus.dropped == slow.dropped == KEPT + 16
    assert len(bus.newest()) == KEPT
    assert [event.frame_index for event in bus.newest(2)] == [KEPT + 18, KEPT + 19]
    assert bus.newest(0) == []


def test_cameras_come_and_go_and_leave_nothing() -> None:
    """A camera that is removed has its people leave, and its counts are gone; a new one of its name begins anew."""
    sink = Kept()
    bus = opened(sink)
    bus.write(result(0, 0.0, {1: (0.2, 0.5)}))
    assert bus.counts("cam") == {"left": Counts(1, 0, 1)}
    bus.end("cam")
    bus.end("cam")
    bus.close("cam")
    assert [(event.kind, event.reason) for event in sink.events] == [("enter", None), ("leave", "ended")]
    bus.write(result(1, 0.1, {1: (0.2, 0.5)}))
    assert len(sink.events) == 2
    with pytest.raises(KeyError):
        bus.counts("cam")
    bus.open("cam", HERE)
    bus.write(result(0, 0.0, {1: (0.2, 0.5)}))
    assert len({event.id for event in sink.events}) == 3, "ids are unique over both lives of the camera"


def test_a_class_that_no_model_has_is_a_clear_error() -> None:
    """At the start and later; the nearest one is named, what is there stays."""
    bus = opened()
    wrong = Layout((Zone("z", LEFT_HALF, ("persn",)),))
    expected = "camera cam: a zone or line counts 'persn', a class that no model has; did you mean 'person'?"
    with pytest.raises(ConfigError, match=expected.replace("?", r"\?")):
        bus.change("cam", wrong)
    with pytest.raises(ConfigError, match="did you mean 'person'"):
        bus.open("b", wrong)
    assert bus.layout("cam") == HERE
    nameless = EventBus()
    nameless.open("cam", wrong)  # a model without names: classes are numbers, and any may come


def test_zones_of_a_request_are_read_as_those_of_the_file() -> None:
    """Plain values make a layout and come out of it again; complaints name camera and key."""
    layout = Layout((Zone("z", LEFT_HALF, ("person",), 3.0),), (Line("l", ((0, 0), (1, 1))),))
    plain = json.loads(json.dumps(layout.as_json()))
    assert parse_layout("cam", plain) == layout
    with pytest.raises(ConfigError, match=r"cameras\.cam\.zones\[0\]\.pionts: unknown key; did you mean 'points'"):
        parse_layout("cam", {"zones": [{"name": "z", "points": WHOLE, "pionts": []}]})


def test_what_the_page_shows_can_be_used() -> None:
    """docs/events.md's configuration is one, and its Python makes the zones that the configuration does."""
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    (camera,) = parse_settings(shown, origin="docs/events.md").streams()
    python = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    given: list[Layout] = []
    fleet = SimpleNamespace(set_layout=lambda _, layout: given.append(layout))
    exec(python[: python.index("async for")], {"fleet": fleet})
    assert given == [camera.layout]


# A fleet


async def test_a_fleet_tells_what_happens_at_its_zones(triton: TritonServer, tmp_path: Path) -> None:
    """The demo's people enter a zone of the whole picture and leave it when it is taken away; JSONL has it all."""
    path = tmp_path / "events.jsonl"
    chosen = content(triton.grpc_url, sinks={"jsonl": None, "events": str(path)}, optimization={"governor": "off"})
    whole = {"name": "whole", "points": WHOLE, "debounce_s": 0, "dwell_s": 0.2}
    async with Fleet(parse_settings(chosen, origin="test")) as fleet:
        reader = fleet.events()
        await fleet.add_stream("city", str(demo_clip()), loop=True, zones=[whole])
        kinds = set()
        async with asyncio.timeout(PATIENCE_S):
            async for event in reader:
                assert (event.stream_id, event.zone, event.size_px) == ("city", "whole", (640, 360))
                kinds.add(event.kind)
                if kinds >= {"enter", "dwell"}:
                    break
        assert fleet.zone_counts("city")["whole"].inside > 0
        fleet.set_layout("city", Layout(lines=(Line("l", ((0, 0), (1, 1))),)))
        assert fleet.zone_counts("city") == {"l": Counts()}
        assert fleet.newest_events(1)[0].reason == "ended"
        with pytest.raises(UnknownStream, match="camera nobody: there is no such camera"):
            fleet.set_layout("nobody", Layout())
        with pytest.raises(ConfigError, match="a class that no model has"):
            fleet.set_layout("city", Layout((Zone("z", LEFT_HALF, ("unicorn",)),)))
        before = fleet.newest_events(500)  # all: a slow machine needs more than the usual hundred to get here
    assert fleet.stats().dropped["events"] == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["id"] for record in records][: len(before)] == [event.id for event in before]
    for record in records:
        EVENT.validate(record)
    balance = sum({"enter": 1, "leave": -1}.get(record["kind"], 0) for record in records)
    assert balance == 0


async def test_a_class_that_no_model_has_ends_the_start(triton: TritonServer) -> None:
    """The configuration cannot be used; nothing runs."""
    zone = {"name": "z", "points": WHOLE, "classes": ["unicorn"]}
    camera = {"id": "a", "source": "never.mp4", "zones": [zone]}
    chosen = content(triton.grpc_url) | {"cameras": [camera]}
    with pytest.raises(ConfigError, match="camera a: a zone or line counts 'unicorn'"):
        async with Fleet(parse_settings(chosen, origin="test")):
            pass
