"""Average precision of what users are shown: COCO's criteria over all sizes, as the export measures it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.errors import FleetError
from export.average_precision import precision_table


@dataclass(frozen=True, slots=True)
class Precision:
    """Percent: mean over IoU 0.5 to 0.95, and at 0.5 alone; the former by class."""

    map50_95: float
    map50: float
    per_class: dict[str, float]


def average_precision(
    classes: Sequence[str],
    boxes: Sequence[NDArray[np.float64]],
    ignored: Sequence[NDArray[np.bool_]],
    rows: NDArray[np.float64],
) -> Precision:
    """Arguments as those of `precision_table`. Raises FleetError: nothing labelled, no pycocotools."""
    try:
        table = precision_table(classes, boxes, ignored, rows)[..., 0]
    except ImportError as error:
        raise FleetError("average precision needs pycocotools: `make test` installs it") from error
    labelled = [index for index in range(len(classes)) if table[:, :, index].min() >= 0]
    if not labelled:
        raise FleetError("average precision: nothing is labelled")
    per_class = {classes[index]: round(float(table[:, :, index].mean()) * 100, 3) for index in labelled}
    kept = table[:, :, labelled]
    return Precision(round(float(kept.mean()) * 100, 4), round(float(kept[0].mean()) * 100, 4), per_class)
