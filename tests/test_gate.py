"""Which frames deserve a turn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.gate import Gate, GateRules, Look, blocks_of, relative, similarity
from clients.types import Verdict

SECOND = 1_000_000_000
RULES = GateRules(min_interval_s=0.2, max_age_ms=300, similarity_threshold=0.95, max_skip_s=1.0)


NOTHING = np.zeros((0, 4), np.float32)


def thumbnail(level: int = 100) -> NDArray[np.uint8]:
    """An even grey picture."""
    return np.full((36, 64), level, np.uint8)


def seen(picture: NDArray[np.uint8]) -> Look:
    """What the gate is given: the thumbnail, on request."""
    return lambda: picture


def unseen() -> NDArray[np.uint8]:
    """A thumbnail that nobody may ask for."""
    raise AssertionError("the gate has looked at a picture that it did not need")


def with_object(size: int, contrast: int) -> NDArray[np.uint8]:
    """A grey picture with one small object in it."""
    picture = thumbnail()
    picture[20 : 20 + size, 40 : 40 + size] += np.uint8(contrast)
    return picture


def test_the_first_frame_deserves_a_turn() -> None:
    """Nothing is known yet, so nothing can be similar."""
    assert Gate(RULES).decide(seen(thumbnail()), 0, 0) is None


def test_a_stale_frame_is_refused_before_anything_else() -> None:
    """Older than max_age_ms is stale, even for the first frame; exactly as old is not."""
    gate = Gate(RULES)
    assert gate.decide(seen(thumbnail()), 0, 300_000_001) is Verdict.STALE
    assert gate.decide(seen(thumbnail()), 0, 300_000_000) is None


def test_the_rate_limit_comes_before_the_similarity() -> None:
    """Within min_interval_s after a grant even a changed picture is too soon."""
    gate = Gate(RULES)
    gate.granted(seen(thumbnail()), 0)
    assert gate.decide(seen(thumbnail(250)), SECOND // 10, SECOND // 10) is Verdict.TOO_SOON
    assert gate.decide(seen(thumbnail(250)), SECOND // 5, SECOND // 5) is None


def test_a_picture_is_looked_at_only_when_it_decides() -> None:
    """A thumbnail costs more than all rules: none for stale frames, within the rate, or without similarity."""
    gate = Gate(RULES)
    gate.granted(seen(thumbnail()), 0)
    assert gate.decide(unseen, 0, SECOND) is Verdict.STALE
    assert gate.decide(unseen, SECOND // 10, SECOND // 10) is Verdict.TOO_SOON
    assert gate.decide(unseen, SECOND, SECOND) is None, "max_skip_s has passed: whatever it shows"
    blind = Gate(GateRules(0.01, max_age_ms=300, similarity_threshold=None))
    blind.granted(unseen, 0)
    assert blind.decide(unseen, SECOND // 2, SECOND // 2) is None


@given(fps=st.sampled_from([10.0, 15.0, 25.0, 30.0]), limit=st.floats(0.5, 12), jitter=st.lists(st.floats(-2, 2)))
def test_the_rate_does_not_drift(fps: float, limit: float, jitter: list[float]) -> None:
    """A camera whose every frame is new is granted its rate limit, not the next slower divisor of its frame rate."""
    gate = Gate(GateRules(1 / limit, max_age_ms=100, similarity_threshold=None))
    seconds, granted = 60, 0
    for index in range(int(seconds * fps)):
        shift_ms = jitter[index % len(jitter)] if jitter else 0.0
        now = round((index / fps + shift_ms / 1000 + 0.01) * SECOND)
        if gate.decide(seen(thumbnail()), now, now) is None:
            gate.granted(seen(thumbnail()), now)
            granted += 1
    expected = min(limit, fps) * seconds
    assert granted <= limit * seconds + 1
    assert granted >= expected * 0.93 - 1


def test_a_frame_like_the_last_inferred_one_is_skipped_until_max_skip() -> None:
    """A still picture is skipped for max_skip_s and no longer."""
    gate = Gate(RULES)
    gate.granted(seen(thumbnail()), 0)
    assert gate.decide(seen(thumbnail()), SECOND - 1, SECOND - 1) is Verdict.SIMILAR
    assert gate.decide(seen(thumbnail()), SECOND, SECOND) is None


def test_slow_change_adds_up_against_the_last_inferred_frame() -> None:
    """An object fades in, each frame like the one before; in the end one is unlike the last *inferred* one."""
    gate = Gate(GateRules(0.01, max_age_ms=300, similarity_threshold=0.95, max_skip_s=10))
    gate.granted(seen(thumbnail(100)), 0)
    verdicts = [
        gate.decide(seen(with_object(4, step)), step * SECOND // 10, step * SECOND // 10) for step in range(1, 12)
    ]
    assert verdicts[0] is Verdict.SIMILAR
    assert verdicts[-1] is None


def test_a_small_object_in_a_big_still_picture_is_seen() -> None:
    """An object of 0.2 % of the picture is seen, though the mean of the picture hardly moves."""
    gate = Gate(GateRules(0.01, max_age_ms=300, similarity_threshold=0.95, max_skip_s=10))
    gate.granted(seen(thumbnail()), 0)
    frame = with_object(size=2, contrast=60)
    assert abs(float(frame.mean()) - 100) < 0.2
    assert gate.decide(seen(frame), SECOND, SECOND) is None


def test_sensor_noise_is_not_change() -> None:
    """Noise of 0.8 grey levels per pixel of a thumbnail leaves the picture similar, and of 2 once it was learnt."""
    random = np.random.default_rng(1)
    gate = Gate(GateRules(0.01, max_age_ms=300, similarity_threshold=0.95, max_skip_s=10))
    still = thumbnail().astype(float)

    def noisy(level: float) -> Look:
        return seen(np.clip(still + random.normal(0, level, still.shape), 0, 255).astype(np.uint8))

    gate.granted(noisy(0.8), 0)
    for step in range(1, 50):
        assert gate.decide(noisy(0.8), step * SECOND // 10, step * SECOND // 10) is Verdict.SIMILAR
    strong = Gate(GateRules(0.01, max_age_ms=300, similarity_threshold=0.95, max_skip_s=10))
    for step in range(60):
        strong.granted(noisy(2), step * SECOND // 10)
        strong.learn(NOTHING)
    assert strong.decide(noisy(2), 6 * SECOND, 6 * SECOND) is Verdict.SIMILAR
    assert strong.decide(seen(with_object(4, 60)), 6 * SECOND, 6 * SECOND) is None


def test_without_a_threshold_nothing_is_similar() -> None:
    """Switching the similarity off lets every frame through that is due."""
    gate = Gate(GateRules(0.01, max_age_ms=300, similarity_threshold=None))
    gate.granted(seen(thumbnail()), 0)
    assert gate.decide(seen(thumbnail()), SECOND // 2, SECOND // 2) is None


def test_after_a_failed_inference_nothing_is_similar() -> None:
    """What nobody has seen is no reference."""
    gate = Gate(RULES)
    gate.granted(seen(thumbnail()), 0)
    gate.forget()
    assert gate.decide(seen(thumbnail()), SECOND // 2, SECOND // 2) is None


@given(st.integers(0, 255), st.integers(0, 255))
def test_similarity_is_one_for_equals_and_symmetric(a: int, b: int) -> None:
    """Similarity lies in 0..1, is 1 exactly for equal pictures and does not depend on the order."""
    first, second = with_object(6, 0).astype(np.float32), thumbnail().astype(np.float32)
    first[4:9, 4:9], second[4:9, 4:9] = a, b
    value = similarity(first, second)
    assert 0 <= value <= 1
    assert (value == 1) == (a == b)
    assert value == similarity(second, first)


def swaying(step: int) -> NDArray[np.uint8]:
    """A tree in one corner whose leaves never look the same twice."""
    picture = thumbnail()
    picture[2:8, 2:8] += np.uint8(18 * (step % 2))
    return picture


def taught(boxes: NDArray[np.float32], **rules: float) -> Gate:
    """A gate that has seen forty inferred frames of the tree, with these boxes in each."""
    gate = Gate(GateRules(0.01, max_age_ms=300, similarity_threshold=0.95, max_skip_s=100, **rules))
    for step in range(40):
        gate.granted(seen(swaying(step)), step * SECOND)
        gate.learn(boxes)
    return gate


def test_what_moves_without_an_object_is_learnt() -> None:
    """A tree that sways wakes the gate at first, and no longer once it was inferred often enough without a find."""
    fresh = Gate(GateRules(0.01, max_age_ms=300, max_skip_s=100))
    fresh.granted(seen(swaying(0)), 0)
    assert fresh.decide(seen(swaying(1)), SECOND, SECOND) is None
    assert taught(NOTHING).decide(seen(swaying(0)), 41 * SECOND, 41 * SECOND) is Verdict.SIMILAR


def test_what_moves_with_an_object_is_never_noise() -> None:
    """Where an object was found in either frame nothing is learnt: it stays news."""
    gate = taught(np.array([[0.02, 0.04, 0.13, 0.25]], np.float32))
    assert gate.decide(seen(swaying(0)), 41 * SECOND, 41 * SECOND) is None


def test_noise_blinds_nobody() -> None:
    """However wildly a block changes, a change of most_noise times the threshold is news there."""
    gate = taught(NOTHING, most_noise=2.0)
    picture = swaying(1)
    picture[2:8, 2:8] += np.uint8(2 * 6.4 + 2)
    assert gate.decide(seen(picture), 41 * SECOND, 41 * SECOND) is None


def test_an_exposure_that_adapts_is_no_change() -> None:
    """All blocks brighter by the same is similar, up to 24 levels; an object in the brighter picture is seen."""
    gate = Gate(GateRules(0.01, max_age_ms=300, max_skip_s=100))
    gate.granted(seen(thumbnail(100)), 0)
    assert gate.decide(seen(thumbnail(120)), SECOND, SECOND) is Verdict.SIMILAR
    assert gate.decide(seen(thumbnail(140)), SECOND, SECOND) is None
    assert gate.decide(seen(with_object(2, 40) + np.uint8(20)), SECOND, SECOND) is None


def test_a_pace_slows_and_never_hurries() -> None:
    """The pace of the moment bounds the rate, the rules' own bound holds above it."""
    gate = Gate(GateRules(0.1, max_age_ms=300, similarity_threshold=None))
    gate.pace(2)
    gate.granted(seen(thumbnail()), 0)
    assert gate.decide(unseen, 499_000_000, 499_000_000) is Verdict.TOO_SOON
    assert gate.decide(unseen, 500_000_000, 500_000_000) is None
    gate.pace(100)
    gate.granted(seen(thumbnail()), SECOND)
    assert gate.decide(unseen, SECOND + 99_000_000, SECOND + 99_000_000) is Verdict.TOO_SOON
    with pytest.raises(ValueError, match="a pace must be positive, got 0"):
        gate.pace(0)


