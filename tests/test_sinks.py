"""Results on disk and on the screen."""

import json
import threading
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from clients.dashboard.table import fleet_line, fleet_table
from clients.errors import SinkError
from clients.result import Result
from clients.sinks.jsonl import JsonlSink, LineFile, Rotation, as_record
from clients.sinks.mosaic import Grid, MosaicSink, View
from clients.sources.frame import Frame
from clients.sources.picture import AvPicture, Scalers
from clients.statistics import CameraReport, Histogram, Summary, Totals
from clients.types import Detections, Tier, Verdict

BOX = np.array([[100, 60, 300, 200, 0.87654, 1]], np.float32)


def result(index: int = 0) -> Result:
    """One detected car."""
    return found(index, np.array([7], np.int64))


def found(index: int, track_ids: NDArray[np.int64], **more: Any) -> Result:
    """The same with these ids."""
    boxes = Detections.from_rows(BOX)
    return Result("cam", index, 1.2345, 20.04, Tier.N, boxes, track_ids, size_px=(640, 360), wall_time_s=1.5, **more)


def lines_of(path: Path, **more: Any) -> JsonlSink[Result]:
    """A sink of detections."""
    return JsonlSink("sinks.jsonl", path, lambda result: as_record(result, ("person", "car")), **more)


def test_a_line_holds_what_was_found(tmp_path: Path) -> None:
    """One JSON object per result, in order, rounded, with names."""
    path = tmp_path / "new" / "d.jsonl"
    sink = lines_of(path)
    for index in range(50):
        sink.write(result(index))
    sink.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(50))
    assert lines[0] == {
        "schema": "detections/1",
        "camera": "cam",
        "frame": 0,
        "time": "1970-01-01T00:00:01.500Z",
        "media_time_s": 1.234,
        "age_ms": 20.0,
        "tier": "yolo12n",
        "predicted": False,
        "size": [640, 360],
        "objects": [{"track": 7, "class": "car", "confidence": 0.877, "xyxy": [100.0, 60.0, 300.0, 200.0]}],
    }
    assert sink.dropped == 0


def test_a_class_without_a_name_is_its_number() -> None:
    """A model that brought no names still has classes."""
    assert as_record(result(), ())["objects"][0]["class"] == "1"


def test_what_was_predicted_and_what_has_no_id_is_marked() -> None:
    """A predicted frame says so; an object without an id has null for a track."""
    record = as_record(found(3, np.zeros(1, np.int64), is_predicted=True), ())
    assert record["predicted"] is True
    assert record["objects"][0]["track"] is None


def test_a_full_disk_drops_lines_and_counts_them() -> None:
    """/dev/full refuses every write: the pipeline goes on, each lost line is counted."""
    sink = lines_of(Path("/dev/full"))
    for _ in range(20):
        sink.write(result())
    sink.close()
    assert sink.dropped == 20


def test_files_of_lines_do_not_grow_for_ever(tmp_path: Path) -> None:
    """A file that is full is put aside, so many are kept, no line is lost or torn on the way, and a new run is new."""
    path, one = tmp_path / "d.jsonl", len(json.dumps(as_record(result(), ("person", "car")), separators=(",", ":"))) + 1
    (tmp_path / "d.jsonl.2").write_text("of an earlier run")
    sink = lines_of(path, rotation=Rotation(10 * one, kept=2))
    for index in range(10, 45):
        sink.write(result(index))
    sink.close()
    kept = {file.name: [json.loads(line)["frame"] for line in file.read_text().splitlines()] for file in whole(path)}
    assert [len(frames) for frames in kept.values()] == [10, 10, 5]
    assert [frame for frames in kept.values() for frame in frames] == list(range(20, 45))
    lines_of(path).close()
    assert whole(path) == [path]
    assert path.read_text() == ""


def whole(path: Path) -> list[Path]:
    """The file and those put aside, oldest first."""
    return [*sorted(path.parent.glob(f"{path.name}.*"), reverse=True), path]


