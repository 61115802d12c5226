"""Training and validation pictures: rendered, H.264-compressed, decoded and put on the canvas like a camera's frame.

Training pictures are square cuts from the canvas, at its own scale: an object is as many pixels large as when served.
Validation pictures are whole canvases. The folder has the layout that Ultralytics reads.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.sources.picture import AvPicture, Scalers
from clients.types import Canvas, Geometry
from demo.render import Renderer
from demo.scenes import CLASSES, Purpose, scene
from demo.truth import TrueObject
from demo.video import decode, encode

CUT_PX = 320
PICTURES_PER_CAMERA = 5
_POLISH_FROM = 100_000
_FRAMES_PER_PICTURE = 3  # the last of so many consecutive frames: it carries the compression of a moving picture
_LEAST_VISIBILITY, _LEAST_SIZE_PX = (
    0.27,
    (6.0, 8.0),
)  # in training: width, height on the canvas; a little below the rule
_LEAST_SHARE_IN_CUT = 0.35


@dataclass(frozen=True, slots=True)
class Labelled:
    """`image` UINT8 (H, W, 3) BGR; `boxes` (n, 5): class, x1, y1, x2, y2 in its pixels; `ignored` BOOL (n,)."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    ignored: NDArray[np.bool_]


def camera_pictures(purpose: Purpose, seed: int, index: int) -> list[Labelled]:
    """The pictures of one camera: whole canvases with what can be seen in them."""
    shown = scene(purpose, seed, index)
    renderer = Renderer(shown)
    rng = np.random.default_rng((*shown.seed, 3))
    images, truths = [], []
    for start in np.sort(rng.integers(0, 60 * shown.view.fps, PICTURES_PER_CAMERA)):
        for offset in range(_FRAMES_PER_PICTURE):
            rendered = renderer.render(int(start) + offset, shown.view.fps)
            images.append(rendered.image)
            truths.append(rendered.objects)
    buffer = io.BytesIO()
    encode(buffer, shown.view, images)
    buffer.seek(0)
    scalers = Scalers()
    pictures = []
    for frame, objects in zip(list(decode(buffer)), truths, strict=True):
        canvas = Canvas()
        nv12 = np.empty(canvas.nv12_shape, dtype=np.uint8)
        geometry = AvPicture(frame, scalers).write_canvas(canvas, nv12)
        image = np.asarray(cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12), dtype=np.uint8)
        pictures.append(Labelled(image, *_boxes(objects, geometry, every=purpose is Purpose.VALIDATION)))
    return pictures[_FRAMES_PER_PICTURE - 1 :: _FRAMES_PER_PICTURE]


def cut(picture: Labelled, left: int, top: int) -> Labelled:
    """The square of `CUT_PX` pixels from there, with the boxes of which enough lies in it, clipped."""
    boxes, size = picture.boxes.copy(), picture.boxes[:, 3:5] - picture.boxes[:, 1:3]
    boxes[:, 1:5] = np.clip(boxes[:, 1:5] - (left, top, left, top), 0, CUT_PX)
    left_of_it = boxes[:, 3:5] - boxes[:, 1:3]
    kept = left_of_it.prod(axis=1) >= _LEAST_SHARE_IN_CUT * size.prod(axis=1)
    kept &= (left_of_it >= _LEAST_SIZE_PX).all(axis=1)
    return Labelled(picture.image[top : top + CUT_PX, left : left + CUT_PX], boxes[kept], picture.ignored[kept])


def _fuller_cut(picture: Labelled, rng: np.random.Generator) -> Labelled:
    """Of four cuts at random the one with most in it: sky and empty ground teach little."""
    height, width = picture.image.shape[:2]
    places = rng.integers(0, (width - CUT_PX + 1, height - CUT_PX + 1), (4, 2)).tolist()
    return max((cut(picture, left, top) for left, top in places), key=lambda piece: len(piece.boxes))


