"""Versions of TensorRT: which one a server will load, and whether two are the same as far as both are told."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from export.errors import ExportError

_LDCONFIG = ("ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig")
_LIBRARY = re.compile(r"^\s*libnvinfer\.so\.\d+ .*=> (\S+)$", re.MULTILINE)


def same_version(one: str, other: str) -> bool:
    """`11.2.1` and `11.2.1.2` are the same, `11.2.1` and `11.2.0` are not: the shorter one decides."""
    return all(a == b for a, b in zip(one.split("."), other.split("."), strict=False))


def check_serving(here: str, serving: str | None) -> None:
    """Raises ExportError when plans of the TensorRT here would be refused by the server's; None is not known."""
    if serving is not None and not re.fullmatch(r"\d+(\.\d+)+", serving):
        raise ExportError(f"TensorRT version {serving!r}: expected digits and dots such as 11.2.1")
    if serving is not None and not same_version(here, serving):
        raise ExportError(
            f"TensorRT here is {here}, the server's is {serving}, and it refuses plans of another version: "
            f"build in the server's image, or install the bindings of {serving} without their libraries"
        )


def library_version(listing: str | None = None) -> str | None:
    """The version of the libnvinfer that the loader finds, from its file's name; None where there is none.

    `listing` is what `ldconfig -p` prints; by default it is asked.
    """
    found = _LIBRARY.search(_loader_cache() if listing is None else listing)
    if found is None:
        return None
    version = re.search(r"\.so\.(\d+(?:\.\d+)+)$", Path(found[1]).resolve().name)
    return None if version is None else version[1]


def _loader_cache() -> str:
    for command in _LDCONFIG:
        try:
            return subprocess.run([command, "-p"], capture_output=True, text=True, check=False).stdout
        except OSError:
            continue
    return ""
