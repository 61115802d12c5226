"""Ultralytics' own ONNX predictor, in a process of its own, to be compared with: `python -m export.opponent FOLDER`.

FOLDER holds `weights.pt` and `pictures.npz` (UINT8 (H, W, 3) BGR, named by number). The process exports what it is
asked for with Ultralytics' defaults, and answers each line of JSON on stdin with one on stdout:

- `{"load": [height, width]}`: export and load for this input size -> `{}`
- `{"time": [height, width], "pictures": [0, 1, …]}` -> `{"seconds": …}` for one call of `predict` per picture
- `{"detect": [height, width]}` -> `{"file": …}`: an npz with rows x1, y1, x2, y2, score, class of every picture

It knows nothing of our models, and nothing of ours runs in it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import weights

_ACCURACY = {"conf": 0.001, "iou": 0.7, "max_det": 300}  # as in export.evaluate
_DETECTION = {"conf": 0.25, "iou": 0.7, "max_det": 300}


def main(folder: Path) -> None:
    """Answer until stdin ends. What Ultralytics prints goes to stderr."""
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        opponent = Opponent(folder)
        for line in sys.stdin:
            answers.write(json.dumps(opponent.answer(json.loads(line))) + "\n")
            answers.flush()


class Opponent:
    """The predictors by input size (height, width), and the pictures."""

    def __init__(self, folder: Path) -> None:
        os.environ["YOLO_AUTOINSTALL"] = "false"
        self._yolo = weights.ultralytics_interface()
        stand_in_for_torchvision()
        self._folder = folder
        with np.load(folder / "pictures.npz") as stored:
            self._pictures = [stored[str(index)] for index in range(len(stored.files))]
        self._models: dict[tuple[int, int], Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request, as the module says."""
        if "load" in request:
            self._load(_size(request["load"]))
            return {}
        if "time" in request:
            return {"seconds": self._seconds(_size(request["time"]), request["pictures"])}
        return {"file": str(self._detected(_size(request["detect"])))}

    def _load(self, size: tuple[int, int]) -> None:
        given = self._yolo(str(self._folder / "weights.pt"))
        exported = Path(given.export(format="onnx", imgsz=size, verbose=False))
        path = exported.rename(self._folder / f"{size[0]}x{size[1]}.onnx")
        self._models[size] = self._yolo(str(path), task="detect")
        self._predict(size, self._pictures[0], _DETECTION)

    def _predict(self, size: tuple[int, int], picture: NDArray[np.uint8], limits: dict[str, float]) -> Any:
        (result,) = self._models[size].predict(picture, imgsz=size, device="cpu", verbose=False, **limits)
        return result.boxes.data.numpy()

    def _seconds(self, size: tuple[int, int], indices: list[int]) -> float:
        start = time.perf_counter()
        for index in indices:
            self._predict(size, self._pictures[index], _DETECTION)
        return time.perf_counter() - start

    def _detected(self, size: tuple[int, int]) -> Path:
        rows = {str(index): self._predict(size, one, _ACCURACY) for index, one in enumerate(self._pictures)}
        path = self._folder / f"{size[0]}x{size[1]}.npz"
        np.savez(path, **rows)
        return path


def _size(given: list[int]) -> tuple[int, int]:
    return int(given[0]), int(given[1])


def stand_in_for_torchvision() -> None:
    """Its wheel does not fit every CPU build of torch; the predictor needs its `ops.nms` alone."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        stand_in, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
        ops.nms = weights.ultralytics_torch_nms()  # type: ignore[attr-defined]
        stand_in.ops = ops  # type: ignore[attr-defined]
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules |= {"torchvision": stand_in, "torchvision.ops": ops}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
