"""How log lines are written: as text for people, or one JSON object per line for programs.

A JSON line has `time` (UTC, milliseconds), `level`, `event`, `message`, and what the event is about: `camera`, `state`,
`tier`. An event's name does not change when its message is reworded; what has no name of its own is `message`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]
ABOUT = "about"  # the name of that in a log record


def about(event: str, **fields: object) -> dict[str, dict[str, object]]:
    """For `extra=`: the name of what happened, and what it is about."""
    return {ABOUT: {"event": event, **fields}}


def of_node(told: Mapping[str, object], node: str) -> dict[str, dict[str, object]]:
    """For `extra=`: what `about` had said on another machine, and which that was."""
    return {ABOUT: {**told, "node": node}}


class JsonFormatter(logging.Formatter):
    """One JSON object in one line; a traceback is a field of it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "message",
            **getattr(record, ABOUT, {}),
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def write_logs(log_format: LogFormat) -> None:
    """From now on everything that is logged goes to stderr in this form."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr, force=True)
    if log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
