"""The accuracy gate: precision as COCO means it, both sets of pictures, drops that fail, bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import MODELS
from numpy.typing import NDArray

from clients.types import Canvas, Geometry
from demo.clips import render_clips
from demo.truth import read_truth
from export import cli
from export.errors import ExportError
from export.evaluate import Report, Score, parse_limits, score
from export.labelled import Labelled, labelled_set

CLASSES = ("person", "car", "bus", "bicycle")
WEIGHTS = MODELS / "yolo12n.pt"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One camera of one second, on a street that no network was trained on."""
    folder = tmp_path_factory.mktemp("clips")
    render_clips(1, 1, 0, folder, workers=1)
    return folder


def truth(*rows: tuple[float, ...], ignored: bool = False) -> Labelled:
    """A picture with boxes: class, x1, y1, x2, y2."""
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 5)
    none = np.zeros((0, 0, 3), dtype=np.uint8)
    return Labelled(none, none[..., 0], Geometry(1, 1, 0, 0), boxes, np.full(len(boxes), ignored))


def found(*rows: tuple[float, ...]) -> NDArray[np.float64]:
    """Detections: picture, x1, y1, x2, y2, score, class."""
    return np.array(rows, dtype=np.float64).reshape(-1, 7)


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], list[str]]:
    """Run the command: exit code, report (empty if none), lines of stderr."""
    code = cli.main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out else {}, err.splitlines()


# --- the measure ---------------------------------------------------------------------------------------------


def test_what_is_found_exactly_scores_all() -> None:
    """100 points for each class that is labelled; a class without labels has none."""
    result = score(CLASSES, [truth((0, 10, 10, 50, 90))], found((0, 10, 10, 50, 90, 0.9, 0)))
    assert result == Score(100.0, 100.0, {"person": 100.0})


def test_a_loose_box_counts_at_low_overlap_only() -> None:
    """IoU 0.75: right at 0.50 to 0.75, wrong from 0.80 on, so 6 of 10 thresholds."""
    result = score(CLASSES, [truth((1, 0, 0, 100, 100))], found((0, 0, 0, 100, 75, 0.9, 1)))
    assert result == Score(60.0, 100.0, {"car": 60.0})


def test_another_class_or_nothing_scores_nothing() -> None:
    """A bus where a car is, and no detection at all: 0 points."""
    labels = [truth((1, 0, 0, 100, 100))]
    assert score(CLASSES, labels, found((0, 0, 0, 100, 100, 0.9, 2))).map50 == 0
    assert score(CLASSES, labels, found()).map50 == 0


def test_what_is_ignored_counts_neither_way() -> None:
    """Found or not, an ignored object changes nothing; the same detection without the mark is an error."""
    labels = [truth((1, 0, 0, 100, 100)), truth((1, 0, 0, 50, 50), ignored=True)]
    right, extra = (0, 0, 0, 100, 100, 0.8, 1), (1, 0, 0, 50, 50, 0.9, 1)
    assert score(CLASSES, labels, found(right)).map50_95 == 100
    assert score(CLASSES, labels, found(right, extra)).map50_95 == 100
    assert score(CLASSES, [labels[0], truth()], found(right, extra)).map50_95 == pytest.approx(50, abs=1)


def test_three_hundred_boxes_of_a_picture_count() -> None:
    """COCO's own limit of 100 would lose two thirds of them."""
    places = [(x * 12.0, y * 12.0) for x in range(20) for y in range(15)]
    labels = truth(*((0, x, y, x + 10, y + 10) for x, y in places))
    rows = found(*((0, x, y, x + 10, y + 10, 0.5, 0) for x, y in places))
    assert score(CLASSES, [labels], rows).map50_95 == 100


def test_pictures_without_labels_are_refused() -> None:
    """An average over nothing is no score."""
    with pytest.raises(ExportError, match="no picture has a label"):
        score(CLASSES, [truth()], found((0, 0, 0, 9, 9, 0.9, 0)))


def test_a_drop_beyond_its_limit_fails_by_name() -> None:
    """FP16 may lose 0.3 points, INT8 one; not a number passes nothing."""
    scores = {"pytorch": Score(50, 80, {"car": 50}), "fp16": Score(49.6, 80, {"car": 1}), "int8": Score(49.1, 80, {})}
    assert Report(scores, parse_limits("")).failures() == [
        "fp16 loses 0.4 points of mAP50-95 against PyTorch, at most 0.3 are allowed"
    ]
    assert not Report(scores, parse_limits("fp16=0.4")).failures()
    assert len(Report(scores, parse_limits("0.1")).failures()) == 2
    assert Report(scores | {"int8": Score(float("nan"), 0, {})}, parse_limits("5")).failures()


# --- the pictures --------------------------------------------------------------------------------------------


