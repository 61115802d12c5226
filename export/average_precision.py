"""Precision of boxes against a truth, by pycocotools, whoever found them. Knows no pictures and no networks."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_BOXES = 300  # a picture
_ALL = ([0, 1e10], "all")
_BY_SIZE = (_ALL, ([0, 32**2], "small"), ([32**2, 96**2], "medium"), ([96**2, 1e10], "large"))  # COCO's


def precision_table(
    classes: Sequence[str],
    boxes: Sequence[NDArray[np.float64]],
    ignored: Sequence[NDArray[np.bool_]],
    rows: NDArray[np.float64],
    *,
    by_size: bool = False,
) -> NDArray[np.float64]:
    """FP64 [IoU 0.5 to 0.95, recall, class, size], 0..1, as pycocotools fills it: -1 where nothing is labelled.

    Of each picture `boxes` (n, 5): class, x1, y1, x2, y2, and which of them are `ignored` (n,); what is found there
    counts neither way. `rows` (m, 7): picture, x1, y1, x2, y2, score, class. Sizes: all; with `by_size` COCO's too:
    below 32 x 32, up to 96 x 96, above, in the pixels of the boxes. Raises ImportError without pycocotools.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    areas = _BY_SIZE if by_size else (_ALL,)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _dataset(classes, boxes, ignored)
        truth.createIndex()
        corners = rows[:, 1:5]
        sizes = corners[:, 2:] - corners[:, :2]
        table = np.column_stack((rows[:, 0] + 1, corners[:, :2], sizes, rows[:, 5], rows[:, 6] + 1))
        judge = COCOeval(truth, truth.loadRes(table) if len(table) else COCO(), "bbox")
        judge.params.maxDets = [_MOST_BOXES]
        judge.params.areaRng, judge.params.areaRngLbl = [area for area, _ in areas], [name for _, name in areas]
        judge.params.imgIds = sorted(truth.imgs)
        judge.evaluate()
        judge.accumulate()
    return np.asarray(judge.eval["precision"][..., 0])


def _dataset(
    classes: Sequence[str], boxes: Sequence[NDArray[np.float64]], ignored: Sequence[NDArray[np.bool_]]
) -> dict[str, Any]:
    """COCO's own form; ids start at 1. What is ignored is a crowd."""
    annotations: list[dict[str, Any]] = []
    for picture, (some, are_ignored) in enumerate(zip(boxes, ignored, strict=True), start=1):
        for (class_id, x1, y1, x2, y2), is_ignored in zip(some.tolist(), are_ignored.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture,
                    "category_id": int(class_id) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(is_ignored),
                }
            )
    return {
        "info": {},
        "images": [{"id": picture} for picture in range(1, len(boxes) + 1)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes, start=1)],
        "annotations": annotations,
    }
