"""Whether the client that registered a region still lives: a lock that the kernel gives back with the process.

A region has no name in /dev/shm any more (docs/decisions/0002), but the server keeps it until somebody unregisters it,
and a client that was killed cannot. So each client holds a lock on an empty file beside the regions, and the next one
that starts gives back what belongs to nobody. Process ids would mean nothing between containers; locks hold there too.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from clients.file_lock import is_locked

SHARED_MEMORY = Path("/dev/shm")
_PREFIX, _SUFFIX = "y12f-", ".lock"


class Owner:
    """This client, from now until `release` or the end of the process. `name` begins the names of its regions."""

    def __init__(self) -> None:
        """Raises OSError when /dev/shm cannot be written."""
        self.name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._path = SHARED_MEMORY / f"{self.name}{_SUFFIX}"
        self._lock = os.open(SHARED_MEMORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._show()
        except OSError:
            os.close(self._lock)
            raise

    def release(self) -> None:
        """Nothing of this client is registered any more; may be called again."""
        if self._lock >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def _show(self) -> None:
        """Give the file its name, now that it is locked: nobody ever sees it unlocked."""
        opened = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # with a folder's descriptor os.link follows the symbolic link, without one it does not
            os.link(str(self._lock), self._path, src_dir_fd=opened, follow_symlinks=True)
        finally:
            os.close(opened)


def ownerless(regions: Iterable[str]) -> list[str]:
    """Those of the regions, by name, that a client of ours registered which lives no more."""
    return [name for name in regions if name.startswith(_PREFIX) and not _is_alive(name.rpartition("-")[0])]


def remove_stale() -> None:
    """Remove the locks of clients that live no more."""
    for path in SHARED_MEMORY.glob(f"{_PREFIX}*{_SUFFIX}"):
        if not _is_alive(path.name.removesuffix(_SUFFIX)):
            path.unlink(missing_ok=True)


def _is_alive(owner: str) -> bool:
    return is_locked(SHARED_MEMORY / f"{owner}{_SUFFIX}")
