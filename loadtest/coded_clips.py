"""Fifty different H.264 cameras, each with its number in its pixels: streets of the demo at 640x360 and 25 fps.

Kept until the code that draws them or the parameters change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.errors import FleetError
from demo.clips import source_hash
from demo.render import Renderer
from demo.scenes import Purpose, Scene, scene
from demo.video import encode
from loadtest.emulator.camera_code import MOST, code_squares

WIDTH_PX, HEIGHT_PX, FPS = 640, 360, 25
_SEED = 50


def coded_clips(
    cameras: int, seconds: int, folder: Path, progress: Callable[[int, int], None], workers: int = 2
) -> list[Path]:
    """The clips of cameras 0 to `cameras` - 1; `progress` is told how many are done, and of how many.

    Raises FleetError when the folder cannot be written, ValueError for numbers out of range.
    """
    if not 1 <= cameras <= MOST + 1:
        raise ValueError(f"cameras must be 1 to {MOST + 1}, got {cameras}")
    if not 1 <= seconds <= 600:
        raise ValueError(f"the clips' length must be 1 to 600 s, got {seconds}")
    key = _key(seconds)
    paths = [folder / f"cam{number:03d}-{key}.mp4" for number in range(cameras)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        todo = [number for number, path in enumerate(paths) if not path.is_file()]
        progress(cameras - len(todo), cameras)
        with ProcessPoolExecutor(max(1, min(workers, len(todo))), mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(_write, number, seconds, paths[number]) for number in todo]
            for done, job in enumerate(as_completed(jobs), start=cameras - len(todo) + 1):
                job.result()
                progress(done, cameras)
    except OSError as error:
        raise FleetError(f"{folder}: cannot be written: {error.strerror or error}") from error
    for old in folder.glob("cam*.mp4"):
        if not old.stem.endswith(key):
            old.unlink(missing_ok=True)
    return paths


def _write(number: int, seconds: int, path: Path) -> None:
    """One clip, which appears under its name when it is whole."""
    cv2.setNumThreads(1)
    shown = coded_scene(number)
    partial = path.with_suffix(".part")
    try:
        encode(partial, shown.view, _pictures(shown, number, seconds))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def coded_scene(number: int) -> Scene:
    """The place of a camera, at the size, rate and codec that all have here; no picture waits for another."""
    base = scene(Purpose.CLIPS, _SEED, number)
    view = replace(base.view, width=WIDTH_PX, height=HEIGHT_PX, fps=FPS, codec="h264", colour="bt601", b_frames=0)
    return replace(base, view=view)


def _pictures(shown: Scene, number: int, seconds: int) -> Iterator[NDArray[np.uint8]]:
    renderer, squares = Renderer(shown), as_bgr(code_squares(number))
    for index in range(seconds * FPS):
        image = renderer.render(index, FPS).image
        image[: squares.shape[0], : squares.shape[1]] = squares
        yield image


def as_bgr(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey whose luma, limited range as all clips have it, is `luma`."""
    full = np.clip((luma.astype(np.float32) - 16) * 255 / 219, 0, 255).round().astype(np.uint8)
    return np.repeat(full[:, :, None], 3, axis=2)


def _key(seconds: int) -> str:
    own = Path(__file__).resolve()
    code = own.read_bytes() + (own.parent / "emulator" / "camera_code.py").read_bytes()
    return hashlib.sha256(code + f"{source_hash()} {seconds}".encode()).hexdigest()[:12]
