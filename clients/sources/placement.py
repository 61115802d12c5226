"""Which cameras NVDEC decodes and which the CPU. Pure arithmetic under a lock: it opens no device and no camera.

NVDEC's capacity is planned in pixels per second and codec, since that is how its throughput scales; a camera takes the
share of it that its size and rate need. `auto` fills it to a limit in the order in which cameras are opened, then the
CPU decodes. A camera keeps its share through lost connections, until it ends or is opened with another need.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from clients.types import DecodeOn

_USUAL_FPS, _MOST_FPS = 25.0, 240.0  # a stream that states no rate, or an absurd one, is planned as a usual camera


@dataclass(frozen=True, slots=True)
class Load:
    """What a stream asks of a decoder: FFmpeg's name of the codec, the coded size in pixels, pictures per second."""

    codec: str
    width: int
    height: int
    fps: float | None

    @property
    def pixels_per_s(self) -> float:
        """Luma samples per second."""
        fps = _USUAL_FPS if self.fps is None or not 0 < self.fps <= _MOST_FPS else self.fps
        return self.width * self.height * fps


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a camera is decoded, and why there."""

    device: Literal["cpu", "cuda"]
    reason: str


class NvdecPlan:
    """How much of NVDEC is planned to be in use, and by whom. Any thread may ask."""

    def __init__(self, capacity: Mapping[str, float], *, limit: float = 0.8, problem: str | None = None) -> None:
        """`capacity` in pixels per second by codec; `limit` is filled to, 0..1; `problem` is why there is no NVDEC."""
        self.problem = problem
        self._capacity = MappingProxyType(dict(capacity))
        self._limit = limit
        self._taken: dict[str, float] = {}
        self._lock = threading.Lock()

    def place(self, stream_id: str, wish: DecodeOn, load: Load) -> Placement:
        """Decide for a camera that has just been opened, and reserve what it needs.

        For the wish `cuda` an answer of `cpu` means that it cannot be fulfilled; it is fulfilled beyond the limit.
        """
        with self._lock:
            self._taken.pop(stream_id, None)
            if wish == "cpu":
                return Placement("cpu", "asked for")
            if self.problem is not None:
                return Placement("cpu", self.problem)
            if load.codec not in self._capacity:
                return Placement("cpu", f"NVDEC is not used for {load.codec}")
            need, used = load.pixels_per_s / self._capacity[load.codec], sum(self._taken.values())
            if wish == "auto" and used + need > self._limit:
                return Placement("cpu", f"NVDEC is full: {used:.0%} planned, {need:.0%} asked, limit {self._limit:.0%}")
            self._taken[stream_id] = need
            asked = "asked for, " if wish == "cuda" else ""
            return Placement("cuda", f"{asked}{used + need:.0%} of NVDEC planned, limit {self._limit:.0%}")

    def release(self, stream_id: str) -> None:
        """The camera has ended, or is decoded by the CPU after all."""
        with self._lock:
            self._taken.pop(stream_id, None)

    @property
    def used(self) -> float:
        """The share of NVDEC's capacity that is planned to be in use, 0..1, or more where cameras insisted."""
        with self._lock:
            return sum(self._taken.values())


CPU_ONLY = "no NVDEC was planned, since nobody asked for it"


def cpu_only() -> NvdecPlan:
    """A plan without a GPU."""
    return NvdecPlan({}, problem=CPU_ONLY)
