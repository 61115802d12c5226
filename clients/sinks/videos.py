"""Each camera in a video of its own, with boxes: its newest inferred frame, at the sink's own pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clients.errors import SinkError
from clients.sinks.losses import Losses
from clients.sinks.mosaic import VideoWriter, View, draw_camera

_LARGEST_PX = (1280, 720)


class VideosSink:
    """Writes `<folder>/<camera>.mp4` until the camera goes or `close`; each file can be played while it grows.

    `dropped` counts pictures that could not be written.
    """

    def __init__(self, views: Callable[[], Sequence[View]], folder: Path, fps: float) -> None:
        """`views` is asked for each picture. Raises SinkError when the folder cannot be created."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"sinks.videos: {folder} cannot be written: {error.strerror}") from error
        self._views, self._folder, self._fps = views, folder, fps
        self._losses = Losses("sinks.videos")
        self._writers: dict[str, _CameraVideo] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink-videos", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Pictures that could not be written."""
        return self._losses.count

    def close(self) -> None:
        """Finish the files."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number, started_s = 0, time.monotonic()
        while not self._stop.wait(max(0.0, started_s + number / self._fps - time.monotonic())):
            views = {view.stream_id: view for view in self._views()}
            for stream_id in [name for name in self._writers if name not in views]:
                self._guarded(self._writers.pop(stream_id).close)
            for view in views.values():
                self._guarded(self._draw, view, number)
            number = max(number + 1, int((time.monotonic() - started_s) * self._fps))  # a late picture is left out
        for writer in self._writers.values():
            self._guarded(writer.close)

    def _guarded(self, step: Callable[..., None], *arguments: object) -> None:
        try:
            step(*arguments)
        except Exception as error:  # a camera's video never ends those of the others
            self._losses.lost(str(error))

    def _draw(self, view: View, number: int) -> None:
        shown = view.shown()
        if shown is None:
            return
        frame, result = shown
        writer = self._writers.get(view.stream_id)
        if writer is None:
            path = self._folder / f"{view.stream_id}.mp4"
            writer = self._writers[view.stream_id] = _CameraVideo(path, frame.picture.size_px, self._fps, number)
        picture = np.zeros((writer.size_px[1], writer.size_px[0], 3), np.uint8)
        draw_camera(picture, frame, result, view.labels)
        writer.write(picture, number)


class _CameraVideo:
    """A video that keeps the size it has begun with; its clock begins with its first picture."""

    def __init__(self, path: Path, size_px: tuple[int, int], fps: float, first: int) -> None:
        scale = min(1.0, _LARGEST_PX[0] / size_px[0], _LARGEST_PX[1] / size_px[1])
        width, height = (max(2, round(side * scale) // 2 * 2) for side in size_px)
        self.size_px, self._first = (width, height), first
        self._writer = VideoWriter("sinks.videos", path, self.size_px, fps, is_live=True)

    def write(self, picture: np.typing.NDArray[np.uint8], number: int) -> None:
        self._writer.write(picture, number - self._first)

    def close(self) -> None:
        self._writer.close()
