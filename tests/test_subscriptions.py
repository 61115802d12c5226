"""Results for whoever asks: bounded, newest first to stay, and never a reason to wait."""

from __future__ import annotations

import asyncio
import gc
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.result import Result
from clients.subscriptions import KEPT, Subscriptions
from clients.types import Detections, Tier

pytestmark = pytest.mark.anyio


def result(index: int, camera: str = "a") -> Result:
    """An empty scene."""
    return Result(
        camera,
        index,
        index / 25,
        20.0,
        Tier.N,
        Detections.empty(),
        np.zeros(0, np.int64),
        size_px=(1, 1),
        wall_time_s=0,
    )


async def rest(reader: object) -> list[int]:
    """Frame numbers of all that comes until the end."""
    return [one.frame_index async for one in reader]  # type: ignore[attr-defined]


async def test_every_reader_gets_the_results_of_its_camera() -> None:
    """Two readers of one camera and one of another: each all of its own, in order; then the end."""
    hub = Subscriptions()
    hub.open("a")
    hub.open("b")
    readers = [hub.subscribe("a", 64), hub.subscribe("a", 64), hub.subscribe("b", 64)]
    for index in range(10):
        hub.write(result(index, "ab"[index % 2]))
    hub.end_all()
    assert [await rest(reader) for reader in readers] == [[0, 2, 4, 6, 8], [0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    assert hub.dropped == 0


async def test_a_reader_that_waits_is_woken() -> None:
    """By a result, by the camera's end and by its removal."""
    hub = Subscriptions()
    hub.open("a")
    waiting = asyncio.create_task(rest(hub.subscribe("a", 4)))
    await asyncio.sleep(0)
    hub.write(result(1))
    await asyncio.sleep(0)
    hub.close("a")
    assert await waiting == [1]
    with pytest.raises(KeyError):
        hub.subscribe("a", 4)
    hub.write(result(2))  # the answer of a camera that is gone is nobody's


async def test_who_comes_after_the_end_is_told_so() -> None:
    """The newest results can still be had; nothing more comes, until a camera of that name begins anew."""
    hub = Subscriptions()
    hub.open("a")
    hub.write(result(1))
    hub.end("a")
    assert await rest(hub.subscribe("a", 4)) == []
    assert [one.frame_index for one in hub.newest("a")] == [1]
    hub.open("a")
    assert hub.newest("a") == []
    reader = hub.subscribe("a", 4)
    hub.write(result(2))
    hub.end("a")
    assert await rest(reader) == [2]


@given(st.lists(st.sampled_from(["write", "read"]), max_size=80), st.integers(1, 5))
def test_a_slow_reader_misses_the_oldest_and_each_is_counted(steps: list[str], most: int) -> None:
    """Whatever the order: a reader sees the newest that fit, in order, and what it missed is counted."""

    async def check() -> None:
        hub = Subscriptions()
        hub.open("a")
        reader = hub.subscribe("a", most)
        written, seen = 0, 0
        waiting: deque[int] = deque(maxlen=most)
        for step in steps:
            if step == "write":
                hub.write(result(written))
                waiting.append(written)
                written += 1
            elif waiting:
                assert (await anext(reader)).frame_index == waiting.popleft()
                seen += 1
        hub.end("a")
        assert await rest(reader) == list(waiting)
        assert seen + len(waiting) + reader.dropped == written
        assert reader.dropped == hub.dropped
        assert [one.frame_index for one in hub.newest("a")] == list(range(written))[-KEPT:]

    asyncio.run(check())


async def test_a_reader_that_nobody_holds_is_forgotten() -> None:
    """Leaving the loop early leaks nothing: there is no one to drop results for."""
    hub = Subscriptions()
    hub.open("a")
    hub.write(result(0))
    for index in range(5):
        reader = hub.subscribe("a", 1)
        hub.write(result(index))
        async for _ in reader:
            break
    del reader
    gc.collect()
    for index in range(10):
        hub.write(result(index))
    assert hub.dropped == 0


async def test_a_subscription_holds_something() -> None:
    """Room for no result is an error that says so."""
    hub = Subscriptions()
    hub.open("a")
    with pytest.raises(ValueError, match="at least one result, got 0"):
        hub.subscribe("a", 0)
