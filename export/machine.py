"""The seam between deciding which plan is kept and the card that builds and times it.

Two implementations: `on_card.py` with TensorRT and CUDA, and `rehearsal.py`, which compiles with TensorRT-RTX and
computes on the CPU, so that everything but the card itself is exercised on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from export.to_engine import Batches, Plan


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU; `sm` its compute capability. None: not known."""

    name: str
    sm: tuple[int, int]
    driver: str
    memory_mb: int | None = None
    sm_clock_max_mhz: int | None = None


class Running(Protocol):
    """A plan that is loaded.

    `fused`: its fused attention layers; `device_bytes`: what it and its buffers take, None where that is not known;
    `cuda_graphs`: whether what is timed is a replayed CUDA graph.
    """

    fused: int
    device_bytes: int | None
    cuda_graphs: bool

    def outputs(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs for a batch of at most the largest size, batch axis first."""

    def time_ms(self, batch: int) -> float:
        """One run on what `outputs` was given last: GPU time from the first kernel to the last."""


class Machine(Protocol):
    """Where plans are built and run. Its methods raise ExportError when TensorRT or the card refuses."""

    card: Card
    tensorrt: str

    def build(self, model: bytes, batches: Batches, timing_cache: Path) -> Plan:
        """Compile an ONNX file for the card here."""

    def run(self, plan: Plan) -> AbstractContextManager[Running]:
        """A plan that `build` returned, loaded for as long as the context lasts."""

    def sm_clock_mhz(self) -> int | None:
        """The clock of the card's multiprocessors at this moment."""
