"""The article's own batchers and its cache, as pure policies for comparison. Nothing serves with them.

What the article describes without saying how is decided here, and said at the place. Its other rules stand beside ours:
ArticleRouter in router.py, ArticleGovernor in governor.py. `Item` is whatever stands for a frame.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")

_ALONE_ABOVE = 0.7  # complexity
_CACHED = 10  # frames of one stream
_SIMILAR_ABOVE = 0.95


class DynamicBatcher(Generic[Item]):
    """A batch goes when it is full, or `1 / target_fps` seconds after its first frame came."""

    def __init__(self, max_batch_size: int = 16, target_fps: float = 30.0) -> None:
        """Raises ValueError for a size below 1 or a rate that is not positive."""
        if not (max_batch_size >= 1 and target_fps > 0):
            raise ValueError(f"expected max_batch_size >= 1 and target_fps > 0, got {max_batch_size} and {target_fps}")
        self._most = max_batch_size
        self._wait_ns = round(1e9 / target_fps)
        self._items: list[Item] = []
        self._due_ns: int | None = None

    @property
    def due_ns(self) -> int | None:
        """When what waits must go; None when nothing does."""
        return self._due_ns

    def add(self, item: Item, now_ns: int) -> list[Item]:
        """The batch that goes now, empty when none does. Call `take_due` first: a batch that is due does not wait."""
        if self._due_ns is None:
            self._due_ns = now_ns + self._wait_ns
        self._items.append(item)
        return self._take() if len(self._items) >= self._most else []

    def take_due(self, now_ns: int) -> list[Item]:
        """The batch whose time is over, empty when there is none."""
        return self._take() if self._due_ns is not None and now_ns >= self._due_ns else []

    def _take(self) -> list[Item]:
        batch, self._items, self._due_ns = self._items, [], None
        return batch


class SmartBatcher(Generic[Item]):
    """As DynamicBatcher, but a complex frame goes alone and at once, and what waits goes on waiting."""

    def __init__(self, max_batch_size: int = 16, target_fps: float = 30.0) -> None:
        self._batcher: DynamicBatcher[Item] = DynamicBatcher(max_batch_size, target_fps)

    @property
    def due_ns(self) -> int | None:
        """When what waits must go; None when nothing does."""
        return self._batcher.due_ns

    def add(self, item: Item, complexity: float, now_ns: int) -> list[Item]:
        """The batch that goes now, empty when none does; `complexity` as the function of this name gives it."""
        return [item] if complexity > _ALONE_ABOVE else self._batcher.add(item, now_ns)

    def take_due(self, now_ns: int) -> list[Item]:
        """The batch whose time is over, empty when there is none."""
        return self._batcher.take_due(now_ns)


def complexity(grey: NDArray[np.uint8]) -> float:
    """Variance of a grey frame, UINT8 (H, W), divided by 255. Real pictures give 2.7 to 18, so all of them go alone."""
    return float(grey.var(dtype=np.float64)) / 255


class FrameCache:
    """Ten frames of one stream; a frame that is like the last of them by more than 0.95 is skipped.

    The article names no measure: here it is 1 - the mean absolute difference / 255. Every frame becomes the last one,
    also one that is skipped, so slow change is never seen and a small object hardly. The other nine are kept as the
    article keeps them; its rule reads none.
    """

    def __init__(self) -> None:
        self._frames: deque[NDArray[np.uint8]] = deque(maxlen=_CACHED)

    def __len__(self) -> int:
        return len(self._frames)

    def skips(self, grey: NDArray[np.uint8]) -> bool:
        """Whether this frame, UINT8 (H, W), is skipped; it is the last one from now on. A new size is a new scene."""
        last = self._frames[-1] if self._frames else None
        self._frames.append(grey)
        return last is not None and last.shape == grey.shape and mean_similarity(last, grey) > _SIMILAR_ABOVE


def mean_similarity(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """0..1: 1 - mean absolute difference / 255 of two grey frames of one size."""
    return 1.0 - float(np.abs(a.astype(np.int16) - b).mean()) / 255
