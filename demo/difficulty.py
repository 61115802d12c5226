"""Whether the city is hard enough: what a fixed detection interval costs, the tracker filling the gaps.

The busy cameras are looked at in every frame, and in every fifth with our tracker's predictions between (what
`sinks.emit: all` writes). Both answers are judged on all frames by pycocotools. A city in which the interval costs less
than three points would make every policy look good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.tracking.between import visible
from clients.tracking.tracker import Tracker
from clients.types import Detections, Geometry
from demo.detections import Seen
from demo.scenes import CLASSES
from demo.truth import TrueObject, Truth

INTERVAL, LEAST_LOSS = 5, 3.0  # frames; points of mAP50-95
_TRUE_CONFIDENCE = 0.9

Rows = NDArray[np.float64]


def difficulty(truths: Sequence[Truth], seen: Mapping[str, Seen] | None, seconds: int) -> dict[str, Any]:
    """JSON: the score of every frame, of the interval, and the loss; detections are exact where `seen` is None."""
    every: list[Rows] = []
    fixed: list[Rows] = []
    objects: list[Sequence[TrueObject]] = []
    for truth in truths:
        frames = truth.frames[: seconds * truth.fps]
        found = [_exact(some) for some in frames] if seen is None else seen[truth.camera].frames
        every += numbered(found, len(objects))
        fixed += numbered(_filled(truth, found), len(objects))
        objects += frames
    scores = {"every_frame": score_frames(objects, every), f"every_{INTERVAL}th": score_frames(objects, fixed)}
    first, second = (one["map50_95"] for one in scores.values())
    return scores | {
        "loss": round(first - second, 2),
        "least_loss": LEAST_LOSS,
        "hard_enough": first - second >= LEAST_LOSS,
        "detections": "exact" if seen is None else "weights",
        "cameras": [truth.camera for truth in truths],
        "frames": len(objects),
    }


def _filled(truth: Truth, found: Sequence[Detections]) -> list[Detections]:
    """Every fifth frame as it was found, the others as predicted."""
    tracker, answers = Tracker(), []
    for index in range(len(found)):
        if index % INTERVAL == 0:
            tracker.update(found[index], index / truth.fps)
            answers.append(found[index])
        else:
            answers.append(visible(tracker.predict(index / truth.fps), (truth.width, truth.height))[0])
    return answers


def _exact(objects: Sequence[TrueObject]) -> Detections:
    """What a perfect detector finds."""
    asked = [entry for entry in objects if not entry.ignore]
    xyxy = np.array([entry.xyxy for entry in asked], dtype=np.float32).reshape(-1, 4)
    class_id = np.array([entry.class_id for entry in asked], dtype=np.int32)
    return Detections(xyxy, np.full(len(asked), _TRUE_CONFIDENCE, dtype=np.float32), class_id)


def numbered(found: Sequence[Detections], first: int) -> list[Rows]:
    """Rows for the judge: picture, x1, y1, x2, y2, score, class."""
    return [
        np.column_stack((np.full(len(some), first + place), some.xyxy, some.confidence, some.class_id))
        for place, some in enumerate(found)
    ]


def score_frames(objects: Sequence[Sequence[TrueObject]], rows: Sequence[Rows]) -> dict[str, float]:
    """In points of 100, over all frames; `rows` as `numbered` makes them."""
    from export.evaluate import score
    from export.labelled import Labelled

    nothing = np.zeros((0, 0, 3), dtype=np.uint8)
    truths = [
        Labelled(
            nothing,
            nothing[..., 0],
            Geometry(1, 1, 0, 0),
            np.array([(entry.class_id, *entry.xyxy) for entry in some], dtype=np.float64).reshape(-1, 5),
            np.array([entry.ignore for entry in some], dtype=bool),
        )
        for some in objects
    ]
    one = score(CLASSES, truths, np.concatenate(rows).astype(np.float64))
    return {"map50_95": one.map50_95, "map50": one.map50}
