"""A naive client, in a process of its own: one thread and one tritonclient per camera, FP32 pictures over gRPC.

What a script does that was written for one camera and started fifty times: OpenCV decodes every frame, the newest is
letterboxed to 640x640, turned into FP32 RGB planes between 0 and 1 (4.9 MB), sent, and the raw answer is suppressed in
NumPy and OpenCV. Cameras are paced as the clip says; what is due is the newest frame, so it is as fresh as it can be
made. The last line of stdout is JSON. `python -m loadtest.opponents.naive_client --url HOST:PORT CLIP...`
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

SIDE_PX = 640
WARM_S = 4.0  # of a run that does not count


@dataclass(slots=True)
class Seen:
    """What one camera has measured."""

    ages_ms: list[float] = field(default_factory=list)
    failed: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 and one line on stderr when nothing was inferred."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.opponents.naive_client")
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    parser.add_argument("--url", required=True, metavar="HOST:PORT")
    parser.add_argument("--model", default="naive", metavar="NAME")
    parser.add_argument("--fps", type=float, default=5.0, metavar="FPS", help="inferences per second and camera")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="S")
    options = parser.parse_args(argv)
    cv2.setNumThreads(1)
    seen = [Seen() for _ in options.clips]
    first_s = time.monotonic() + 1.0
    stop_s = first_s + options.seconds
    spread_s = 1 / options.fps / len(seen)  # cameras are not in step: their turns are spread evenly
    threads = [
        threading.Thread(
            target=_camera,
            args=(clip, options.url, options.model, options.fps, first_s + number * spread_s, stop_s, one),
        )
        for number, (clip, one) in enumerate(zip(options.clips, seen, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ages_ms = np.array([age for one in seen for age in one.ages_ms])
    if not len(ages_ms):
        sys.stderr.write(f"naive_client: nothing was inferred at {options.url}, {sum(o.failed for o in seen)} failed\n")
        return 1
    p50, p95 = np.percentile(ages_ms, (50, 95))
    told = {
        "cameras": len(seen),
        "inferences_per_s": round(len(ages_ms) / (options.seconds - WARM_S), 1),
        "age_ms": {"p50": round(float(p50), 1), "p95": round(float(p95), 1)},
        "failed": sum(one.failed for one in seen),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def _camera(clip: Path, url: str, model: str, fps: float, start_s: float, stop_s: float, seen: Seen) -> None:
    """One camera: due every 1/fps seconds, each time with the newest frame; late, it skips what it has missed."""
    client, video = triton.InferenceServerClient(url), cv2.VideoCapture(str(clip))
    period_s, frame_s = 1 / fps, 1 / (video.get(cv2.CAP_PROP_FPS) or 25.0)
    number, due_s = 0, start_s
    while (now_s := time.monotonic()) < stop_s:
        if now_s < due_s:
            time.sleep(due_s - now_s)
            continue
        newest = int((now_s - start_s) / frame_s)
        picture = _picture(video, newest - number + 1)
        number = newest + 1
        ok = _infer(client, model, picture)
        answered_s = time.monotonic()
        if ok and answered_s > start_s + WARM_S:
            seen.ages_ms.append((answered_s - start_s - newest * frame_s) * 1000)
        seen.failed += not ok
        due_s = max(due_s + period_s, start_s + (int((answered_s - start_s) / period_s) + 1) * period_s)
    client.close()
    video.release()


def _picture(video: Any, frames: int) -> NDArray[np.uint8]:
    """The last of so many frames, all of which are decoded; a clip that ends begins again."""
    for _ in range(max(1, frames)):
        if not video.grab():
            video.set(cv2.CAP_PROP_POS_FRAMES, 0)
            video.grab()
    return np.asarray(video.retrieve()[1], np.uint8)


def _infer(client: Any, model: str, picture: NDArray[np.uint8]) -> bool:
    tensor = triton.InferInput("images", [1, 3, SIDE_PX, SIDE_PX], "FP32")
    tensor.set_data_from_numpy(as_planes(picture))
    try:
        answer = client.infer(model, [tensor]).as_numpy("output0")
    except InferenceServerException:
        return False
    suppressed(answer)
    return True


def as_planes(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """BGR (h, w, 3) -> FP32 (1, 3, 640, 640), RGB, 0..1, letterboxed with grey as Ultralytics does."""
    height, width = picture.shape[:2]
    ratio = SIDE_PX / max(height, width)
    resized = cv2.resize(picture, (round(width * ratio), round(height * ratio)))
    square = np.full((SIDE_PX, SIDE_PX, 3), 114, np.uint8)
    top, left = (SIDE_PX - resized.shape[0]) // 2, (SIDE_PX - resized.shape[1]) // 2
    square[top : top + resized.shape[0], left : left + resized.shape[1]] = resized
    planes = square[..., ::-1].transpose(2, 0, 1)[None]
    return np.ascontiguousarray(planes, np.float32) / np.float32(255)


def suppressed(answer: NDArray[np.float32], score: float = 0.25, iou: float = 0.7) -> list[int]:
    """Indices of FP32 (1, 84, 8400) that are kept."""
    boxes, scores = answer[0, :4].T, answer[0, 4:].max(axis=0)
    kept = scores > score
    corners = np.concatenate((boxes[kept, :2] - boxes[kept, 2:] / 2, boxes[kept, 2:]), axis=1)
    return [int(index) for index in cv2.dnn.NMSBoxes(corners.tolist(), scores[kept].tolist(), score, iou)]


if __name__ == "__main__":
    sys.exit(main())
