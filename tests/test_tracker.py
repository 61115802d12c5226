"""The same object keeps its id, at irregular intervals too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.tracking.between import visible
from clients.tracking.motion import MotionRules
from clients.tracking.overlap import generalised_iou, iou
from clients.tracking.tracker import Tracker, TrackerRules
from clients.types import Detections


def found(
    *boxes: tuple[float, float, float, float], classes: list[int] | None = None, confidence: float = 0.9
) -> Detections:
    """Detections of equal confidence."""
    rows = np.zeros((len(boxes), 6), np.float32)
    rows[:, :4] = np.array(boxes, np.float32).reshape(-1, 4)
    rows[:, 4] = confidence
    rows[:, 5] = classes or [0] * len(boxes)
    return Detections.from_rows(rows)


def box(x: float, y: float, size: float = 40) -> tuple[float, float, float, float]:
    """A square by its corner."""
    return (x, y, x + size, y + size)


numbers = st.floats(0, 300, width=32)
scenes = st.lists(
    st.tuples(numbers, numbers, st.floats(5, 200, width=32), st.integers(0, 2), st.floats(0.25, 1, width=32)),
    max_size=8,
).map(
    lambda rows: Detections.from_rows(
        np.array([(x, y, x + size, y + size, score, kind) for x, y, size, kind, score in rows], np.float32).reshape(
            -1, 6
        )
    )
)
gaps = st.one_of(st.floats(0, 0.5), st.floats(0, 4), st.sampled_from([0.0, -5.0]))  # a clock may stand or jump back
histories = st.lists(st.tuples(gaps, scenes), min_size=1, max_size=12)


@given(histories)
def test_an_id_is_one_object_of_one_class(history: list[tuple[float, Detections]]) -> None:
    """Whatever is detected whenever: no id twice in a frame, no id with two classes, new ids counted upwards."""
    tracker, now, class_of = Tracker(), 10.0, dict[int, int]()
    for gap, scene in history:
        now += gap
        ids = tracker.update(scene, now)
        given = ids[ids > 0].tolist()
        assert ids.shape == (len(scene),)
        assert len(set(given)) == len(given), "two detections share an id"
        new = [track for track in given if track not in class_of]
        assert sorted(new) == list(range(len(class_of) + 1, len(class_of) + len(new) + 1)), "ids count upwards from 1"
        for track, kind in zip(ids.tolist(), scene.class_id.tolist(), strict=True):
            assert not track or class_of.setdefault(track, kind) == kind, "an object changed its class"
        if gap < 0:
            assert not set(given) & set(class_of) - set(new), "an id outlived the clock's jump"
        alive = tracker.predict(now)
        assert len(set(alive.track_id.tolist())) == len(alive), "two tracks share an id"
        assert set(given) == set(alive.track_id[alive.is_fresh].tolist()), "one track for each detection with an id"
        assert all(class_of[track] == kind for track, kind in zip(alive.track_id, alive.class_id, strict=True))


@given(histories, st.lists(st.floats(0, 3), min_size=3, max_size=3))
def test_prediction_goes_one_way(history: list[tuple[float, Detections]], ahead: list[float]) -> None:
    """Later predictions lie further along the same line, tracks only leave, boxes keep a width, and nothing changes."""
    tracker, now = Tracker(), 10.0
    for gap, scene in history:
        now += gap
        tracker.update(scene, now)
    one, two, three = (tracker.predict(now + later) for later in sorted(ahead))
    assert set(one.track_id) >= set(two.track_id) >= set(three.track_id)
    a, b, c = (some.only(np.isin(some.track_id, three.track_id)) for some in (one, two, three))
    centres = [some.motion.xywh[:, :2] for some in (a, b, c)]
    assert ((centres[1] - centres[0]) * (centres[2] - centres[1]) >= -1e-6).all(), "a box turned round"
    for some in (one, two, three):
        assert (some.motion.xywh[:, 2:] >= 1).all()
        assert np.isfinite(some.xyxy).all()
        assert (some.motion.variance[[0, 2]] >= 0).all()
    assert (a.motion.variance[0] <= b.motion.variance[0] + 1e-9).all(), "a guess grew surer with time"
    assert np.array_equal(tracker.predict(now - 1).xyxy, tracker.predict(now).xyxy), "never before the last update"


@given(histories, st.integers(1, 6))
def test_the_number_of_tracks_is_bounded(history: list[tuple[float, Detections]], most: int) -> None:
    """However many objects come, max_tracks are remembered, the newest."""
    tracker, now = Tracker(TrackerRules(max_tracks=most, sure_confidence=0)), 10.0
    for gap, scene in history:
        now += gap
        tracker.update(scene, now)
        alive = tracker.predict(now)
        assert len(alive) <= most


def test_of_too_many_tracks_the_newest_stay() -> None:
    """What is seen now stays, then what was seen last, then what was surest."""
    tracker = Tracker(TrackerRules(max_tracks=2))
    first = found(box(0, 0), box(200, 0))
    first.confidence[:] = (0.6, 0.9)
    assert tracker.update(first, 0.0).tolist() == [1, 2]
    assert tracker.update(found(box(400, 0)), 0.1).tolist() == [3]
    assert sorted(tracker.predict(0.1).track_id.tolist()) == [2, 3]


@given(st.floats(0.1, 0.8), st.floats(-150, 150), st.floats(0, 2))
def test_a_second_box_of_an_object_is_no_object(gap: float, speed: float, jitter: float) -> None:
    """A detector that draws two boxes on one object, in any order, gives it one id; the other box has none."""
    tracker = Tracker()
    for step in range(8):
        x = speed * gap * step
        boxes = found(box(x, 0, 60), box(x + 5 + jitter, 3, 60))
        boxes.confidence[:] = (0.9, 0.6) if step % 3 else (0.6, 0.9)
        assert sorted(tracker.update(boxes, gap * step).tolist()) == [0, 1]


def test_two_objects_that_overlap_a_little_are_two() -> None:
    """The rule against second boxes leaves neighbours alone."""
    boxes = found(box(0, 0), box(25, 0))
    assert iou(boxes.xyxy[:1], boxes.xyxy[1:])[0, 0] < TrackerRules().max_birth_overlap
    assert Tracker().update(boxes, 0.0).tolist() == [1, 2]


def test_a_doubtful_detection_is_an_object_when_it_is_seen_again() -> None:
    """Little confidence has to be confirmed; a single sighting spends no id."""
    tracker = Tracker()
    assert tracker.update(found(box(0, 0), confidence=0.3), 0.0).tolist() == [0]
    assert len(tracker.predict(0.1)) == 0
    assert tracker.update(found(box(1, 0), box(400, 0), confidence=0.3), 0.4).tolist() == [1, 0]
    assert tracker.update(found(box(2, 0), confidence=0.9), 0.8).tolist() == [1]


@pytest.mark.parametrize("gap", [0.04, 0.2, 0.8])
def test_a_velocity_is_found_at_any_rate(gap: float) -> None:
    """120 px/s to within 10 % after six sightings, however far apart, though each box is a pixel off."""
    tracker, rng = Tracker(), np.random.default_rng(0)
    for step in range(6):
        x, y = 120 * gap * step + rng.normal(), rng.normal()
        tracker.update(found(box(x, y, 80)), gap * step)
    first, later = tracker.predict(5 * gap), tracker.predict(5 * gap + 1)
    assert later.xyxy[0, 0] - first.xyxy[0, 0] == pytest.approx(120, abs=12 if gap > 0.1 else 30)


def test_what_is_shown_between_inferences_is_in_the_picture() -> None:
    """Boxes are cut to the picture; what has half left it, or was lost before the last inference, is not shown."""
    tracker = Tracker()
    for step in range(6):
        now = step * 0.2
        lost = [box(300, 300)] if step < 5 else []
        tracker.update(found(box(500 + 200 * now, 100), box(100, 100), *lost), now)
    boxes, ids = visible(tracker.predict(1.1), (745, 480))
    assert ids.tolist() == [1, 2], "three are known, one of them was lost"
    assert boxes.xyxy[0, 2] == 745
    assert visible(tracker.predict(1.3), (745, 480))[1].tolist() == [2]


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


def test_what_an_inference_corrects_is_counted() -> None:
    """A box that jitters was not wrong, one that is a third off is wrong by what lies beyond the jitter; who comes and
    who goes count one each."""
    tracker = Tracker()
    tracker.update(found(box(100, 100)), 0.0)
    assert tracker.wrong == 1, "it came"
    tracker.update(found(box(104, 100)), 0.1)  # IoU 0.82
    assert tracker.wrong == 0
    still = Tracker()
    still.update(found((0, 0, 100, 100)), 0.0)
    still.update(found((50, 0, 150, 100)), 0.0)  # IoU 1/3: off by 0.667, of which 0.4 are jitter
    assert still.wrong == pytest.approx((2 / 3 - 0.4) / 0.6, abs=1e-3)
    still.update(found(), 0.1)
    assert still.wrong == 1, "it went"


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_similarity": 2},
        {"jitter": 1.0},
        {"max_lost_s": 0},
        {"max_tracks": 0},
        {"max_birth_overlap": 1.5},
        {"sure_confidence": -0.1},
    ],
)
def test_rules_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    """A rule out of its range is an error."""
    with pytest.raises(ValueError, match="must"):
        TrackerRules(**wrong)


def test_motion_rules_that_cannot_be_are_refused() -> None:
    """A detector without any error would never be corrected."""
    with pytest.raises(ValueError, match=r"detected must be positive, got \(0, 0\.1\)"):
        MotionRules(detected=(0, 0.1))
