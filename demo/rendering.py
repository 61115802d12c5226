"""Rendering as a command: its options, and the clips with a progress bar."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

CLIPS = Path("demo/clips")


def render_options(parser: argparse.ArgumentParser) -> None:
    """What to render, and where."""
    parser.add_argument("--cameras", type=int, default=8, metavar="N", help="how many cameras (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=30, metavar="S", help="length of a clip (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another traffic (default %(default)s)")
    parser.add_argument("--out", type=Path, default=CLIPS, metavar="DIR", help="clips folder (default %(default)s)")
    parser.add_argument("--force", action="store_true", help="render again what is there already")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default %(default)s)")


def render(options: argparse.Namespace) -> dict[str, Any]:
    """Render what is not there yet; see `demo.clips.render_clips`."""
    from demo.clips import render_clips
    from demo.progress import bars

    with bars() as bar:
        task = bar.add_task("clips", total=1.0)
        report = render_clips(
            options.cameras,
            options.seconds,
            options.seed,
            options.out,
            force=options.force,
            workers=options.workers,
            progress=lambda name, share: bar.update(task, completed=share, description=f"clips: {name}"),
        )
        bar.update(task, completed=1.0, description=f"clips: {report['rendered']} rendered, {report['cached']} cached")
    return report
