"""A changed configuration file while the fleet runs: the difference of cameras is applied, the rest is named.

What a camera leaves out comes from the *running* settings, so a new `system.target_fps` changes no camera until the
restart that it needs anyway. A file that cannot be used changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from clients.config import Camera, Settings, load_settings
from clients.errors import ConfigError, FleetError
from clients.logs import about
from clients.types import StreamSpec
from clients.zones.layout import Layout

LOOK_S = 1.0
log = logging.getLogger(__name__)


class Cameras(Protocol):
    """What a reload needs of a fleet."""

    async def file_says(self, cameras: Sequence[Camera]) -> None:
        """What the file lists now, before the difference is applied."""

    def add(self, spec: StreamSpec) -> None:
        """One more camera."""

    async def remove_stream(self, stream_id: str) -> object:
        """One camera less."""

    def set_layout(self, stream_id: str, layout: Layout) -> None:
        """Other zones and lines for a camera that goes on."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a new file asks for: cameras that come, go, and change; `elsewhere` are keys that need a restart.

    Of those that are `redrawn` only zones and lines change: they go on undisturbed.
    """

    added: tuple[StreamSpec, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[StreamSpec, ...] = ()
    redrawn: tuple[StreamSpec, ...] = ()
    elsewhere: tuple[str, ...] = ()

    @property
    def has_cameras(self) -> bool:
        """Whether any camera comes, goes or changes."""
        return bool(self.added or self.removed or self.changed or self.redrawn)


def difference(running: Settings, wanted: Settings, *, may_be_empty: bool = False) -> Difference:
    """Compare what runs with what a file says now. Raises ConfigError when its cameras cannot run under `running`.

    No camera at all can run where it `may_be_empty`, or with `web.enabled`.
    """
    may_be_empty = may_be_empty or running.web.enabled
    before = {spec.stream_id: spec for spec in running.streams(may_be_empty=True)}
    after = {spec.stream_id: spec for spec in with_cameras_of(running, wanted).streams(may_be_empty=may_be_empty)}
    other = [(before[name], spec) for name, spec in after.items() if name in before and spec != before[name]]
    redrawn = tuple(spec for old, spec in other if replace(old, layout=spec.layout) == spec)
    return Difference(
        added=tuple(spec for name, spec in after.items() if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(spec for _, spec in other if spec not in redrawn),
        redrawn=redrawn,
        elsewhere=_changed_keys(running, wanted),
    )


def with_cameras_of(running: Settings, wanted: Settings) -> Settings:
    """The running settings with the cameras of other ones."""
    return running.model_copy(update={"cameras": wanted.cameras})


def _changed_keys(running: Settings, wanted: Settings) -> tuple[str, ...]:
    return tuple(
        f"{section}.{key}"
        for section in Settings.model_fields
        if section != "cameras"
        for key in type(getattr(running, section)).model_fields
        if getattr(getattr(running, section), key) != getattr(getattr(wanted, section), key)
    )


async def apply(fleet: Cameras, asked: Difference) -> None:
    """Remove, then add; a camera that changed is both. What one camera refuses is said and costs no other."""
    gone = (*asked.removed, *(spec.stream_id for spec in asked.changed))
    for outcome in await asyncio.gather(*(fleet.remove_stream(name) for name in gone), return_exceptions=True):
        if isinstance(outcome, BaseException):
            log.error("%s", outcome)
    steps = [partial(fleet.add, spec) for spec in (*asked.changed, *asked.added)]
    steps += [partial(fleet.set_layout, spec.stream_id, spec.layout) for spec in asked.redrawn]
    for step in steps:
        try:
            step()
        except FleetError as error:
            log.error("%s", error)


async def follow(
    path: Path,
    fleet: Cameras,
    running: Settings,
    hangup: asyncio.Event,
    *,
    watch: bool,
    load: Callable[[Path], Settings] = load_settings,
    may_be_empty: bool = False,
) -> None:
    """Until cancelled: apply the file, as `load` reads it, when `hangup` is set and, with `watch`, when it has changed.

    The first look reads it in any case: it may have changed while the server was starting.
    """
    seen: tuple[int, int, int] | None = None
    told: tuple[str, ...] = ()
    while True:
        await _set_or_late(hangup, LOOK_S if watch else None)
        stamp = await asyncio.to_thread(_stamp, path)
        if not hangup.is_set() and (stamp == seen or stamp is None):  # None: an editor is replacing it
            continue
        hangup.clear()
        seen = stamp
        try:
            wanted = await asyncio.to_thread(load, path)
            asked = difference(running, wanted, may_be_empty=may_be_empty)
        except ConfigError as error:
            told_of = about("configuration_refused")
            log.error("nothing is changed: %s", "; ".join(str(error).splitlines()), extra=told_of)
            continue
        if asked.elsewhere and asked.elsewhere != told:
            keys = ", ".join(asked.elsewhere)
            log.warning("%s: a restart is needed for %s", path, keys, extra=about("restart_needed"))
        told = asked.elsewhere
        if asked.has_cameras:
            log.info("%s: %s", path, _said(asked), extra=about("configuration_applied"))
            await fleet.file_says(wanted.cameras)
            await apply(fleet, asked)
            running = with_cameras_of(running, wanted)


def _said(asked: Difference) -> str:
    groups = (
        ("added", [spec.stream_id for spec in asked.added]),
        ("removed", asked.removed),
        ("changed", [spec.stream_id for spec in asked.changed]),
        ("redrawn the zones of", [spec.stream_id for spec in asked.redrawn]),
    )
    return ", ".join(f"{word} {_named(names)}" for word, names in groups if names)


def _named(names: Sequence[str]) -> str:
    return f"{len(names)} cameras" if len(names) > 5 else " ".join(names)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does: time, size and inode; None while there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


async def _set_or_late(event: asyncio.Event, timeout_s: float | None) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return
