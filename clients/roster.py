"""The cameras that are wanted: the file's and, over them, what was changed while the fleet runs.

Both may change a camera; whoever spoke last about it is obeyed. A change over the API is kept in a state file and holds
after a restart too, until the configuration file says something new of that camera: then the file's word counts, and
the change is forgotten. What the file says of other cameras forgets nothing.

A camera that is paused keeps its id and its place in the list, and costs nothing: its thread and its connection are
gone. It begins anew when it is resumed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from clients.config import Camera, Settings, Web, parse_camera
from clients.errors import ConfigError, FleetError, FleetStopped, NotSaved, StreamExists, TooManyStreams, UnknownStream
from clients.shards import Shard, shard_of
from clients.statistics import CameraReport
from clients.types import StreamSpec
from clients.zones.layout import Layout

if TYPE_CHECKING:
    from clients.fleet import Fleet  # which imports this module

_VERSION = 1
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A camera in the list."""

    camera: Camera
    is_paused: bool = False


@dataclass(frozen=True, slots=True)
class _Change:
    """What was changed of a camera of the file, or of one that is not in it: `camera` None is removed."""

    camera: Camera | None
    is_paused: bool = False


class _Kept(BaseModel):
    """One change as the state file has it. `file` is the mark of what the file said of the camera then."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    camera: Camera | None
    paused: bool
    file: str | None


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    version: int
    changes: dict[str, _Kept]


class Roster:
    """The list, its changes, and the fleet that runs it. To be used in the fleet's event loop."""

    def __init__(self, settings: Settings, state: Path | None = None, shard: Shard | None = None) -> None:
        """`state` keeps the changes; without it they last as long as the process. `settings` has the shard's cameras.

        Raises ConfigError for a state file that cannot be read.
        """
        self.base = settings
        self._state = state
        self._shard = shard
        self._file = {camera.id: camera for camera in settings.cameras}
        self._changes = {} if state is None else _read(state, self._file)
        self._fleet: Fleet | None = None
        self.attached = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def attach(self, fleet: Fleet) -> None:
        """The fleet runs, with the cameras of `settings`."""
        self._fleet = fleet
        self.attached.set()

    def settings(self) -> Settings:
        """The configuration with the cameras that are to run now."""
        cameras = tuple(entry.camera for entry in self if not entry.is_paused)
        return self.base.model_copy(update={"cameras": cameras})

    @property
    def fleet(self) -> Fleet:
        """Raises FleetStopped before it runs."""
        if self._fleet is None:
            raise FleetStopped("the fleet is starting: its server is not ready yet")
        return self._fleet

    @property
    def has_fleet(self) -> bool:
        """Whether it has been attached."""
        return self._fleet is not None

    def __iter__(self) -> Iterator[Entry]:
        """Every camera, paused ones too, those of the file first."""
        for stream_id in (*self._file, *(name for name in self._changes if name not in self._file)):
            entry = self._entry(stream_id)
            if entry is not None:
                yield entry

    def get(self, stream_id: str) -> Entry:
        """One camera. Raises UnknownStream."""
        entry = self._entry(stream_id)
        if entry is None:
            raise UnknownStream(f"camera {stream_id}: there is no such camera")
        return entry

    async def create(self, camera: Camera) -> Entry:
        """One more camera.

        Raises ConfigError, StreamExists, TooManyStreams, NoRoom, FleetStopped, and NotSaved when it runs all the same.
        """
        async with self._one_at_a_time:
            self._check_new(camera)
            self.fleet.add(self.base.stream(camera))
            return await self._keep(camera.id, _Change(camera))

    async def change(self, stream_id: str, options: Mapping[str, Any]) -> Entry:
        """Give a camera other options, keys of `cameras` in the file. What is not named stays.

        It begins anew, unless only its zones and lines are other ones.

        Raises UnknownStream, ConfigError, NoRoom, FleetStopped, NotSaved.
        """
        async with self._one_at_a_time:
            entry = self.get(stream_id)
            known = entry.camera.model_dump(exclude={"id", "source"}, exclude_unset=True)
            source = options.get("source", entry.camera.source)
            rest = {key: value for key, value in options.items() if key not in ("id", "source")}
            camera = parse_camera(stream_id, source, {**known, **rest})
            old, new = self.base.stream(entry.camera), self.base.stream(camera)
            if not entry.is_paused:
                await self._replace(old, new)
            return await self._keep(stream_id, _Change(camera, entry.is_paused))

    async def remove(self, stream_id: str) -> None:
        """Take a camera out. Raises UnknownStream, FleetStopped, NotSaved."""
        async with self._one_at_a_time:
            entry = self.get(stream_id)
            if not entry.is_paused:
                await self.fleet.remove_stream(stream_id)
            if stream_id in self._file:
                self._changes[stream_id] = _Change(None)
            else:
                self._changes.pop(stream_id, None)
            await self._save()

    async def pause(self, stream_id: str) -> Entry:
        """Let a camera rest, if it does not yet. Raises UnknownStream, FleetStopped, NotSaved."""
        async with self._one_at_a_time:
            entry = self.get(stream_id)
            if entry.is_paused:
                return entry
            await self.fleet.remove_stream(stream_id)
            return await self._keep(stream_id, _Change(entry.camera, is_paused=True))

    async def resume(self, stream_id: str) -> Entry:
        """Let it run again, if it does not. Raises UnknownStream, NoRoom, FleetStopped, NotSaved."""
        async with self._one_at_a_time:
            entry = self.get(stream_id)
            if not entry.is_paused:
                return entry
            self.fleet.add(self.base.stream(entry.camera))
            return await self._keep(stream_id, _Change(entry.camera))

    # What a changed file asks for, see reload.py: its word on a camera is newer than any change of it.

    async def file_says(self, cameras: Sequence[Camera]) -> None:
        """The file has changed; the cameras that it says something new of are what it says."""
        known = set(self._changes)
        before, self._file = self._file, {camera.id: camera for camera in cameras}
        for stream_id in (*before, *self._file):
            if before.get(stream_id) != self._file.get(stream_id):
                self._changes.pop(stream_id, None)
        if known != set(self._changes):
            try:
                await self._save()
            except NotSaved as error:
                log.error("%s", error)

    def add(self, spec: StreamSpec) -> None:
        """The file has this camera, which does not run. Raises what `Fleet.add` does."""
        self.fleet.add(spec)

    async def remove_stream(self, stream_id: str) -> CameraReport | None:
        """The file has another camera of this id, or none any more; None when it did not run."""
        try:
            return await self.fleet.remove_stream(stream_id)
        except UnknownStream:  # it was paused or removed
            return None

    def set_layout(self, stream_id: str, layout: Layout) -> None:
        """The file has other zones and lines for this camera. Raises ConfigError for a class that no model knows."""
        with suppress(UnknownStream):  # it was paused or removed
            self.fleet.set_layout(stream_id, layout)

    def _entry(self, stream_id: str) -> Entry | None:
        change, camera = self._changes.get(stream_id), self._file.get(stream_id)
        if change is None:
            return None if camera is None else Entry(camera)
        return None if change.camera is None else Entry(change.camera, change.is_paused)

    def _check_new(self, camera: Camera) -> None:
        if self._entry(camera.id) is not None:
            raise StreamExists(f"camera {camera.id}: the id is in use; every camera needs its own")
        if self._shard is not None and not self._shard.owns(camera.id):
            its, count = shard_of(camera.id, self._shard.weights), len(self._shard.weights)
            raise ConfigError(
                f"camera {camera.id}: it falls to shard {its}/{count}, this is {self._shard}; add it there"
            )
        most = self.base.system.max_streams
        if sum(1 for _ in self) >= most:
            raise TooManyStreams(f"camera {camera.id}: there are system.max_streams ({most}) cameras already")

    async def _replace(self, old: StreamSpec, new: StreamSpec) -> None:
        if replace(old, layout=new.layout) == new:  # other zones only: the camera goes on
            self.fleet.set_layout(new.stream_id, new.layout)
            return
        await self.fleet.remove_stream(old.stream_id)
        try:
            self.fleet.add(new)
        except FleetError:
            self.fleet.add(old)  # there was room for it a moment ago
            raise

    async def _keep(self, stream_id: str, change: _Change) -> Entry:
        if change == _Change(self._file.get(stream_id)):
            self._changes.pop(stream_id, None)  # as the file has it
        else:
            self._changes[stream_id] = change
        await self._save()
        return self.get(stream_id)

    async def _save(self) -> None:
        if self._state is None:
            return
        kept = {
            stream_id: {
                "camera": None if change.camera is None else change.camera.model_dump(mode="json", exclude_unset=True),
                "paused": change.is_paused,
                "file": _mark(self._file.get(stream_id)),
            }
            for stream_id, change in self._changes.items()
        }
        text = json.dumps({"version": _VERSION, "changes": kept}, indent=1) + "\n"
        try:
            await asyncio.to_thread(write_atomically, self._state, text)
        except OSError as error:
            reason = error.strerror or error
            raise NotSaved(f"done, but a restart will not know: {self._state} cannot be written: {reason}") from error


