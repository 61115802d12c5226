"""An engine that sees nothing: it answers with what a camera wrote into its pixels, late now and then.

Takes the place of a tier's model.py in a run repository. The number of the camera and of the request lie in the
luma as 24 bright or dark squares (see coded.py); they come back as one candidate: class = camera, x1 = request.
"""

import random
import time

import numpy as np
import triton_python_backend_utils as pb_utils

SQUARE, BITS, COLUMNS, TOP = 32, 24, 12, 96


class TritonPythonModel:
    """One candidate per frame; every twentieth batch takes `LATE_S` seconds."""

    LATE_S = 2.2

    def initialize(self, args):
        """Chance is seeded: the same run is late at the same batches."""
        self.random = random.Random(7)

    def execute(self, requests):
        """Read each frame's squares."""
        time.sleep(self.LATE_S if self.random.random() < 0.05 else 0.005)
        responses = []
        for request in requests:
            frames = pb_utils.get_input_tensor_by_name(request, "frames").as_numpy()
            candidates = np.zeros((len(frames), 768, 6), np.float32)
            for index, frame in enumerate(frames):
                camera, number = divmod(self._value(frame), 1 << 16)
                candidates[index, 0] = (number % 600, 100, number % 600 + 20, 120, 0.9, camera)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("candidates", candidates)]))
        return responses

    def _value(self, frame):
        squares = frame[TOP : TOP + 2 * SQUARE, : COLUMNS * SQUARE].astype(np.float32)
        means = squares.reshape(2, SQUARE, COLUMNS, SQUARE).mean(axis=(1, 3)).reshape(-1)
        return int(sum(1 << bit for bit in range(BITS) if means[bit] > 128))
