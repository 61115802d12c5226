"""What one inference costs this CPU's engine, at each step of what the product changes: measured, in turns.

The demo's yolo12n in OpenVINO as the server compiles it: square 640 with stock attention, which is what a plain export
gives, then the canvas, then canonical attention. A CPU's server runs a batch one by one, which is quicker there, so
batching changes nothing here. Suppression is not counted: both sides need it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from clients.errors import FleetError
from clients.types import Canvas, Tier
from loadtest.recordings import WEIGHTS

STEPS = ("square", "canvas", "attention", "batching")
SQUARE = Canvas(640, 640)
_ROUNDS = 24


def engine_costs_ms(progress: Callable[[float], None]) -> dict[str, float]:
    """Milliseconds per inference after each of `STEPS`, medians. Raises FleetError without torch or OpenVINO."""
    try:
        networks = _networks()
    except ImportError as error:
        raise FleetError(f"measuring engines needs {error.name}: `make test` installs it") from error
    seconds: dict[str, list[float]] = {step: [] for step in networks}
    for done in range(_ROUNDS):
        for step, (network, frames) in networks.items():
            started = time.perf_counter()
            network({"frames": frames})
            seconds[step].append((time.perf_counter() - started) / len(frames))
        progress((done + 1) / _ROUNDS)
    costs = {step: round(float(np.median(times[2:])) * 1000, 3) for step, times in seconds.items()}
    return costs | {"batching": costs["attention"]}


def _networks() -> dict[str, tuple[Any, np.ndarray[Any, np.dtype[np.uint8]]]]:
    import openvino as ov

    from deploy.run_repository import cpu_precision
    from export import weights
    from export.engine import prepare
    from export.serving import options
    from export.spec import Spec
    from export.to_onnx import engine_onnx

    random = np.random.default_rng(0)
    core = ov.Core()

    def compiled(canvas: Canvas, *, stock: bool) -> tuple[Any, np.ndarray[Any, np.dtype[np.uint8]]]:
        spec = Spec(canvas=canvas)
        network = prepare(weights.chosen(Tier.N, WEIGHTS, untrained=False).network)
        read = core.read_model(engine_onnx(network, spec, stock_attention=stock))
        read.reshape({"frames": [1, *canvas.nv12_shape]})
        frames = random.integers(0, 255, (1, *canvas.nv12_shape), dtype=np.uint8)
        return core.compile_model(read, "CPU", options(cpu_precision())), frames

    return {
        "square": compiled(SQUARE, stock=True),
        "canvas": compiled(Canvas(), stock=True),
        "attention": compiled(Canvas(), stock=False),
    }
