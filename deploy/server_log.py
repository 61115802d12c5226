"""Reads Triton's log while it starts: which model failed to load and why, which port was taken.

Pure: lines in, findings out. The wording is that of Triton 2.51 (glog format, messages quoted and escaped). A
model whose Python file is missing or cannot be imported stops such a server for ever, so the log is the
only place where that can be seen.
"""

from __future__ import annotations

import re
from collections import deque

TAIL_LINES = 400

_MODEL_FAILURES = (
    re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)"),
    re.compile(r"failed to load model '(?P<model>[^']+)': (?P<reason>.*)"),
    re.compile(r"Poll failed for model directory '(?P<model>[^']+)': (?P<reason>.*)"),
    re.compile(r"(?P<reason>ensemble (?P<model>\S+) contains models that are not available or ambiguous: .*)"),
    re.compile(r"Failed to preinitialize Python stub: (?P<reason>.*/(?P<model>[^/]+)/\d+/model\.py.*)"),
    re.compile(r"Failed to preinitialize Python stub: (?P<reason>.*)"),
)
_PORT_TAKEN = re.compile(r"Socket '[^']*:(?P<port>\d+)' already in use")
_CONFIG_SYNTAX = re.compile(r"Error parsing text-format inference\.ModelConfig: (?P<detail>.*)")
_NUMPY = re.compile(r"Python backend needs numpy < 2.*")
_COMPLAINT = re.compile(r"^(?:E\d{4} .*?\] |error: |.*: error while loading shared libraries: )(?P<text>.*)")
_HARMLESS = ("CudaDriverHelper", "unable to create stream", "chttp2_server")
_UNKNOWN_MODEL = "a Python model"


class StartupLog:
    """What one start has said so far. `tail` holds the last lines, `reasons` one reason per failed model."""

    def __init__(self) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.reasons: dict[str, str] = {}
        self.taken_port: int | None = None
        self.numpy_complaint: str | None = None
        self._complaint: str | None = None
        self._syntax: str | None = None

    def feed(self, line: str) -> None:
        """Take in one line, without its line feed."""
        self.tail.append(line)
        if port := _PORT_TAKEN.search(line):
            self.taken_port = int(port["port"])
        if numpy := _NUMPY.search(_unescaped(line)):
            self.numpy_complaint = _first_paragraph(numpy[0])
        if syntax := _CONFIG_SYNTAX.search(line):
            self._syntax = syntax["detail"]
        if (complaint := _COMPLAINT.match(line)) and not any(word in line for word in _HARMLESS):
            self._complaint = _first_paragraph(_unescaped(complaint[0] if "shared libraries" in line else complaint[1]))
        self._note_model(line)

    def last_complaint(self) -> str:
        """The last thing the server called an error, else the last line it wrote, on one line."""
        written = (line.strip() for line in reversed(self.tail) if line.strip())
        return self._complaint or next(written, "it wrote nothing")

    def _note_model(self, line: str) -> None:
        for pattern in _MODEL_FAILURES:
            if found := pattern.search(line):
                groups = found.groupdict()
                reason = _first_paragraph(_unescaped(groups["reason"]))
                if self._syntax and "failed to read text proto" in reason:
                    reason, self._syntax = f"{reason}: {self._syntax}", None
                self.reasons.setdefault(groups.get("model") or _UNKNOWN_MODEL, reason)
                return


def _unescaped(text: str) -> str:
    """Triton quotes its messages and writes line feeds in them as backslash n."""
    return text.strip().strip('"').replace("\\n", "\n").replace('\\"', '"')


def _first_paragraph(text: str) -> str:
    """On one line, without the places of a traceback that follow an empty line or `At:`."""
    told = re.split(r"\n\s*\n|\nAt:", text.strip(), maxsplit=1)[0]
    return " ".join(told.split())
