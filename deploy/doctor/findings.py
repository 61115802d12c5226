"""What a doctor says: findings, as a table for people and as JSON for programs. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class Level(StrEnum):
    """How bad it is. A problem keeps the fleet from working as configured; a warning costs something."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, and, unless that is fine, what to do. `facts` are plain values."""

    what: str
    level: Level
    found: str
    mend: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError: a complaint without a remedy, or a remedy without a complaint."""
        if (self.level is Level.OK) == bool(self.mend):
            raise ValueError(f"{self.what}: what is not ok says what to do, and only that; got {self.mend!r}")

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is empty is left out."""
        told = {"what": self.what, "level": self.level.value, "found": self.found}
        return told | ({"mend": self.mend} if self.mend else {}) | ({"facts": self.facts} if self.facts else {})


def ok(what: str, found: str, **facts: Any) -> Finding:
    """Nothing to do."""
    return Finding(what, Level.OK, found, facts=facts)


def warning(what: str, found: str, mend: str, **facts: Any) -> Finding:
    """It works, at a price."""
    return Finding(what, Level.WARNING, found, mend, facts)


def problem(what: str, found: str, mend: str, **facts: Any) -> Finding:
    """It does not work."""
    return Finding(what, Level.PROBLEM, found, mend, facts)


def judged(is_fine: bool, what: str, found: str, mend: str, **facts: Any) -> Finding:
    """Ok, or a problem."""
    return ok(what, found, **facts) if is_fine else problem(what, found, mend, **facts)


def worst(findings: Sequence[Finding]) -> Level:
    """The worst of them; ok where there are none."""
    return max((finding.level for finding in findings), key=list(Level).index, default=Level.OK)


def report(findings: Sequence[Finding]) -> dict[str, Any]:
    """The last line of stdout."""
    counts = {level.value: sum(finding.level is level for finding in findings) for level in Level}
    return {"verdict": worst(findings).value, **counts, "findings": [finding.as_json() for finding in findings]}


def show(findings: Sequence[Finding], console: Console) -> None:
    """The table, a complaint's remedy below it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for column in ("level", "what", "found"):
        table.add_column(column, no_wrap=column != "found")
    for finding in findings:
        told = escape(finding.found) + (f"\n[bold]→ {escape(finding.mend)}[/bold]" if finding.mend else "")
        table.add_row(f"[{_STYLES[finding.level]}]{finding.level.value}[/]", escape(finding.what), told)
    console.print(table)
