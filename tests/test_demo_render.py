"""The demo's clips: what is drawn, what is said of it, what is kept on disk."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import PictureType

from clients.sources.colour import Scaler, to_bgr
from demo.__main__ import main
from demo.city.cameras import BASE_VIEWS, COLOURS, DENSITIES, KINDS, LIGHTS, Colour, View
from demo.city.weather import Exposure, shaken_px
from demo.clips import Job, render_clip, render_clips, source_files
from demo.render import Rendered, Renderer
from demo.scenes import CLASSES, Purpose, scene, view_of
from demo.truth import TrueObject, is_ignored, read_truth
from demo.video import decode, encode

ROOT = Path(__file__).resolve().parent.parent
STATIC, CROWDED, SHAKEN, HIDDEN, SWAYING = 3, 2, 12, 13, 15  # numbers of base cameras
STRIPES = [(40, 40, 200), (200, 60, 30), (50, 180, 60), (128, 128, 128)]  # blue, green, red


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


@pytest.mark.parametrize("number", [0, CROWDED, STATIC, SHAKEN, HIDDEN, SWAYING, 40])
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
    assert compared >= 4


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
        alone = Renderer(dataclasses.replace(shown, movers=(mover,), furniture=())).render(130, 25)
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


def coded(view: View, count: int = 3) -> av.VideoFrame:
    """The last of some pictures of four coloured stripes, encoded as the view says and decoded."""
    image = np.zeros((view.height, view.width, 3), dtype=np.uint8)
    stripe = view.width // len(STRIPES)
    for place, colour in enumerate(STRIPES):
        image[:, place * stripe : (place + 1) * stripe] = colour
    buffer = io.BytesIO()
    encode(buffer, view, [image] * count)
    buffer.seek(0)
    return list(decode(buffer))[-1]


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize(
    ("colour", "lines", "matrix", "told_range"),
    [
        ("bt601", 360, 6, 1),
        ("bt709", 720, 1, 1),
        ("bt601-full", 360, 6, 2),
        ("bt709-full", 360, 1, 2),
        ("untagged", 360, 2, 0),
        ("untagged", 720, 2, 0),
    ],
)
def test_colours_are_what_the_tags_say(codec: str, colour: Colour, lines: int, matrix: int, told_range: int) -> None:
    """Every variant is tagged as it is coded, or not at all, and what the client makes of it are the colours within 6.

    That is what the compression leaves; the other matrix or range would be off by 13.
    """
    base = view_of(Purpose.CLIPS, 0, 0)
    view = dataclasses.replace(base, width=lines * 16 // 9, height=lines, codec=codec, colour=colour)
    frame = coded(view)
    assert frame.colorspace == matrix
    assert frame.color_range == (told_range or (1 if codec == "h265" else 0)), "x265 always says limited"
    assert frame.format.name in ("yuv420p", "yuvj420p")
    back = to_bgr(frame, view.width, view.height, Scaler()).to_ndarray()
    stripe = view.width // len(STRIPES)
    for place, colours in enumerate(STRIPES):
        seen = back[lines // 2, place * stripe + stripe // 2].astype(int)
        assert np.abs(seen - colours).max() <= 6, (seen, colours)


def test_every_colour_variant_and_both_codecs_are_sent_by_a_base_camera() -> None:
    """Nothing that a client must understand is missing from the base cameras."""
    assert {view.colour for view in BASE_VIEWS} == set(COLOURS)
    assert {view.codec for view in BASE_VIEWS} == {"h264", "h265"}
    assert {view.b_frames > 0 for view in BASE_VIEWS} == {True, False}
    assert max(view.gop_s for view in BASE_VIEWS) >= 8


def test_a_key_frame_comes_every_two_seconds_and_b_frames_where_asked() -> None:
    """The stream has the group of pictures and the B-frames of its view."""
    view = dataclasses.replace(view_of(Purpose.CLIPS, 0, CROWDED), fps=5)
    assert view.b_frames == 2
    renderer = Renderer(scene(Purpose.CLIPS, 0, CROWDED))
    buffer = io.BytesIO()
    encode(buffer, view, (renderer.render(index, 5).image for index in range(25)))
    buffer.seek(0)
    frames = list(decode(buffer))
    assert [index for index, frame in enumerate(frames) if frame.key_frame] == [0, 10, 20]
    assert [frame.time for frame in frames] == [pytest.approx(index / 5) for index in range(25)]
    assert PictureType.B in {frame.pict_type for frame in frames}


def test_base_cameras_differ() -> None:
    """Eighteen cameras, a third of each density, every kind of place, light, weather and size, all classes."""
    views = BASE_VIEWS
    assert len(set(views)) == len(views) >= 16
    assert {density: sum(v.density == density for v in views) for density in DENSITIES} == dict.fromkeys(
        DENSITIES, len(views) // 3
    )
    assert {v.kind for v in views} == set(KINDS)
    assert {v.light for v in views} == set(LIGHTS)
    assert {v.weather for v in views} == {"clear", "rain", "fog"}
    assert {q for v in views for q in v.quirks} == {"crowd", "far", "shake", "wind", "exposure", "occluder"}
    assert {(v.width, v.height) for v in views} == {(640, 360), (1280, 720), (1920, 1080)}
    assert {v.fps for v in views} == {15, 20, 25, 30}
    first = views[:8]
    assert sum(v.width == 640 for v in first) >= 6, "make demo is to stay light"
    assert {v.density for v in first} == set(DENSITIES)
    shown = [scene(Purpose.CLIPS, 0, number) for number in range(8)]
    assert {m.class_id for s in shown for m in s.movers} == set(range(len(CLASSES)))


def test_further_cameras_come_from_the_seed() -> None:
    """Cameras beyond the base ones have views of their own, which another seed changes."""
    views: set[View] = {view_of(Purpose.CLIPS, seed, index) for seed in (0, 1) for index in (18, 19, 40)}
    assert len(views) == 6
    assert scene(Purpose.CLIPS, 0, 18).name == "cam19"


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


def test_two_who_render_the_same_clip_share_the_work(tmp_path: Path) -> None:
    """Whoever comes second waits and finds it there; neither fails."""
    command = [sys.executable, "-m", "demo", "render", "--cameras", "1", "--seconds", "1", "--out", str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [json.loads(one.communicate(timeout=120)[0].splitlines()[-1]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sorted(one["rendered"] for one in told) == [0, 1]
    assert sorted(one["cached"] for one in told) == [0, 1]


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
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "cam01.json", "cam01.mp4"]


def test_every_source_that_draws_is_part_of_the_key() -> None:
    """The hash that keeps clips covers each module of the demo that rendering imports."""
    code = "import sys, demo.clips; print(*(n for n in sys.modules if n.startswith('demo.')))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names = {ROOT / f"{name.replace('.', '/')}.py" for name in result.stdout.split()} - {ROOT / "demo" / "city.py"}
    assert names == set(source_files()) - {ROOT / "demo" / "city" / "__init__.py"}


def test_a_failed_rendering_leaves_nothing_half_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When a file cannot take its place, the error names the folder and no partial file stays."""
    (tmp_path / "cam01.json").mkdir()
    assert main(["render", "--cameras", "1", "--seconds", "1", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"demo: {tmp_path}: cannot be written")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "cam01.json"]


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
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


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
    assert report["frames"] == 25
    assert set(report) == {"clips", "rendered", "cached", "frames", "seconds_spent"}


