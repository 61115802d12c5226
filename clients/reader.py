"""The decoder thread of one camera: reads its source, a live one again and again, and keeps its state.

It knows nothing of gates or trackers: frames go to `on_frame`. The thread is a daemon, since a camera may hang where
nothing can interrupt it (a name that does not resolve, a driver); such a thread ends with its timeout or the process.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from clients.errors import SourceError, SourceUnusable
from clients.logs import about
from clients.sources.address import address_of
from clients.sources.connection import CameraState, Connection, Transition
from clients.sources.decoder import Decoding, Skip
from clients.sources.file import FileSource, live_timing
from clients.sources.frame import Frame
from clients.sources.live import LiveSource
from clients.sources.placement import Placement
from clients.types import StreamSpec

_LEVELS = {
    CameraState.STALLED: logging.WARNING,
    CameraState.BACKING_OFF: logging.WARNING,
    CameraState.FAILED: logging.ERROR,
}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """What a camera's connection has been through: its state, how often it entered each one, the last reason.

    `packets` counts the camera's packets, `held_back` those that waited because it sends too much, `skipped` those that
    were not decoded, by reason. `placement` is where it is decoded and why there, None before it was opened.
    """

    state: CameraState
    entered: dict[CameraState, int]
    reason: str
    packets: int
    held_back: int
    skipped: dict[Skip, int]
    placement: Placement | None

    @property
    def is_down(self) -> bool:
        """Whether the camera has failed, or was lost and has not come back."""
        lost = self.entered.get(CameraState.BACKING_OFF, 0) > 0
        return self.state is CameraState.FAILED or (lost and self.state is not CameraState.LIVE)


class Reader:
    """The source of one camera in a thread of its own."""

    def __init__(self, spec: StreamSpec, on_frame: Callable[[Frame], None], decoding: Decoding | None = None) -> None:
        """Raises ConfigError for a source that names no kind of source or a variable that is not set."""
        self._spec = spec
        self._address = address_of(spec)
        self._decoding = decoding or Decoding()
        self._live = (
            LiveSource(spec.stream_id, self._address, spec.live, self._decoding) if self._address.is_live else None
        )
        self._on_frame = on_frame
        silence_s = spec.live.read_timeout_s / 2 if self._address.is_live else float("inf")
        self._connection = Connection(silence_s)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, on_end: Callable[[], None]) -> None:
        """Begin to read. The thread calls `on_end` when no more frames will come."""
        self._thread = threading.Thread(
            target=self._run, args=(on_end,), name=f"camera-{self._spec.stream_id}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; `join` waits for it."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread, but not for one that hangs in FFmpeg: what it still brings is not taken."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                stream_id = self._spec.stream_id
                told = about("camera_left_behind", camera=stream_id)
                log.warning("camera %s: hangs while it is being read and is left behind", stream_id, extra=told)

    def watch(self, now_ns: int) -> None:
        """Notice silence; to be called several times a second."""
        if not self._stop.is_set():
            self._tell(lambda connection: connection.look(now_ns))

    @property
    def state(self) -> CameraState:
        """What the camera is doing."""
        return self._connection.state

    def report(self) -> ConnectionReport:
        """The connection's numbers so far."""
        with self._lock:
            connection, tally = self._connection, self._decoding.tally
            entered, skipped = dict(connection.entered), dict(tally.skipped)
            placement = self._decoding.placement
            return ConnectionReport(
                connection.state, entered, connection.reason, tally.packets, tally.held_back, skipped, placement
            )

    def _run(self, on_end: Callable[[], None]) -> None:
        try:
            if self._live is None:
                self._read_files()
            else:
                self._read_live(self._live)
        finally:
            self._decoding.end()
            on_end()

    def _read_files(self) -> None:
        try:
            spec = self._spec
            self._read(FileSource(spec.stream_id, self._files(), loop=spec.loop, decoding=self._decoding))
        except Exception as error:  # a defect in one camera's path must not take the others down, nor pass silently
            reason = self._reason(error)
            self._tell(lambda connection: connection.failed(reason))
        else:
            if not self._stop.is_set():
                self._tell(lambda connection: connection.ended())

    def _files(self) -> list[Path]:
        files = self._address.files()
        if not files:
            raise SourceError(f"camera {self._spec.stream_id}: {self._address}: no file has such a name")
        return files

    def _read_live(self, source: LiveSource) -> None:
        chance = random.Random()
        while not self._stop.is_set():
            self._tell(lambda connection: connection.opening())
            reason = "the stream has ended"
            try:
                self._read(source)
            except SourceUnusable as error:
                reason = self._reason(error)
                self._tell(lambda connection: connection.failed(reason))  # noqa: B023 - called before it changes
                return
            except Exception as error:  # a defect costs this connection, not the camera
                reason = self._reason(error)
            if not self._stop.is_set():
                self._stop.wait(self._lost(reason, chance.random()))

    def _read(self, source: FileSource | LiveSource) -> None:
        with closing(source.frames(live_timing(self._stop.wait))) as frames:
            for frame in frames:
                if self._stop.is_set():
                    return
                now_ns = time.monotonic_ns()
                self._tell(lambda connection: connection.frame(now_ns))  # noqa: B023 - called before it changes
                self._on_frame(frame)

    def _lost(self, reason: str, chance: float) -> float:
        with self._lock:
            transition, pause_s = self._connection.lost(time.monotonic_ns(), reason, chance)
        self._log(Transition(transition.state, f"{pause_s:.1f} s, {reason}"))
        return pause_s

    def _tell(self, event: Callable[[Connection], Transition | None]) -> None:
        with self._lock:
            transition = event(self._connection)
        if transition is not None:
            self._log(transition)

    def _log(self, transition: Transition) -> None:
        name = transition.state.value.replace("_", " ")
        reason = f": {transition.reason}" if transition.reason else ""
        stream_id, level = self._spec.stream_id, _LEVELS.get(transition.state, logging.INFO)
        told = about("camera_state", camera=stream_id, state=transition.state.value)
        log.log(level, "camera %s: %s%s", stream_id, name, reason, extra=told)

    def _reason(self, error: Exception) -> str:
        """One line without secrets; the traceback of a defect is logged, masked."""
        if isinstance(error, SourceError):
            return str(error).removeprefix(f"camera {self._spec.stream_id}: ")
        log.error("%s", self._address.masked("".join(traceback.format_exception(error))))
        return f"failed unexpectedly: {type(error).__name__}"
