"""The clips' truth in MOTChallenge's format, which every tool that measures trackers reads.

`<camera>/gt/gt.txt` holds a line per object and frame: frame (from 1), id, left, top, width, height in source pixels,
whether it counts (1, or 0: the truth ignores it), class (from 1), visibility. `<camera>/seqinfo.ini` names the rest.
Source: Milan et al., MOT16: A Benchmark for Multi-Object Tracking, 2016, tables 4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from demo.truth import Truth


def write_mot(truths: Sequence[Truth], folder: Path) -> list[Path]:
    """Write every clip's truth below `folder`; returns the gt.txt files. Raises OSError."""
    return [_write(truth, folder / truth.camera) for truth in truths]


def lines(truth: Truth) -> Iterator[str]:
    """The lines of gt.txt, in order of the frames."""
    for number, objects in enumerate(truth.frames, start=1):
        for entry in objects:
            x1, y1, x2, y2 = entry.xyxy
            box = f"{x1:.1f},{y1:.1f},{x2 - x1:.1f},{y2 - y1:.1f}"
            flag = int(not entry.ignore)
            yield f"{number},{entry.object_id},{box},{flag},{entry.class_id + 1},{entry.visibility:.2f}"


def _write(truth: Truth, folder: Path) -> Path:
    target = folder / "gt" / "gt.txt"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{line}\n" for line in lines(truth)), encoding="ascii")
    info = {
        "name": truth.camera,
        "imDir": "img1",
        "frameRate": truth.fps,
        "seqLength": len(truth.frames),
        "imWidth": truth.width,
        "imHeight": truth.height,
        "imExt": ".jpg",
    }
    text = "[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in info.items())
    (folder / "seqinfo.ini").write_text(text, encoding="ascii")
    return target