def test_a_file_can_be_gone_on_with(tmp_path: Path) -> None:
    """Appended to, what was there stays; a line that was cut by a failing disk is not glued to the next one."""
    path = tmp_path / "d.jsonl"
    path.write_text('{"frame": 1}\n')
    lines = LineFile(path, Rotation(), appends=True)
    lines.write('{"frame": 2}')
    lines.close()
    with path.open("a") as file:
        file.write('{"fra')
    lines.write('{"frame": 3}')
    lines.close()
    assert path.read_text().splitlines() == ['{"frame": 1}', '{"frame": 2}', '{"fra', '{"frame": 3}']


@pytest.mark.parametrize("path", ["/proc/nowhere/d.jsonl", "/proc"])
def test_a_file_that_cannot_be_created_is_a_clear_error(path: str) -> None:
    """The line names the key and the path."""
    with pytest.raises(SinkError, match=rf"sinks\.jsonl: {path} cannot be written"):
        lines_of(Path(path))


def test_ids_must_fit_the_detections() -> None:
    """A result with one box and two ids is refused with both shapes."""
    with pytest.raises(ValueError, match=r"shape \(1,\), got \(2,\)"):
        found(0, np.zeros(2, np.int64))


def view(drawn: threading.Event) -> View:
    """A blue camera with one detected car; `drawn` is set when its second picture is asked for."""
    picture = np.zeros((360, 640, 3), np.uint8)
    picture[:] = (30, 60, 200)
    image = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
    av_picture = AvPicture(image, Scalers())
    frame = Frame("cam", 0, 0, 0.0, av_picture)
    asked: list[int] = []

    def shown() -> tuple[Frame, Result]:
        asked.append(1)
        if len(asked) >= 2:
            drawn.set()
        return frame, result()

    return View("cam", ("person", "car"), shown, lambda: "live")


def test_the_mosaic_shows_the_camera_and_its_box(tmp_path: Path) -> None:
    """The PNG has the camera's colour, the box's colour on the box's edge, and the video has the PNG's size."""
    drawn = threading.Event()
    video, image = tmp_path / "m.mp4", tmp_path / "m.png"
    one = view(drawn)
    sink = MosaicSink(lambda: [one], cameras=1, video=video, image=image, fps=20)
    assert drawn.wait(20)
    sink.close()
    shown = cv2.imread(str(image))
    scale = shown.shape[1] / 640
    inside = shown[round(120 * scale), round(200 * scale)]
    assert np.abs(inside.astype(int) - (200, 60, 30)).max() < 12
    edge = shown[round(120 * scale), round(100 * scale) - 2 : round(100 * scale) + 3].astype(int)
    assert (np.abs(edge - (243, 150, 33)).max(axis=1) < 60).any()
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (shown.shape[1], shown.shape[0])
        assert len(list(container.decode(stream))) >= 1


def test_cameras_that_come_later_have_tiles_too(tmp_path: Path) -> None:
    """A mosaic that has begun with one camera shows four in a picture of the same size, and one again."""
    views = [view(threading.Event())]
    sink = MosaicSink(lambda: views, cameras=1, video=None, image=tmp_path / "m.png", fps=0.1)
    views += [view(threading.Event())] * 3
    sink.close()
    shown = cv2.imread(str(tmp_path / "m.png"))
    assert shown.shape == (360, 640, 3)
    for x, y in ((80, 60), (400, 60), (80, 240), (400, 240)):  # inside each camera's box
        assert np.abs(shown[y, x].astype(int) - (200, 60, 30)).max() < 12


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (2, (2, 1)), (8, (3, 3)), (9, (3, 3)), (50, (8, 7))])
def test_the_grid_holds_all_cameras(count: int, shape: tuple[int, int]) -> None:
    """Near to a square, even sides, a tile for everyone."""
    grid = Grid.of(count)
    assert (grid.columns, grid.rows) == shape
    assert grid.size_px[0] % 2 == grid.size_px[1] % 2 == 0
    picture = np.zeros((grid.size_px[1], grid.size_px[0], 3), np.uint8)
    for index in range(count):
        tile = grid.tile(picture, index)
        assert tile.shape[0] >= grid.tile_px[1] - 1
        assert (tile == 0).all(), "tiles must not overlap"
        tile[:] = 255


