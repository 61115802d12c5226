"""The article's batchers and cache, as it describes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.article_policies import DynamicBatcher, FrameCache, SmartBatcher, complexity, mean_similarity

WAIT_NS = 33_333_333  # 1/30 s


def grey(level: int = 100) -> NDArray[np.uint8]:
    """An even picture."""
    return np.full((36, 64), level, np.uint8)


def test_a_batch_goes_when_it_is_full() -> None:
    """Sixteen frames, in the order in which they came; then it begins anew."""
    batcher: DynamicBatcher[int] = DynamicBatcher()
    assert [batcher.add(item, 0) for item in range(15)] == [[]] * 15
    assert batcher.add(15, 1) == list(range(16))
    assert batcher.due_ns is None
    assert batcher.take_due(10**12) == []


def test_a_batch_goes_when_its_time_is_over() -> None:
    """1/30 s after its first frame, not after its last."""
    batcher: DynamicBatcher[int] = DynamicBatcher()
    batcher.add(1, 100)
    batcher.add(2, WAIT_NS)
    assert batcher.due_ns == 100 + WAIT_NS
    assert batcher.take_due(100 + WAIT_NS - 1) == []
    assert batcher.take_due(100 + WAIT_NS) == [1, 2]
    batcher.add(3, 2 * WAIT_NS)
    assert batcher.due_ns == 3 * WAIT_NS


@given(st.integers(1, 16), st.lists(st.integers(0, 20_000_000), max_size=100))
def test_no_frame_is_lost_or_waits_longer(most: int, gaps_ns: list[int]) -> None:
    """Each frame goes once, in order, in batches of at most the largest size, within 1/30 s."""
    batcher: DynamicBatcher[int] = DynamicBatcher(most)
    now, gone, came = 0, [], {}
    for item, gap_ns in enumerate(gaps_ns):
        now += gap_ns
        due = batcher.due_ns
        late = batcher.take_due(now)
        came[item] = now
        full = batcher.add(item, now)
        for batch, at in ((late, due or 0), (full, now)):
            assert len(batch) <= most
            assert all(at - came[one] <= WAIT_NS for one in batch)
            gone += batch
    assert gone + batcher.take_due(now + WAIT_NS) == list(range(len(gaps_ns)))


def test_a_complex_frame_goes_alone_and_at_once() -> None:
    """Above 0.7; what waits keeps waiting, and 0.7 itself is not above."""
    batcher: SmartBatcher[str] = SmartBatcher()
    assert batcher.add("calm", 0.7, 0) == []
    assert batcher.add("complex", 0.71, 1) == ["complex"]
    assert batcher.due_ns == WAIT_NS
    assert batcher.take_due(WAIT_NS) == ["calm"]


def test_complexity_is_the_variance_by_255() -> None:
    """Levels 100 and 120 in equal parts have a variance of 100."""
    picture = grey(100)
    picture[:18] = 120
    assert complexity(picture) == pytest.approx(100 / 255)
    assert complexity(grey()) == 0


def test_a_frame_like_the_last_one_is_skipped() -> None:
    """Up to 5 % of 255 levels of mean difference; the first frame, and one of a new size, never."""
    cache = FrameCache()
    assert [cache.skips(grey(level)) for level in (100, 112, 125, 112)] == [False, True, False, False]
    assert not cache.skips(np.full((18, 32), 112, np.uint8))


def test_slow_change_is_never_seen() -> None:
    """The weakness the article's rule has: each frame is like the one before, whatever has changed in all."""
    cache = FrameCache()
    assert not cache.skips(grey(0))
    assert all(cache.skips(grey(level)) for level in range(10, 250, 10))


def test_ten_frames_are_kept() -> None:
    """The eleventh pushes the first out."""
    cache = FrameCache()
    for level in range(25):
        cache.skips(grey(level))
    assert len(cache) == 10


def test_similarity_is_the_mean_difference() -> None:
    """Equal is 1, black against white 0, in both directions."""
    assert mean_similarity(grey(0), grey(255)) == mean_similarity(grey(255), grey(0)) == 0
    assert mean_similarity(grey(7), grey(7)) == 1


def test_sizes_that_cannot_be_are_refused() -> None:
    """No empty batches and no rate of 0."""
    for most, fps in ((0, 30.0), (16, 0.0)):
        with pytest.raises(ValueError, match=f"got {most} and {fps}"):
            DynamicBatcher(most, fps)
