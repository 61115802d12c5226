"""The postprocess model of an emulated card: the contract of the exported one, in NumPy, for candidates that are few.

On a card it takes a fraction of a millisecond; here it must not cost the processor what the emulation is to leave free.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """candidates, geometry, thresholds -> detections in source pixels, count."""

    def initialize(self, args: dict[str, str]) -> None:
        """How many detections leave."""
        config = json.loads(args["model_config"])
        self.limit = next(int(one["dims"][0]) for one in config["output"] if one["name"] == "detections")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Each request by itself."""
        responses = []
        for request in requests:
            inputs = [self.array(request, name) for name in ("candidates", "geometry", "thresholds")]
            detections = np.zeros((len(inputs[0]), self.limit, 6), np.float32)
            count = np.zeros((len(inputs[0]), 1), np.int32)
            for index, (candidates, geometry, thresholds) in enumerate(zip(*inputs, strict=True)):
                rows = suppressed(candidates[candidates[:, 4] >= max(thresholds[0], 1e-6)], thresholds[1])[: self.limit]
                rows[:, :4] = (rows[:, :4] - np.tile(geometry[2:], 2)) / np.tile(geometry[:2], 2)
                detections[index, : len(rows)], count[index, 0] = rows, len(rows)
            outputs = [pb_utils.Tensor("detections", detections), pb_utils.Tensor("count", count)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses

    def array(self, request: Any, name: str) -> np.ndarray:
        """An input as an array."""
        array: np.ndarray = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
        return array


def suppressed(rows: np.ndarray, iou: float) -> np.ndarray:
    """FP32 (n, 6), sorted by score, without those that overlap a better one of their class by more than `iou`."""
    kept: list[np.ndarray] = []
    for row in rows:
        if not any(other[5] == row[5] and overlap(row, other) > iou for other in kept):
            kept.append(row)
    return np.array(kept, np.float32).reshape(-1, 6)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two boxes."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:4], b[2:4])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    union = float(np.prod(a[2:4] - a[:2]) + np.prod(b[2:4] - b[:2])) - shared
    return shared / union if union > 0 else 0.0
