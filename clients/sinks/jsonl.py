"""One JSON line per result or event, in files that do not grow for ever, written behind a bounded queue."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from clients.errors import SinkError
from clients.result import Result, label
from clients.sinks.outbox import Outbox
from clients.zones.event import timestamp

SCHEMA = "detections/1"
_QUEUE = 2000  # results; at fifty cameras and 8 inferences/s each, five seconds of a disk that does not answer
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Rotation:
    """A file that has reached `most_bytes` becomes `<name>.1`, that one `<name>.2`, and so on to `kept`."""

    most_bytes: int = 100_000_000
    kept: int = 5


class LineFile:
    """A text file of lines that is rotated. One that could not be written is opened anew by the next line."""

    def __init__(self, path: Path, rotation: Rotation, *, appends: bool) -> None:
        """Creates folder and file; without `appends` what an earlier run has left is removed. Raises OSError."""
        self.path = path
        self._rotation = rotation
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] | None = path.open("a" if appends else "w", encoding="utf-8", buffering=1)
        if not appends:
            for number in range(1, rotation.kept + 1):
                self._numbered(number).unlink(missing_ok=True)
        self._size = self._file.tell()

    def write(self, line: str) -> None:
        """Append one line. Raises OSError."""
        if self._size >= self._rotation.most_bytes:
            self._rotate()
        file, torn = (self._file, "") if self._file is not None else self._reopened()
        try:
            file.write(f"{torn}{line}\n")
        except OSError:
            self.close()
            raise
        self._size += len(line.encode()) + 1

    def close(self) -> None:
        """What the disk refuses now was counted when it was written."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None

    def _reopened(self) -> tuple[IO[str], str]:
        """The file, and what must stand before the next line: the end of one that a failing disk has cut."""
        self._file = file = self.path.open("a", encoding="utf-8", buffering=1)
        self._size = file.tell()
        if not self._size:
            return file, ""
        with self.path.open("rb") as written:
            written.seek(-1, os.SEEK_END)
            return file, "" if written.read(1) == b"\n" else "\n"

    def _rotate(self) -> None:
        self.close()
        for number in range(self._rotation.kept - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))
        if self._rotation.kept:
            self.path.replace(self._numbered(1))
        else:
            self.path.unlink()
        self._size = 0

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


class JsonlSink(Generic[Item]):
    """Writes what it is given to `path`. `dropped` counts lines that found the queue full or the disk dead."""

    def __init__(
        self,
        key: str,
        path: Path,
        record: Callable[[Item], dict[str, Any]],
        rotation: Rotation | None = None,
        *,
        appends: bool = False,
    ) -> None:
        """`key` is the configuration's, `record` makes an item a JSON object. Without `appends` the file is emptied.

        Raises SinkError when the file cannot be created.
        """
        self._record = record
        try:
            self._file = LineFile(path, rotation or Rotation(), appends=appends)
        except OSError as error:
            raise SinkError(f"{key}: {path} cannot be written: {error.strerror}") from error
        self._outbox = Outbox(key, self._write, most=_QUEUE)

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._outbox.losses.count

    def write(self, item: Item) -> None:
        """Hand one over; never waits."""
        self._outbox.put(item)

    def close(self) -> None:
        """Write what is queued and close the file; a disk that does not answer is left behind after 5 s."""
        if self._outbox.close():
            self._file.close()

    def _write(self, item: Item) -> None:
        try:
            self._file.write(json.dumps(self._record(item), separators=(",", ":")))
        except OSError as error:
            self._outbox.losses.lost(f"{self._file.path}: {error.strerror}")
        else:
            self._outbox.losses.delivered()


def as_record(result: Result, labels: tuple[str, ...]) -> dict[str, Any]:
    """A result as the JSON of docs/schema/detections-1.json; boxes in source pixels, rounded to a tenth."""
    found = result.detections
    rows = zip(
        found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), result.track_ids.tolist(), strict=True
    )
    return {
        "schema": SCHEMA,
        "camera": result.stream_id,
        "frame": result.frame_index,
        "time": timestamp(result.wall_time_s),
        "media_time_s": round(result.media_time_s, 3),
        "age_ms": round(result.age_ms, 1),
        "tier": result.tier.value,
        "predicted": result.is_predicted,
        "size": list(result.size_px),
        "objects": [
            {
                "track": track or None,  # no id (yet)
                "class": label(labels, class_id),
                "confidence": round(confidence, 3),
                "xyxy": [round(value, 1) for value in xyxy],
            }
            for xyxy, confidence, class_id, track in rows
        ],
    }
