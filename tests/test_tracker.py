"""The same object keeps its id, at irregular intervals too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.tracking.tracker import Tracker, TrackerRules, generalised_iou
from clients.types import Detections


def found(*boxes: tuple[float, float, float, float], classes: list[int] | None = None) -> Detections:
    """Detections of equal confidence."""
    rows = np.zeros((len(boxes), 6), np.float32)
    rows[:, :4] = np.array(boxes, np.float32).reshape(-1, 4)
    rows[:, 4] = 0.9
    rows[:, 5] = classes or [0] * len(boxes)
    return Detections.from_rows(rows)


def box(x: float, y: float, size: float = 40) -> tuple[float, float, float, float]:
    """A square by its corner."""
    return (x, y, x + size, y + size)


@given(st.lists(st.floats(0.03, 0.6), min_size=3, max_size=20), st.floats(-100, 100), st.floats(-100, 100))
def test_ids_survive_irregular_intervals(gaps: list[float], vx: float, vy: float) -> None:
    """Two objects that move steadily keep their ids, however the inferences are spaced."""
    tracker, now = Tracker(), 0.0
    first = tracker.update(found(box(0, 0), box(400, 300)), now)
    tracker.update(found(box(vx * 0.05, vy * 0.05), box(400 - vx * 0.05, 300 - vy * 0.05)), 0.05)
    now = 0.05
    for gap in gaps:
        now += gap
        a, b = box(vx * now, vy * now), box(400 - vx * now, 300 - vy * now)
        if generalised_iou(np.array([a], np.float32), np.array([b], np.float32))[0, 0] > -0.5:
            return  # they meet: whose id is whose is another matter
        assert tracker.update(found(a, b), now).tolist() == first.tolist()


def test_a_track_is_predicted_between_inferences() -> None:
    """After a steady 100 px/s the prediction half a second on is 50 px further, to within 5 px."""
    tracker = Tracker()
    for step in range(10):
        tracker.update(found(box(100 * step * 0.1, 50)), step * 0.1)
    predicted = tracker.predict(0.9 + 0.5)
    assert predicted.xyxy[0, 0] == pytest.approx(90 + 50, abs=5)
    assert predicted.xyxy[0, 1] == pytest.approx(50, abs=1)


def test_an_object_that_was_missed_once_returns_under_its_id() -> None:
    """Hidden for less than max_lost_s keeps the id; for longer gives a new one."""
    tracker = Tracker(TrackerRules(max_lost_s=1.0))
    first = tracker.update(found(box(10, 10)), 0.0)[0]
    assert tracker.update(found(), 0.4).tolist() == []
    assert tracker.update(found(box(12, 10)), 0.8)[0] == first
    assert len(tracker.predict(1.7).track_id) == 1
    assert len(tracker.predict(1.9).track_id) == 0, "what is not seen any more is not shown any more"
    assert tracker.update(found(box(12, 10)), 1.9)[0] != first


def test_another_class_is_another_object() -> None:
    """A car where a person was is not the person."""
    tracker = Tracker()
    person = tracker.update(found(box(10, 10), classes=[0]), 0.0)[0]
    assert tracker.update(found(box(10, 10), classes=[1]), 0.1)[0] != person


def test_the_assignment_is_the_best_in_all() -> None:
    """Two objects that both shift keep their order, though the nearest box of the one is the other's."""
    tracker = Tracker()
    ids = tracker.update(found(box(0, 0), box(30, 0)), 0.0)
    assert tracker.update(found(box(20, 0), box(62, 0)), 0.1).tolist() == ids.tolist()


def test_ids_are_never_used_again() -> None:
    """Ids count upwards from 1, whatever dies in between."""
    tracker = Tracker()
    seen: list[int] = []
    for step in range(20):
        seen += tracker.update(found(box(1000 * step, 0)), float(step * 5)).tolist()
    assert seen == list(range(1, 21))


def test_time_that_runs_backwards_starts_over() -> None:
    """A camera whose clock jumps back gets new ids instead of nonsense velocities."""
    tracker = Tracker()
    old = tracker.update(found(box(10, 10)), 100.0)[0]
    assert tracker.update(found(box(10, 10)), 5.0)[0] != old
    assert np.isfinite(tracker.predict(6.0).xyxy).all()


def test_generalised_iou_tells_near_from_far() -> None:
    """1 for equal boxes, negative and falling with the distance for separate ones."""
    boxes = np.array([box(0, 0), box(60, 0), box(600, 0)], np.float32)
    score = generalised_iou(boxes[:1], boxes)[0]
    assert score[0] == pytest.approx(1)
    assert 0 > score[1] > score[2] > -1


@pytest.mark.parametrize("wrong", [{"min_similarity": 2}, {"max_lost_s": 0}, {"velocity_gain": 0}])
def test_rules_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    """A rule out of its range is an error."""
    with pytest.raises(ValueError, match="must"):
        TrackerRules(**wrong)
