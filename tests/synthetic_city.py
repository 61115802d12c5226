"""Recordings made of numbers: objects that move by a formula, seen well or badly. Run as a script, it simulates one."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from clients.types import Detections  # noqa: E402 - a script of its own must find the packages first
from demo.truth import TrueObject  # noqa: E402
from loadtest.recordings import CANVASES, Recording  # noqa: E402

FPS, SIZE_PX = 20, (640, 360)


def recording(
    name: str,
    *,
    objects: int,
    speed_px_s: float,
    seconds: int = 20,
    small: int = 0,
    seed: int = 0,
    missed: Sequence[float] = (0.0, 0.0, 0.0),
) -> Recording:
    """`objects` cars turn back and forth at random moments; the first `small` of them only the largest canvas sees.

    `missed` are the shares of the others, now these and now those, that each canvas does not find.
    """
    random = np.random.default_rng(seed)
    count = seconds * FPS
    start = random.uniform((40, 40), (520, 280), (objects, 2))
    turns = random.random((count, objects, 2)) < 0.04
    signs = np.where(np.cumsum(turns, axis=0) % 2, -1.0, 1.0)
    moved = np.cumsum(signs * speed_px_s / FPS, axis=0) / np.sqrt(2)
    corners = np.clip(start + moved, 0, (590, 320))
    xyxy = np.concatenate((corners, corners + np.array((48, 32))), axis=2)
    thumbnails = np.full((count, 36, 64), 100, np.uint8)
    for index in range(count):
        for x1, y1, x2, y2 in (xyxy[index] / 10).astype(int):
            thumbnails[index, y1 : y2 + 1, x1 : x2 + 1] = 180
    truth = [
        [TrueObject(number + 1, 1, tuple(box), 1.0) for number, box in enumerate(frame.tolist())] for frame in xyxy
    ]
    seen = {}
    for place, canvas in enumerate(CANVASES):
        first = 0 if place == len(CANVASES) - 1 else small
        is_found = random.random((count, objects - first)) >= missed[place]
        rows = [_rows(frame[first:][found]) for frame, found in zip(xyxy, is_found, strict=True)]
        seen[str(canvas)] = [Detections.from_rows(some) for some in rows]
    density = "busy" if speed_px_s else "static"
    times_s = np.arange(count) / FPS
    return Recording(name, density, SIZE_PX, FPS, times_s, thumbnails, np.full(count, 0.1, np.float32), truth, seen)


def _rows(boxes: np.ndarray) -> np.ndarray:
    return np.column_stack((boxes, np.full(len(boxes), 0.9), np.ones(len(boxes)))).astype(np.float32)


def city() -> list[Recording]:
    """A still street, a calm one and a busy one."""
    return [
        recording("still", objects=3, speed_px_s=0, seed=1),
        recording("calm", objects=3, speed_px_s=20, seed=2),
        recording("busy", objects=10, speed_px_s=160, small=4, seed=3),
    ]


def city_of_better_models() -> list[Recording]:
    """The same streets, where a larger canvas finds more, about as the authors' n, m and x do."""
    missed = (0.27, 0.05, 0.0)
    return [
        recording("still", objects=3, speed_px_s=0, seed=1, missed=missed),
        recording("calm", objects=3, speed_px_s=20, seed=2, missed=missed),
        recording("busy", objects=10, speed_px_s=160, seed=3, missed=missed),
    ]


if __name__ == "__main__":
    from clients.types import Tier
    from loadtest.profile import read_profile
    from loadtest.simulate import STAND_INS, run
    from loadtest.simulation.card import timings
    from loadtest.simulation.run import Scenario

    told = Scenario(6, 12, 20, policy="budget", canvases=STAND_INS, capacity_ms_per_s=60)
    profile = read_profile(ROOT / "loadtest" / "gpus" / "t4.json")
    sys.stdout.write(json.dumps(run(told, city(), {t: timings(profile)[t] for t in Tier})))
