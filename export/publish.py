"""Files that appear whole or not at all, whatever kills the writer. Knows neither torch nor ONNX."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import ExitStack
from pathlib import Path

from clients.file_lock import is_locked
from export.errors import ExportError


def publish(files: dict[Path, bytes]) -> None:
    """Write everything beside its place first, then rename: a failure leaves the old files. Raises ExportError.

    What a writer that was killed has left beside these places is removed. The order is kept: a sidecar that comes last
    never tells of files that are not there yet.
    """
    staged: list[tuple[Path, Path]] = []
    try:
        with ExitStack() as locks:
            for path, data in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                _remove_stale(path)
                temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
                staged.append((temporary, path))
                file = locks.enter_context(temporary.open("wb"))
                fcntl.flock(file, fcntl.LOCK_EX)  # tells others that it is being written, until we end
                file.write(data)
                file.flush()
            for temporary, path in staged:
                temporary.replace(path)
    except OSError as error:
        raise ExportError(f"cannot write the exported model: {error}") from error
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        if not is_locked(left):
            left.unlink(missing_ok=True)


def sha256(data: bytes) -> str:
    """Hex digest, as the sidecar has it."""
    return hashlib.sha256(data).hexdigest()