def test_a_truth_object_survives_its_file(tmp_path: Path) -> None:
    """What is written for an object is what is read back."""
    job = Job(STATIC, 0, 1, tmp_path)
    render_clip(job)
    known = read_truth(job.truth)
    assert known.key == job.key
    assert all(isinstance(o, TrueObject) for frame in known.frames for o in frame)
    assert known.to_json() == job.truth.read_bytes()


def test_what_is_small_or_hidden_is_ignored() -> None:
    """A side under 8 canvas pixels, or more than 70 % hidden: in pixels of the source, whatever its size."""
    assert not is_ignored((0, 0, 8, 30), 0.3, (640, 360))
    assert is_ignored((0, 0, 7.9, 30), 1.0, (640, 360))
    assert is_ignored((0, 0, 30, 30), 0.29, (640, 360))
    assert is_ignored((0, 0, 23, 60), 1.0, (1920, 1080))
    assert not is_ignored((0, 0, 24, 60), 1.0, (1920, 1080))


def test_truth_says_under_which_conditions_it_was_seen(tmp_path: Path) -> None:
    """The head names light, weather and quirks, the density and the place; objects say whether they count."""
    job = Job(6, 0, 1, tmp_path)
    render_clip(job)
    data = json.loads(job.truth.read_bytes())
    assert (data["kind"], data["density"], data["conditions"]) == ("crossing", "calm", ["night", "rain"])
    known = read_truth(job.truth)
    for entry in known.frames[0]:
        assert entry.ignore == is_ignored(entry.xyxy, entry.visibility, (known.width, known.height))
    assert len({entry.ignore for frame in known.frames for entry in frame}) == 2


