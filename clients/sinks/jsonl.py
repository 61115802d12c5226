"""One JSON line per result, written by a thread of its own behind a bounded queue."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from clients.errors import SinkError
from clients.result import Result
from clients.types import Tier

_QUEUE = 2000  # results; at fifty cameras and 8 inferences/s each, five seconds of a disk that does not answer
_CLOSE_S = 5.0
log = logging.getLogger(__name__)


class JsonlSink:
    """Appends to `path`, which is emptied first. `dropped` counts lines that found the queue full or the disk dead."""

    def __init__(self, path: Path, labels: Mapping[Tier, tuple[str, ...]]) -> None:
        """Raises SinkError when the file cannot be created."""
        self._labels = labels
        self.dropped = 0
        self._queue: queue.Queue[Result | None] = queue.Queue(_QUEUE)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise SinkError(f"sinks.jsonl: {path} cannot be written: {error.strerror}") from error
        self._thread = threading.Thread(target=self._write_all, name="sink-jsonl", daemon=True)
        self._thread.start()

    def write(self, result: Result) -> None:
        """Hand one result over; never waits."""
        try:
            self._queue.put_nowait(result)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is queued and close the file; a disk that does not answer is left behind after 5 s."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=_CLOSE_S)
        self._thread.join(_CLOSE_S)

    def _write_all(self) -> None:
        while (result := self._queue.get()) is not None:
            self._write_line(result)
        with contextlib.suppress(OSError):  # what the disk refuses now was counted when it was written
            self._file.close()

    def _write_line(self, result: Result) -> None:
        try:
            self._file.write(
                json.dumps(as_record(result, self._labels.get(result.tier, ())), separators=(",", ":")) + "\n"
            )
        except OSError as error:
            if not self.dropped:
                log.error("sinks.jsonl: %s: %s; lines are dropped", self._file.name, error.strerror)
            self.dropped += 1


def as_record(result: Result, labels: tuple[str, ...]) -> dict[str, Any]:
    """A result as plain JSON values; boxes in source pixels, rounded to a tenth."""
    found = result.detections
    rows = zip(
        found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), result.track_ids.tolist(), strict=True
    )
    return {
        "camera": result.stream_id,
        "frame": result.frame_index,
        "media_time_s": round(result.media_time_s, 3),
        "age_ms": round(result.age_ms, 1),
        "tier": result.tier.value,
        "predicted": result.is_predicted,
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


def label(labels: tuple[str, ...], class_id: int) -> str:
    """The class's name, or its number where the model brought no names."""
    return labels[class_id] if 0 <= class_id < len(labels) else str(class_id)