def state_file(web: Web, config: Path | None, shard: Shard | None = None) -> Path | None:
    """Where changes are kept: as configured, else `config.state.json` beside `config.yaml`; None without either.

    Each shard has its own, `config.state.shard-0.json`.
    """
    if not web.enabled or (web.state is None and config is None):
        return None
    whole = web.state or (config.with_suffix(".state.json") if config is not None else None)
    return whole if whole is None or shard is None else whole.with_suffix(f".shard-{shard.index}{whole.suffix}")


def write_atomically(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: Path, cameras: Mapping[str, Camera]) -> dict[str, _Change]:
    """The changes that still hold: of those whose camera the file has changed since, the file's word counts."""
    try:
        state = _State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"web.state: {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"web.state: {path}: {where or 'the file'}: {first['msg'].lower()}") from None
    if state.version != _VERSION:
        raise ConfigError(f"web.state: {path}: expected version {_VERSION}, got {state.version}")
    changes = {}
    for stream_id, kept in state.changes.items():
        if kept.file == _mark(cameras.get(stream_id)):
            changes[stream_id] = _Change(kept.camera, kept.paused)
        else:
            log.warning("camera %s: the configuration has changed since it was changed by hand; it counts", stream_id)
    return changes


def _mark(camera: Camera | None) -> str | None:
    """What the file says of a camera, in few letters and without its secrets."""
    if camera is None:
        return None
    return hashlib.sha256(camera.model_dump_json(exclude_unset=True).encode()).hexdigest()[:16]
