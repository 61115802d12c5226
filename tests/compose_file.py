"""docker-compose.yml as the tests read it: variables put in from .env, anchors resolved, commands split."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
STACKS = ("gpu", "cameras", "cpu")
PROFILES = (*STACKS, "load")
_VARIABLE = re.compile(r"\$\{([A-Z_]+)\}")


def variables() -> dict[str, str]:
    """What .env says."""
    lines = (ROOT / ".env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def compose(**changed: str) -> dict[str, Any]:
    """The whole file; `changed` are variables that go before .env. KeyError for one that .env does not have."""
    known = variables() | changed
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(lambda match: known[match[1]], text))
    return loaded


def services(profile: str | None = None, **changed: str) -> dict[str, Any]:
    """The services of a profile, or all."""
    found = compose(**changed)["services"]
    return {name: one for name, one in found.items() if profile is None or profile in one["profiles"]}


def command(service: dict[str, Any]) -> list[str]:
    """The words of a service's command."""
    given = service.get("command", [])
    return shlex.split(given) if isinstance(given, str) else list(given)


def health_command(service: dict[str, Any]) -> list[str]:
    """The words of a service's health check."""
    test = service["healthcheck"]["test"]
    return shlex.split(test) if isinstance(test, str) else list(test[1:])


def copied(build: dict[str, Any]) -> list[tuple[str, str]]:
    """(source, folder or file in the image) of everything that a Dockerfile copies from here, its base stages first."""
    text = (ROOT / build["dockerfile"]).read_text(encoding="utf-8")
    stages: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name, where = "", ""
    for line in text.splitlines():
        words = line.split()
        match words:
            case ["FROM", base, *rest]:
                name, where = rest[1] if rest else "", "/"
                stages[name] = base, []
                where = "/app" if base in stages else where
            case ["WORKDIR", folder]:
                where = folder
            case ["COPY", *sources, target] if not sources[0].startswith("--from"):
                for source in sources:
                    place = f"{target}{Path(source).name}" if target.endswith("/") else target
                    stages[name][1].append((source, f"{where}/{place.removeprefix('./')}"))
    base, found = build.get("target", name), list[tuple[str, str]]()
    while base in stages:
        base, copies = stages[base]
        found = copies + found
    return found


def in_order(profile: str) -> list[str]:
    """The services of a profile, each after those that it waits for."""
    wanted, placed = services(profile), list[str]()
    while len(placed) < len(wanted):
        ready = [
            name for name, one in wanted.items() if name not in placed and set(one.get("depends_on", ())) <= set(placed)
        ]
        assert ready, f"services wait for each other: {sorted(set(wanted) - set(placed))}"
        placed += ready
    return placed
