"""The opponents: that they do what a user would run, and that the comparison counts fairly."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, moving_square, write_clip
from synthetic_city import city

from loadtest.__main__ import main
from loadtest.opponents import at_equal_age
from loadtest.opponents.at_equal_age import Asked, Run, carried, naive
from loadtest.opponents.at_equal_precision import COUNTS, cameras_at, curve
from loadtest.opponents.naive_client import as_planes, suppressed


def test_the_naive_client_sends_what_ultralytics_expects() -> None:
    """RGB planes between 0 and 1, letterboxed in the middle with grey: red comes first."""
    picture = np.zeros((360, 640, 3), np.uint8)
    picture[..., 2] = 255  # red, as OpenCV orders it
    planes = as_planes(picture)
    assert (planes.shape, planes.dtype) == ((1, 3, 640, 640), np.float32)
    assert planes[0, :, 320, 320].tolist() == [1, 0, 0]
    assert planes[0, :, 139, 0] == pytest.approx([114 / 255] * 3)
    assert planes[0, 0, 140, 0] == planes[0, 0, 499, 639] == 1
    assert planes.flags.c_contiguous


def test_the_naive_client_suppresses_what_overlaps() -> None:
    """Of two boxes on one object the better one stays, another object stays, a weak one goes."""
    answer = np.zeros((1, 84, 8400), np.float32)
    for place, (x, score) in enumerate(((100, 0.9), (102, 0.8), (300, 0.7), (500, 0.1))):
        answer[0, :5, place] = (x, 100, 40, 60, score)
    assert sorted(suppressed(answer)) == [0, 2]


def test_a_naive_camera_is_really_inferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real Triton, real H.264, two cameras: never more than the five a second that each is due, none failed."""
    monkeypatch.setattr(at_equal_age, "_NAIVE_STEPS", (2,))
    clip = write_clip(tmp_path / "clip.mp4", moving_square(50, width=640, height=360))
    (found,) = naive([clip], Asked(age_ms=1000.0, seconds=6.0), lambda _text: None)
    assert (found.side, found.cameras, found.failed) == ("naive", 2, 0)
    assert 0 < found.inferences_per_s <= 10.5
    assert 1.64 < found.age_p50_ms <= found.age_p95_ms


def test_a_side_carries_what_holds() -> None:
    """Too old, too few, or one that failed: each is not carried."""
    asked = Asked(fps=5.0, age_ms=150.0)
    young = Run("ours", 20, 99.0, 20.0, 140.0, 0)
    assert young.holds(asked)
    assert not Run("ours", 30, 150.0, 20.0, 160.0, 0).holds(asked)
    assert not Run("ours", 30, 140.0, 20.0, 100.0, 0).holds(asked)
    assert not Run("ours", 30, 150.0, 20.0, 100.0, 1).holds(asked)
    assert carried([young, Run("ours", 30, 150.0, 20.0, 160.0, 0)], asked) == 20
    assert carried([], asked) == 0


def test_more_cameras_are_tried_until_one_number_does_not_hold() -> None:
    """The steps up to that one, then halfway back."""
    tried: list[int] = []

    def run(count: int) -> Run:
        tried.append(count)
        return Run("ours", count, 5.0 * count, 10.0, 100.0 if count <= 22 else 200.0, 0)

    runs = at_equal_age._climb("ours", (5, 10, 20, 30, 40), run, Asked(), lambda _text: None)
    assert tried == [5, 10, 20, 30, 25]
    assert carried(runs, Asked()) == 20


def test_cameras_at_equal_precision_lie_between_two_counts() -> None:
    """Interpolated; none where one camera alone does not reach it; the last count where all do."""
    points = {1: 50.0, 2: 48.0, 4: 40.0}
    assert cameras_at(points, 49.0) == 1.5
    assert cameras_at(points, 44.0) == 3.0
    assert cameras_at(points, 51.0) == 0
    assert cameras_at(points, 30.0) == 4


def test_a_faster_side_keeps_more_and_the_curve_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    """On moving objects: fewer inferences per camera, a lower AP; tracker and gate at equal speed, a higher one."""
    monkeypatch.setattr("loadtest.opponents.at_equal_precision.COUNTS", (1, 3, 9))
    monkeypatch.setattr("loadtest.opponents.at_equal_precision._WATCHED", 3)
    monkeypatch.setattr("loadtest.opponents.at_equal_precision._RUN_S", 4.0)
    found = city()
    theirs = curve(found, 20.0, is_ours=False, progress=lambda _text: None)
    ours = curve(found, 20.0, is_ours=True, progress=lambda _text: None)
    assert theirs[9] < theirs[3] < theirs[1]
    assert ours[9] > theirs[9]
    assert curve(found, 80.0, is_ours=False, progress=lambda _text: None)[9] > theirs[9]
    assert COUNTS[0] == 1  # cameras_at reads what one camera keeps


def test_ultralytics_predicts_all_streams(tmp_path: Path) -> None:
    """Its own loader and predictor on two clips: whole rounds are counted, and a clip that is none is one line."""
    shutil.copy(ROOT / "demo" / "weights" / "yolo12n.pt", tmp_path)
    clip = write_clip(tmp_path / "clip.mp4", moving_square(16, width=640, height=360))
    command = [sys.executable, "-m", "export.multi_stream", str(tmp_path / "yolo12n.pt"), "--seconds", "1"]
    done = subprocess.run([*command, str(clip), str(clip)], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["format"], told["streams"]) == ("pt", 2)
    assert told["frames"] >= 2
    assert told["frames_per_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--fps", "0"], "--fps and --age must be positive"),
        (["--gpu", "q"], "no data sheet"),
        (["--seconds", "3"], "more than the 4 s"),
    ],
)
def test_nonsense_is_one_line(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, the complaint last."""
    assert main(["opponents", "--only", "naive", *arguments]) == 1
    assert complaint in capsys.readouterr().err.splitlines()[-1]