def test_clips_give_the_truth_of_their_frames(clips: Path) -> None:
    """First and last frame, both decoders showing the same; what is small or hidden on the canvas is ignored."""
    pictures = list(labelled_set(clips, CLASSES, Canvas(), 2).pictures)
    told = read_truth(clips / "cam01.json")
    assert len(pictures) == 2
    for one, objects in zip(pictures, (told.frames[0], told.frames[-1]), strict=True):
        assert one.picture.shape == (told.height, told.width, 3)
        assert one.boxes.tolist() == [[entry.class_id, *entry.xyxy] for entry in objects]
        scale = one.geometry.scale_x
        for entry, ignored in zip(objects, one.ignored.tolist(), strict=True):
            x1, y1, x2, y2 = entry.xyxy
            assert ignored == (min(x2 - x1, y2 - y1) * scale < 8 or entry.visibility < 0.3)
        shown = cv2.cvtColor(one.frames, cv2.COLOR_YUV2BGR_NV12)[12:372]
        assert np.abs(shown.astype(int) - one.picture).mean() < 6  # 640x360: not scaled
    assert any(one.ignored.any() for one in pictures)
    assert not all(one.ignored.all() for one in pictures)


def coco_folder(folder: Path, clips: Path) -> Path:
    """A COCO set of one picture from the clip, with class ids of its own, a foreign class and a crowd."""
    one = next(labelled_set(clips, CLASSES, Canvas(), 1).pictures)
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "a.png"), one.picture)
    kept = [
        {"image_id": 7, "category_id": 10 + int(kind), "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": int(ignored)}
        for (kind, x1, y1, x2, y2), ignored in zip(one.boxes.tolist(), one.ignored.tolist(), strict=True)
    ]
    kept.append({"image_id": 7, "category_id": 99, "bbox": [0, 0, 9, 9], "iscrowd": 0})
    names = [{"id": 10 + index, "name": name} for index, name in enumerate(CLASSES)] + [{"id": 99, "name": "zebra"}]
    told = {"images": [{"id": 7, "file_name": "a.png"}], "annotations": kept, "categories": names}
    (folder / "annotations" / "instances.json").write_text(json.dumps(told))
    return folder


def test_a_coco_folder_is_read_by_class_name(tmp_path: Path, clips: Path) -> None:
    """The same picture, boxes and marks as in the clip; a class that the network lacks is left out."""
    (one,) = labelled_set(coco_folder(tmp_path, clips), CLASSES, Canvas(), 5).pictures
    same = next(labelled_set(clips, CLASSES, Canvas(), 1).pictures)
    assert np.array_equal(one.picture, same.picture)
    assert np.allclose(one.boxes, same.boxes)
    assert np.array_equal(one.ignored, same.ignored)


# --- the command ---------------------------------------------------------------------------------------------


def test_the_demo_weights_pass_on_a_clip(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PyTorch and the served FP32 see the street alike: a table, a JSON line, exit code 0."""
    arguments = ("--weights", WEIGHTS, "--data", clips, "--pictures", 3, "--variants", "fp32", "--max-drop", 5)
    code, report, lines = evaluate(capsys, *arguments)
    assert code == 0, lines
    assert report["scores"].keys() == {"pytorch", "fp32"}
    assert report["scores"]["pytorch"]["map50"] > 30
    assert report["drops"]["fp32"] == pytest.approx(
        report["scores"]["pytorch"]["map50_95"] - report["scores"]["fp32"]["map50_95"], abs=0.01
    )
    assert abs(report["drops"]["fp32"]) < 5
    assert report["passed"] is True
    assert any(line.split()[:4] == ["variant", "mAP50-95", "mAP50", "drop"] for line in lines)


def test_a_drop_that_is_too_large_is_exit_code_1(
    tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a limit that asks for a gain of 50 points, INT8 in OpenVINO fails by name, on a COCO folder."""
    folder = coco_folder(tmp_path, clips)
    calibration = ("--calibration", tmp_path / "images", "--variants", "int8", "--max-drop", "int8=-50")
    code, report, lines = evaluate(capsys, "--weights", WEIGHTS, "--data", folder, *calibration)
    assert code == 1
    assert report["passed"] is False
    assert abs(report["drops"]["int8"]) < 30  # it does see the street
    assert lines[-1].startswith("export: int8 loses ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--variants", "fp8"], "expected one of fp32, fp16, int8, got 'fp8'"),
        (["--max-drop", "fp16=little"], "--max-drop: expected points such as 0.5 or int8=1, got 'fp16=little'"),
        (["--pictures", "0"], "pictures must be at least 1, got 0"),
        (["--data", "empty"], "empty: expected the demo's clips or one COCO file"),
        (["--data", "wrong"], "wrong/annotations.json: not a COCO file (KeyError: 'images')"),
        (["--data", "zoo"], "zoo: none of the network's classes is labelled there; it has zebra"),
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
    """Exit code 1, no report, and a last line that names the thing."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("empty", ""), ("wrong", "{}"), ("zoo", None)):
        Path(name).mkdir()
        zoo = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "zebra"}]}
        if text != "":
            Path(name, "annotations.json").write_text(json.dumps(zoo) if text is None else text)
    given = ["--weights", str(WEIGHTS), "--data", "empty", *arguments]
    code, report, lines = evaluate(capsys, *given)
    assert code == 1
    assert not report
    assert told in lines[-1]
