"""Average precision of boxes against a truth, by pycocotools: COCO's criteria, one area, 300 boxes a picture."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import FleetError


@dataclass(frozen=True, slots=True)
class Precision:
    """Percent: mean over IoU 0.5 to 0.95, and at 0.5 alone; the former by class."""

    map50_95: float
    map50: float
    per_class: dict[str, float]


def average_precision(
    classes: Sequence[str],
    truth: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    found: NDArray[np.float64],
    pictures: int,
) -> Precision:
    """`truth` FP64 (n, 6): picture, class, x1, y1, x2, y2; `ignored` BOOL (n,) count neither way.

    `found` FP64 (m, 7): picture, class, score, x1, y1, x2, y2. Raises FleetError: nothing labelled, no pycocotools.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise FleetError("average precision needs pycocotools: `make test` installs it") from error
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = _dataset(classes, truth, ignored, pictures)
        known.createIndex()
        sizes = found[:, 5:7] - found[:, 3:5]
        table = np.column_stack((found[:, 0] + 1, found[:, 3:5], sizes, found[:, 2], found[:, 1] + 1))
        judge = COCOeval(known, known.loadRes(table) if len(table) else COCO(), "bbox")
        judge.params.maxDets = [300]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.params.imgIds = list(range(1, pictures + 1))
        judge.evaluate()
        judge.accumulate()
    return _precision(judge.eval["precision"][:, :, :, 0, 0], classes)


def _precision(table: NDArray[np.float64], classes: Sequence[str]) -> Precision:
    """`table` [IoU 0.5 … 0.95, recall, class]; -1 where nothing is labelled."""
    labelled = [index for index in range(len(classes)) if table[:, :, index].min() >= 0]
    if not labelled:
        raise FleetError("average precision: nothing is labelled")
    per_class = {classes[index]: round(float(table[:, :, index].mean()) * 100, 3) for index in labelled}
    kept = table[:, :, labelled]
    return Precision(round(float(kept.mean()) * 100, 4), round(float(kept[0].mean()) * 100, 4), per_class)


def _dataset(
    classes: Sequence[str], truth: NDArray[np.float64], ignored: NDArray[np.bool_], pictures: int
) -> dict[str, Any]:
    annotations = [
        {
            "id": number,
            "image_id": int(picture) + 1,
            "category_id": int(class_id) + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": int(is_ignored),
        }
        for number, ((picture, class_id, x1, y1, x2, y2), is_ignored) in enumerate(
            zip(truth.tolist(), ignored.tolist(), strict=True), start=1
        )
    ]
    return {
        "info": {},
        "images": [{"id": picture} for picture in range(1, pictures + 1)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes, start=1)],
        "annotations": annotations,
    }