def write_pictures(
    folder: Path, split: str, seed: int, count: int, *, workers: int = 2, progress: Callable[[int], None] | None = None
) -> None:
    """Fill `folder/images/split` and `folder/labels/split`. Raises OSError when that cannot be written."""
    for kind in ("images", "labels", "ignored"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    cameras = -(-count // PICTURES_PER_CAMERA)
    counts = [min(PICTURES_PER_CAMERA, count - number * PICTURES_PER_CAMERA) for number in range(cameras)]
    jobs = [functools.partial(_write_camera, folder, split, seed, *job) for job in enumerate(counts)]
    for written in _results(jobs, workers):
        if progress is not None:
            progress(written)


def read_held_out(folder: Path) -> Iterator[Labelled]:
    """The validation pictures of `write_pictures`, with what is ignored in them."""
    for path in sorted((folder / "images" / "val").glob("*.png")):
        image = np.asarray(cv2.imread(str(path)), dtype=np.uint8)
        told = [
            (folder / kind / "val" / f"{path.stem}.txt").read_text("utf-8").split() for kind in ("labels", "ignored")
        ]
        asked, ignored = (np.array(words, dtype=np.float64).reshape(-1, 5) for words in told)
        rows = np.concatenate((asked, ignored))
        centre, half = rows[:, 1:3], rows[:, 3:5] / 2
        corners = np.concatenate((centre - half, centre + half), axis=1) * np.tile(image.shape[1::-1], 2)
        yield Labelled(image, np.column_stack((rows[:, 0], corners)), np.arange(len(rows)) >= len(asked))


def _results(jobs: Sequence[Callable[[], int]], workers: int) -> Iterator[int]:
    """What the jobs return, in order, from `workers` processes; a single job is done here."""
    if len(jobs) == 1:
        yield jobs[0]()
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(job) for job in jobs]:
            yield future.result()


def write_dataset_file(folder: Path, name: str, split: str) -> Path:
    """The YAML (JSON is YAML) that tells Ultralytics where the pictures are and what the classes are called."""
    file = folder / f"{name}.yaml"
    names = dict(enumerate(CLASSES))
    file.write_text(
        json.dumps({"path": str(folder.resolve()), "train": f"images/{split}", "val": "images/val", "names": names}),
        encoding="utf-8",
    )
    return file


def split_cameras(split: str) -> tuple[Purpose, int]:
    """What a split's cameras are for, and the number of the first: "train" (cuts), "polish" or "val" (canvases)."""
    return {
        "train": (Purpose.TRAINING, 0),
        "polish": (Purpose.TRAINING, _POLISH_FROM),
        "val": (Purpose.VALIDATION, 0),
    }[split]


def _write_camera(folder: Path, split: str, seed: int, number: int, count: int) -> int:
    """A worker's job: one camera's pictures. Returns how many."""
    cv2.setNumThreads(1)
    purpose, first = split_cameras(split)
    index = first + number
    rng = np.random.default_rng((int(purpose), seed, index, 4))
    for place, whole in enumerate(camera_pictures(purpose, seed, index)[:count]):
        picture = _fuller_cut(whole, rng) if split == "train" else whole
        name = f"{index:06d}_{place}"
        path = folder / "images" / split / f"{name}.png"
        if not cv2.imwrite(str(path), picture.image, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise OSError(f"{path}: the picture cannot be written")
        asked = ~picture.ignored if split == "val" else np.ones(len(picture.boxes), dtype=np.bool_)
        for kind, which in (("labels", asked), ("ignored", ~asked)):
            text = "\n".join(_label_lines(picture.image.shape, picture.boxes[which]))
            (folder / kind / split / f"{name}.txt").write_text(text, encoding="utf-8")
    return count


def _label_lines(shape: tuple[int, ...], boxes: NDArray[np.float64]) -> Iterable[str]:
    """Ultralytics' label format: class, centre x, centre y, width, height, as shares of the picture."""
    height, width = shape[:2]
    for class_id, x1, y1, x2, y2 in boxes.tolist():
        centre = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
        yield f"{int(class_id)} {centre[0]:.6f} {centre[1]:.6f} {(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}"


def _boxes(
    objects: Sequence[TrueObject], geometry: Geometry, *, every: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Canvas boxes, and which of them nobody is asked for: `every` one of them, or what training asks for."""
    boxes = np.array([(o.class_id, *o.xyxy) for o in objects], dtype=np.float64).reshape(-1, 5)
    boxes[:, [1, 3]] = boxes[:, [1, 3]] * geometry.scale_x + geometry.pad_x
    boxes[:, [2, 4]] = boxes[:, [2, 4]] * geometry.scale_y + geometry.pad_y
    ignored = np.array([o.ignore for o in objects], dtype=np.bool_)
    if every:
        return boxes, ignored
    is_clear = np.array([o.visibility >= _LEAST_VISIBILITY for o in objects], dtype=np.bool_)
    kept = is_clear & (boxes[:, 3:5] - boxes[:, 1:3] >= _LEAST_SIZE_PX).all(axis=1)
    return boxes[kept], ignored[kept]
