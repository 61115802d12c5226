"""What the simulator replays instead of cameras and a GPU: the demo's clips with truth, thumbnails and detections.

One recording per clip. Thumbnails and edges come from the decoded H.264 as the client's gate sees it. Detections are
those of the demo's yolo12n at several canvas sizes, computed once as the server computes them (OpenVINO) and kept:
a small canvas is a weak and cheap detector, a large one a strong and dear one. They stand in for n, m and x, which
nobody can train here; every figure made with them says so. ONNX, torch and OpenVINO are imported only to compute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import FleetError
from clients.sources.file import FileSource, Timing
from clients.sources.frame import Frame
from clients.sources.picture import Picture
from clients.types import Canvas, Detections, Thresholds
from demo.clips import Job, source_hash
from demo.scenes import camera_name
from demo.stand_ins import STAND_INS
from demo.truth import TrueObject, read_truth

CANVASES = tuple(STAND_INS.values())  # of rising strength; the second is what is served
CAMERAS = (0, 1, 2, 3, 4, 5, 6, 7, 9)  # three static, three calm and three busy ones; the demo renders all but the last
RECORDED_S = 20  # of each clip
THRESHOLDS = Thresholds()  # what the product shows
KEPT = Path(__file__).resolve().parent / "detections"
WEIGHTS = Path(__file__).resolve().parent.parent / "demo" / "weights" / "yolo12n.pt"
_UNPACED = Timing(lambda: 0, lambda _seconds: False)
Progress = Callable[[str, float], None]


class RecordingError(FleetError):
    """Nothing to replay."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One clip: `times_s` FP64 (n,), `thumbnails` UINT8 (n, 36, 64), `edges` FP32 (n,) in 0..1, the article's measure.

    `seen[canvas][i]` are the detections in frame i, `truth[i]` its objects; both in source pixels.
    """

    name: str
    density: str
    size_px: tuple[int, int]
    fps: int
    times_s: NDArray[np.float64]
    thumbnails: NDArray[np.uint8]
    edges: NDArray[np.float32]
    truth: Sequence[Sequence[TrueObject]]
    seen: Mapping[str, Sequence[Detections]]

    def __len__(self) -> int:
        return len(self.times_s)


def recordings(
    jobs: Sequence[Job], cache: Path, progress: Progress, canvases: Sequence[Canvas] = CANVASES
) -> list[Recording]:
    """The recordings of rendered clips, looked at on these canvases.

    Raises RecordingError, SourceError, TruthError, OSError.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found = []
    for number, job in enumerate(jobs):
        progress(camera_name(job.index), number / len(jobs))
        looks = _looks(job, cache)
        seen = {str(canvas): _detections(job, canvas, cache) for canvas in canvases}
        found.append(_recording(job, looks, seen))
    progress("ready", 1.0)
    return found


def _recording(job: Job, looks: Mapping[str, NDArray[Any]], seen: Mapping[str, Sequence[Detections]]) -> Recording:
    view, truth = job.view, read_truth(job.truth).frames
    return Recording(
        camera_name(job.index),
        view.density,
        (view.width, view.height),
        view.fps,
        looks["times_s"],
        looks["thumbnails"],
        looks["edges"],
        truth[: len(looks["times_s"])],
        seen,
    )


def _looks(job: Job, cache: Path) -> Mapping[str, NDArray[Any]]:
    """Times, thumbnails and edges of every frame."""
    from clients.router import article_edges

    path = cache / f"{camera_name(job.index)}-{RECORDED_S}s-{job.key[:16]}.npz"
    if not path.is_file():
        times_s, thumbnails, edges = [], [], []
        for frame in _frames(job):
            times_s.append(frame.media_time_s)
            thumbnails.append(frame.picture.thumbnail())
            edges.append(article_edges(_luma(frame.picture)))
        arrays = {
            "times_s": np.array(times_s),
            "thumbnails": np.stack(thumbnails),
            "edges": np.array(edges, np.float32),
        }
        _write(path, arrays)
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def _frames(job: Job) -> Iterator[Frame]:
    return islice(FileSource(camera_name(job.index), job.clip).frames(_UNPACED), RECORDED_S * job.view.fps)