def test_a_video_that_cannot_be_created_is_a_clear_error() -> None:
    """The line names the key and the path."""
    with pytest.raises(SinkError, match=r"sinks\.mosaic_video: /proc/nowhere/m\.mp4 cannot be written"):
        MosaicSink(list, cameras=0, video=Path("/proc/nowhere/m.mp4"), image=None, fps=5)


def camera_report(decoded: int, inferred: int, similar: int) -> CameraReport:
    """A live camera."""
    ages = Histogram()
    ages.add(42.0)
    return CameraReport(
        "gate-3", "live", Tier.N, decoded, {Verdict.INFERRED: inferred, Verdict.SIMILAR: similar}, 4, ages, None
    )


def test_the_table_shows_rates_between_two_looks() -> None:
    """250 frames and 10 inferences more in two seconds are 125 and 5 per second."""
    earlier, later = [camera_report(1000, 40, 100)], [camera_report(1250, 50, 300)]
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(fleet_table(later, earlier, 2.0, "fleet"))
    console.file.close()
    shown = console.export_text()
    assert {"gate-3", "live", "yolo12n", "125.0", "5.0", "100.0", "4", "42"} <= set(shown.split())
    assert fleet_line(later, earlier, 2.0) == "1 of 1 cameras live, 125 frames/s decoded, 5.0 inferences/s"


def test_a_camera_on_another_tier_than_its_own_is_shown() -> None:
    """The table names both tiers, the line counts such cameras, the summary the frames."""
    ages = Histogram()
    seen = {Verdict.INFERRED: 7}
    report = CameraReport("a", "live", Tier.N, 9, seen, 0, ages, None, wanted=Tier.M, fallbacks=5)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(fleet_table([report], [], 2.0, "fleet"))
    console.file.close()
    assert "yolo12n for yolo12m" in console.export_text()
    assert fleet_line([report], [], 1.0).endswith("inferences/s, 1 on another tier than their own")
    summary = Summary(2.0, (report,), None, "f32", "shm", 0.1, 0).as_json()
    assert summary["fallbacks"] == summary["per_camera"]["a"]["fallbacks"] == 5


def test_removed_cameras_stay_in_the_sums() -> None:
    """What a camera had done before it was removed counts in the totals, and the camera is counted as removed."""
    removed = Totals()
    removed.add(camera_report(1000, 40, 100))
    summary = Summary(2.0, (camera_report(500, 10, 20),), None, "f32", "shm", 0.1, 0, removed=removed)
    told = summary.as_json()
    assert summary.inferences == told["inferences"] == 50
    assert (told["cameras"], told["cameras_removed"], told["frames_decoded"]) == (1, 1, 1500)
    assert told["frames_skipped"]["similar"] == 120
    assert removed.cameras == 1, "asking changes nothing"


def test_a_mosaic_shorter_than_its_interval_still_leaves_a_picture(tmp_path: Path) -> None:
    """Closed at once: the last picture is drawn and written all the same."""
    shown = view(threading.Event())
    sink = MosaicSink(lambda: [shown], cameras=1, video=tmp_path / "m.mp4", image=tmp_path / "m.png", fps=0.1)
    sink.close()
    assert sink.failures == 0
    assert cv2.imread(str(tmp_path / "m.png")) is not None
    with av.open(str(tmp_path / "m.mp4")) as container:
        assert len(list(container.decode(video=0))) >= 1


def test_a_picture_that_cannot_be_written_is_counted_not_raised() -> None:
    """The run's summary is worth more than its picture."""
    shown = view(threading.Event())
    sink = MosaicSink(lambda: [shown], cameras=1, video=None, image=Path("/proc/nowhere/m.png"), fps=5)
    sink.close()
    assert sink.failures == 1
