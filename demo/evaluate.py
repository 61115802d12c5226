"""`python -m demo evaluate`: how good the weights are as they are served, beside PyTorch, on streets they never saw.

The pictures travel like a camera's: decoded, put on the canvas and sent by the product's own transport to a Triton that
this command starts. Both sides are judged by pycocotools, what the truth ignores counts neither way. Boxes are judged
in canvas pixels, so a size means the same for all cameras.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.config import parse_settings
from clients.inference.choose import open_transport
from clients.inference.server import TritonLink
from clients.inference.transport import Request, Transport
from clients.sources.picture import Picture
from clients.types import Canvas, Geometry, Thresholds, Tier
from demo.clips import Job
from demo.scenes import CLASSES
from deploy.run_repository import assemble
from deploy.server import TritonServer
from export import weights
from export.evaluate import Predict, answers_of, in_torch, precisions
from export.labelled import Labelled, client_pictures, labelled_set
from export.spec import Spec

THRESHOLDS = Thresholds(score=0.001, iou=0.7)
SIZES = ("small", "medium", "large")  # COCO's: below 32 x 32, up to 96 x 96, above; canvas pixels
_IN_FLIGHT = 4

Rows = NDArray[np.float64]


def evaluate(
    jobs: Sequence[Job], pictures: int, models: Path, precision: str, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """JSON of both sides on about `pictures` frames of the clips, evenly spread.

    Per class, size and condition stand what was served. Raises ConfigError, LauncherError, ExportError, SourceError.
    """
    folder = jobs[0].folder
    checkpoint = weights.load(Tier.N, models / "yolo12n.pt")
    found, transport, told = asyncio.run(_served(client_pictures(folder, pictures), models, precision))
    answers: Iterator[NDArray[np.float32]] = iter(found)
    predictors: dict[str, Predict] = {"served": lambda _one: next(answers), "pytorch": in_torch(checkpoint, Spec())}
    truths, rows = answers_of(labelled_set(folder, CLASSES, Canvas(), pictures), predictors, progress)
    numbers = np.arange(len(truths)) // (len(truths) // len(jobs))
    words = [(view.density, view.kind, *view.conditions) for view in (job.view for job in jobs)]
    on_canvas = [_scaled(one) for one in truths]
    judged = {name: _scaled_rows(some, truths) for name, some in rows.items()}
    per_condition = {
        word: _of_some(on_canvas, judged["served"], [word in words[number] for number in numbers.tolist()])
        for word in sorted({word for some in words for word in some})
    }
    served = _summary(on_canvas, judged["served"])
    return {
        "served": {key: served[key] for key in ("map50", "map50_95")},
        "pytorch": {key: _summary(on_canvas, judged["pytorch"])[key] for key in ("map50", "map50_95")},
        "per_class": served["per_class"],
        "per_size": served["per_size"],
        "per_condition": per_condition,
        "pictures": len(truths),
        "cameras": len(jobs),
        "seed": jobs[0].seed,
        "precision": told,
        "transport": transport,
    }


async def _served(
    pictures: Sequence[Picture], models: Path, precision: str
) -> tuple[list[NDArray[np.float32]], str, str]:
    """What the ensemble answers to each picture, FP32 (n, 6); the transport's name and the server's precision."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        run = assemble(folder / "repository", [Tier.N], models_dir=models, precision=precision)
        server = stack.enter_context(TritonServer(run.path, log=folder / "triton.log"))
        workers = stack.enter_context(ThreadPoolExecutor(2))
        async with TritonLink(server.grpc_url, request_timeout_s=60) as link:
            settings = parse_settings({"triton": {"timeout_ms": 60_000}}, origin="demo evaluate")
            name, transport = await open_transport(settings, link, workers, window=_IN_FLIGHT)
            try:
                return await _asked(transport, pictures), name, await link.precision(Tier.N)
            finally:
                await transport.close()


async def _asked(transport: Transport, pictures: Sequence[Picture]) -> list[NDArray[np.float32]]:
    room = asyncio.Semaphore(_IN_FLIGHT)
    answers: list[NDArray[np.float32]] = [np.zeros((0, 6), np.float32)] * len(pictures)

    async def ask(number: int, picture: Picture) -> None:
        async with room:
            found = await transport.infer(Request(f"camera {number}", picture, Tier.N, THRESHOLDS))
        answers[number] = np.column_stack((found.xyxy, found.confidence, found.class_id)).astype(np.float32)

    async with asyncio.TaskGroup() as tasks:
        for number, picture in enumerate(pictures):
            tasks.create_task(ask(number, picture))
    return answers


def _summary(truths: Sequence[Labelled], rows: Rows) -> dict[str, Any]:
    """Scores in points of 100; what is not labelled is missing."""
    precision = precisions(CLASSES, truths, rows)
    every = precision[..., 0]
    return {
        **_means(every),
        "per_class": {
            name: _means(every[:, :, [index]]) for index, name in enumerate(CLASSES) if every[:, :, index].min() >= 0
        },
        "per_size": {
            name: _means(precision[..., place])
            for place, name in enumerate(SIZES, start=1)
            if precision[..., place].max() >= 0
        },
    }


def _means(precision: NDArray[np.float64]) -> dict[str, float]:
    labelled = precision[:, :, precision.min(axis=(0, 1)) >= 0]
    return {"map50": round(float(labelled[0].mean()) * 100, 2), "map50_95": round(float(labelled.mean()) * 100, 2)}


def _of_some(truths: Sequence[Labelled], rows: Rows, chosen: Sequence[bool]) -> dict[str, float]:
    """The scores of the pictures that are chosen, and how many they are."""
    numbers = np.flatnonzero(chosen)
    place = np.full(len(truths), -1)
    place[numbers] = np.arange(len(numbers))
    mine = rows[place[rows[:, 0].astype(int)] >= 0].copy()
    mine[:, 0] = place[mine[:, 0].astype(int)]
    precision = precisions(CLASSES, [truths[number] for number in numbers.tolist()], mine)[..., 0]
    if precision.max() < 0:
        return {"pictures": len(numbers)}
    return {**_means(precision), "pictures": len(numbers)}


def _scaled(one: Labelled) -> Labelled:
    boxes = one.boxes.copy()
    boxes[:, 1:] *= _scale(one.geometry)
    return dataclasses.replace(one, boxes=boxes)


def _scaled_rows(rows: Rows, truths: Sequence[Labelled]) -> Rows:
    scales = np.array([_scale(one.geometry) for one in truths])
    scaled = rows.copy()
    scaled[:, 1:5] *= scales[rows[:, 0].astype(int)]
    return scaled


def _scale(geometry: Geometry) -> tuple[float, float, float, float]:
    return geometry.scale_x, geometry.scale_y, geometry.scale_x, geometry.scale_y