def _luma(picture: Picture) -> NDArray[np.uint8]:
    import cv2

    width, height = picture.size_px
    scale = min(1.0, 1280 / width)
    return np.asarray(cv2.cvtColor(picture.to_bgr(round(width * scale), round(height * scale)), cv2.COLOR_BGR2GRAY))


def _detections(job: Job, canvas: Canvas, cache: Path) -> Sequence[Detections]:
    """Kept in the repository, or in the cache, or computed now."""
    if (found := kept_detections(job, canvas)) is not None:
        return found
    name, key = f"{camera_name(job.index)}-{canvas}.npz", _key(job, canvas)
    if (found := _read(cache / name, key)) is not None:
        return found
    rows = list(_computed(job, canvas))
    _write(cache / name, _packed(rows, key))
    found = _read(cache / name, key)
    assert found is not None
    return found


def kept_detections(job: Job, canvas: Canvas) -> Sequence[Detections] | None:
    """What the repository holds of a clip; None when it holds nothing, or that of another city or of other weights."""
    return _read(KEPT / f"{camera_name(job.index)}-{canvas}.npz", _key(job, canvas))


def _computed(job: Job, canvas: Canvas) -> Iterator[NDArray[np.float32]]:
    try:
        detector = _Detector(canvas)
    except ImportError as error:
        name = camera_name(job.index)
        text = f"{name} has not been looked at on {canvas} and {error.name} is missing: `make test` installs it"
        raise RecordingError(text) from error
    for frame in _frames(job):
        yield detector.find(frame.picture)


class _Detector:
    """The demo's weights on one canvas, as the server would run them."""

    def __init__(self, canvas: Canvas) -> None:
        from clients.types import Tier
        from deploy.run_repository import cpu_precision
        from export import weights
        from export.engine import prepare
        from export.serving import compiled
        from export.spec import Spec
        from export.to_onnx import engine_onnx, postprocess_onnx

        spec = Spec(canvas=canvas)
        network = prepare(weights.chosen(Tier.N, WEIGHTS, untrained=False).network)
        self._engine = compiled(engine_onnx(network, spec), cpu_precision())
        self._post = compiled(postprocess_onnx(spec), cpu_precision())
        self._canvas = canvas
        self._frames = np.empty((1, *canvas.nv12_shape), dtype=np.uint8)

    def find(self, picture: Picture) -> NDArray[np.float32]:
        """FP32 (n, 6): x1, y1, x2, y2 in source pixels, score, class."""
        geometry = picture.write_canvas(self._canvas, self._frames[0]).as_array()[None]
        candidates = self._engine({"frames": self._frames})["candidates"]
        thresholds = THRESHOLDS.as_array()[None]
        found = self._post({"candidates": candidates, "geometry": geometry, "thresholds": thresholds})
        return np.array(found["detections"][0, : int(found["count"][0, 0])], dtype=np.float32)


def _packed(rows: Sequence[NDArray[np.float32]], key: str) -> dict[str, NDArray[Any]]:
    """Coordinates to an eighth of a pixel, scores to a thousandth: a third of the size, and no policy can tell."""
    all_rows = np.concatenate(rows) if rows else np.zeros((0, 6), np.float32)
    return {
        "key": np.array(key),
        "counts": np.array([len(some) for some in rows], np.uint16),
        "corners": np.clip(np.round(all_rows[:, :4] * 8), -32768, 32767).astype(np.int16),
        "scores": np.round(all_rows[:, 4] * 1000).astype(np.uint16),
        "classes": all_rows[:, 5].astype(np.uint8),
    }


def _read(path: Path, key: str) -> Sequence[Detections] | None:
    if not path.is_file():
        return None
    with np.load(path) as stored:
        if str(stored["key"]) != key:
            return None
        rows = np.column_stack((stored["corners"] / 8, stored["scores"] / 1000, stored["classes"])).astype(np.float32)
        return [Detections.from_rows(some) for some in np.split(rows, np.cumsum(stored["counts"].astype(int))[:-1])]


def _write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def _key(job: Job, canvas: Canvas) -> str:
    """Hash of what the answers depend on: what was drawn, the weights, the thresholds. Not of library versions."""
    drawn = f"{source_hash()} {job.index} {job.seed} {RECORDED_S} {canvas} {THRESHOLDS}"
    return hashlib.sha256(drawn.encode() + WEIGHTS.read_bytes()).hexdigest()[:32]
