"""The times of a live camera: arrival as the machine saw it, media time steady whatever the camera says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clients.sources.clock import LiveClock

SECOND = 1_000_000_000


def test_a_packet_that_was_waited_for_has_just_arrived() -> None:
    """Neither a camera's fast nor its slow clock makes such a packet older."""
    clock = LiveClock()
    for now, said in ((10, 0.0), (11, 5.0), (12, 5.1), (13, 900.0)):
        assert clock.arrival_ns(said, now * SECOND, waited=True) == now * SECOND


def test_a_backlog_is_as_old_as_it_is() -> None:
    """Packets that queued while a slow decoder was busy keep the age they have, not that of their reading."""
    clock = LiveClock()
    clock.arrival_ns(0.0, 10 * SECOND, waited=True)
    late = [clock.arrival_ns(n / 25, (10 + n) * SECOND, waited=False) for n in range(1, 50)]
    assert late[0] == 10 * SECOND + SECOND // 25
    assert (59 * SECOND - late[-1]) / SECOND > 45, "the last one was read 49 s late"
    assert clock.arrival_ns(49 / 25 + 0.04, 70 * SECOND, waited=True) == 70 * SECOND, "the queue is empty again"


@given(st.lists(st.tuples(st.floats(-1e6, 1e6) | st.none(), st.floats(0, 5), st.booleans()), min_size=1))
def test_no_clock_makes_an_arrival_that_cannot_be(steps: list[tuple[float | None, float, bool]]) -> None:
    """Whatever a camera says: no arrival in the future, and media time always grows and stays near the machine's."""
    clock, now_ns, last_s = LiveClock(), 5 * SECOND, -1.0
    zero_ns = None
    for said, passed_s, waited in steps:
        now_ns += round(passed_s * SECOND)
        arrival_ns = clock.arrival_ns(said, now_ns, waited=waited)
        assert arrival_ns <= now_ns
        zero_ns = arrival_ns if zero_ns is None else zero_ns
        media_s = clock.media_s(said, now_ns)
        assert media_s > last_s
        assert media_s - (now_ns - zero_ns) / SECOND < 2.1 + 0.001 * len(steps)
        last_s = media_s


def test_a_reconnected_camera_goes_on() -> None:
    """Its clock begins anew at zero; its media time goes on with the time that has passed."""
    clock = LiveClock()
    assert [clock.media_s(n / 25, n * SECOND // 25) for n in range(50)][-1] == 49 / 25
    clock.restart()
    assert clock.media_s(0.0, 10 * SECOND) == 10.0
    assert clock.media_s(0.04, 10 * SECOND + SECOND // 25) == 10.04
    clock.restart()
    assert clock.media_s(2.0, 11 * SECOND) == 11.0, "near the old clock by chance"
    clock.restart()
    assert clock.arrival_ns(9.5, 12 * SECOND, waited=False) == 12 * SECOND


def test_a_jump_of_the_cameras_clock_is_not_followed() -> None:
    """An hour forward and back: media time stays at the machine's."""
    clock = LiveClock()
    said = [0.0, 3600.0, 3600.04, 0.2]
    media = [clock.media_s(value, round(n * SECOND / 25)) for n, value in enumerate(said)]
    assert max(abs(value - n / 25) for n, value in enumerate(media)) < 0.001
