"""What an image runs imports nothing that the image does not install."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from typing import Any

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

FLEET = (
    "clients.__main__ clients.web.serve clients.server clients.sinks.mqtt clients.sinks.webhook deploy.doctor.__main__ "
    "deploy.triton deploy.health demo.rendering demo.clips demo.render"
)
BUILD = "export.cli export.plan export.on_card export.calibration demo.pictures deploy.triton deploy.doctor.__main__"
OPTIONAL = {"brotli", "charset-normalizer"}  # urllib3 and others import them where they happen to be
IMAGES = {"fleet": (FLEET, ("clients",)), "triton": (BUILD, ("clients", "card"))}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_every_package_that_its_services_import(image: str) -> None:
    """Imported in a fresh interpreter; each package belongs to the groups that the image installs."""
    modules, groups = IMAGES[image]
    code = f"import {', '.join(modules.split())}, json, sys; print(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    roots = {name.split(".")[0] for name in json.loads(process.stdout)} - {"_distutils_hack"}  # every environment's own
    known = packages_distributions()
    imported = {normal(known[name][0]) for name in roots if name in known}
    assert imported <= installed(groups) | OPTIONAL, sorted(imported - installed(groups))


def installed(groups: tuple[str, ...]) -> set[str]:
    """Names of all packages that pip installs for the groups, as far as they are here."""
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    waiting = [Requirement(entry) for name in groups for entry in entries(given, name)]
    found: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        extras = {"extra": next(iter(wanted.extras), "")}
        key = normal(wanted.name)
        if key in found and not wanted.extras:
            continue
        found.add(key)
        try:
            needed = requires(wanted.name) or []
        except PackageNotFoundError:
            continue
        waiting += [one for one in map(Requirement, needed) if one.marker is None or one.marker.evaluate(extras)]
    return found


def entries(groups: dict[str, Any], name: str) -> list[str]:
    """The requirements of a group, those of groups in it included."""
    return [
        line
        for entry in groups[name]
        for line in (entries(groups, entry["include-group"]) if isinstance(entry, dict) else [entry])
    ]


def normal(name: str) -> str:
    """As PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()
