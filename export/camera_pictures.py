"""Calibration pictures from the cameras of a configuration: what INT8 is to serve is what its ranges are found on.

All cameras are asked at once. A file gives frames spread over its length, a live camera one every few seconds. A
camera that cannot be reached is named and left out.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.config import load_settings
from clients.errors import SourceError
from clients.sources.address import address_of
from clients.sources.file import live_timing
from clients.sources.live import LiveSource
from clients.types import Canvas, StreamSpec
from export.calibration import spread, video_canvases
from export.errors import ExportError

_APART_NS = 2_000_000_000  # of two pictures of a live camera: neighbours in time teach the ranges nothing new
Canvases = list[NDArray[np.uint8]]


def camera_canvases(config: Path, canvas: Canvas, count: int) -> Canvases:
    """At most `count` canvases, UINT8 [H * 3 / 2, W] each, the same share from every camera of `config`.

    Raises ConfigError: not a configuration, no camera; ExportError: no camera gave a picture.
    """
    streams = load_settings(config).streams()
    share = max(1, count // len(streams))
    with ThreadPoolExecutor(len(streams), "calibration") as pool:
        found = list(pool.map(lambda spec: _pictures(spec, canvas, share), streams))
    pictures = _in_turn(found)[:count]
    if not pictures:
        raise ExportError(f"calibration {config}: none of its {len(streams)} cameras gave a picture")
    return pictures


def _pictures(spec: StreamSpec, canvas: Canvas, share: int) -> Canvases:
    try:
        return _live(spec, canvas, share) if address_of(spec).is_live else _recorded(spec, canvas, share)
    except SourceError as error:
        sys.stderr.write(f"export: {error}; it is left out of the calibration\n")
        return []


def _recorded(spec: StreamSpec, canvas: Canvas, share: int) -> Canvases:
    address = address_of(spec)
    files = address.files()
    if not files:
        raise SourceError(f"camera {spec.stream_id}: {address}: no file has such a name")
    return spread((one for file in files for one in video_canvases(file, canvas)), share)[:share]


def _live(spec: StreamSpec, canvas: Canvas, share: int) -> Canvases:
    """The first picture, then one every `_APART_NS`; fewer when the connection ends."""
    source = LiveSource(spec.stream_id, address_of(spec), spec.live)
    kept: Canvases = []
    next_ns = 0
    with closing(source.frames(live_timing(threading.Event().wait))) as frames:
        for frame in frames:
            if frame.captured_ns < next_ns:
                continue
            next_ns = frame.captured_ns + _APART_NS
            kept.append(np.empty(canvas.nv12_shape, dtype=np.uint8))
            frame.picture.write_canvas(canvas, kept[-1])
            if len(kept) == share:
                break
    return kept


def _in_turn(by_camera: Sequence[Canvases]) -> Canvases:
    """One of each camera, then the next of each: a cut at the end takes from all alike."""

    def turns() -> Iterator[NDArray[np.uint8]]:
        for place in range(max(map(len, by_camera), default=0)):
            yield from (found[place] for found in by_camera if place < len(found))

    return list(turns())
