"""The pictures that the small weights are trained on, and the rules of the training's command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from demo.__main__ import _commands, main
from demo.clips import Job
from demo.pictures import (
    CUT_PX,
    PICTURES_PER_CAMERA,
    Labelled,
    camera_pictures,
    cut,
    read_held_out,
    split_cameras,
    write_pictures,
)
from demo.plan import Plan
from demo.render import Renderer
from demo.scenes import CLASSES, Purpose, scene, view_of, words_of
from demo.train import prepare

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ("train", "polish", "val")


def read_labels(folder: Path, split: str) -> dict[str, list[tuple[float, ...]]]:
    """Rows of class, centre and size by picture."""
    return {
        file.stem: [tuple(map(float, line.split())) for line in file.read_text().splitlines()]
        for file in sorted((folder / "labels" / split).glob("*.txt"))
    }


def test_cameras_of_clips_training_and_validation_are_never_the_same() -> None:
    """The words that seed a scene differ between purposes and splits, whatever seed and number are asked for."""
    asked = [(seed, number) for seed in range(4) for number in range(40)]
    words: dict[str, set[tuple[int, ...]]] = {"clips": {words_of(Purpose.CLIPS, seed, i) for seed, i in asked}}
    assert Job(7, 3, 1, Path()).scene.seed in words["clips"]
    for split in SPLITS:
        purpose, first = split_cameras(split)
        words[split] = {words_of(purpose, seed, first + i) for seed, i in asked}
        assert scene(purpose, 3, first + 7).seed in words[split]
    everything = set().union(*words.values())
    assert len(everything) == sum(map(len, words.values())) == 4 * len(asked)
    assert {w[0] for w in words["clips"]} == {int(Purpose.CLIPS)}
    assert {w[0] for w in words["train"] | words["polish"]} == {int(Purpose.TRAINING)}
    assert {w[0] for w in words["val"]} == {int(Purpose.VALIDATION)}


def test_seeds_make_different_streets() -> None:
    """Scenes of the same number but another purpose share neither view nor traffic."""
    shown = [scene(purpose, 0, 20) for purpose in Purpose]
    assert len({s.view for s in shown}) == 3
    assert len({s.movers for s in shown}) == 3


def test_training_streets_have_more_bicycles() -> None:
    """The rarest class is three times as frequent in training as in a clip's street of the same density."""
    counts: dict[Purpose, dict[str, set[int]]] = {purpose: {} for purpose in Purpose}
    for purpose in Purpose:
        for index in range(18, 34):
            if view_of(purpose, 0, index).kind == "street":
                shown = scene(purpose, 0, index)
                bicycles = sum(m.class_id == CLASSES.index("bicycle") for m in shown.movers)
                counts[purpose].setdefault(shown.view.density, set()).add(bicycles)
    few = {"static": {0}, "calm": {3}, "busy": {7}}
    many = {"static": {0}, "calm": {9}, "busy": {21}}
    for purpose, wanted in ((Purpose.CLIPS, few), (Purpose.VALIDATION, few), (Purpose.TRAINING, many)):
        assert counts[purpose]
        assert all(wanted[density] == found for density, found in counts[purpose].items())


def test_a_plan_names_its_own_command() -> None:
    """The command in the record, parsed again, is the plan that was carried out."""
    plan = Plan(epochs=3, polish_epochs=0, pictures=9, seed=4, imgsz=416)
    parser = argparse.ArgumentParser()
    _commands()["train"].add_options(parser)
    words = plan.command.split()
    assert words[:4] == ["python", "-m", "demo", "train"]
    told = vars(parser.parse_args(words[4:]))
    assert {key: told[key] for key in ("epochs", "polish_epochs", "pictures", "seed", "imgsz", "start")} == {
        "epochs": 3, "polish_epochs": 0, "pictures": 9, "seed": 4, "imgsz": 416, "start": None
    }  # fmt: skip


def test_a_picture_is_the_canvas_that_serving_sees() -> None:
    """Validation pictures are 640x384, letterboxed with grey 114, and their boxes lie on the picture's part."""
    pictures = camera_pictures(Purpose.VALIDATION, 0, 0)
    assert len(pictures) == PICTURES_PER_CAMERA
    for picture in pictures:
        assert picture.image.shape == (384, 640, 3)
        for band in (picture.image[:12], picture.image[-12:]):
            assert np.abs(band.astype(int) - 114).max() <= 1
        assert len(picture.boxes)
        assert (picture.boxes[:, 2] >= 12).all()
        assert (picture.boxes[:, 4] <= 372).all()


