"""An engine as Ultralytics' Triton guide deploys it, on an emulated card: FP32 pictures in, raw boxes out, no batches.

Triton runs it in the server's environment. It waits for the card's time for one picture at 640x640 and answers FP32
[84, 8400] with one object, so that the client has its suppression to do.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One engine of the emulated card; its one instance takes one request at a time, as the card would."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the milliseconds of one picture."""
        config = json.loads(args["model_config"])
        self.seconds = float(config["parameters"]["latency_ms"]["string_value"]) / 1000
        self.answer = np.zeros((1, 84, 8400), np.float32)
        self.answer[0, :, 0] = [320, 320, 40, 60, 0.9, *[0.0] * 79]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Each request waits for its own time: a picture is looked at, so it has really arrived."""
        responses = []
        for request in requests:
            started = time.monotonic()
            pb_utils.get_input_tensor_by_name(request, "images").as_numpy().shape  # noqa: B018 - the tensor is mapped
            time.sleep(max(0.0, self.seconds - (time.monotonic() - started)))
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("output0", self.answer)]))
        return responses
