"""Who spoke last about a camera is obeyed, and a restart knows it; file and API do not fight."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_reload import Twin, settings

from clients.config import Settings, parse_camera
from clients.errors import NotSaved, StreamError, StreamExists, TooManyStreams, UnknownStream
from clients.fleet import Fleet
from clients.reload import apply, difference, with_cameras_of
from clients.roster import Roster, state_file

FILE: dict[str, dict[str, Any]] = {"a": {"source": "a.mp4"}, "b": {"source": "b.mp4", "max_fps": 5}}
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["create", "change", "remove", "pause", "resume"]), st.sampled_from("abc")), max_size=12
)


def roster_of(base: Settings, state: Path | None = None) -> tuple[Roster, Twin]:
    """A roster and the cameras that run under it."""
    roster = Roster(base, state)
    twin = Twin(roster.settings())
    roster.attach(cast("Fleet", twin))
    return roster, twin


async def do(roster: Roster, operation: str, name: str, number: int) -> None:
    """One change over the API; it may be refused."""
    if operation == "create":
        await roster.create(parse_camera(name, f"{number}.mp4", {"loop": True}))
    elif operation == "change":
        await roster.change(name, {"max_fps": number + 1})
    else:
        await getattr(roster, operation)(name)


@given(operations=OPERATIONS)
def test_what_was_changed_is_so_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, str]]
) -> None:
    """Whatever was asked for: what runs is what is listed and not paused, and a new process lists the same."""
    state = tmp_path_factory.mktemp("roster") / "config.state.json"

    async def run() -> None:
        roster, twin = roster_of(settings(FILE), state)
        for number, (operation, name) in enumerate(operations):
            try:
                await do(roster, operation, name, number)
            except StreamError:
                continue
            running = {entry.camera.id for entry in roster if not entry.is_paused}
            assert set(twin.specs) == running
        again, after = roster_of(settings(FILE), state)
        assert list(again) == list(roster)
        assert after.specs == twin.specs

    asyncio.run(run())


@pytest.mark.anyio
async def test_the_file_has_the_last_word_when_it_speaks_last(tmp_path: Path) -> None:
    """A camera of which the file says something new is what the file says; changes of the others hold."""
    state = tmp_path / "config.state.json"
    before = settings(FILE)
    roster, twin = roster_of(before, state)
    await roster.change("a", {"max_fps": 9})
    await roster.pause("b")
    await roster.create(parse_camera("c", "c.mp4", {}))
    wanted = settings({"a": {"source": "new.mp4"}, "b": FILE["b"]})
    await roster.file_says(wanted.cameras)
    await apply(roster, difference(before, wanted))
    assert {entry.camera.id: (entry.camera.source, entry.is_paused) for entry in roster} == {
        "a": ("new.mp4", False),
        "b": ("b.mp4", True),
        "c": ("c.mp4", False),
    }
    assert {name: spec.max_fps for name, spec in twin.specs.items()} == {"a": 25, "c": 25}
    assert with_cameras_of(before, wanted) == wanted
    gone = settings({"a": {"source": "new.mp4"}})
    await roster.file_says(gone.cameras)
    await apply(roster, difference(wanted, gone))
    assert [entry.camera.id for entry in roster] == ["a", "c"], "b was paused, and is in the file no more"
    again = Roster(settings(FILE), state)
    assert {entry.camera.id: entry.is_paused for entry in again} == {"a": False, "b": False, "c": False}, "forgotten"
    again = Roster(gone, state)
    assert [(entry.camera.id, entry.camera.source) for entry in again] == [("a", "new.mp4"), ("c", "c.mp4")]


@pytest.mark.anyio
async def test_a_file_that_was_changed_while_nothing_ran_counts(tmp_path: Path) -> None:
    """Its new word about a camera forgets the change of that camera, and of no other."""
    state = tmp_path / "config.state.json"
    roster, _ = roster_of(settings(FILE), state)
    await roster.change("a", {"max_fps": 9})
    await roster.remove("b")
    again = Roster(settings({**FILE, "b": {"source": "new.mp4"}}), state)
    assert {entry.camera.id: (entry.camera.source, entry.camera.max_fps) for entry in again} == {
        "a": ("a.mp4", 9),
        "b": ("new.mp4", None),
    }


@pytest.mark.anyio
async def test_refusals_change_nothing(tmp_path: Path) -> None:
    """An id in use, even of a paused camera; one too many; one that is not there; and a change that cannot be kept."""
    roster, twin = roster_of(settings(FILE, system={"max_streams": 2}), tmp_path / "config.state.json")
    await roster.pause("a")
    before = list(roster)
    with pytest.raises(StreamExists):
        await roster.create(parse_camera("a", "x.mp4", {}))
    with pytest.raises(TooManyStreams):
        await roster.create(parse_camera("c", "x.mp4", {}))
    for refused in (roster.pause, roster.resume, roster.remove):
        with pytest.raises(UnknownStream):
            await refused("nobody")
    assert list(roster) == before
    assert set(twin.specs) == {"b"}
    unkept, _ = roster_of(settings(FILE), tmp_path / "folder" / "config.state.json")
    (tmp_path / "folder").write_text("a file by now")
    with pytest.raises(NotSaved, match="a restart will not know"):
        await unkept.remove("a")
    assert [entry.camera.id for entry in unkept] == ["b"]


def test_where_changes_are_kept() -> None:
    """Beside the configuration, or where it says; nowhere without a file, or without the API."""
    config = Path("/etc/fleet/config.yaml")
    served = settings({}, web={"enabled": True}).web
    assert state_file(served, config) == Path("/etc/fleet/config.state.json")
    assert state_file(served, None) is None
    assert state_file(settings({}).web, config) is None
    assert state_file(settings({}, web={"enabled": True, "state": "x.json"}).web, config) == Path("x.json")
