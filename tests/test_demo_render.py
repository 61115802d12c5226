"""The demo's clips: what is drawn, what is said of it, what is kept on disk."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import PictureType

from clients.sources.colour import Scaler, to_bgr
from demo.__main__ import main
from demo.clips import _SOURCES, Job, render_clip, render_clips
from demo.render import Rendered, Renderer
from demo.scenes import CLASSES, LIGHTS, Purpose, Rhythm, Scene, View, scene
from demo.truth import TrueObject, read_truth
from demo.video import decode, encode

ROOT = Path(__file__).resolve().parent.parent
STATIC, CROWDED, AWAY = 3, 2, 5  # numbers of base cameras


@pytest.fixture(scope="module")
def crowded() -> Renderer:
    """The camera with most objects before one another."""
    return Renderer(scene(Purpose.CLIPS, 0, CROWDED))


def mask_box(rendered: Rendered, slot: int) -> tuple[int, int, int, int] | None:
    """Pixel edges around what is left of an object in the id buffer."""
    rows, columns = np.nonzero(rendered.ids == slot)
    if not rows.size:
        return None
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize("number", [0, CROWDED, STATIC, AWAY, 12])
def test_box_is_tight_around_the_drawn_pixels(number: int) -> None:
    """The true box of an uncovered object lies within one pixel of its pixels in the id buffer, on each side."""
    shown = scene(Purpose.CLIPS, 0, number)
    renderer = Renderer(shown)
    compared = 0
    for index in (0, 77, 310):
        rendered = renderer.render(index, shown.view.fps)
        for slot, entry in enumerate(rendered.objects, start=1):
            found = mask_box(rendered, slot)
            if entry.visibility == 1.0:
                assert found is not None
                assert np.abs(np.subtract(found, entry.xyxy)).max() <= 1.0, entry
                compared += 1
    assert compared >= 5


def test_nothing_is_drawn_outside_its_box(crowded: Renderer) -> None:
    """No pixel bears an unknown number, and an object's are all inside its box, also at the picture's edge."""
    for index in range(0, 600, 20):
        rendered = crowded.render(index, 25)
        assert set(np.unique(rendered.ids)) <= {*range(len(rendered.objects) + 1), 255}
        for slot, entry in enumerate(rendered.objects, start=1):
            found = mask_box(rendered, slot)
            if found is not None:
                assert np.abs(np.minimum(0, np.subtract(found[:2], entry.xyxy[:2]))).max() <= 1
                assert np.maximum(0, np.subtract(found[2:], entry.xyxy[2:])).max() <= 1


def test_visibility_is_what_is_left_of_an_object_drawn_alone(crowded: Renderer) -> None:
    """Visibility is the object's pixels among all others, over its pixels when it is drawn alone."""
    shown = scene(Purpose.CLIPS, 0, CROWDED)
    rendered = crowded.render(130, 25)
    covered = [(slot, o) for slot, o in enumerate(rendered.objects, start=1) if 0.0 < o.visibility < 0.9]
    assert len(covered) >= 3
    for slot, entry in covered[:4]:
        mover = next(m for m in shown.movers if m.object_id == entry.object_id)
        alone = Renderer(dataclasses.replace(shown, movers=(mover,), posts=(), trees=())).render(130, 25)
        ratio = np.count_nonzero(rendered.ids == slot) / np.count_nonzero(alone.ids == 1)
        assert entry.visibility == pytest.approx(ratio, abs=1e-6)
        assert entry.xyxy == alone.objects[0].xyxy


def test_boxes_stay_in_the_picture_and_ids_are_unique(crowded: Renderer) -> None:
    """Boxes are clipped to the picture, have an area, and no object is named twice."""
    for index in range(0, 400, 40):
        objects = crowded.render(index, 25).objects
        boxes = np.array([o.xyxy for o in objects])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= (640, 360)).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
        assert len({o.object_id for o in objects}) == len(objects)
        assert all(0.0 <= o.visibility <= 1.0 for o in objects)


