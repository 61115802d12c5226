"""Which frames deserve a turn on the GPU. Pure: the time is an argument, and it never sees full-size pixels.

A frame is refused, in this order, when it is stale, when the camera's rate limit has not passed, or when it looks
like the last *inferred* frame. Comparing with the last inferred frame, not the last frame, is what sees slow
change. Whatever it looks like, a camera is let through every `max_skip_s`.

What may change without being news is learnt: where the last two inferred frames differ and neither had an object, a
tree sways, rain falls or a clock counts, and blocks there are allowed more. A change of the whole picture's level, an
exposure that adapts, is taken out. Both are bounded, so that nothing can ever teach the gate to be blind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.types import Verdict

Look = Callable[[], NDArray[np.uint8]]  # a frame's thumbnail, UINT8 (36, 64), made only when it is asked for
Luma = NDArray[np.float32]  # FP32 (36, 64)
_FULL_CHANGE = 128.0  # a block whose mean luma moves by this many of 255 levels counts as wholly different
_COLUMNS, _ROWS = np.arange(64), np.arange(36)
_ALWAYS_NEWS = 24.0  # levels that the whole picture may shift by before that itself is a change


@dataclass(frozen=True, slots=True)
class GateRules:
    """Limits of one camera. `similarity_threshold` None switches the similarity rule off.

    A block may change by `(1 - similarity_threshold) * 128` levels, or by `noise_factor` times what it was seen to
    change by where no object was, at most `most_noise` times the former. `noise_memory` is the share that one inference
    adds to what was learnt.
    """

    min_interval_s: float
    max_age_ms: float
    similarity_threshold: float | None = 0.95
    max_skip_s: float = 0.8
    noise_factor: float = 6.0
    most_noise: float = 3.0
    noise_memory: float = 0.1

    def __post_init__(self) -> None:
        for name in ("min_interval_s", "max_age_ms", "max_skip_s", "noise_factor"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.similarity_threshold is not None and not 0 < self.similarity_threshold <= 1:
            raise ValueError(f"similarity_threshold must lie in 0..1, got {self.similarity_threshold}")
        if not self.most_noise >= 1:
            raise ValueError(f"most_noise must be at least 1, got {self.most_noise}")
        if not 0 <= self.noise_memory <= 1:
            raise ValueError(f"noise_memory must lie in 0..1, got {self.noise_memory}")


class Gate:
    """The gate of one camera: `decide` for each frame, `granted` when one was taken, `learn` from its answer."""

    def __init__(self, rules: GateRules) -> None:
        self._rules = rules
        self._reference: Luma | None = None
        self._before: Luma | None = None  # the reference before it
        self._reference_ns = 0
        self.likeness: float | None = None  # similarity of the granted frame to the one inferred before it
        self._due_ns: int | None = None
        self._interval_s = rules.min_interval_s
        self._noise = np.zeros((36, 64), dtype=np.float32)
        self._occupied = np.zeros((36, 64), dtype=bool)

    @property
    def rules(self) -> GateRules:
        """The limits."""
        return self._rules

    def pace(self, fps: float) -> None:
        """At most so many turns per second from the next one on, and never more than the rules allow."""
        if not fps > 0:
            raise ValueError(f"a pace must be positive, got {fps}")
        self._interval_s = max(self._rules.min_interval_s, 1 / fps)

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
        interval_ns = round(self._interval_s * 1e9)
        if self._due_ns is None or captured_ns - self._due_ns >= interval_ns:
            self._due_ns = captured_ns + interval_ns
        else:  # a due time that was met within one interval moves on by one interval: the rate does not drift
            self._due_ns += interval_ns
        if self._rules.similarity_threshold is not None:
            self.likeness = self.similarity(look)
            self._before, self._reference = self._reference, look().astype(np.float32)
            self._reference_ns = captured_ns

    def learn(self, boxes: NDArray[np.float32]) -> None:
        """The granted frame showed objects in these boxes, FP32 (n, 4) corners in 0..1 of the picture.

        Where neither it nor the one before had any, what changed between the two is noise.
        """
        if self._rules.similarity_threshold is None:
            return
        occupied = blocks_of(boxes)
        if self._reference is not None and self._before is not None:
            still = ~(occupied | self._occupied)
            change = _change(self._before, self._reference)
            memory = np.float32(self._rules.noise_memory)
            self._noise[still] += memory * (change[still] - self._noise[still])
        self._occupied = occupied

    def forget(self) -> None:
        """The inference failed: no later frame may be called similar to one that nobody has seen."""
        self._reference = self._before = None

    def similarity(self, look: Look) -> float | None:
        """To the last inferred frame, 1 for equal, 0 for wholly different; None when nothing was inferred yet."""
        if self._reference is None:
            return None
        return similarity(self._reference, look().astype(np.float32), self._allowance())

    def _allowance(self) -> Luma:
        threshold = self._rules.similarity_threshold
        base = np.float32((1 - (0.95 if threshold is None else threshold)) * _FULL_CHANGE)
        if base <= 0:
            return np.ones_like(self._noise)
        levels = self._noise * np.float32(self._rules.noise_factor)
        allowance: Luma = np.clip(levels / base, 1, np.float32(self._rules.most_noise))
        return allowance

    def _looks_known(self, look: Look, captured_ns: int) -> bool:
        threshold = self._rules.similarity_threshold
        if threshold is None or self._reference is None:
            return False
        if captured_ns - self._reference_ns >= self._rules.max_skip_s * 1e9:
            return False
        found = self.similarity(look)
        return found is not None and found >= threshold


def similarity(a: Luma, b: Luma, allowance: Luma | None = None) -> float:
    """1 for equal pictures, 0 when some block is wholly different; `allowance`, at least 1, divides a block's change.

    The block that changed *most* decides, so a small object in a large still picture is not averaged away.
    """
    change = _change(a, b)
    if allowance is not None:
        change /= allowance
    return max(0.0, 1.0 - float(change.max()) / _FULL_CHANGE)


def relative(xyxy: NDArray[np.float32], size_px: tuple[int, int]) -> NDArray[np.float32]:
    """FP32 (n, 4) corners in pixels of a picture of (width, height) -> in 0..1 of it."""
    parts: NDArray[np.float32] = np.divide(xyxy, (*size_px, *size_px), dtype=np.float32)
    return parts


def blocks_of(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """BOOL (36, 64): the blocks that boxes, FP32 (n, 4) corners in 0..1, touch."""
    left, top, right, bottom = (boxes * np.array((64, 36, 64, 36), dtype=np.float32)).T[:, :, np.newaxis]
    across = (left - 1 < _COLUMNS) & (right > _COLUMNS)
    down = (top - 1 < _ROWS) & (bottom > _ROWS)
    touched: NDArray[np.bool_] = down.T.astype(np.float32) @ across.astype(np.float32) > 0
    return touched


def _change(a: Luma, b: Luma) -> Luma:
    """How much each block has changed, once the picture's own shift, up to a bound, is taken out."""
    difference = b - a
    shift = np.float32(np.clip(np.median(difference), -_ALWAYS_NEWS, _ALWAYS_NEWS))
    change: Luma = np.abs(difference - shift)
    return change
