"""Single keys of the configuration, from the command line: `--set triton.url=triton:8001` goes before the file.

It is how one config.yaml serves by hand and in containers, where addresses and ports are others. Knows no section and
no key: what was set is checked with the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from clients.errors import ConfigError


def with_overrides(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of a file's content with each `section.key=VALUE` in its place; VALUE is read as YAML, empty is no value.

    Raises ConfigError: not of that form, VALUE is not YAML, the section holds no keys.
    """
    changed = {name: dict(section) if isinstance(section, Mapping) else section for name, section in content.items()}
    for text in overrides:
        section, key, value = _parsed(text)
        if changed.get(section) is None:
            changed[section] = {}
        if not isinstance(changed[section], dict):
            raise ConfigError(f"--set {text}: {section} has no keys that can be set")
        changed[section][key] = value
    return changed


def _parsed(text: str) -> tuple[str, str, Any]:
    path, equals, written = text.partition("=")
    section, dot, key = path.partition(".")
    if not (equals and section and dot and key) or "." in key:
        raise ConfigError(f"--set {text}: expected SECTION.KEY=VALUE, such as triton.url=127.0.0.1:8001")
    try:
        return section, key, yaml.safe_load(written)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: not a YAML value: {' '.join(str(error).split())}") from error
