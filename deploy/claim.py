"""Names that belong to one launcher, and what dead launchers left behind.

A launcher claims a name: a folder under the temporary directory and a prefix of shared memory. Both carry a lock
file held with flock, which the kernel drops when the last process that inherited it is gone, SIGKILL included.
So a free lock means that its owner and its server are dead, and what carries the name may be removed. A process id
would not do: containers that share /dev/shm count them separately.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clients.file_lock import is_locked
from deploy.errors import LauncherError

SHARED_MEMORY = Path("/dev/shm")
_NAME = re.compile(r"y12triton-\d+-[0-9a-f]{8}")
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Claim:
    """`folder` is empty and ours; every shared memory region called `prefix`... is ours. `locks` are open files."""

    name: str
    folder: Path
    locks: tuple[int, int]

    @property
    def prefix(self) -> str:
        """How the names of our shared memory regions begin."""
        return f"{self.name}_"

    @property
    def memory_lock(self) -> Path:
        """The lock's file in shared memory, removed last."""
        return SHARED_MEMORY / f"{self.name}{_LOCK}"

    def close(self) -> None:
        """Let go of the locks; processes that inherited them keep them."""
        for lock in self.locks:
            with contextlib.suppress(OSError):
                os.close(lock)


def claim() -> Claim:
    """A new name, its folder and its locks. Raises LauncherError: /dev/shm or the temporary folder is unusable."""
    name = f"y12triton-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        return _claim(name)
    except OSError as error:
        raise LauncherError(f"{error.filename}: no place for the server's files: {error.strerror}") from error


def _claim(name: str) -> Claim:
    folder = Path(tempfile.gettempdir()) / name
    in_memory = _lock_new(SHARED_MEMORY / f"{name}{_LOCK}")
    try:
        folder.mkdir(mode=0o700)
        in_folder = _lock_new(folder / _LOCK)
    except BaseException:
        os.close(in_memory)
        remove(name)
        raise
    return Claim(name, folder, (in_memory, in_folder))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A new empty folder, removed at the end, or at somebody's next start when this process is killed.

    Raises LauncherError as `claim` does.
    """
    remove_stale()
    mine = claim()
    try:
        folder = mine.folder / "scratch"
        folder.mkdir()
        yield folder
    finally:
        mine.close()
        remove(mine.name)


def remove(name: str) -> None:
    """Remove every trace of a name: shared memory first, the locks' files last. Does nothing where there is none."""
    for region in SHARED_MEMORY.glob(f"{name}_*"):
        _unlink(region)
    shutil.rmtree(Path(tempfile.gettempdir()) / name, ignore_errors=True)
    _unlink(SHARED_MEMORY / f"{name}{_LOCK}")


def remove_stale() -> list[str]:
    """Remove what dead launchers of this user left; returns their names."""
    stale = [name for name in sorted(_names()) if _is_free(name)]
    for name in stale:
        remove(name)
    return stale


def _unlink(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError, PermissionError):  # already gone, or another user's
        file.unlink()


def _names() -> set[str]:
    entries = (*SHARED_MEMORY.glob("y12triton-*"), *Path(tempfile.gettempdir()).glob("y12triton-*"))
    return {found[0] for entry in entries if (found := _NAME.match(entry.name))}


def _is_free(name: str) -> bool:
    files = (SHARED_MEMORY / f"{name}{_LOCK}", Path(tempfile.gettempdir()) / name / _LOCK)
    return not any(is_locked(file) for file in files)


def _lock_new(file: Path) -> int:
    """Create a file that nobody else can ever see unlocked: it gets its name when the lock is already held."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    lock = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(file)
    except OSError:
        os.close(lock)
        draft.unlink(missing_ok=True)
        raise
    return lock
