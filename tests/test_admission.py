"""Whether one more camera may join."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.admission import LEAST_RATE_SCALE, Admission, Mode, admit

MODES = ("strict", "degrade")


@pytest.mark.parametrize("mode", MODES)
def test_a_camera_that_fits_is_admitted_at_its_full_rate(mode: Mode) -> None:
    """To the last millisecond of the budget, in both modes."""
    assert admit(700, 100, 800, 7, 50, mode) == Admission(True, 1.0, "")
    assert admit(0.1 + 0.2, 0.3, 0.6, 7, 50, mode).accepted, "sums of floats do not refuse"


def test_strict_refuses_what_does_not_fit() -> None:
    """The reason is one line with the three figures."""
    answer = admit(701, 100, 800, 7, 50, "strict")
    assert answer == Admission(False, 0.0, "it needs 100.0 GPU-ms/s, 99.0 of 800.0 are left")


def test_degrade_admits_at_the_rate_for_which_there_is_room() -> None:
    """A quarter of the room is a quarter of the rate; below a tenth it is refused too."""
    reason = "it needs 100.0 GPU-ms/s, 25.0 of 800.0 are left: admitted at 25% of its rate"
    assert admit(775, 100, 800, 7, 50, "degrade") == Admission(True, 0.25, reason)
    assert admit(790, 100, 800, 7, 50, "degrade").accepted
    refused = admit(791, 100, 800, 7, 50, "degrade")
    assert (refused.accepted, refused.rate_scale) == (False, 0.0)
    assert refused.reason == "it needs 100.0 GPU-ms/s, 9.0 of 800.0 are left, less than 10% of its rate"
    assert not admit(900, 100, 800, 7, 50, "degrade").accepted


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_admits_more_than_max_streams(mode: Mode) -> None:
    """Camera 51 of 50 is refused whatever the budget; camera 50 is not."""
    assert admit(0, 1, 800, 50, 50, mode) == Admission(
        False, 0.0, "max_streams is 50, and so many cameras there are already"
    )
    assert admit(0, 1, 800, 49, 50, mode).accepted


@given(st.floats(0, 1e4), st.floats(1e-3, 1e4), st.floats(0, 1e4), st.sampled_from(MODES))
def test_what_is_admitted_fits(planned: float, new: float, budget: float, mode: Mode) -> None:
    """No admission exceeds the budget, a refusal has one line, and degrade admits all that strict does."""
    answer = admit(planned, new, budget, 3, 50, mode)
    if answer.accepted:
        assert planned + new * answer.rate_scale <= budget * (1 + 1e-6)
        assert LEAST_RATE_SCALE <= answer.rate_scale <= 1
    else:
        assert planned + new > budget
        assert answer.rate_scale == 0
    assert bool(answer.reason) == (answer.rate_scale < 1)
    assert "\n" not in answer.reason
    if admit(planned, new, budget, 3, 50, "strict").accepted:
        assert answer.accepted


def test_figures_that_cannot_be_are_refused() -> None:
    """A negative plan, a camera that costs nothing, a mode that does not exist."""
    for planned, new, budget in ((-1, 1, 1), (1, 0, 1), (1, math.nan, 1), (1, 1, math.nan), (1, math.inf, 1)):
        with pytest.raises(ValueError, match=f"got {planned}, {new} and {budget}"):
            admit(planned, new, budget, 1, 2, "strict")
    with pytest.raises(ValueError, match="expected strict or degrade, got 'soft'"):
        admit(1, 1, 1, 1, 2, "soft")  # type: ignore[arg-type]
