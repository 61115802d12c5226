"""The card's twin: compiles with TensorRT-RTX for a card that is not here, and computes on the CPU.

What it builds is real and its fused attention is counted; what it computes is ONNX Runtime's; how long it takes is
made up by the caller. Nothing of it is a measurement, and a profile written from it is of no use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.machine import Card
from export.to_engine import Batches, Plan, build
from export.verify import FUSED_MARK, compiler

Times = Callable[[int, int], float]  # fused attentions, batch size -> ms


class Rehearsal:
    """A `Machine` without a card. `bend` changes what a plan with so many fused attentions answers."""

    def __init__(
        self, card: Card, times: Times, bend: Callable[[int, NDArray[Any]], NDArray[Any]] | None = None
    ) -> None:
        self._trt = compiler()
        self._models: dict[bytes, bytes] = {}
        self._times, self._bend = times, bend or (lambda _fused, values: values)
        self.card = card
        self.tensorrt = str(self._trt.__version__)

    def build(self, model: bytes, batches: Batches, timing_cache: Path) -> Plan:
        """See Machine."""
        plan = build(self._trt, model, batches, sm=self.card.sm, timing_cache=timing_cache)
        self._models[plan.data] = model
        return plan

    @contextmanager
    def run(self, plan: Plan) -> Iterator[Rehearsed]:
        """See Machine."""
        yield Rehearsed(self._models[plan.data], plan.data.count(FUSED_MARK), self._times, self._bend)

    def sm_clock_mhz(self) -> int | None:
        """See Machine."""
        return self.card.sm_clock_max_mhz


class Rehearsed:
    """A `Running` on the CPU."""

    def __init__(
        self, model: bytes, fused: int, times: Times, bend: Callable[[int, NDArray[Any]], NDArray[Any]]
    ) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._times, self._bend = times, bend
        self.fused = fused
        self.device_bytes: int | None = None
        self.cuda_graphs = False

    def outputs(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See Running."""
        names = [output.name for output in self._session.get_outputs()]
        found = self._session.run(names, dict(inputs))
        return {name: self._bend(self.fused, np.asarray(values)) for name, values in zip(names, found, strict=True)}

    def time_ms(self, batch: int) -> float:
        """See Running."""
        return self._times(self.fused, batch)