def test_the_blocks_of_boxes() -> None:
    """Every block that a box touches, clipped to the picture; a box on a border does not touch the next block."""
    touched = blocks_of(
        relative(np.array([[10, 10, 20, 30], [-5, -5, 5, 5], [630, 350, 700, 400]], np.float32), (640, 360))
    )
    rows, columns = np.nonzero(touched)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {(1, 1), (2, 1), (0, 0), (35, 63)}
    assert not blocks_of(NOTHING).any()


def test_likeness_is_that_to_the_frame_inferred_before() -> None:
    """Known from the second turn on."""
    gate = Gate(RULES)
    gate.granted(seen(thumbnail()), 0)
    assert gate.likeness is None
    gate.granted(seen(with_object(2, 64)), SECOND)
    assert gate.likeness == pytest.approx(0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_interval_s": 0},
        {"max_age_ms": -1},
        {"similarity_threshold": 1.5},
        {"max_skip_s": 0},
        {"noise_factor": 0},
        {"most_noise": 0.5},
        {"noise_memory": -0.1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_rules_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    """A limit that is not positive, or a threshold outside 0..1, is an error that shows it."""
    good = {"min_interval_s": 0.2, "max_age_ms": 300.0, "similarity_threshold": 0.95, "max_skip_s": 1.0}
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} .*got {next(iter(wrong.values()))}"):
        GateRules(**good | wrong)
