"""Files that appear whole or not at all. Knows neither torch nor ONNX."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from export.errors import ExportError


def publish(files: dict[Path, bytes]) -> None:
    """Write everything beside its place first, then rename: a failure leaves the old files. Raises ExportError."""
    staged: list[tuple[Path, Path]] = []
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            staged.append((temporary, path))
            temporary.write_bytes(data)
        for temporary, path in staged:
            temporary.replace(path)
    except OSError as error:
        raise ExportError(f"cannot write the exported model: {error}") from error
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def sha256(data: bytes) -> str:
    """Hex digest, as the sidecar has it."""
    return hashlib.sha256(data).hexdigest()
