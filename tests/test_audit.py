"""The gate's own error, measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from clients.audit import Audit, AuditReport, AuditRules, merged, misses, wilson
from clients.camera import Camera
from clients.gate import Gate, GateRules
from clients.sources.frame import Frame
from clients.types import Detections, Verdict

SECOND = 1_000_000_000


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    return Detections.from_rows(np.array(rows, dtype=np.float32).reshape(-1, 6))


CAR = (10, 10, 50, 40, 0.9, 1)


@pytest.mark.parametrize(
    ("shown", "found", "expected"),
    [
        ([CAR], [CAR], (1, 0)),
        ([], [CAR], (1, 1)),
        ([CAR], [], (0, 0)),
        ([(10, 10, 50, 40, 0.9, 2)], [CAR], (1, 1)),
        ([(32, 10, 72, 40, 0.9, 1)], [CAR], (1, 1)),
        ([(14, 10, 54, 40, 0.3, 1)], [CAR], (1, 0)),
        ([], [(10, 10, 50, 40, 0.49, 1)], (0, 0)),
        ([CAR], [CAR, (200, 10, 240, 40, 0.8, 1)], (2, 1)),
    ],
    ids=["shown", "missed", "gone", "another-class", "elsewhere", "near-enough", "unsure", "one-of-two"],
)
def test_what_is_missed(
    shown: list[tuple[float, ...]], found: list[tuple[float, ...]], expected: tuple[int, int]
) -> None:
    """A sure object without a box of its class at IoU 0.5; what has gone is no miss."""
    assert misses(boxes(*shown), boxes(*found), AuditRules()) == expected  # type: ignore[arg-type]


@given(trials=st.integers(1, 400), share=st.floats(0, 1))
def test_the_interval_is_wilsons(trials: int, share: float) -> None:
    """As SciPy computes it."""
    hits = round(trials * share)
    expected = binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    assert wilson(hits, trials) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_reports_add_up() -> None:
    """Frames with a miss by frames; no rate before the first audit."""
    audit = Audit("gate-3")
    assert audit.report().as_json() == {
        "miss_rate": None,
        "interval_95": None,
        "frames": 0,
        "objects": 0,
        "objects_missed": 0,
    }
    audit.judged(boxes(CAR), boxes(CAR))
    assert audit.judged(boxes(), boxes(CAR, CAR)) == 2
    assert audit.report() == AuditReport(frames=2, missed=1, objects=3, objects_missed=2)
    both = merged([audit.report(), audit.report()])
    assert (both.rate, both.frames) == (0.5, 4)
    low, high = both.interval or (1, 0)
    assert low < 0.5 < high


def test_the_share_is_kept_and_repeats() -> None:
    """Two in a hundred frames, the same ones for the same camera, others for another."""
    chosen = {name: [Audit(name).wants() for _ in range(1)] for name in ("a", "b")}
    audits = {name: Audit(name) for name in ("a", "b")}
    picks = {name: [audit.wants() for _ in range(20_000)] for name, audit in audits.items()}
    again = Audit("a")
    assert [again.wants() for _ in range(20_000)] == picks["a"] != picks["b"]
    assert chosen["a"][0] == picks["a"][0]
    assert 0.015 < np.mean(picks["a"]) < 0.025


class Still:
    """A picture that never changes."""

    size_px = (64, 36)

    def thumbnail(self) -> np.ndarray:
        return np.full((36, 64), 100, np.uint8)


def test_an_audited_frame_gets_a_turn_and_says_so() -> None:
    """A similar frame that is to be audited waits for a turn like any other; a newer one in its place is no audit."""
    answers = iter([True, False, True])
    camera = Camera(Gate(GateRules(0.01, max_age_ms=1e6, max_skip_s=100)), lambda: next(answers))

    def offer(number: int) -> bool:
        frame = Frame("a", number, number * SECOND, float(number), Still())  # type: ignore[arg-type]
        return camera.offer(frame, number * SECOND)

    def take(number: int) -> bool:
        assert camera.take(number * SECOND) is not None
        camera.settle(Verdict.INFERRED)
        return camera.took_audit

    assert offer(0)
    assert not take(0), "the first frame is no audit, and nobody was asked"
    assert offer(1)
    assert take(1)
    assert not offer(2)
    assert offer(3)
    assert not offer(4), "it has taken the place of the audited one"
    assert not take(4)
    assert camera.counts() == (5, {Verdict.INFERRED: 3, Verdict.SIMILAR: 1, Verdict.SUPERSEDED: 1})


@pytest.mark.parametrize("wrong", [{"share": 2}, {"sure": -1}, {"overlap": 1.1}], ids=str)
def test_rules_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """Shares lie in 0..1."""
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
        AuditRules(**wrong)
    with pytest.raises(ValueError, match="trials > 0"):
        wilson(0, 0)
