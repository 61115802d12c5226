"""A checkpoint without the traces of the machine it was trained on. torch is imported where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PRIVATE = ("git", "train_results")  # where it was trained, and how long that took


def anonymise(checkpoint: Path) -> None:
    """Rewrite an Ultralytics checkpoint: folders are cut from its paths, its repository is forgotten, weights stay.

    Raises OSError.
    """
    import torch

    content: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=False)  # our own file
    for key in _PRIVATE:
        content.pop(key, None)
    model = content["model"]
    for arguments in (content.get("train_args"), getattr(model, "args", None), vars(model)):
        if isinstance(arguments, dict):
            arguments.update({key: Path(value).name for key, value in arguments.items() if _is_path(value)})
    torch.save(content, checkpoint)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/")