@pytest.mark.parametrize("number", [CROWDED, HIDDEN, 8])
def test_identities_in_colour_agree_with_the_truth(number: int) -> None:
    """A picture with every object in one colour of its own gives the boxes and visibilities that the truth tells.

    It is drawn by OpenCV's polygons alone, farthest first, without light, air, furniture or noise.
    """
    shown = dataclasses.replace(scene(Purpose.CLIPS, 0, number), furniture=())
    shown = dataclasses.replace(shown, view=dataclasses.replace(shown.view, quirks=()))
    renderer = Renderer(shown)
    rendered = renderer.render(200, shown.view.fps)
    size = shown.view.height, shown.view.width
    painted, told = np.zeros(size, dtype=np.int32), {o.object_id: o for o in rendered.objects}
    alone: dict[int, int] = {}
    for one in renderer.drawable(200 / shown.view.fps):
        mask = np.zeros(size, dtype=np.uint8)
        for start, stop, _ in one.shape.parts:
            corners = np.round(one.shape.corners[start:stop].clip(-20000, 20000) * 16).astype(np.int32)
            cv2.fillPoly(mask, [corners], 1, cv2.LINE_8, 4)
        painted[mask > 0] = one.placed.mover.object_id
        alone[one.placed.mover.object_id] = int(mask.sum())
        if mask.any() and one.placed.mover.object_id in told:
            x, y, width, height = cv2.boundingRect(mask)
            box = told[one.placed.mover.object_id].xyxy
            assert np.abs(np.subtract(box, (x, y, x + width, y + height))).max() <= 1.0
    assert len(told) >= 10
    for object_id, entry in told.items():
        left = np.count_nonzero(painted == object_id) / alone[object_id]
        assert entry.visibility == pytest.approx(left, abs=0.02)


def test_a_shaken_camera_moves_the_truth_with_the_picture() -> None:
    """Between two moments of a gust everything that stands has moved by as many pixels as the backdrop."""
    shown = scene(Purpose.CLIPS, 0, SHAKEN)
    shaken = {index: shaken_px(shown, index / 25) for index in range(200)}
    first = min(shaken, key=lambda index: shaken[index][0])
    second = max(shaken, key=lambda index: shaken[index][0])
    assert shaken[second][0] - shaken[first][0] >= 3
    renderer = Renderer(shown)
    before, after = (renderer.render(index, 25) for index in (first, second))
    moved = np.subtract(shaken[second], shaken[first])
    places = {o.object_id: o for o in before.objects}
    still = [o for o in after.objects if o.object_id in places and min(o.xyxy[:2]) > 8 and o.xyxy[2] < 630]
    steps = [np.subtract(o.xyxy[:2], places[o.object_id].xyxy[:2]) for o in still]
    assert sum(np.allclose(step, moved, atol=0.01) for step in steps) >= 3
    a, b = (np.roll(r.image, -np.array(s), (1, 0)) for r, s in ((before, shaken[first]), (after, shaken[second])))
    difference = np.abs(a[60:300, 60:580].astype(int) - b[60:300, 60:580])
    assert np.median(difference) <= 5


def test_light_and_weather_change_the_picture() -> None:
    """Night is darker than day, fog has less contrast, an exposure jump changes brightness at once, rain moves."""
    base = scene(Purpose.CLIPS, 0, 0)

    def seen(index: int = 0, **changes: object) -> np.ndarray:
        changed = dataclasses.replace(base, view=dataclasses.replace(base.view, **changes))
        return Renderer(changed).render(index, 25).image.astype(float)

    day = seen()
    assert seen(light="night").mean() < 0.6 * day.mean()
    assert seen(weather="fog")[40:].std() < 0.75 * day[40:].std()
    jumps = Exposure(base)
    gains = np.array([jumps.gain(index / 25) for index in range(1500)])
    assert np.abs(np.diff(gains)).max() > 0.2
    assert gains.min() < 0.8 < 1.2 < gains.max()
    rainy = Renderer(dataclasses.replace(base, movers=(), view=dataclasses.replace(base.view, weather="rain")))
    a, b = (rainy.render(index, 25).image.astype(int) for index in (0, 61 * 23))
    assert np.abs(a - b)[40:].max() > 15, "noise and clock apart, only rain moves here"
