"""Stand-ins for models of rising strength and cost: the demo's n weights on three canvas sizes.

Where no GPU has trained m and x for the city, policies that choose between models are tried on these. They are no m and
no x: only the order of their accuracy and of their cost is meant, and whoever uses them says so.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clients.types import Canvas, Tier
from demo.clips import Job
from demo.detections import WEIGHTS, Models, Seen, look

STAND_INS: Mapping[str, Canvas] = {
    "n-416x256": Canvas(416, 256),
    "n-640x384": Canvas(640, 384),
    "n-704x416": Canvas(704, 416),
}


def stand_in(name: str, folder: Path) -> Models:
    """The models of a stand-in, exported below `folder` where they are not there yet. Raises ExportError, OSError."""
    canvas, checkpoint = STAND_INS[name], WEIGHTS / "yolo12n.pt"
    if canvas == Canvas():
        return Models()
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8]
    models = Models(folder / f"{name}-{digest}", canvas)
    if not models.path("postprocess").is_file():
        from export import weights
        from export.engine import prepare
        from export.spec import Spec
        from export.to_onnx import engine_onnx, postprocess_onnx

        spec = Spec(canvas=canvas)
        network = prepare(weights.load(Tier.N, checkpoint).network)
        for model, content in (("yolo12n_engine", engine_onnx(network, spec)), ("postprocess", postprocess_onnx(spec))):
            models.path(model).parent.mkdir(parents=True, exist_ok=True)
            models.path(model).write_bytes(content)
    return models


def look_with_all(
    jobs: Sequence[Job], seconds: int, folder: Path, progress: Callable[[str, int, int], None]
) -> dict[str, dict[str, Seen]]:
    """What each stand-in sees, by its name and the camera's; kept below `folder`.

    `progress` is told the stand-in, frames done and in all. Raises DetectionsError, ExportError, SourceError, OSError.
    """
    return {
        name: look(jobs, seconds, folder, functools.partial(progress, name), stand_in(name, folder))
        for name in STAND_INS
    }
