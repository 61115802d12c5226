"""Labelled pictures to measure accuracy on: the demo's rendered clips, or a folder in COCO format.

Each picture comes twice: as the client sends it (NV12 canvas) and as OpenCV decodes it (BGR), which is what the PyTorch
reference gets. Knows nothing of networks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.sources.picture import Picture
from clients.types import Canvas, Geometry
from demo.clips import render_clips
from demo.truth import LEAST_SIDE_PX, LEAST_VISIBILITY, TrueObject, Truth, read_truth
from export.calibration import canvas_of, read_picture, video_canvases, video_pictures
from export.errors import ExportError

_CAMERAS, _SECONDS = 8, 30  # what `python -m demo render` makes


@dataclass(frozen=True, slots=True)
class Labelled:
    """`picture` UINT8 (H, W, 3) BGR; `boxes` (n, 5): class, x1, y1, x2, y2 in its pixels; `ignored` BOOL (n,)."""

    picture: NDArray[np.uint8]
    frames: NDArray[np.uint8]
    geometry: Geometry
    boxes: NDArray[np.float64]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """`count` pictures; iterating opens them one by one. `classes` by id, those of the network."""

    classes: tuple[str, ...]
    count: int
    pictures: Iterator[Labelled]


def labelled_set(data: Path, classes: Sequence[str], canvas: Canvas, count: int) -> LabelledSet:
    """A folder of the demo's clips, or one in COCO format: `annotations.json`, or one file in `annotations/`.

    Raises ExportError: neither of them, or none of the network's classes in it.
    """
    clips = _clips_in(data)
    found = _clips(clips, canvas, count) if clips else _coco(data, classes, canvas, count)
    if clips and found.classes != tuple(classes):
        raise ExportError(
            f"{data}: expected the network's classes {', '.join(classes)}, got {', '.join(found.classes)}"
        )
    return found


def client_pictures(data: Path, count: int) -> list[Picture]:
    """The frames of `labelled_set` of a folder of clips, in its order, as the client's decoder delivers them.

    Raises ExportError: no such folder, or no clip with its truth in it.
    """
    clips = _clips_in(data)
    if not clips:
        raise ExportError(f"{data}: expected rendered clips with their truth beside them, found none")
    wanted = _wanted([read_truth(clip.with_suffix(".json")) for clip in clips], count)
    return [
        picture for clip, indices in zip(clips, wanted, strict=True) for _, picture in video_pictures(clip, indices)
    ]


def render_demo(folder: Path) -> None:
    """The demo's clips, where none are there yet; takes about a minute."""
    if not any(folder.glob("*.mp4")):
        render_clips(_CAMERAS, _SECONDS, 0, folder)


def _clips(clips: list[Path], canvas: Canvas, count: int) -> LabelledSet:
    truths = [read_truth(clip.with_suffix(".json")) for clip in clips]
    wanted = _wanted(truths, count)

    def pictures() -> Iterator[Labelled]:
        for clip, truth, indices in zip(clips, truths, wanted, strict=True):
            for index, picture, frames, geometry in _frames(clip, canvas, indices):
                yield Labelled(picture, frames, geometry, *_boxes(truth.frames[index], geometry))

    return LabelledSet(truths[0].classes, sum(map(len, wanted)), pictures())


def _clips_in(data: Path) -> list[Path]:
    return [path for path in sorted(data.glob("*.mp4")) if path.with_suffix(".json").is_file()]


def _wanted(truths: Sequence[Truth], count: int) -> list[set[int]]:
    """Frames of each clip, evenly spread, about `count` in all."""
    share = -(-count // len(truths))
    return [set(np.linspace(0, len(truth.frames) - 1, share).astype(int).tolist()) for truth in truths]


def _frames(
    clip: Path, canvas: Canvas, wanted: set[int]
) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8], Geometry]]:
    """(index, BGR, canvas, geometry) of the wanted frames, decoded once by OpenCV and once by the client."""
    reader = cv2.VideoCapture(str(clip))
    try:
        decoded = 0
        for index, frames, geometry in video_canvases(clip, canvas, wanted):
            if not all(reader.grab() for _ in range(decoded, index + 1)):
                raise ExportError(f"{clip}: OpenCV cannot decode frame {index}")
            decoded = index + 1
            yield index, np.asarray(reader.retrieve()[1], dtype=np.uint8), frames, geometry
    finally:
        reader.release()


def _boxes(objects: Sequence[TrueObject], geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    boxes = np.array([(one.class_id, *one.xyxy) for one in objects], dtype=np.float64).reshape(-1, 5)
    size_px = (boxes[:, 3:5] - boxes[:, 1:3]) * (geometry.scale_x, geometry.scale_y)
    hidden = np.array([one.visibility < LEAST_VISIBILITY for one in objects], dtype=np.bool_)
    return boxes, hidden | (size_px < LEAST_SIDE_PX).any(axis=1)


def _coco(data: Path, classes: Sequence[str], canvas: Canvas, count: int) -> LabelledSet:
    told = _annotations(data)
    ids = {name: index for index, name in enumerate(classes)}
    known = {entry["id"]: ids[entry["name"]] for entry in told["categories"] if entry["name"] in ids}
    if not known:
        names = ", ".join(str(entry["name"]) for entry in told["categories"])
        raise ExportError(f"{data}: none of the network's classes is labelled there; it has {names}")
    rows: dict[int, list[tuple[float, ...]]] = {image["id"]: [] for image in told["images"]}
    for one in told["annotations"]:
        if one["category_id"] in known:
            x, y, width, height = one["bbox"]
            row = (known[one["category_id"]], x, y, x + width, y + height, one.get("iscrowd", 0))
            rows[one["image_id"]].append(row)
    chosen = told["images"][: count or None]

    def pictures() -> Iterator[Labelled]:
        for image in chosen:
            picture = read_picture(_picture_path(data, image["file_name"]))
            table = np.array(rows[image["id"]], dtype=np.float64).reshape(-1, 6)
            yield Labelled(picture, *canvas_of(picture, canvas), table[:, :5], table[:, 5] > 0)

    return LabelledSet(tuple(classes), len(chosen), pictures())


def _annotations(data: Path) -> dict[str, list[dict[str, Any]]]:
    files = sorted((data / "annotations").glob("*.json")) or sorted(data.glob("annotations.json"))
    if len(files) != 1:
        raise ExportError(
            f"{data}: expected the demo's clips or one COCO file, annotations.json or annotations/*.json; "
            f"found {len(files)}"
        )
    try:
        told = json.loads(files[0].read_bytes())
        return {key: told[key] for key in ("images", "annotations", "categories")}
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{files[0]}: not a COCO file ({type(error).__name__}: {error})") from error


def _picture_path(data: Path, name: str) -> Path:
    places = [data / name, data / "images" / name, *sorted(data.glob(f"*/{name}"))]
    return next((place for place in places if place.is_file()), places[0])