def test_a_frame_depends_on_its_number_only() -> None:
    """The same frame, drawn by two renderers in another order, is the same to the last bit; another seed's is not."""
    first, second = (Renderer(scene(Purpose.CLIPS, 0, 0)) for _ in range(2))
    a = first.render(40, 25)
    second.render(39, 25)
    b = second.render(40, 25)
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.ids, b.ids)
    assert a.objects == b.objects
    assert Renderer(scene(Purpose.CLIPS, 1, 0)).render(40, 25).objects != a.objects


def test_clip_and_truth_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    """Two renderings of a job give the same truth file and the same H.264."""
    jobs = [Job(STATIC, 0, 1, tmp_path / name) for name in ("a", "b")]
    for job in jobs:
        job.folder.mkdir()
        render_clip(job)
    assert jobs[0].truth.read_bytes() == jobs[1].truth.read_bytes()
    assert jobs[0].clip.read_bytes() == jobs[1].clip.read_bytes()


def test_truth_file_says_what_was_rendered(tmp_path: Path) -> None:
    """The file holds every frame of the clip with the boxes of the renderer, to a tenth of a pixel."""
    job = Job(STATIC, 0, 1, tmp_path)
    render_clip(job)
    data = json.loads(job.truth.read_bytes())
    assert (data["camera"], data["width"], data["height"], data["fps"]) == ("cam04", 640, 360, 20)
    assert data["classes"] == ["person", "car", "bus", "bicycle"]
    assert [frame["index"] for frame in data["frames"]] == list(range(20))
    assert sum(1 for _ in decode(job.clip)) == 20
    renderer = Renderer(job.scene)
    for index in (0, 19):
        drawn = renderer.render(index, 20).objects
        told = read_truth(job.truth).frames[index]
        assert [o.object_id for o in told] == [o.object_id for o in drawn]
        np.testing.assert_allclose([o.xyxy for o in told], [o.xyxy for o in drawn], atol=0.051)


