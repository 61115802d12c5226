"""`python -m demo`: run the demo, render its clips, train its small weights. The last line of stdout is JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.errors import FleetError

_CLIPS = Path("demo/clips")
_MOST_SECONDS, _HELD_OUT_SECONDS = 120, 8


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: its one line of help, its options, and what it does; it returns the JSON of the last line."""

    text: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. An error that the user can cause is one line on stderr."""
    commands = _commands()
    parser = argparse.ArgumentParser(prog="python -m demo", description="A rendered street with known truth.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        command.add_options(subparsers.add_parser(name, help=command.text, description=command.text))
    options = parser.parse_args(argv)
    try:
        report = commands[options.command].run(options)
    except (FleetError, ValueError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"demo: {error.filename or options.command}: {error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("demo: interrupted\n")
        return 130
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


def _commands() -> dict[str, Command]:
    return {
        "run": Command("render the cameras and run them through a real Triton", _run_options, _run),
        "render": Command("render the cameras' H.264 clips and their truth", _render_options, _render),
        "mot": Command("write the clips' truth in MOTChallenge's format", _mot_options, _mot),
        "tracking": Command("measure our tracker beside published ones", _tracking_options, _tracking),
        "difficulty": Command(
            "what a fixed detection interval costs on the busy cameras", _difficulty_options, _difficulty
        ),
        "evaluate": Command("measure the weights as served, and in PyTorch", _evaluate_options, _evaluate),
        "pages": Command("write the documentation's contact sheets and training curve", _pages_options, _pages),
        "train": Command("train the small yolo12n weights on pictures of other streets", _train_options, _train),
    }


def _render_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cameras", type=int, default=8, metavar="N", help="how many cameras (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=30, metavar="S", help="length of a clip (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another traffic (default %(default)s)")
    parser.add_argument("--out", type=Path, default=_CLIPS, metavar="DIR", help="clips folder (default %(default)s)")
    parser.add_argument("--force", action="store_true", help="render again what is there already")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default %(default)s)")


def _render(options: argparse.Namespace) -> dict[str, Any]:
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


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cameras", type=int, default=8, metavar="N", help="how many cameras (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=30, metavar="S", help="length of the run (default %(default)s)"
    )


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from demo.run import CLIP_S, check, run

    check(options.cameras, options.seconds)
    clips = argparse.Namespace(cameras=options.cameras, seconds=CLIP_S, seed=0, out=_CLIPS, force=False, workers=2)
    return run([Path(clip) for clip in _render(clips)["clips"]], options.seconds)


def _mot_options(parser: argparse.ArgumentParser) -> None:
    _render_options(parser)
    parser.add_argument(
        "--mot", type=Path, default=Path("demo/mot"), metavar="DIR", help="where the truth goes (default %(default)s)"
    )


def _mot(options: argparse.Namespace) -> dict[str, Any]:
    from demo.mot import write_mot
    from demo.truth import read_truth

    clips = [Path(clip) for clip in _render(options)["clips"]]
    return {
        "truth": [
            str(path) for path in write_mot([read_truth(clip.with_suffix(".json")) for clip in clips], options.mot)
        ]
    }


def _tracking_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cameras", type=int, default=8, metavar="N", help="how many cameras (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=20, metavar="S", help="of each clip (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another traffic (default %(default)s)")


def _tracking(options: argparse.Namespace) -> dict[str, Any]:
    from demo.clips import Job
    from demo.progress import bars
    from demo.run import CLIP_S
    from demo.tracking.benchmark import benchmark
    from demo.tracking.environments import require

    require()  # rendering takes minutes
    if not 1 <= options.seconds <= CLIP_S:
        raise ValueError(f"--seconds must be 1 to {CLIP_S}, the clips' length, got {options.seconds}")
    folder = _CLIPS if options.seed == 0 else _CLIPS / f"seed-{options.seed}"
    clips = argparse.Namespace(
        cameras=options.cameras, seconds=CLIP_S, seed=options.seed, out=folder, force=False, workers=2
    )
    _render(clips)
    jobs = [Job(index, options.seed, CLIP_S, folder) for index in range(options.cameras)]
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


def _difficulty_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=int, default=20, metavar="S", help="of each clip (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another traffic (default %(default)s)")
    parser.add_argument("--exact", action="store_true", help="take the truth for detections instead of the weights'")


def _difficulty(options: argparse.Namespace) -> dict[str, Any]:
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


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cameras", type=int, default=36, metavar="N", help="how many cameras (default %(default)s)")
    parser.add_argument("--pictures", type=int, default=432, metavar="N", help="of all clips (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another traffic (default %(default)s)")
    parser.add_argument("--models", type=Path, default=Path("demo/weights"), metavar="DIR", help="default %(default)s")
    parser.add_argument("--precision", default="auto", help="of the server: auto, f32 or bf16 (default %(default)s)")


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
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


def _pages_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("docs/images"), metavar="DIR", help="default %(default)s")
    parser.add_argument(
        "--curve",
        type=Path,
        default=Path("demo/weights/curve.json"),
        metavar="FILE",
        help="what the training wrote (default %(default)s)",
    )


def _pages(options: argparse.Namespace) -> dict[str, Any]:
    from demo.pages import write_curve, write_sheets

    sheets = [str(path) for path in write_sheets(options.out)]
    return {"sheets": sheets, "training": write_curve(options.curve, options.out / "training.svg")[-1]}


def _train_options(parser: argparse.ArgumentParser) -> None:
    from demo.plan import Plan

    plan = Plan()
    parser.add_argument("--epochs", type=int, default=plan.epochs, help="on square cuts (default %(default)s)")
    parser.add_argument(
        "--polish-epochs",
        type=int,
        default=plan.polish_epochs,
        help="then, on whole canvases (default %(default)s)",
    )
    parser.add_argument("--pictures", type=int, default=plan.pictures, help="square cuts (default %(default)s)")
    parser.add_argument("--imgsz", type=int, default=plan.imgsz, help="size of a cut's input, px (default %(default)s)")
    parser.add_argument("--seed", type=int, default=plan.seed, help="of pictures and weights (default %(default)s)")
    parser.add_argument("--device", default=plan.device, help="auto, cpu, or a GPU's number (default %(default)s)")
    parser.add_argument("--start", type=Path, default=None, metavar="FILE", help="go on from these weights")
    parser.add_argument("--resume", action="store_true", help="go on with the rounds that were interrupted")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="weights folder (default demo/weights)")


def _train(options: argparse.Namespace) -> dict[str, Any]:
    from demo.plan import Plan
    from demo.train import WEIGHTS, train

    plan = Plan(
        epochs=options.epochs,
        polish_epochs=options.polish_epochs,
        pictures=options.pictures,
        seed=options.seed,
        imgsz=options.imgsz,
        device=options.device,
        resume=options.resume,
        start=options.start,
    )
    return train(plan, weights=options.out or WEIGHTS)


if __name__ == "__main__":
    sys.exit(main())
