"""The state machine of a camera: every path through it, and the pauses between two attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.sources.connection import FIRST_PAUSE_S, LONGEST_PAUSE_S, CameraState, Connection

SECOND = 1_000_000_000
CHANCE = st.floats(0, 1)


def test_a_camera_lives_stalls_is_lost_and_returns() -> None:
    """Each change is told once, with its reason; what changes nothing tells nothing."""
    camera = Connection(silence_s=5)
    assert camera.state is CameraState.CONNECTING
    assert camera.opening() is None, "it is connecting already"
    told = [
        camera.frame(1 * SECOND),
        camera.frame(2 * SECOND),
        camera.look(6 * SECOND),
        camera.look(8 * SECOND),
        camera.look(9 * SECOND),
        camera.frame(10 * SECOND),
        camera.lost(11 * SECOND, "broken off", 0.5)[0],
        camera.look(99 * SECOND),
        camera.opening(),
        camera.frame(12 * SECOND),
    ]
    assert [None if step is None else step.state for step in told] == [
        CameraState.LIVE,
        None,
        None,
        CameraState.STALLED,
        None,
        CameraState.LIVE,
        CameraState.BACKING_OFF,
        None,
        CameraState.CONNECTING,
        CameraState.LIVE,
    ]
    assert told[3] is not None
    assert told[3].reason == "no frame for 6.0 s"
    assert camera.reason == "broken off", "the last problem stays known"
    assert camera.entered == {"connecting": 2, "live": 3, "stalled": 1, "backing_off": 1}


@given(st.lists(CHANCE, min_size=1, max_size=40))
def test_pauses_grow_and_stay_within_their_bounds(chances: list[float]) -> None:
    """A camera that never answers: every pause in 0.5 to 30 s, the ceiling doubles, and it never gives up."""
    camera = Connection(silence_s=5)
    for attempt, chance in enumerate(chances):
        camera.opening()
        _, pause_s = camera.lost(attempt, "refused", chance)
        ceiling_s = min(LONGEST_PAUSE_S, 2 * FIRST_PAUSE_S * 2**attempt)
        assert FIRST_PAUSE_S <= pause_s <= LONGEST_PAUSE_S
        assert ceiling_s / 2 <= pause_s <= ceiling_s
        assert camera.state is CameraState.BACKING_OFF


@given(CHANCE, CHANCE)
def test_cameras_lost_together_return_apart(one: float, other: float) -> None:
    """The pause follows the chance: fifty cameras behind one switch do not come back in one instant."""
    pauses = [Connection(5).lost(0, "switch", chance)[1] for chance in (one, other)]
    assert (pauses[0] < pauses[1]) is (pauses[0] != pauses[1] and one < other)


@given(CHANCE)
def test_a_long_life_begins_anew_and_a_flap_does_not(chance: float) -> None:
    """A connection that lasted longer than the pause before it resets the pause; a shorter one does not."""
    camera, now_ns = Connection(silence_s=5), 0
    for _ in range(8):
        _, pause_s = camera.lost(now_ns, "refused", chance)
        now_ns += round(pause_s * SECOND)
        camera.opening()
        camera.frame(now_ns)
        now_ns += SECOND // 10
    assert pause_s >= LONGEST_PAUSE_S / 2, "a tenth of a second is no life"
    now_ns += round((pause_s + 1) * SECOND)
    assert camera.lost(now_ns, "broken off", chance)[1] <= 2 * FIRST_PAUSE_S


@pytest.mark.parametrize("before", ["connecting", "live"])
def test_files_end_and_fail(before: str) -> None:
    """A file ends or fails from wherever it is, with its reason; neither is taken for silence later."""
    for end in ("ended", "failed"):
        camera = Connection(silence_s=float("inf"))
        if before == "live":
            camera.frame(SECOND)
        assert camera.look(10**18) is None, "a file is never silent"
        told = camera.ended() if end == "ended" else camera.failed("no such file")
        assert told.state == end
        assert camera.look(10**18) is None
        assert camera.state == end