@pytest.mark.parametrize(("size", "matrix"), [((640, 360), 6), ((1280, 720), 1), ((1920, 1080), 1)])
def test_colours_are_what_the_tags_say(size: tuple[int, int], matrix: int) -> None:
    """360 lines are tagged and coded as BT.601, 720 and more as BT.709, both limited: colours come back within 6.

    That is what the compression leaves; the other matrix would be off by 13.
    """
    view = dataclasses.replace(scene(Purpose.CLIPS, 0, 0).view, width=size[0], height=size[1])
    colours = [(40, 40, 200), (200, 60, 30), (50, 180, 60), (128, 128, 128)]  # blue, green, red
    image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    stripe = size[0] // len(colours)
    for place, colour in enumerate(colours):
        image[:, place * stripe : (place + 1) * stripe] = colour
    buffer = io.BytesIO()
    encode(buffer, view, [image] * 3)
    buffer.seek(0)
    frame = list(decode(buffer))[-1]
    assert (frame.colorspace, frame.color_range, frame.format.name) == (matrix, 1, "yuv420p")
    back = to_bgr(frame, *size, Scaler()).to_ndarray()
    for place, colour in enumerate(colours):
        seen = back[size[1] // 2, place * stripe + stripe // 2].astype(int)
        assert np.abs(seen - colour).max() <= 6, (seen, colour)


def test_a_key_frame_comes_every_two_seconds_and_b_frames_where_asked() -> None:
    """The stream has the group of pictures and the B-frames of its view."""
    view = dataclasses.replace(scene(Purpose.CLIPS, 0, AWAY).view, fps=5)
    assert view.b_frames == 2
    renderer = Renderer(scene(Purpose.CLIPS, 0, AWAY))
    buffer = io.BytesIO()
    encode(buffer, view, (renderer.render(index, 5).image for index in range(25)))
    buffer.seek(0)
    frames = list(decode(buffer))
    assert [index for index, frame in enumerate(frames) if frame.key_frame] == [0, 10, 20]
    assert [frame.time for frame in frames] == [pytest.approx(index / 5) for index in range(25)]
    assert PictureType.B in {frame.pict_type for frame in frames}


def moved_share(shown: Scene, seconds: int = 20) -> float:
    """Share of frames in which anything is somewhere else than in the frame before."""
    fps = shown.view.fps
    moved = 0
    for index in range(1, seconds * fps):
        before, now = ({p.mover.object_id: (p.x, p.y) for p in shown.at(i / fps)} for i in (index - 1, index))
        moved += any(np.hypot(*np.subtract(now[k], before[k])) > 1e-3 for k in now)
    return moved / (seconds * fps)


def test_static_cameras_stand_still_most_of_the_time() -> None:
    """Where the density is static nothing at all moves for at least 14 s of 20; busy cameras hardly ever rest."""
    by_density = {number: scene(Purpose.CLIPS, 0, number) for number in range(8)}
    static = [s for s in by_density.values() if s.view.density == "static"]
    busy = [s for s in by_density.values() if s.view.density == "busy"]
    assert len(static) >= 2
    assert len(busy) >= 2
    assert all(0.05 < moved_share(s) < 0.3 for s in static)
    assert all(moved_share(s) > 0.95 for s in busy)


def test_a_rhythm_never_jumps_and_rests_as_long_as_it_says() -> None:
    """The way travelled has no jump in place or speed, never decreases, and is `speed` times the seconds of going."""
    rhythm = Rhythm(speed=10.0, period_s=20.0, go_s=8.0, phase_s=3.0)
    steps = np.diff([rhythm.travelled(t / 100) for t in range(4001)])
    assert steps.min() >= -1e-9
    assert steps.max() <= 10.0 / 100 + 1e-9
    assert np.abs(np.diff(steps)).max() <= 10.0 / 1.2 * 0.01**2 + 1e-9
    assert np.count_nonzero(steps < 1e-9) / 100 == pytest.approx(2 * (20 - 8 - 1.2), abs=0.1)
    assert steps.sum() == pytest.approx(2 * 10.0 * 8.0)


def test_eight_base_cameras_differ() -> None:
    """They cover the resolutions, rates, lights and densities that the demo promises, and show all classes."""
    shown = [scene(Purpose.CLIPS, 0, number) for number in range(8)]
    sizes = [(s.view.width, s.view.height) for s in shown]
    assert sizes.count((640, 360)) >= 5
    assert {(1280, 720), (1920, 1080)} <= set(sizes)
    assert all(15 <= s.view.fps <= 25 for s in shown)
    assert {s.view.light for s in shown} == set(LIGHTS)
    assert len({s.view for s in shown}) == 8
    assert {m.class_id for s in shown for m in s.movers} == set(range(len(CLASSES)))


def test_further_cameras_come_from_the_seed() -> None:
    """Camera 9 and on have views of their own, which another seed changes."""
    views: set[View] = {scene(Purpose.CLIPS, seed, index).view for seed in (0, 1) for index in (8, 9, 40)}
    assert len(views) == 6
    assert scene(Purpose.CLIPS, 0, 8).name == "cam09"


def test_nearer_objects_cover_farther_ones(crowded: Renderer) -> None:
    """Where the boxes of two objects overlap and one hides part of the other, it is the nearer one."""
    distance = {p.mover.object_id: p.y for p in scene(Purpose.CLIPS, 0, CROWDED).at(200 / 25)}
    rendered = crowded.render(200, 25)
    assert [distance[o.object_id] for o in rendered.objects] == sorted(
        (distance[o.object_id] for o in rendered.objects), reverse=True
    )
    hidden = [(slot, o) for slot, o in enumerate(rendered.objects, start=1) if o.visibility < 0.5]
    assert hidden
    for slot, entry in hidden:
        x1, y1, x2, y2 = (int(v) for v in entry.xyxy)
        covering = set(np.unique(rendered.ids[y1:y2, x1:x2])) - {0, slot}
        assert any(other > slot for other in covering)


def test_clips_are_rendered_once(tmp_path: Path) -> None:
    """A second call renders nothing; another seed, length, a lost file, a damaged truth or `force` render again."""
    rendered = render_clips(1, 1, 0, tmp_path, workers=1)
    assert (rendered["rendered"], rendered["cached"]) == (1, 0)
    assert rendered["clips"] == [str(tmp_path / "cam01.mp4")]
    before = (tmp_path / "cam01.mp4").stat().st_mtime_ns
    assert render_clips(1, 1, 0, tmp_path)["cached"] == 1
    assert (tmp_path / "cam01.mp4").stat().st_mtime_ns == before
    for change in ({"seed": 1}, {"seconds": 2}):
        assert not dataclasses.replace(Job(0, 0, 1, tmp_path), **change).is_rendered()
    (tmp_path / "cam01.json").write_text('{"camera": "cam01"')
    assert render_clips(1, 1, 0, tmp_path, workers=1)["rendered"] == 1
    assert render_clips(1, 1, 0, tmp_path, workers=1, force=True)["rendered"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cam01.json", "cam01.mp4"]


def test_every_source_that_draws_is_part_of_the_key() -> None:
    """The hash that keeps clips covers each module of the demo that rendering imports."""
    code = "import sys, demo.clips; print(*(n for n in sys.modules if n.startswith('demo.')))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.removeprefix("demo.") + ".py" for name in result.stdout.split()} == set(_SOURCES)


def test_a_failed_rendering_leaves_nothing_half_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When a file cannot take its place, the error names the folder and no partial file stays."""
    (tmp_path / "cam01.json").mkdir()
    assert main(["render", "--cameras", "1", "--seconds", "1", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"demo: {tmp_path}: cannot be written")
    assert [p.name for p in tmp_path.iterdir()] == ["cam01.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cameras", "0"], "cameras must be 1 to 500, got 0"),
        (["--cameras", "501"], "cameras must be 1 to 500, got 501"),
        (["--seconds", "-3"], "seconds must be 1 to 3600, got -3"),
        (["--seed", "-1"], "seed must not be negative, got -1"),
    ],
)
def test_impossible_counts_are_one_clear_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A count out of range ends with exit code 1 and names what was allowed; nothing is created."""
    assert main(["render", "--out", str(tmp_path / "clips"), *options]) == 1
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1] == f"demo: {message}"
    assert captured.out == ""
    assert not (tmp_path / "clips").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file where the folder should be ends with one line that names it."""
    (tmp_path / "clips").write_text("in the way")
    assert main(["render", "--cameras", "1", "--seconds", "1", "--out", str(tmp_path / "clips")]) == 1
    assert f"demo: {tmp_path / 'clips'}: cannot be written" in capsys.readouterr().err


def test_a_full_disk_is_found_before_anything_is_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for all clips the command says how much is needed and renders none."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=5 << 20))
    assert main(["render", "--cameras", "2", "--seconds", "60", "--out", str(tmp_path)]) == 1
    assert "need up to 18 MiB, only 5 MiB are free" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_command_ends_with_json_and_needs_no_torch(tmp_path: Path) -> None:
    """`python -m demo render` prints its JSON on the last line where torch and Ultralytics cannot be imported."""
    code = (
        "import runpy, sys; sys.modules.update(torch=None, ultralytics=None);"
        f"sys.argv = ['demo', 'render', '--cameras', '1', '--seconds', '1', '--out', {str(tmp_path)!r}];"
        "runpy.run_module('demo', run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["rendered"] == 1
    assert report["clips"] == [str(tmp_path / "cam01.mp4")]
    assert set(report) == {"clips", "rendered", "cached", "seconds_spent"}


def test_a_truth_object_survives_its_file(tmp_path: Path) -> None:
    """What is written for an object is what is read back."""
    job = Job(STATIC, 0, 1, tmp_path)
    render_clip(job)
    known = read_truth(job.truth)
    assert known.key == job.key
    assert all(isinstance(o, TrueObject) for frame in known.frames for o in frame)
    assert known.to_json() == job.truth.read_bytes()
