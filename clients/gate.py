"""Which frames deserve a turn on the GPU. Pure: the time is an argument, and it never sees full-size pixels.

A frame is refused, in this order, when it is stale, when the camera's rate limit has not passed, or when it looks
like the last *inferred* frame. Comparing with the last inferred frame, not the last frame, is what sees slow
change. Whatever it looks like, a camera is let through every `max_skip_s`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.types import Verdict

Look = Callable[[], NDArray[np.uint8]]  # a frame's thumbnail, UINT8 (36, 64), made only when it is asked for
_FULL_CHANGE = 128.0  # a block whose mean luma moves by this many of 255 levels counts as wholly different


@dataclass(frozen=True, slots=True)
class GateRules:
    """Limits of one camera. `similarity_threshold` None switches the similarity rule off."""

    min_interval_s: float
    max_age_ms: float
    similarity_threshold: float | None = 0.95
    max_skip_s: float = 0.8

    def __post_init__(self) -> None:
        for name in ("min_interval_s", "max_age_ms", "max_skip_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.similarity_threshold is not None and not 0 < self.similarity_threshold <= 1:
            raise ValueError(f"similarity_threshold must lie in 0..1, got {self.similarity_threshold}")


class Gate:
    """The gate of one camera: `decide` for each frame, `granted` when one was taken to be inferred."""

    def __init__(self, rules: GateRules) -> None:
        self._rules = rules
        self._reference: NDArray[np.float32] | None = None
        self._reference_ns = 0
        self._due_ns: int | None = None

    def decide(self, look: Look, captured_ns: int, now_ns: int) -> Verdict | None:
        """Why this frame needs no turn, or None when it deserves one. Changes nothing."""
        if self.is_stale(captured_ns, now_ns):
            return Verdict.STALE
        if self._due_ns is not None and captured_ns < self._due_ns:
            return Verdict.TOO_SOON
        if self._looks_known(look, captured_ns):
            return Verdict.SIMILAR
        return None

    def is_stale(self, captured_ns: int, now_ns: int) -> bool:
        """Whether a frame captured then is older than `max_age_ms` now."""
        return now_ns - captured_ns > self._rules.max_age_ms * 1e6

    def granted(self, look: Look, captured_ns: int) -> None:
        """This frame goes to the server: what follows is compared with it, and the rate limit starts anew."""
        interval_ns = round(self._rules.min_interval_s * 1e9)
        if self._due_ns is None or captured_ns - self._due_ns >= interval_ns:
            self._due_ns = captured_ns + interval_ns
        else:  # a due time that was met within one interval moves on by one interval: the rate does not drift
            self._due_ns += interval_ns
        if self._rules.similarity_threshold is not None:
            self._reference = block_luma(look())
            self._reference_ns = captured_ns

    def forget(self) -> None:
        """The inference failed: no later frame may be called similar to one that nobody has seen."""
        self._reference = None

    def _looks_known(self, look: Look, captured_ns: int) -> bool:
        threshold = self._rules.similarity_threshold
        if threshold is None or self._reference is None:
            return False
        if captured_ns - self._reference_ns >= self._rules.max_skip_s * 1e9:
            return False
        return similarity(self._reference, block_luma(look())) >= threshold


def block_luma(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean luma of 2x2 blocks: UINT8 (36, 64) -> FP32 (18, 32), each 20x20 source pixels at 640x360.

    Averaging takes out sensor noise, not objects.
    """
    luma = thumbnail.astype(np.float32)
    return (luma[0::2, 0::2] + luma[0::2, 1::2] + luma[1::2, 0::2] + luma[1::2, 1::2]) * np.float32(0.25)


def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """1 for equal pictures, 0 when some block is wholly different.

    The block that changed *most* decides, so a small object in a large still picture is not averaged away.
    """
    return max(0.0, 1.0 - float(np.abs(a - b).max()) / _FULL_CHANGE)
