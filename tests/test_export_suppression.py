"""The number of candidates is held to Ultralytics' own suppression on crowds; pictures, measure and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import MODELS
from numpy.typing import NDArray

from clients.types import Canvas, Tier
from demo.clips import Job, render_jobs
from export import cli
from export.crowds import crowds
from export.errors import ExportError
from export.labelled import Labelled, labelled_set
from export.spec import Spec
from export.suppression import Agreement, Request, _same, measure, smallest, temporary_mb

CLASSES = ("person", "car", "bus", "bicycle")
WEIGHTS = MODELS / "yolo12n.pt"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of a busy crossing, a crowd, and a street with an occluder."""
    folder = tmp_path_factory.mktemp("clips")
    render_jobs([Job(index, 0, 1, folder) for index in (2, 8, 13)], workers=2)
    return folder


@pytest.fixture(scope="module")
def pictures(clips: Path) -> list[Labelled]:
    """Frames of all cameras."""
    return list(labelled_set(clips, CLASSES, Canvas(), 12).pictures)


def suppression(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], list[str]]:
    """Run the command: exit code, report (empty if none), lines of stderr."""
    code = cli.main(["suppression", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out else {}, err.splitlines()


# --- the rule ------------------------------------------------------------------------------------------------


def test_the_chosen_k_keeps_the_boxes_of_a_crowd(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The spec's K has 99.9 % of Ultralytics' boxes on every kind of picture; the least K that is allowed has not."""
    code, report, lines = suppression(
        capsys, "--weights", WEIGHTS, "--data", clips, "--pictures", 6, "--candidates", 300
    )
    assert code == 0, lines
    assert report["smallest_top_k"] == report["top_k"] == Spec().top_k
    found = {(one["kind"], one["top_k"]): one for one in report["results"]}
    assert all(found[kind, Spec().top_k]["share"] >= 99.9 for kind in ("street", "pasted", "packed"))
    losing = [one for (_, top_k), one in found.items() if top_k == 300 and one["share"] < 99.9]
    assert losing, "pictures so full that the least K loses boxes"
    for one in losing:
        assert one["most_candidates"] > 300
        assert one["lost"] == one["lost_below_last_candidate"] > 0  # K is the reason, not the suppression
        assert one["lost_score_max"] < 0.6


def test_too_small_a_k_is_exit_code_1(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command names the pictures on which the asked K loses boxes."""
    asked = ("--top-k", 300, "--candidates", 300)
    code, report, lines = suppression(capsys, "--weights", WEIGHTS, "--data", clips, "--pictures", 6, *asked)
    assert code == 1
    assert (report["passed"], report["smallest_top_k"]) == (False, None)
    assert lines[-1].startswith("export: K 300 keeps ")
    assert lines[-1].endswith("pictures, at least 99.9 % are asked for")


# --- the measure ---------------------------------------------------------------------------------------------


def rows(*boxes: tuple[float, ...]) -> NDArray[np.float32]:
    """x1, y1, x2, y2, score, class."""
    return np.array(boxes, dtype=np.float32)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ((0, 0, 100, 100, 0.5, 1), True),
        ((0, 0, 100, 99.5, 0.5, 1), True),
        ((0, 0, 100, 98, 0.5, 1), False),
        ((0, 0, 100, 100, 0.501, 1), False),
        ((0, 0, 100, 100, 0.5, 2), False),
        ((200, 0, 300, 100, 0.5, 1), False),
    ],
)
def test_the_same_box_is_the_same_object_score_and_place(other: tuple[float, ...], *, same: bool) -> None:
    """Class equal, score within 0.0001, IoU at least 0.99."""
    assert _same(rows((0, 0, 100, 100, 0.5, 1)), rows(other)).tolist() == [[same]]


def test_the_smallest_k_must_hold_on_every_kind() -> None:
    """One kind of picture that loses boxes rules a K out."""

    def one(kind: str, top_k: int, lost: int) -> Agreement:
        return Agreement(kind, top_k, 9, 1000, (0.3,) * lost, lost, 0, 1.0)

    found = [one("street", 300, 0), one("packed", 300, 2), one("street", 512, 1), one("packed", 512, 1)]
    assert smallest(found) == 512
    assert smallest(found[:2]) is None


def test_what_a_k_costs_in_memory() -> None:
    """Batch 32, K x K, four bytes each."""
    assert temporary_mb(Spec(), 1000) == 128.0


# --- the pictures --------------------------------------------------------------------------------------------


def test_crowds_are_the_same_every_time(pictures: list[Labelled]) -> None:
    """Three kinds of canvases; the street's are the fullest frames, as the client sends them."""
    one, other = (crowds(pictures, Canvas(), 2) for _ in range(2))
    assert list(one) == ["street", "pasted", "packed"]
    for kind, canvases in one.items():
        assert len(canvases) == 2
        assert np.array_equal(canvases, other[kind])
        assert {(frames.shape, frames.dtype.name) for frames in canvases} == {((576, 640), "uint8")}
    fullest = max(pictures, key=lambda picture: int((~picture.ignored).sum()))
    assert np.array_equal(one["street"][0], fullest.frames)


def test_a_packed_picture_is_full_of_objects(pictures: list[Labelled]) -> None:
    """Little of the street that lies below remains: its rows are covered by cut-outs."""
    (packed,) = crowds(pictures, Canvas(), 1)["packed"]
    shown = cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_NV12).astype(int)
    grounds = [cv2.resize(one.picture, (640, 384), interpolation=cv2.INTER_AREA) for one in pictures]
    untouched = min((np.abs(shown - ground).mean(axis=2) < 8).mean() for ground in grounds)
    assert untouched < 0.5


def test_pictures_without_objects_cannot_be_packed(pictures: list[Labelled]) -> None:
    """All boxes ignored: one line says what is missing."""
    blind = [Labelled(one.picture, one.frames, one.geometry, one.boxes, np.ones_like(one.ignored)) for one in pictures]
    with pytest.raises(ExportError, match="no labelled object is 14 to 48 px high on the canvas"):
        crowds(blind, Canvas(), 1)


def test_progress_ends_where_it_said(clips: Path) -> None:
    """Pictures done and in all, one by one."""
    told: list[tuple[int, int]] = []
    request = Request(Tier.N, WEIGHTS, clips, 1, (768,))
    measure(Spec(), request, lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--candidates", "many"], "--candidates: expected numbers such as 512,768, got 'many"),
        (["--candidates", "256"], "top_k must lie in 300..3840, got 256"),
        (["--pictures", "0"], "pictures must be at least 1, got 0"),
        (["--weights", "missing.pt"], "missing.pt: no such file"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], told: str, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, no report, and a line that names the thing."""
    code, report, lines = suppression(capsys, "--weights", WEIGHTS, "--data", clips, *arguments)
    assert (code, report) == (1, {})
    assert told in lines[-1]
