"""The hand-off of one camera: newest wins, and every frame ends in exactly one way."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.camera import Camera
from clients.gate import Gate, GateRules
from clients.sources.frame import Frame
from clients.types import Verdict

MS = 1_000_000


class Grey:
    """A picture of one grey; the hand-off asks for nothing but its thumbnail."""

    def __init__(self, level: int) -> None:
        self._level = level

    def thumbnail(self) -> NDArray[np.uint8]:
        return np.full((36, 64), self._level, np.uint8)


def frame(index: int, captured_ms: int, level: int = 100) -> Frame:
    """A frame whose thumbnail is an even grey."""
    return Frame("cam", index, captured_ms * MS, captured_ms / 1000, Grey(level))


def camera(**rules: float) -> Camera:
    """A camera with easy rules unless told otherwise."""
    return Camera(Gate(GateRules(**{"min_interval_s": 0.001, "max_age_ms": 500, **rules})))


def test_the_newest_frame_is_taken() -> None:
    """While a frame waits, newer ones take its place; only the first one says that the camera waits."""
    cam = camera()
    assert cam.offer(frame(0, 0), 0) is True
    assert cam.offer(frame(1, 40), 40 * MS) is False
    assert cam.offer(frame(2, 80), 80 * MS) is False
    taken = cam.take(90 * MS)
    assert taken is not None
    assert taken.index == 2
    assert cam.counts() == (3, {Verdict.SUPERSEDED: 2})


def test_a_frame_that_grew_stale_while_waiting_is_not_sent() -> None:
    """The age is judged again when the turn is granted."""
    cam = camera(max_age_ms=100)
    cam.offer(frame(0, 0), 0)
    assert cam.take(101 * MS) is None
    assert cam.counts()[1] == {Verdict.STALE: 1}
    assert not cam.has_waiting


def test_a_failed_turn_lets_the_next_frame_through() -> None:
    """After a failure the same picture is no longer similar to one that was seen."""
    cam = camera()
    cam.offer(frame(0, 0), 0)
    cam.take(0)
    cam.settle(Verdict.FAILED)
    assert cam.offer(frame(1, 40), 40 * MS) is True


@given(st.integers(0, 2**32 - 1))
def test_every_frame_ends_in_exactly_one_way(seed: int) -> None:
    """Whatever happens in whatever order, decoded = inferred + skipped + failed + ended."""
    chance, cam, in_flight, now = random.Random(seed), camera(min_interval_s=0.05, max_age_ms=90), 0, 0
    for index in range(200):
        now += chance.randint(5, 60)
        captured = now - chance.choice([0, 0, 20, 120])
        cam.offer(frame(index, captured, level=chance.choice([50, 200])), now * MS)
        if not in_flight and chance.random() < 0.5:
            in_flight = cam.take(now * MS) is not None
        elif in_flight and chance.random() < 0.5:
            cam.settle(chance.choice([Verdict.INFERRED, Verdict.FAILED]))
            in_flight = False
    if in_flight:
        cam.settle(Verdict.INFERRED)
    cam.end()
    decoded, verdicts = cam.counts()
    assert decoded == 200 == verdicts.total()
