"""Clips that need no decoding: the pictures of another clip as they are. What is left to measure is the client."""

from __future__ import annotations

from pathlib import Path

import av

from clients.errors import FleetError


def raw_clip(clip: Path, path: Path) -> Path:
    """Write the pictures of a clip, rawvideo YUV 4:2:0 in NUT, to `path` where it is not there yet; returns it.

    Raises FleetError when either file cannot be used.
    """
    if path.is_file():
        return path
    partial = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(clip, partial)
        partial.replace(path)
    except (OSError, av.FFmpegError) as error:
        raise FleetError(f"{path}: cannot be written from {clip}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _write(clip: Path, path: Path) -> None:
    with av.open(str(clip)) as source, av.open(str(path), "w", format="nut") as target:
        played = source.streams.video[0]
        stream = target.add_stream("rawvideo", rate=played.average_rate)
        stream.width, stream.height, stream.pix_fmt = played.width, played.height, "yuv420p"
        for frame in source.decode(played):
            target.mux(stream.encode(frame.reformat(format="yuv420p")))
        target.mux(stream.encode(None))
