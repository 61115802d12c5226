"""The comparison with Ultralytics' predictor: every row has its speed and its accuracy, ratios are within a round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import MODELS

from clients.types import Canvas
from demo.clips import render_clips
from deploy.run_repository import cpu_precision
from export import cli
from export.errors import ExportError
from export.evaluate import Score
from export.labelled import client_pictures, labelled_set
from export.speed import Report, Row, opponent

CLASSES = ("person", "car", "bus", "bicycle")
WEIGHTS = MODELS / "yolo12n.pt"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras of one second."""
    folder = tmp_path_factory.mktemp("clips")
    render_clips(2, 1, 0, folder, workers=2)
    return folder


def row(precision: str, *fps: float, name: str = "ours") -> Row:
    """One side that found half of everything."""
    return Row(name, "runtime", precision, "640x384", fps, Score(50.0, 80.0, {}))


NOISE = (1, 1, 1, 1, 1)  # rounds in which the machine was busy
REPORT = Report(
    (
        row("f32", 10, 8, 10, *NOISE, name="Ultralytics"),
        row("f32", 20, 16, 5, *NOISE, name="Ultralytics"),
        row("f32", 25, 20, 5, *NOISE),
        row("bf16", 30, 24, 5, *NOISE),
        row("int8+f32", 35, 28, 5, *NOISE),
    )
)


def speed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], list[str]]:
    """Run the command: exit code, report (empty if none), lines of stderr."""
    code = cli.main(["speed", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out else {}, err.splitlines()


def test_a_ratio_is_taken_within_the_quietest_rounds() -> None:
    """Of eight rounds the two that took least time count; a round that slowed some rows only counts for none."""
    assert REPORT.quiet() == [0, 1]
    assert REPORT.ratios(REPORT.rows[3]) == {"square": 3.0, "equal": 1.5, "f32": 1.2}
    assert [entry["fps"] for entry in REPORT.as_json()["rows"]] == [9.0, 18.0, 22.5, 27.0, 31.5]


def test_the_targets_are_judged_by_the_fastest_row_of_each_kind() -> None:
    """FP32 weights (here bf16) against Ultralytics, INT8 against our own f32."""
    assert REPORT.reached() == {"square": True, "equal": True, "int8": True}
    slow = Report((*REPORT.rows[:3], row("bf16", 25, 20, 5, *NOISE), row("int8+f32", 30, 24, 5, *NOISE)))
    assert slow.reached() == {"square": True, "equal": False, "int8": False}


def test_both_decoders_give_the_same_frames_in_the_same_order(clips: Path) -> None:
    """What ours is timed on is what Ultralytics gets, and what accuracy is measured on."""
    labelled = list(labelled_set(clips, CLASSES, Canvas(), 6).pictures)
    pictures = client_pictures(clips, 6)
    assert len(labelled) == len(pictures) == 6
    for one, picture in zip(labelled, pictures, strict=True):
        out = np.empty(Canvas().nv12_shape, dtype=np.uint8)
        assert picture.write_canvas(Canvas(), out) == one.geometry
        assert np.array_equal(out, one.frames)


@pytest.mark.timeout(400)  # seven networks are exported, compiled and run
def test_every_row_has_speed_and_accuracy(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ultralytics twice, ours in every precision that this CPU has; all of them see the street."""
    for index, one in enumerate(labelled_set(clips, CLASSES, Canvas(), 4).pictures):
        cv2.imwrite(str(tmp_path / f"{index}.png"), one.picture)
    counts = ("--pictures", 4, "--per-round", 1, "--rounds", 2)
    code, report, lines = speed(capsys, "--weights", WEIGHTS, "--data", clips, "--calibration", tmp_path, *counts)
    assert code == 0, lines
    rest = ["f32", "bf16"] if cpu_precision() == "bf16" else ["f32"]
    assert [(one["name"], one["precision"]) for one in report["rows"]] == [
        ("Ultralytics", "f32"),
        ("Ultralytics", "f32"),
        *(("ours", precision) for precision in (*rest, *(f"int8+{name}" for name in rest))),
    ]
    assert [one["canvas"] for one in report["rows"]][:3] == ["640x640", "640x384", "640x384"]
    for one in report["rows"]:
        assert len(one["fps_by_round"]) == 2
        assert one["map50"] > 50
    assert set(report["reached"]) == {"square", "equal", "int8"}
    assert any(line.split()[:3] == ["runtime", "precision", "canvas"] for line in lines)


def test_a_predictor_that_dies_is_one_line(tmp_path: Path, clips: Path) -> None:
    """Weights that Ultralytics cannot read end its process; ours says what it said last."""
    broken = tmp_path / "broken.pt"
    broken.write_text("no weights")
    pictures = list(labelled_set(clips, CLASSES, Canvas(), 1).pictures)
    with opponent(broken, pictures) as ask, pytest.raises(ExportError, match=r"^Ultralytics' predictor ended: \S+"):
        ask({"load": [384, 640]})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rounds", "0"], "rounds must be at least 1, got 0"),
        (["--per-round", "0"], "per-round must be at least 1, got 0"),
        (["--data", "empty"], "empty: expected rendered clips with their truth beside them, found none"),
        (["--weights", "missing.pt"], "missing.pt: no such file"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 1, no report, and a line that names the thing."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    given = ["--weights", str(WEIGHTS), "--data", "empty", *arguments]
    code, report, lines = speed(capsys, *given)
    assert (code, report) == (1, {})
    assert told in lines[-1]
