"""Which weights are kept: after every epoch the held-out canvases decide, and the best are published at once.

The score is pycocotools', what is ignored counts neither way (demo/truth.py). A training that is cut off leaves its
best weights, their record, and the curve so far. torch is imported where it is needed.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.types import Canvas, Geometry
from demo.checkpoint import anonymise
from demo.pictures import Labelled, read_held_out
from demo.plan import Plan
from demo.scenes import CLASSES

_SCORE, _IOU, _MOST, _BATCH = 0.001, 0.7, 300, 8


@dataclass(frozen=True, slots=True)
class Score:
    """Mean average precision, 0..1, on the held-out canvases, what is ignored counting neither way."""

    map50: float
    map50_95: float
    per_class_map50_95: dict[str, float]


class Keeper:
    """Scores checkpoints of one plan; `folder` holds the curve, `weights` what is published."""

    def __init__(self, plan: Plan, data: Path, folder: Path, weights: Path) -> None:
        self._plan, self._weights = plan, weights
        self._pictures = list(read_held_out(data))
        self._curve_file = folder / "curve.json"
        self._curve: list[dict[str, Any]] = []
        if plan.resume and self._curve_file.is_file():
            self._curve = json.loads(self._curve_file.read_text(encoding="utf-8"))
        self._began_s = time.monotonic() - (self._curve[-1]["minutes"] * 60 if self._curve else 0.0)
        before = None if plan.start is None else plan.start.with_name("training.json")  # may be overwritten later
        self._before = json.loads(before.read_text(encoding="utf-8")) if before and before.is_file() else None
        self.record: dict[str, Any] = {}

    @property
    def best(self) -> float:
        """The best mAP50-95 so far."""
        return max((point["map50_95"] for point in self._curve), default=-1.0)

    def start(self, checkpoint: Path) -> None:
        """The weights that a plan starts from: what comes must be better."""
        if self._curve:
            return
        self._add("start", 0, score_network(network_of(checkpoint), self._pictures), {})

    def consider(
        self, checkpoint: Path, network: Any, round_name: str, epoch: int, losses: Mapping[str, float]
    ) -> None:
        """Score the network; publish its checkpoint when it is the best so far."""
        score = score_network(copy.deepcopy(network).float().eval(), self._pictures)
        is_better = score.map50_95 > self.best
        self._add(round_name, epoch, score, losses)
        if is_better:
            self.record = self._record(round_name, epoch, score)
            self._publish(checkpoint)
        if self._weights.is_dir():
            (self._weights / "curve.json").write_text(json.dumps(self._curve, indent=1) + "\n", encoding="utf-8")

    def _add(self, round_name: str, epoch: int, score: Score, losses: Mapping[str, float]) -> None:
        minutes = round((time.monotonic() - self._began_s) / 60, 1)
        point = {"round": round_name, "epoch": epoch, "minutes": minutes} | asdict(score) | {"losses": dict(losses)}
        self._curve.append(point)
        self._curve_file.parent.mkdir(parents=True, exist_ok=True)
        self._curve_file.write_text(json.dumps(self._curve, indent=1), encoding="utf-8")

    def _publish(self, checkpoint: Path) -> None:
        from ultralytics.utils.torch_utils import strip_optimizer

        self._weights.mkdir(parents=True, exist_ok=True)
        stripped = checkpoint.with_name("stripped.pt")
        with contextlib.redirect_stdout(None):
            strip_optimizer(checkpoint, str(stripped))  # keeps the averaged weights, in FP16
        anonymise(stripped)
        partial = self._weights / "yolo12n.pt.part"
        shutil.copyfile(stripped, partial)
        partial.replace(self._weights / "yolo12n.pt")
        (self._weights / "training.json").write_text(json.dumps(self.record, indent=2) + "\n", encoding="utf-8")

    def _record(self, round_name: str, epoch: int, score: Score) -> dict[str, Any]:
        """What is written beside the weights, and printed."""
        return {
            "command": self._plan.command,
            "round": round_name,
            "epoch": epoch,
            "classes": CLASSES,
            "held_out": asdict(score) | {"pictures": len(self._pictures), "canvas": str(Canvas())},
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "ultralytics", "opencv-python")},
            "date": datetime.now(UTC).date().isoformat(),
            "start": self._before,
        }


def network_of(checkpoint: Path) -> Any:
    """Our own checkpoint's network, in FP32 and evaluation mode."""
    import torch

    content = torch.load(checkpoint, map_location="cpu", weights_only=False)
    return (content.get("ema") or content["model"]).float().eval()


def score_network(network: Any, pictures: list[Labelled]) -> Score:
    """The network on canvases, in bfloat16 where that is quicker, judged by pycocotools."""
    import torch

    from export.evaluate import score
    from export.labelled import Labelled as Judged
    from export.weights import ultralytics_suppression

    suppress = ultralytics_suppression()
    device = next(network.parameters()).device
    rows: list[NDArray[np.float64]] = []
    for start in range(0, len(pictures), _BATCH):
        batch = np.stack([one.image[..., ::-1].transpose(2, 0, 1) for one in pictures[start : start + _BATCH]])
        inputs = torch.from_numpy(np.ascontiguousarray(batch)).to(device).float() / 255
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
            raw = network(inputs)[0].float()
        found = suppress(raw, _SCORE, _IOU, multi_label=False, max_det=_MOST)
        rows += [_numbered(one.cpu().numpy(), start + place) for place, one in enumerate(found)]
    nothing = np.zeros((0, 0, 3), dtype=np.uint8)
    truths = [Judged(nothing, nothing[..., 0], Geometry(1, 1, 0, 0), one.boxes, one.ignored) for one in pictures]
    judged = score(CLASSES, truths, np.concatenate(rows))
    per_class = {name: round(value / 100, 4) for name, value in judged.per_class.items()}
    return Score(round(judged.map50 / 100, 4), round(judged.map50_95 / 100, 4), per_class)


def _numbered(found: NDArray[np.float32], number: int) -> NDArray[np.float64]:
    return np.column_stack((np.full(len(found), number), found)).astype(np.float64)
