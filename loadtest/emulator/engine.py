"""An engine that waits instead of computing: a profile's time for the batch, on a card that all tiers share.

Triton runs it in place of a tier's model.py, in the server's environment. Its answer is one candidate whose class is
the number that a camera wrote into its pixels (camera_code.py): whoever asked can see whether the answer is its own.
Parameters of the configuration:

- `latency_ms`: JSON object, batch size -> milliseconds; interpolated between two sizes, carried on beyond the last.
- `card`: a file that all engines of one card share; the card works on one batch at a time, first come, first served.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).resolve().parent))
from camera_code import read_code  # these two lie beside this file in the run repository
from card_clock import Card

UNREADABLE = 255


class TritonPythonModel:
    """One engine of the emulated card."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the parameters. Raises TritonModelException when one is missing or is no table of latencies."""
        config = json.loads(args["model_config"])
        self.rows = int(config["output"][0]["dims"][0])
        try:
            told = {key: value["string_value"] for key, value in config["parameters"].items()}
            table = sorted((int(batch), float(ms)) for batch, ms in json.loads(told["latency_ms"]).items())
            self.sizes, self.latencies_ms = zip(*table, strict=True)
            self.card = Card(Path(told["card"]))
        except (KeyError, ValueError, OSError) as error:
            message = f"the emulated engine's parameters cannot be used: {error!r}"
            raise pb_utils.TritonModelException(message) from error

    def execute(self, requests: list[Any]) -> list[Any]:
        """Wait for the card, then for the batch's time; each frame is answered with the number in its pixels."""
        frames = [pb_utils.get_input_tensor_by_name(request, "frames").as_numpy() for request in requests]
        batch = sum(map(len, frames))
        done_ns = self.card.reserve(round(self.latency_ms(batch) * 1e6), batch)
        candidates = [self.candidates(batch) for batch in frames]
        time.sleep(max(0, done_ns - time.monotonic_ns()) / 1e9)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("candidates", array)]) for array in candidates]

    def latency_ms(self, batch: int) -> float:
        """Milliseconds for a batch."""
        if batch > self.sizes[-1]:
            return float(self.latencies_ms[-1] * batch / self.sizes[-1])
        return float(np.interp(batch, self.sizes, self.latencies_ms))

    def candidates(self, frames: np.ndarray) -> np.ndarray:
        """FP32 [batch, rows, 6]: one candidate each, the rest zeros."""
        result = np.zeros((len(frames), self.rows, 6), np.float32)
        for index, frame in enumerate(frames):
            number = read_code(frame)
            result[index, 0] = (100, 100, 140, 160, 0.9, UNREADABLE if number is None else number)
        return result