def contrast(difference: NDArray[np.int64], boxes: NDArray[np.float64], dx: int = 0, dy: int = 0) -> float:
    """How much more the picture differs from the empty street inside the boxes, moved by dx and dy, than elsewhere."""
    inside = np.zeros(difference.shape, dtype=bool)
    for x1, y1, x2, y2 in boxes[:, 1:].astype(int):
        inside[max(0, y1 + dy) : y2 + dy, max(0, x1 + dx) : x2 + dx] = True
    return float(difference[inside].mean() / difference[~inside].mean())


def test_boxes_follow_the_objects_onto_the_canvas() -> None:
    """The picture differs from the empty street in its boxes; 10 pixels off, or of another picture, they miss."""
    shown = scene(Purpose.VALIDATION, 0, 0)
    empty = Renderer(dataclasses.replace(shown, movers=())).render(0, shown.view.fps).image
    empty = cv2.copyMakeBorder(cv2.resize(empty, (640, 360)), 12, 12, 0, 0, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    pictures = camera_pictures(Purpose.VALIDATION, 0, 0)
    for picture in pictures:
        difference = np.abs(picture.image.astype(int) - empty).max(axis=2)
        exact = contrast(difference, picture.boxes)
        assert exact > 4
        assert all(contrast(difference, other.boxes) < exact for other in pictures if other is not picture)
        for dx, dy in ((10, 0), (-10, 0), (0, 10), (0, -10)):
            assert contrast(difference, picture.boxes, dx, dy) < 0.9 * exact


def test_a_cut_keeps_what_lies_in_it() -> None:
    """Boxes move with the cut, are clipped to it, and go when too little is left of them."""
    boxes = [(0, 100, 40, 140, 90), (1, 300, 30, 440, 80), (2, 0, 40, 60, 90), (3, 180, 0, 200, 40)]
    whole = Labelled(
        np.arange(384 * 640 * 3, dtype=np.uint32).astype(np.uint8).reshape(384, 640, 3),
        np.array(boxes, float),
        np.array([False, True, False, False]),
    )
    piece = cut(whole, 50, 30)
    assert np.array_equal(piece.image, whole.image[30 : 30 + CUT_PX, 50 : 50 + CUT_PX])
    assert piece.boxes.tolist() == [[0, 50, 10, 90, 60], [1, 250, 0, 320, 50]]
    assert piece.ignored.tolist() == [False, True]


def test_written_pictures_are_what_ultralytics_reads(tmp_path: Path) -> None:
    """Each picture has a label file of its name, sizes are those of the split, and every share lies in 0..1."""
    for split, count, size in (("train", 4, (320, 320)), ("val", 2, (384, 640))):
        write_pictures(tmp_path, split, 0, count, workers=1)
        images = sorted((tmp_path / "images" / split).glob("*.png"))
        labels = read_labels(tmp_path, split)
        assert [file.stem for file in images] == list(labels)
        assert len(images) == count
        assert all(cv2.imread(str(file)).shape[:2] == size for file in images)
        rows = np.array([row for rows in labels.values() for row in rows])
        assert rows.shape[1] == 5
        assert set(rows[:, 0]) <= set(range(len(CLASSES)))
        assert (rows[:, 3:] > 0).all()
        assert (rows[:, 1:3] - rows[:, 3:] / 2 >= -1e-5).all()
        assert (rows[:, 1:3] + rows[:, 3:] / 2 <= 1 + 1e-5).all()


def test_held_out_pictures_come_back_with_what_is_ignored(tmp_path: Path) -> None:
    """All boxes of the canvas, in its pixels, those that count first; training's labels hold nothing that is tiny."""
    write_pictures(tmp_path, "val", 0, 2, workers=1)
    known = camera_pictures(Purpose.VALIDATION, 0, 0)
    for read, whole in zip(read_held_out(tmp_path), known, strict=False):
        order = np.argsort(whole.ignored, kind="stable")
        np.testing.assert_allclose(read.boxes, whole.boxes[order], atol=0.01)
        assert read.ignored.tolist() == sorted(whole.ignored.tolist())
    assert any(picture.ignored.any() for picture in known)
    size = np.concatenate([p.boxes for p in camera_pictures(Purpose.TRAINING, 0, 0)])
    assert ((size[:, 3:5] - size[:, 1:3]) >= (6, 8)).all()


def test_pictures_are_rendered_once_per_plan(tmp_path: Path) -> None:
    """The same plan finds its pictures; an interrupted or another one renders them."""
    plan = Plan(pictures=3, held_out=1)
    folder = prepare(plan, tmp_path / "pictures")
    picture = next((folder / "images" / "train").glob("*.png"))
    first = picture.stat().st_mtime_ns, picture.read_bytes()
    prepare(plan, folder)
    assert picture.stat().st_mtime_ns == first[0]
    (folder / "complete.json").unlink()
    prepare(plan, folder)
    assert picture.stat().st_mtime_ns != first[0]
    assert picture.read_bytes() == first[1]
    data = json.loads((folder / "cuts.yaml").read_text())
    assert list(data["names"].values()) == list(CLASSES)
    assert all((Path(data["path"]) / data[key]).is_dir() for key in ("train", "val"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "epochs must be at least 1, got 0"),
        (["--polish-epochs", "-1"], "polish epochs must be at least 0, got -1"),
        (["--pictures", "2"], "pictures must be at least 3, got 2"),
        (["--imgsz", "100"], "imgsz must be a positive multiple of 32 px, got 100"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--start", "/nowhere/a.pt"], "/nowhere/a.pt: no such file; expected weights to start from"),
        (["--device", "quantum"], "device must be auto, cpu or a GPU's number, got 'quantum'"),
    ],
)
def test_impossible_plans_are_one_clear_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan that cannot be carried out ends at once with exit code 1 and what was allowed."""
    assert main(["train", *options]) == 1
    captured = capsys.readouterr()
    assert captured.err.strip() == f"demo: {message}"
    assert captured.out == ""


def test_weights_to_go_on_from_need_no_cuts() -> None:
    """With a start the first round may be left out; its command says so and how many layers stay as they are."""
    plan = Plan(epochs=0, polish_epochs=2, start=ROOT / "demo" / "weights" / "yolo12n.pt", freeze=6)
    assert "--epochs 0 --polish-epochs 2" in plan.command
    assert plan.command.endswith("--freeze 6")
    with pytest.raises(ValueError, match="freeze must be at least 0, got -1"):
        Plan(freeze=-1)


def test_training_without_its_packages_or_its_gpu_is_one_clear_line(tmp_path: Path) -> None:
    """Without torch, and for a GPU that is not there, the command says so before it renders anything."""
    code = (
        "import sys; from pathlib import Path; {0};"
        "import demo.train; from demo.plan import Plan;"
        "demo.train.train(Plan(device='97'), Path({1!r}), Path({1!r}))"
    )
    for prepared, message in (
        ("sys.modules.update(torch=None)", "TrainingError: training needs torch, in the dependency group export"),
        ("pass", "TrainingError: device 97: no such GPU, torch sees "),
    ):
        script = code.format(prepared, str(tmp_path))
        result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
        assert message in result.stderr.splitlines()[-1]
        assert not list(tmp_path.glob("pictures*"))


def test_committed_weights_have_a_record_that_is_good_enough() -> None:
    """The record beside the weights states the classes in order and at least 0.8 mAP50 on held-out canvases.

    The aim is 0.85; these reached 0.82.
    """
    weights = ROOT / "demo" / "weights"
    record = json.loads((weights / "training.json").read_text())
    assert record["classes"] == list(CLASSES)
    assert record["held_out"]["canvas"] == "640x384"
    assert record["held_out"]["map50"] >= 0.8
    assert 4e6 < (weights / "yolo12n.pt").stat().st_size < 7e6


def test_the_committed_checkpoint_says_nothing_about_the_machine_it_was_trained_on() -> None:
    """No absolute path lies in it: neither in its arguments nor anywhere else in its pickles."""
    with zipfile.ZipFile(ROOT / "demo" / "weights" / "yolo12n.pt") as archive:
        pickles = [archive.read(name) for name in archive.namelist() if name.endswith(".pkl")]
    assert pickles
    for marker in (b"demo/runs", b"last.pt/", b"/root", b"/home", b"/work"):
        assert not any(marker in data for data in pickles), marker
