"""How many requests may be in flight."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.window import Window


def test_time_outs_of_one_window_halve_it_once() -> None:
    """Eight requests that were in flight together time out: one halving, not eight."""
    window = Window(16)
    for _ in range(8):
        window.timed_out(granted_ns=100, now_ns=200)
    assert window.size == 8
    window.timed_out(granted_ns=201, now_ns=300)
    assert window.size == 4


def test_answers_open_it_again_by_one_per_window() -> None:
    """From 4 it takes about 4 + 5 + 6 + 7 answers to get back to 8, and it stops at the largest."""
    window = Window(8)
    window.timed_out(1, 2)
    answers = 0
    while window.size < 8:
        window.answered()
        answers += 1
    assert 20 <= answers <= 26
    for _ in range(100):
        window.answered()
    assert window.size == 8


@given(st.integers(1, 64), st.lists(st.booleans(), max_size=300))
def test_it_stays_between_one_and_the_largest(largest: int, outcomes: list[bool]) -> None:
    """Whatever happens, somebody may always send, and never more than was configured."""
    window = Window(largest)
    for now, in_time in enumerate(outcomes):
        window.answered() if in_time else window.timed_out(now, now)
        assert 1 <= window.size <= largest


def test_it_begins_as_asked() -> None:
    """A first size below the largest is where it begins; one above it is not."""
    assert Window(16, 4).size == 4
    assert Window(2, 4).size == 2


def test_a_window_of_none_is_refused() -> None:
    """At least one request must be allowed."""
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Window(0)


def test_the_window_follows_the_cameras_that_there_are() -> None:
    """No more than one request per camera, no fewer than it has begun with, and never beyond its largest."""
    window = Window(16, first=4)
    for cameras, most in ((2, 4), (10, 10), (100, 16), (5, 5)):
        window.follow(cameras)
        for _ in range(500):
            window.answered()
        assert window.size == most
