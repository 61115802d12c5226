"""Whether an export would only write again what is there: everything that shapes the files, as one fingerprint.

The fingerprint lies in the sidecar. What it was made of has changed, or a file is not the one that the sidecar
describes: the step is repeated. Knows neither torch nor ONNX.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from export.publish import sha256

_CODE = Path(__file__).resolve().parent


def fingerprint(**inputs: Any) -> str:
    """SHA-256 of the inputs, which JSON must be able to hold, and of this folder's own code."""
    code = {path.name: sha256(path.read_bytes()) for path in sorted(_CODE.glob("*.py"))}
    return sha256(json.dumps({"code": code, **inputs}, sort_keys=True).encode())


def kept(sidecar: Path, wanted: str, engine: Path, postprocess: Path) -> dict[str, Any] | None:
    """The sidecar's content when the two files are what this fingerprint gives, else None."""
    try:
        told = json.loads(sidecar.read_text(encoding="utf-8"))
        found = (told["inputs_sha256"], told["sha256"]["onnx"], told["postprocess"]["sha256"])
        files = (sha256(engine.read_bytes()), sha256(postprocess.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):  # missing, broken or of an older export: nothing to keep
        return None
    return dict(told) if found == (wanted, *files) else None
