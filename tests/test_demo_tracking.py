"""What the tracking benchmark is fed with and how it is judged; its opponents live in environments of their own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from clients.types import Detections
from demo.mot import lines, write_mot
from demo.tracking import contenders, environments
from demo.tracking.benchmark import crowd, in_all_frames
from demo.tracking.cases import Clip, Rhythm, clips_of, inferred_frames
from demo.tracking.score import Reported, of_no_account, score
from demo.truth import TrueObject, Truth

SECONDS, FPS = 4, 25


def truth() -> Truth:
    """Two cars that drive past each other, a far person who is too small to count, a hidden one."""
    frames = []
    for index in range(SECONDS * FPS):
        x = 4.0 * index
        frames.append(
            (
                TrueObject(7, 1, (x, 100, x + 80, 150), 1.0),
                TrueObject(9, 1, (500 - x, 200, 580 - x, 250), 0.8),
                TrueObject(12, 0, (300, 50, 303, 58), 1.0, ignore=True),
                TrueObject(13, 0, (100, 50, 120, 90), 0.1, ignore=True),
            )
        )
    return Truth("cam01", 640, 360, FPS, 0, ("person", "car", "bus", "bicycle"), "key", frames)


def clip(rhythm: Rhythm = Rhythm.FIFTH) -> Clip:
    """The same as a case."""
    (one,) = clips_of([truth()], None, rhythm, SECONDS)
    return one


def test_mot_truth_can_be_read_back(tmp_path: Path) -> None:
    """Frames, ids and classes from 1, left/top/width/height, a flag for what counts, and the sequence's ini file."""
    (path,) = write_mot([truth()], tmp_path)
    assert path == tmp_path / "cam01" / "gt" / "gt.txt"
    rows = path.read_text().splitlines()
    assert rows == list(lines(truth()))
    assert rows[:4] == [
        "1,7,0.0,100.0,80.0,50.0,1,2,1.00",
        "1,9,500.0,200.0,80.0,50.0,1,2,0.80",
        "1,12,300.0,50.0,3.0,8.0,0,1,1.00",
        "1,13,100.0,50.0,20.0,40.0,0,1,0.10",
    ]
    table = np.loadtxt(path, delimiter=",")
    assert table[:, 0].max() == SECONDS * FPS
    info = (tmp_path / "cam01" / "seqinfo.ini").read_text().splitlines()
    assert {"name=cam01", "frameRate=25", "seqLength=100", "imWidth=640", "imHeight=360"} <= set(info)


@pytest.mark.parametrize("rhythm", Rhythm)
def test_frames_are_inferred_as_the_rhythm_says(rhythm: Rhythm) -> None:
    """The first frame always, in order; every frame, each fifth, or 0.1 to 0.8 s apart, the same each time."""
    times_s = np.arange(500) / 25
    chosen = inferred_frames(times_s, rhythm, 3)
    gaps = np.diff(times_s[chosen])
    least, most = {Rhythm.EVERY: (0.04, 0.04), Rhythm.FIFTH: (0.2, 0.2), Rhythm.RANDOM: (0.1, 0.84)}[rhythm]
    assert chosen[0] == 0
    assert gaps.min() >= least - 1e-9
    assert gaps.max() <= most + 1e-9
    assert np.array_equal(chosen, inferred_frames(times_s, rhythm, 3))
    if rhythm is Rhythm.RANDOM:
        assert len(set(gaps.round(2).tolist())) > 8, "intervals are irregular"
        assert not np.array_equal(chosen, inferred_frames(times_s, rhythm, 4))


def test_a_box_on_an_object_of_no_account_is_excused() -> None:
    """It is neither hit nor mistake; another class, another place or an object that counts is not excused."""
    true = clip().truth[0]
    boxes = np.array([[100, 50, 120, 90], [100, 50, 120, 90], [400, 50, 420, 90], [0, 100, 80, 150]], np.float32)
    found = Detections(boxes, np.full(4, 0.9, np.float32), np.array([0, 1, 0, 1], np.int32))
    assert of_no_account(true, found).tolist() == [True, False, False, False]


