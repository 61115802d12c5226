"""What the city is measured with: the served weights beside PyTorch, what an interval costs, which weights are kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, ROOT

from clients.types import Detections
from demo.__main__ import main
from demo.clips import Job, render_jobs
from demo.detections import Seen
from demo.difficulty import INTERVAL, difficulty
from demo.keeper import Keeper, Score, network_of, score_network
from demo.pages import write_curve
from demo.pictures import read_held_out, write_pictures
from demo.plan import Plan
from demo.truth import TrueObject, Truth, read_truth

CLASSES = ("person", "car", "bus", "bicycle")


def clip(places: Sequence[float]) -> Truth:
    """A car at these places, 25 frames a second, and a person who is ignored."""
    frames = [
        (
            TrueObject(1, 1, (x, 100.0, x + 80, 150.0), 1.0),
            TrueObject(2, 0, (300.0, 50.0, 304.0, 62.0), 1.0, ignore=True),
        )
        for x in places
    ]
    return Truth("cam01", 640, 360, 25, 0, CLASSES, "key", frames)


def test_an_interval_costs_nothing_where_everything_stands() -> None:
    """Exact boxes of a still street: both find all, and the street is not hard enough."""
    report = difficulty([clip([200.0] * 50)], None, 2)
    assert report["every_frame"] == report[f"every_{INTERVAL}th"] == {"map50_95": 100.0, "map50": 100.0}
    assert (report["loss"], report["hard_enough"], report["frames"]) == (0, False, 50)


def test_an_interval_costs_much_where_objects_brake_and_turn() -> None:
    """A car that goes to and fro, which constant speed cannot follow, loses more than three points."""
    places = [200 + 60 * abs((index / 7) % 2 - 1) for index in range(100)]
    report = difficulty([clip(places)], None, 4)
    assert report["every_frame"]["map50_95"] == 100
    assert report["loss"] > 3
    assert report["hard_enough"]


def test_what_was_seen_is_judged_instead_of_the_truth() -> None:
    """With detections that miss the car in every second frame about half of it is found."""
    truth = clip([200.0] * 40)
    box = Detections(np.array([[200, 100, 280, 150]], np.float32), np.array([0.9], np.float32), np.array([1], np.int32))
    seen = Seen(np.arange(40) / 25, [box if index % 2 else Detections.empty() for index in range(40)])
    report = difficulty([truth], {"cam01": seen}, 2)
    assert report["detections"] == "weights"
    assert report["every_frame"]["map50"] == pytest.approx(50, abs=2)


def test_the_served_weights_are_measured_beside_pytorch() -> None:
    """JSON on the last line: both sides, classes, sizes and conditions; the server loses less than a point or two."""
    command = [sys.executable, "-m", "demo", "evaluate", "--cameras", "2", "--pictures", "12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["served"]["map50"] > 40
    assert abs(report["served"]["map50_95"] - report["pytorch"]["map50_95"]) < 2, "12 pictures, not the criterion"
    assert set(report["per_class"]) <= set(CLASSES)
    assert set(report["per_size"]) <= {"small", "medium", "large"}
    assert report["per_condition"]["day"]["pictures"] == report["per_condition"]["overcast"]["pictures"] == 6
    assert report["per_condition"]["busy"] == {**report["served"], "pictures": 12}
    assert (report["pictures"], report["cameras"]) == (12, 2)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["evaluate", "--cameras", "0"], "expected 1 to 500 cameras"),
        (["evaluate", "--cameras", "5", "--pictures", "4"], "got 5 and 4"),
        (["difficulty", "--seconds", "0"], "--seconds must be 1 to 120, got 0"),
    ],
)
def test_impossible_numbers_are_one_clear_line(
    command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, one line that says what was allowed, nothing on stdout."""
    assert main(command) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_jobs_that_are_there_are_not_rendered_again(tmp_path: Path) -> None:
    """Any set of cameras can be asked for; which were rendered is told."""
    jobs = [Job(index, 0, 1, tmp_path) for index in (7, 12)]
    assert set(render_jobs(jobs, workers=1)) == set(jobs)
    assert render_jobs(jobs, workers=1) == []
    assert {read_truth(job.truth).camera for job in jobs} == {"cam08", "cam13"}


def test_the_best_weights_are_kept_whenever_a_training_ends(tmp_path: Path) -> None:
    """Better weights are published with their record and the curve, worse ones only lengthen the curve."""
    write_pictures(tmp_path / "data", "val", 0, 2, workers=1)
    plan = Plan(pictures=3, held_out=2)
    weights, committed = tmp_path / "weights", MODELS / "yolo12n.pt"
    network = network_of(committed)
    copied = tmp_path / "run" / "last.pt"
    copied.parent.mkdir()
    copied.write_bytes(committed.read_bytes())
    keeper = Keeper(plan, tmp_path / "data", tmp_path / "run", weights)
    keeper.consider(copied, network, "cuts", 1, {"box_loss": 1.0})
    first = (weights / "yolo12n.pt").read_bytes()
    record = json.loads((weights / "training.json").read_text())
    assert (record["round"], record["epoch"], record["held_out"]["pictures"]) == ("cuts", 1, 2)
    for parameter in network.model[-1].cv3.parameters():
        parameter.data.zero_()
    keeper.consider(copied, network, "cuts", 2, {"box_loss": 9.0})
    assert json.loads((weights / "training.json").read_text())["epoch"] == 1
    assert (weights / "yolo12n.pt").read_bytes() == first
    points = write_curve(weights / "curve.json", tmp_path / "curve.svg")
    assert [point["epoch"] for point in points] == [1, 2]
    assert points[0]["map50_95"] > points[1]["map50_95"]
    assert "mAP50-95" in (tmp_path / "curve.svg").read_text()
    again = Keeper(Plan(pictures=3, held_out=2, resume=True), tmp_path / "data", tmp_path / "run", weights)
    assert again.best == points[0]["map50_95"], "a resumed training knows what to beat"


def test_held_out_scores_are_those_of_the_weights(tmp_path: Path) -> None:
    """On canvases of streets that no training saw the committed weights find most of what is asked for."""
    write_pictures(tmp_path, "val", 0, 5, workers=1)
    found = score_network(network_of(MODELS / "yolo12n.pt"), list(read_held_out(tmp_path)))
    assert isinstance(found, Score)
    assert 0.15 < found.map50_95 < found.map50 <= 1
