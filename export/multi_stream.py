"""Ultralytics' own multi-stream predict, in a process of its own, to be compared with: `python -m export.multi_stream`.

It gets a `.streams` file, as its documentation says, and predicts all streams in batches, frame by frame. The frames
come from its buffer (`stream_buffer`), so it decodes what it predicts and not one frame more: kinder to it than live
cameras are. `--format pt` is what a user runs first; ONNX and OpenVINO are exported by Ultralytics with its
defaults for that many pictures. The last line of stdout is JSON. It knows nothing of our models.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export import weights
from export.opponent import stand_in_for_torchvision

FORMATS = ("pt", "onnx", "openvino")
_WARM_ROUNDS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 and one line on stderr when a stream cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m export.multi_stream")
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a copy: exports are written beside it")
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    parser.add_argument("--format", choices=FORMATS, default="pt")
    parser.add_argument("--size", default="640", metavar="PX", help="imgsz: 640, or HEIGHTxWIDTH")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S")
    options = parser.parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            told = measure(options.weights, options.clips, options.format, options.size, options.seconds)
        except (OSError, ValueError) as error:  # a stream that cannot be opened is a ConnectionError
            sys.stderr.write(f"multi_stream: {error}\n")
            return 1
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def measure(checkpoint: Path, clips: Sequence[Path], form: str, size: str, run_s: float) -> dict[str, Any]:
    """Frames per second of all streams together, milliseconds of a round over all of them; the first rounds are warm.

    Raises OSError and ValueError: a stream cannot be opened, or is over too soon.
    """
    os.environ["YOLO_AUTOINSTALL"] = "false"
    yolo = weights.ultralytics_interface()
    stand_in_for_torchvision()
    listed = checkpoint.parent / "cameras.streams"
    listed.write_text("\n".join(str(clip.resolve()) for clip in clips), encoding="utf-8")
    imgsz = [int(side) for side in size.split("x")]
    model = yolo(str(checkpoint))
    if form != "pt":
        path = model.export(format=form, imgsz=imgsz, dynamic=True, batch=len(clips), verbose=False)
        model = yolo(str(path), task="detect")
    results = model.predict(
        str(listed), stream=True, stream_buffer=True, imgsz=imgsz, device="cpu", verbose=False, conf=0.25, iou=0.7
    )
    rounds_s, boxes = _rounds(results, len(clips), run_s)
    rounds_s.sort()
    return {
        "format": form,
        "size": size,
        "streams": len(clips),
        "frames": len(rounds_s) * len(clips),
        "frames_per_s": round(len(rounds_s) * len(clips) / sum(rounds_s), 2),
        "round_ms": {"p50": _ms(rounds_s, 0.5), "p95": _ms(rounds_s, 0.95)},
        "boxes_per_frame": round(boxes / (len(rounds_s) * len(clips)), 2),
        "ultralytics": importlib.metadata.version("ultralytics"),
        "torch": importlib.metadata.version("torch"),
    }


def _rounds(results: Any, streams: int, run_s: float) -> tuple[list[float], int]:
    """Seconds of each counted round, and boxes found. Raises ValueError when the clips end before any is counted."""
    rounds_s: list[float] = []
    seen, boxes, begun_s = 0, 0, time.perf_counter()
    started_s = begun_s
    for result in results:
        seen += 1
        if seen > _WARM_ROUNDS * streams:
            boxes += len(result.boxes)
        if seen % streams:
            continue
        now_s = time.perf_counter()
        if seen > _WARM_ROUNDS * streams:
            rounds_s.append(now_s - begun_s)
        else:
            started_s = now_s
        begun_s = now_s
        if now_s - started_s > run_s and rounds_s:
            break
    if not rounds_s:
        raise ValueError(f"the clips ended after {seen} frames, too soon to measure anything")
    return rounds_s, boxes


def _ms(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)


if __name__ == "__main__":
    sys.exit(main())
