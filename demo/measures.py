"""The commands that measure: accuracy, difficulty, tracking, stand-ins; and what is written for others to measure."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.rendering import CLIPS, render, render_options

if TYPE_CHECKING:
    from demo.clips import Job

_MOST_SECONDS, _HELD_OUT_SECONDS = 120, 12


def mot_options(parser: argparse.ArgumentParser) -> None:
    """How the truth is written."""
    render_options(parser)
    parser.add_argument(
        "--mot", type=Path, default=Path("demo/mot"), metavar="DIR", help="where the truth goes (default %(default)s)"
    )


def mot(options: argparse.Namespace) -> dict[str, Any]:
    """Write the clips' truth as MOTChallenge has it."""
    from demo.mot import write_mot
    from demo.truth import read_truth

    clips = [Path(clip) for clip in render(options)["clips"]]
    return {
        "truth": [
            str(path) for path in write_mot([read_truth(clip.with_suffix(".json")) for clip in clips], options.mot)
        ]
    }


def tracking_options(parser: argparse.ArgumentParser) -> None:
    """Which clips, and how much of them."""
    parser.add_argument("--cameras", type=int, default=8, metavar="N", help="how many cameras (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=20, metavar="S", help="of each clip (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another traffic (default %(default)s)")


def tracking(options: argparse.Namespace) -> dict[str, Any]:
    """Our tracker beside published ones; a table on stderr."""
    from demo.progress import bars
    from demo.tracking.benchmark import benchmark
    from demo.tracking.environments import require

    require()  # rendering takes minutes
    jobs = _rendered(options)
    with bars() as bar:
        task = bar.add_task("tracking", total=1.0)
        report = benchmark(
            jobs,
            options.seconds,
            Path("demo/runs/tracking"),
            lambda text, share: bar.update(task, completed=share, description=f"tracking: {text}"),
        )
        bar.update(task, completed=1.0, description="tracking: done")
    sys.stderr.write(report.table() + "\n")
    return report.as_json()


def difficulty_options(parser: argparse.ArgumentParser) -> None:
    """How much of the busy cameras."""
    parser.add_argument("--seconds", type=int, default=20, metavar="S", help="of each clip (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another traffic (default %(default)s)")
    parser.add_argument("--exact", action="store_true", help="take the truth for detections instead of the weights'")


def difficulty(options: argparse.Namespace) -> dict[str, Any]:
    """See demo/difficulty.py."""
    from demo.city.cameras import BASE_VIEWS
    from demo.clips import Job, render_jobs
    from demo.detections import look
    from demo.difficulty import difficulty
    from demo.progress import bars
    from demo.truth import read_truth

    if not 1 <= options.seconds <= _MOST_SECONDS:
        raise ValueError(f"--seconds must be 1 to {_MOST_SECONDS}, got {options.seconds}")
    folder = Path("demo/runs/difficulty")
    numbers = [number for number, view in enumerate(BASE_VIEWS) if view.density == "busy"]
    jobs = [Job(number, options.seed, options.seconds, folder) for number in numbers]
    with bars() as bar:
        task = bar.add_task("difficulty", total=1.0)

        def show(name: str, share: float) -> None:
            bar.update(task, completed=share, description=f"difficulty: {name}")

        render_jobs(jobs, progress=lambda name, share: show(name, 0.5 * share))
        seen = None
        if not options.exact:
            seen = look(jobs, options.seconds, folder, lambda done, of: show("detections", 0.5 + 0.5 * done / of))
        return difficulty([read_truth(job.truth) for job in jobs], seen, options.seconds)


def stand_ins(options: argparse.Namespace) -> dict[str, Any]:
    """The scores of the n weights on three canvas sizes."""
    from demo.difficulty import numbered, score_frames
    from demo.progress import bars
    from demo.stand_ins import look_with_all
    from demo.truth import read_truth

    jobs = _rendered(options)
    with bars() as bar:
        task = bar.add_task("stand-ins", total=1.0)
        seen = look_with_all(
            jobs,
            options.seconds,
            Path("demo/runs/stand-ins"),
            lambda name, done, of: bar.update(task, completed=done, total=of, description=f"stand-ins: {name}"),
        )
    truths = [read_truth(job.truth) for job in jobs]
    frames = [truth.frames[: options.seconds * truth.fps] for truth in truths]
    objects = [one for some in frames for one in some]
    return {
        name: score_frames(objects, numbered([found for truth in truths for found in cameras[truth.camera].frames], 0))
        for name, cameras in seen.items()
    }


def evaluate_options(parser: argparse.ArgumentParser) -> None:
    """Which cameras, which models."""
    parser.add_argument("--cameras", type=int, default=18, metavar="N", help="how many cameras (default %(default)s)")
    parser.add_argument("--pictures", type=int, default=432, metavar="N", help="of all clips (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another traffic (default %(default)s)")
    parser.add_argument("--models", type=Path, default=Path("demo/weights"), metavar="DIR", help="default %(default)s")
    parser.add_argument("--precision", default="auto", help="of the server: auto, f32 or bf16 (default %(default)s)")


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """See demo/evaluate.py."""
    from demo.clips import MOST_CAMERAS, Job, render_jobs
    from demo.progress import bars

    if not 1 <= options.cameras <= MOST_CAMERAS or options.pictures < options.cameras:
        raise ValueError(
            f"expected 1 to {MOST_CAMERAS} cameras and at least one picture of each, "
            f"got {options.cameras} and {options.pictures}"
        )
    folder = Path(f"demo/runs/evaluate-{options.seed}-{options.cameras}")
    jobs = [Job(number, options.seed, _HELD_OUT_SECONDS, folder) for number in range(options.cameras)]
    with bars() as bar:
        task = bar.add_task("evaluate", total=1.0)

        def show(name: str, share: float) -> None:
            bar.update(task, completed=share, description=f"evaluate: {name}")

        render_jobs(jobs, progress=lambda name, share: show(name, 0.5 * share))
        from demo.evaluate import evaluate  # torch, ultralytics, pycocotools: seconds to import

        return evaluate(
            jobs, options.pictures, options.models, options.precision, lambda done, of: show("pictures", done / of)
        )


def pages_options(parser: argparse.ArgumentParser) -> None:
    """Where the pictures go."""
    parser.add_argument("--out", type=Path, default=Path("docs/images"), metavar="DIR", help="default %(default)s")
    parser.add_argument(
        "--curve",
        type=Path,
        default=Path("demo/weights/curve.json"),
        metavar="FILE",
        help="what the training wrote (default %(default)s)",
    )


def pages(options: argparse.Namespace) -> dict[str, Any]:
    """Contact sheets and the training's curve."""
    from demo.pages import write_curve, write_sheets

    sheets = [str(path) for path in write_sheets(options.out)]
    return {"sheets": sheets, "training": write_curve(options.curve, options.out / "training.svg")[-1]}


def _rendered(options: argparse.Namespace) -> list[Job]:
    """The clips of --cameras and --seed, rendered where they are not there. Raises ValueError for --seconds."""
    from demo.clips import Job
    from demo.run import CLIP_S

    if not 1 <= options.seconds <= CLIP_S:
        raise ValueError(f"--seconds must be 1 to {CLIP_S}, the clips' length, got {options.seconds}")
    folder = CLIPS if options.seed == 0 else CLIPS / f"seed-{options.seed}"
    clips = argparse.Namespace(
        cameras=options.cameras, seconds=CLIP_S, seed=options.seed, out=folder, force=False, workers=2
    )
    render(clips)
    return [Job(index, options.seed, CLIP_S, folder) for index in range(options.cameras)]