def test_every_frame_gets_a_report() -> None:
    """Between inferences boxes move on when predicted and stand still when held; inferred frames are as detected."""
    one = clip()
    predicted, held = (in_all_frames(one, keeps_still=keeps_still) for keeps_still in (False, True))
    assert [report.frame for report in predicted] == list(range(len(one.truth)))
    late = 63  # three frames after an inference
    true = one.truth[late].xyxy[:2]
    assert np.abs(predicted[late].boxes.xyxy - true).max() < 2
    assert np.abs(held[late].boxes.xyxy - true).max() == pytest.approx(12, abs=0.1)
    assert predicted[late].ids.tolist() == held[late].ids.tolist() == [1, 2]


def test_the_crowd_keeps_its_size() -> None:
    """The timing's thirty objects are all there in every update, inside the picture."""
    everyone = crowd()
    assert {len(found) for found in everyone.found} == {30}
    boxes = np.concatenate([found.xyxy for found in everyone.found])
    assert boxes.min() > -10
    assert boxes[:, 2].max() < 1290
    answer = contenders.run(contenders.OURS, [everyone])
    assert len(answer.ms) == len(everyone.times_s)


def test_missing_environments_are_one_clear_line() -> None:
    """Without the opponents the command says how to get them, before anything is rendered."""
    code = (
        "import sys; from pathlib import Path; from demo.tracking import environments as e; "
        "e.NEWER = Path('nowhere/bin/python'); from demo.__main__ import main; sys.exit(main(['tracking']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "nowhere" in line
    assert "make bench-setup" in line


installed = pytest.mark.skipif(
    not (environments.NEWER.is_file() and environments.OLDER.is_file()), reason="needs `make bench-setup`"
)


@installed
def test_the_judge_knows_right_from_wrong() -> None:
    """A perfect answer scores 100; ids that are exchanged half-way, and a missing object, cost what they must."""
    one = clip()
    right = [
        Reported(frame, found, np.array([3, 4])) for frame, found in zip(one.inferred.tolist(), one.found, strict=True)
    ]
    perfect = score([one], [right], environments.NEWER)
    assert (perfect.hota, perfect.idf1, perfect.mota, perfect.id_switches) == (100, 100, 100, 0)
    half = len(right) // 2
    crossed = right[:half] + [dataclasses.replace(report, ids=report.ids[::-1]) for report in right[half:]]
    worse = score([one], [crossed], environments.NEWER)
    assert (worse.idf1, worse.id_switches, worse.deta) == (50, 2, 100)
    silent = [dataclasses.replace(report, ids=np.array([3, 0])) for report in right]
    assert score([one], [silent], environments.NEWER).mota == 50


@installed
@pytest.mark.parametrize("name", contenders.OPPONENTS)
def test_an_opponent_answers_for_every_detection(name: str) -> None:
    """Each runs in its environment and follows two cars of one class without a mistake when every frame is inferred."""
    one = clip(Rhythm.EVERY)
    answer = contenders.run(name, [one])
    assert len(answer.ms) == len(one.inferred)
    assert answer.ms.min() > 0
    ids = np.array([report.ids for report in answer.reports[0][5:]])
    assert len(set(map(tuple, ids.tolist()))) == 1
    assert len({*ids[0].tolist(), 0}) == 3


@installed
def test_an_opponent_that_fails_is_one_clear_line() -> None:
    """The script's own last line, with its name."""
    with pytest.raises(environments.BenchmarkError, match=r"opponents\.py nobody: KeyError: 'nobody'"):
        environments.run_script(environments.NEWER, "opponents.py", "nobody", "a.npz", "b.npz")


def test_reports_are_plain_values() -> None:
    """What the command prints last is JSON, whatever numpy made of it."""
    from demo.tracking.benchmark import Report, Row
    from demo.tracking.score import Score

    row = Row("truth", "every frame", "ours", Score(99.0, 98.0, 97.0, 96.0, 95.0, 1))
    report = Report([row], [row], {"ours": 0.1})
    read = json.loads(json.dumps(report.as_json()))
    assert read["accuracy"][0]["hota"] == 99.0
    assert "| truth | every frame | ours | 99.0 | 96.0 | 95.0 | 1 |" in report.table().splitlines()
    assert "| ours | 0.10 |" in report.table().splitlines()
