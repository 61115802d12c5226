"""Clips and their truth on disk: rendered by several processes, kept until their source or parameters change."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cv2
from numpy.typing import NDArray

from clients.errors import FleetError
from demo.city.cameras import View
from demo.render import Renderer
from demo.scenes import CLASSES, Purpose, Scene, camera_name, scene, view_of
from demo.truth import TrueObject, Truth, TruthError, read_truth
from demo.video import encode

MOST_CAMERAS, MOST_SECONDS = 500, 3600
_BYTES_PER_PIXEL_S = 0.7  # truth included, generously: 0.5 Mbit/s at 640x360 and 15 objects
_SOURCES = ("city", "scenes.py", "render.py", "truth.py", "video.py", "clips.py")  # of a folder: all its files


class RenderError(FleetError):
    """The clips cannot be written where they were asked for."""


@dataclass(frozen=True, slots=True)
class Job:
    """One clip to be: camera number `index`, from 0, of a seed, `seconds` long, below `folder`."""

    index: int
    seed: int
    seconds: int
    folder: Path

    @property
    def scene(self) -> Scene:
        """What it shows."""
        return scene(Purpose.CLIPS, self.seed, self.index)

    @property
    def view(self) -> View:
        """How it is seen and sent; far quicker to know than the scene."""
        return view_of(Purpose.CLIPS, self.seed, self.index)

    @property
    def clip(self) -> Path:
        """The video."""
        return self.folder / f"{camera_name(self.index)}.mp4"

    @property
    def truth(self) -> Path:
        """The truth beside it."""
        return self.clip.with_suffix(".json")

    @property
    def key(self) -> str:
        """Hash of the code that draws and of the parameters: what the clip depends on."""
        text = f"{source_hash()} {self.index} {self.seed} {self.seconds} {av.__version__} {cv2.__version__}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def is_rendered(self) -> bool:
        """Whether both files are there and stem from this very job."""
        if not self.clip.is_file():
            return False
        try:
            return read_truth(self.truth).key == self.key
        except TruthError:
            return False


def render_jobs(
    jobs: Sequence[Job], *, force: bool = False, workers: int = 2, progress: Callable[[str, float], None] | None = None
) -> list[Job]:
    """Make those clips that are not there, or all of them; returns which. Raises RenderError.

    Whoever comes while another process renders into the folder waits, and then finds most of them there.
    """
    folder = jobs[0].folder
    with _translated(folder), _alone(folder):
        todo = [job for job in jobs if force or not job.is_rendered()]
        _check_room(todo, folder)
        _render_all(todo, workers, progress or (lambda _name, _share: None))
    return todo


def render_clips(
    cameras: int,
    seconds: int,
    seed: int,
    folder: Path,
    *,
    force: bool = False,
    workers: int = 2,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """Make all clips; returns {"clips", "rendered", "cached", "frames", "seconds_spent"}; `frames` are those rendered.

    `progress` is told clips that are finished: their name and the share of the work, 0..1. Raises RenderError for
    a folder that cannot be written or has no room, ValueError for counts out of range.
    """
    _check("cameras", cameras, MOST_CAMERAS)
    _check("seconds", seconds, MOST_SECONDS)
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    started = time.monotonic()
    jobs = [Job(index, seed, seconds, folder) for index in range(cameras)]
    rendered = render_jobs(jobs, force=force, workers=workers, progress=progress)
    return {
        "clips": [str(job.clip) for job in jobs],
        "rendered": len(rendered),
        "cached": len(jobs) - len(rendered),
        "frames": sum(job.seconds * job.view.fps for job in rendered),
        "seconds_spent": round(time.monotonic() - started, 2),
    }


def render_clip(job: Job) -> Path:
    """Draw and write one clip and its truth; each appears under its name only when it is whole."""
    cv2.setNumThreads(1)
    shown = job.scene
    view = shown.view
    renderer = Renderer(shown)
    frames: list[tuple[TrueObject, ...]] = []

    def images() -> Iterator[NDArray[Any]]:
        for index in range(job.seconds * view.fps):
            rendered = renderer.render(index, view.fps)
            frames.append(rendered.objects)
            yield rendered.image

    clip, truth = (path.with_name(path.name + ".part") for path in (job.clip, job.truth))
    try:
        encode(clip, view, images())
        known = Truth(
            shown.name,
            view.width,
            view.height,
            view.fps,
            job.seed,
            CLASSES,
            job.key,
            frames,
            view.kind,
            view.density,
            view.conditions,
        )
        truth.write_bytes(known.to_json())
        job.truth.unlink(missing_ok=True)  # never an old truth beside a new clip
        clip.replace(job.clip)
        truth.replace(job.truth)
    finally:
        clip.unlink(missing_ok=True)
        truth.unlink(missing_ok=True)
    return job.clip


def _render_all(todo: list[Job], workers: int, progress: Callable[[str, float], None]) -> None:
    """Largest first, so that no process is left alone with the longest clip at the end."""
    cost = {job: job.view.width * job.view.height * job.view.fps for job in todo}
    total, done = sum(cost.values()), 0
    with ProcessPoolExecutor(max(1, min(workers, len(todo))), mp_context=get_context("spawn")) as pool:
        running: dict[Future[Path], Job] = {
            pool.submit(render_clip, job): job for job in sorted(todo, key=lambda j: -cost[j])
        }
        try:
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = running.pop(future)
                    future.result()
                    done += cost[job]
                    progress(job.clip.stem, done / total)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _check(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ValueError(f"{name} must be 1 to {most}, got {value}")


def _check_room(todo: list[Job], folder: Path) -> None:
    views = [job.view for job in todo]
    needed = sum(view.width * view.height * job.seconds for view, job in zip(views, todo, strict=True))
    needed = int(needed * _BYTES_PER_PIXEL_S)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RenderError(f"{folder}: {len(todo)} clips need up to {needed >> 20} MiB, only {free >> 20} MiB are free")


@contextlib.contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """Failures of the file system and of FFmpeg's muxer, in one line that names the folder."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise RenderError(f"{folder}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process that held it. Raises OSError: not a folder of ours."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def source_hash(*others: str) -> str:
    """Hash of the code that draws, and of other files of this folder."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in source_files(*others))).hexdigest()


def source_files(*others: str) -> list[Path]:
    """The files that `source_hash` covers."""
    here = Path(__file__).resolve().parent
    places = [here / name for name in (*_SOURCES, *others)]
    return [file for place in places for file in (sorted(place.glob("*.py")) if place.is_dir() else [place])]
