"""Where a camera is: what kind of source a text names, and what of it may be shown. It opens nothing.

A source is written as a path, a pattern of paths, a device or a URL. `${NAME}` stands for an environment variable,
so a password need not be in the file; between `//` and `@` its value is percent-encoded, elsewhere put in as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

from clients.errors import ConfigError
from clients.secret import Secrets
from clients.types import StreamSpec

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DEVICE = re.compile(r"/dev/video\d+")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HIDDEN = "***"


class Kind(StrEnum):
    """How a source is read."""

    FILE = "file"
    RTSP = "rtsp"
    HTTP = "http"
    UDP = "udp"
    USB = "usb"


_KINDS = {
    "rtsp": Kind.RTSP,
    "rtsps": Kind.RTSP,
    "http": Kind.HTTP,
    "https": Kind.HTTP,
    "udp": Kind.UDP,
}


@dataclass(frozen=True, slots=True)
class Address:
    """A source that can be opened. Whatever prints it prints `shown`, never `target`."""

    kind: Kind
    shown: str
    target: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Self:
        """Raises ValueError: empty, a scheme that cannot be read, a reference to a variable that is not set."""
        if not text.strip():
            raise ValueError("must be a path, a pattern, /dev/videoN or a URL, got nothing")
        inserted = [_value(name, environment) for name in _REFERENCE.findall(text)]
        target = expanded_url(text, environment)
        secrets = {*inserted, *(_secrets(target))}
        return cls(_kind(target), shown_url(text), target, tuple(sorted(secrets - {""}, key=len, reverse=True)))

    @property
    def is_live(self) -> bool:
        """Whether it is tried again when it cannot be opened or ends."""
        return self.kind is not Kind.FILE

    def __str__(self) -> str:
        return self.shown

    def masked(self, text: str) -> str:
        """`text` without the target and its secrets, for a traceback; short secrets take harmless letters with them."""
        text = text.replace(self.target, self.shown)
        for secret in self.secrets:
            text = text.replace(secret, _HIDDEN)
        return text

    def files(self) -> list[Path]:
        """The files that a path or a pattern names, by name; a path that exists is never read as a pattern."""
        path = Path(self.target)
        if path.exists() or not any(sign in self.target for sign in "*?["):
            return [path]
        root = Path(path.anchor) if path.is_absolute() else Path()
        return sorted(found for found in root.glob(str(path.relative_to(path.anchor))) if found.is_file())


def address_of(spec: StreamSpec) -> Address:
    """Where a camera is, in this process's environment. Raises ConfigError for a source that cannot be one."""
    try:
        return Address.parse(spec.source, Secrets(os.environ))
    except ValueError as error:
        raise ConfigError(f"camera {spec.stream_id}: source: {error}") from None


def _kind(target: str) -> Kind:
    scheme = _SCHEME.match(target)
    if scheme is None:
        return Kind.USB if _DEVICE.fullmatch(target) else Kind.FILE
    name = scheme[1].lower()
    if name not in _KINDS:
        raise ValueError(f"must be a path, a pattern, /dev/videoN or one of {', '.join(_KINDS)}://, got {name}://")
    if len(target) == scheme.end():
        raise ValueError(f"needs a host after {name}://, got none")
    return _KINDS[name]


def _split(text: str) -> tuple[str, str, str]:
    """`scheme://`, the login with its `@` (the last one before the path), and the rest."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        return "", "", text
    end = len(text)
    for sign in "/?#":
        at = text.find(sign, scheme.end())
        end = end if at < 0 else min(end, at)
    login, at_sign, host = text[scheme.end() : end].rpartition("@")
    return scheme[0], login + at_sign, host + text[end:]


def expanded_url(text: str, environment: Mapping[str, str]) -> str:
    """With the values of what it refers to. Raises ValueError for a variable that is not set."""
    head, login, tail = _split(text)
    return expanded(head, environment) + expanded(login, environment, encode=True) + expanded(tail, environment)


def shown_url(text: str) -> str:
    """Login and query hidden; references stay as they are written."""
    head, login, tail = _split(text)
    if not head:
        return text
    place, question, _ = tail.partition("?")
    login = f"{_HIDDEN}@" if len(login) > 1 else login
    return f"{head}{login}{place}{question}{_HIDDEN if question else ''}"


def _secrets(target: str) -> set[str]:
    """What of a URL must not be shown, written as it stands and decoded."""
    _, login, tail = _split(target)
    login = login.removesuffix("@")
    user, _, password = login.partition(":")
    query = tail.partition("?")[2] if _SCHEME.match(target) else ""
    values = {part.partition("=")[2] for part in query.split("&")}
    return {form for part in {login, user, password, query, *values} for form in (part, unquote(part))}


def _value(name: str, environment: Mapping[str, str]) -> str:
    if name not in environment:
        raise ValueError(f"the environment variable {name} is not set, nor is there a secret of this name")
    return environment[name]


def expanded(text: str, environment: Mapping[str, str], *, encode: bool = False) -> str:
    """`text` with the values of its `${NAME}`s. Raises ValueError for a variable that is not set."""

    def value(match: re.Match[str]) -> str:
        found = _value(match[1], environment)
        return quote(found, safe="") if encode else found

    return _REFERENCE.sub(value, text)
