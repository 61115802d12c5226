"""A video file as a camera: paced, looped, and refused with one clear line when it is none."""

import wave
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import moving_square, write_clip

from clients.errors import SourceError
from clients.sources.file import FileSource, Timing, live_timing

SECOND = 1_000_000_000


@dataclass
class Clock:
    """Virtual time: sleeping moves it on; `stop_after` sleeps it says stop."""

    now: int = 5 * SECOND
    stop_after: int = 10**9
    slept: list[float] = field(default_factory=list)

    def timing(self) -> Timing:
        return Timing(lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> bool:
        self.slept.append(seconds)
        self.now += round(seconds * SECOND)
        return len(self.slept) > self.stop_after


@pytest.fixture(params=["0", "2"], ids=["no B-frames", "B-frames"])
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two seconds of H.264 at 25 fps."""
    return write_clip(tmp_path / "clip.mp4", moving_square(50), options={"bf": request.param, "crf": "20"})


def test_frames_arrive_at_the_pace_of_their_timestamps(clip: Path) -> None:
    """50 frames of 25 fps, in order, are captured over two seconds, and no frame is captured in the future."""
    clock = Clock()
    frames = []
    for frame in FileSource("cam", clip).frames(clock.timing()):
        assert frame.captured_ns <= clock.now
        frames.append(frame)
    assert [frame.index for frame in frames] == list(range(50))
    assert np.allclose(np.diff([frame.media_time_s for frame in frames]), 0.04, atol=0.001)
    assert frames[-1].captured_ns - frames[0].captured_ns == pytest.approx(49 / 25 * SECOND, abs=0.1 * SECOND)
    assert sum(clock.slept) == pytest.approx(49 / 25, abs=0.1)


def test_the_capture_time_is_the_packets_not_the_decoders(clip: Path) -> None:
    """Each frame carries its own packet's arrival, also where the decoder reorders: all 50 differ."""
    frames = list(FileSource("cam", clip).frames(Clock().timing()))
    assert len({frame.captured_ns for frame in frames}) == 50


def test_a_loop_goes_on_counting(clip: Path) -> None:
    """A looped file never ends, its media time never runs back, its index never repeats."""
    source = FileSource("cam", clip, loop=True)
    frames = list(islice(source.frames(Clock().timing()), 130))
    assert [frame.index for frame in frames] == list(range(130))
    assert np.allclose(np.diff([frame.media_time_s for frame in frames]), 0.04, atol=0.001)


def test_several_files_are_one_camera(clip: Path, tmp_path: Path) -> None:
    """One after another at one pace, again and again; index and media time go on, and a bad one costs itself only."""
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    paths = [clip, text, write_clip(tmp_path / "other.mp4", moving_square(25))]
    frames = list(islice(FileSource("cam", paths, loop=True).frames(Clock().timing()), 160))
    assert [frame.index for frame in frames] == list(range(160))
    assert np.allclose(np.diff([frame.media_time_s for frame in frames]), 0.04, atol=0.001)
    assert len(list(FileSource("cam", paths).frames(Clock().timing()))) == 75
    with pytest.raises(SourceError, match="camera cam: none of 2 files could be played"):
        list(FileSource("cam", [text, text], loop=True).frames(Clock().timing()))


def test_a_late_decoder_shows_as_age(clip: Path) -> None:
    """When decoding takes half a second longer, the frame was still captured when its packet was due."""
    clock = Clock()
    frames = FileSource("cam", clip).frames(clock.timing())
    first = next(frames)
    clock.now += SECOND // 2
    second = next(frames)
    assert second.captured_ns - first.captured_ns <= 0.2 * SECOND
    assert second.age_ms(clock.now) > 300
    frames.close()


def test_a_lag_beyond_a_second_is_not_chased(clip: Path) -> None:
    """After a long stall the clock is set anew instead of rushing through the backlog with stale frames."""
    clock = Clock()
    frames = FileSource("cam", clip).frames(clock.timing())
    next(frames)
    clock.now += 10 * SECOND
    ages = [frame.age_ms(clock.now) for frame in islice(frames, 12)]
    assert min(ages) < 200
    frames.close()


def test_stopping_ends_the_camera_in_the_middle(clip: Path) -> None:
    """When the sleep says stop, no frame of the rest is decoded."""
    clock = Clock(stop_after=10)
    assert len(list(FileSource("cam", clip, loop=True).frames(clock.timing()))) < 15


def test_the_live_clock_is_monotonic() -> None:
    """The clock of a live run passes the sleep through and reads nanoseconds that grow."""
    timing = live_timing(lambda seconds: seconds > 1)
    assert timing.now_ns() < timing.now_ns()
    assert timing.sleep(2) is True


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no camera, and what must be said about each."""
    text = folder / "text.mp4"
    text.write_text("this is not a video\n" * 100)
    empty = folder / "empty.mp4"
    empty.touch()
    whole = write_clip(folder / "whole.mp4", moving_square(50)).read_bytes()
    cut = folder / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    sound = folder / "sound.wav"
    with wave.open(str(sound), "wb") as audio:
        audio.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        audio.writeframes(bytes(1600))
    return {
        "missing": (folder / "nowhere.mp4", "no such file"),
        "folder": (folder, "not a file"),
        "text": (text, "not a video that can be read"),
        "empty": (empty, "not a video that can be read"),
        "cut before its index": (cut, "not a video that can be read"),
        "sound": (sound, "has no video stream"),
    }


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "cut before its index", "sound"])
def test_what_is_no_video_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    """The line names the camera, the file and the reason."""
    path, reason = bad_files(tmp_path)[kind]
    with pytest.raises(SourceError, match=reason) as caught:
        list(FileSource("gate-3", path).frames(Clock().timing()))
    assert str(caught.value).startswith(f"camera gate-3: {path}: ")
    assert "\n" not in str(caught.value)


def test_a_damaged_stretch_is_survived(tmp_path: Path) -> None:
    """Garbage in the middle of a stream costs frames, not the camera."""
    path = write_clip(tmp_path / "clip.ts", moving_square(100), options={"g": "10", "preset": "ultrafast"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    frames = list(FileSource("cam", path).frames(Clock().timing()))
    assert 50 <= len(frames) <= 100
    assert frames[-1].media_time_s > 3.5


@pytest.mark.parametrize("size", [(321, 181), (33, 17), (2, 2)])
def test_odd_sizes_are_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    """A frame of odd sides keeps its coded size."""
    pictures = [np.full((size[1], size[0], 3), 80, np.uint8)] * 3
    path = write_clip(tmp_path / "odd.mkv", pictures, codec="ffv1", pix_fmt="yuv444p")
    frames = list(FileSource("cam", path).frames(Clock().timing()))
    assert frames[0].picture.size_px == size


def test_a_camera_that_is_always_late_can_be_stopped(clip: Path) -> None:
    """Decoding slower than real time, endlessly looped: it is asked to stop at every packet all the same."""
    clock, seen = Clock(stop_after=30), 0
    for _ in FileSource("cam", clip, loop=True).frames(clock.timing()):
        clock.now += SECOND // 5
        seen += 1
        assert seen < 60
    assert seen >= 20


def test_a_stream_without_times_is_counted(tmp_path: Path) -> None:
    """Raw H.264 says no times: its frames are paced at its rate and their media time grows."""
    path = write_clip(tmp_path / "raw.h264", moving_square(50))
    clock = Clock()
    frames = list(islice(FileSource("cam", path, loop=True).frames(clock.timing()), 120))
    assert (np.diff([frame.media_time_s for frame in frames]) > 0).all()
    assert sum(clock.slept) == pytest.approx(120 / 25, rel=0.1)


def test_a_loop_of_one_frame_is_paced(tmp_path: Path) -> None:
    """A file of a single frame is a slow camera, not a busy loop."""
    path = write_clip(tmp_path / "one.mp4", moving_square(1))
    clock = Clock()
    frames = list(islice(FileSource("cam", path, loop=True).frames(clock.timing()), 20))
    assert (np.diff([frame.media_time_s for frame in frames]) > 0).all()
    assert sum(clock.slept) > 0.5


def test_a_jump_of_the_cameras_clock_is_not_slept_through(tmp_path: Path) -> None:
    """Two recordings joined into one stream, an hour apart: the second one goes on at once."""
    path = tmp_path / "joined.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast", "tune": "zerolatency"}
        for index, picture in enumerate(moving_square(50)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index + (90_000 if index >= 25 else 0), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clock = Clock()
    assert len(list(FileSource("cam", path).frames(clock.timing()))) >= 49
    assert sum(clock.slept) < 15
