"""What the demo's weights see in every frame of a clip, kept on disk: tracking is measured on it again and again.

ONNX Runtime computes the exported graphs in f32, on the canvas and with the suppression that the product serves. The
score threshold is low, so that a tracker may choose its own. ONNX Runtime is imported by this file only, when asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import FleetError
from clients.sources.file import FileSource, Timing
from clients.sources.frame import Frame
from clients.types import Canvas, Detections, Thresholds
from demo.clips import Job
from demo.scenes import camera_name

WEIGHTS = Path(__file__).resolve().parent / "weights"
THRESHOLDS = Thresholds(score=0.05, iou=0.7)
_MODELS = ("yolo12n_engine", "postprocess")
_UNPACED = Timing(lambda: 0, lambda _seconds: False)  # as fast as it can be decoded


class DetectionsError(FleetError):
    """The clips cannot be looked at."""


@dataclass(frozen=True, slots=True)
class Models:
    """Exported engine and postprocess below `folder`, and the canvas that they were exported for."""

    folder: Path = WEIGHTS
    canvas: Canvas = field(default_factory=Canvas)

    def path(self, name: str) -> Path:
        """The ONNX file of a model."""
        return self.folder / name / "1" / "model.onnx"


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One clip: `times_s` FP64 (frames,) and what was found in each frame, in source pixels."""

    times_s: NDArray[np.float64]
    frames: Sequence[Detections]


def look(
    jobs: Sequence[Job],
    seconds: int,
    folder: Path,
    progress: Callable[[int, int], None],
    models: Models | None = None,
) -> dict[str, Seen]:
    """The first `seconds` of every clip by its camera's name, from `folder` where they were looked at before.

    `progress` is told frames done and in all. Raises DetectionsError without ONNX Runtime, SourceError, OSError.
    """
    models = models or Models()
    folder.mkdir(parents=True, exist_ok=True)
    paths = {job: folder / f"{camera_name(job.index)}-{seconds}s-{_key(job, models)}.npz" for job in jobs}
    lengths = {job: min(seconds, job.seconds) * job.view.fps for job in jobs}
    done, total = 0, sum(lengths.values())
    network: _Network | None = None
    for job, path in paths.items():
        if not path.is_file():
            network = network or _Network(models)
            rows: list[NDArray[np.float32]] = []
            times_s: list[float] = []
            for frame in islice(FileSource(camera_name(job.index), job.clip).frames(_UNPACED), lengths[job]):
                rows.append(network.find(frame))
                times_s.append(frame.media_time_s)
                progress(done + len(rows), total)
            _write(path, times_s, rows)
        done += lengths[job]
        progress(done, total)
    return {camera_name(job.index): _read(path) for job, path in paths.items()}


class _Network:
    """Engine and postprocess of tier n."""

    def __init__(self, models: Models) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise DetectionsError(
                "the weights need onnxruntime, in the dependency group export; see `make test`"
            ) from error
        self._canvas = models.canvas
        self._frames = np.empty((1, *self._canvas.nv12_shape), dtype=np.uint8)
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves idle time to others
        self._engine, self._post = (
            onnxruntime.InferenceSession(str(models.path(name)), options, providers=["CPUExecutionProvider"])
            for name in _MODELS
        )

    def find(self, frame: Frame) -> NDArray[np.float32]:
        """FP32 (n, 6): x1, y1, x2, y2 in source pixels, score, class."""
        geometry = frame.picture.write_canvas(self._canvas, self._frames[0])
        (candidates,) = self._engine.run(["candidates"], {"frames": self._frames})
        inputs: dict[str, Any] = {
            "candidates": candidates,
            "geometry": geometry.as_array()[None],
            "thresholds": THRESHOLDS.as_array()[None],
        }
        found, count = self._post.run(["detections", "count"], inputs)
        return np.array(found[0, : int(count[0, 0])], dtype=np.float32)


def _write(path: Path, times_s: Sequence[float], rows: Sequence[NDArray[np.float32]]) -> None:
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, times_s=times_s, counts=[len(some) for some in rows], rows=np.concatenate(rows))
    partial.replace(path)


def _read(path: Path) -> Seen:
    with np.load(path) as data:
        split = np.split(data["rows"], np.cumsum(data["counts"])[:-1])
        return Seen(data["times_s"], [Detections.from_rows(rows) for rows in split])


def _key(job: Job, models: Models) -> str:
    """Hash of all that the answer depends on."""
    digests = b"".join(hashlib.sha256(models.path(name).read_bytes()).digest() for name in _MODELS)
    return hashlib.sha256(digests + f"{job.key} {THRESHOLDS}".encode()).hexdigest()[:16]
