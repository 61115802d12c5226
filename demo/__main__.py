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
from demo import measures
from demo.rendering import CLIPS, render, render_options


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
        "render": Command("render the cameras' H.264 clips and their truth", render_options, render),
        "mot": Command("write the clips' truth in MOTChallenge's format", measures.mot_options, measures.mot),
        "tracking": Command("measure our tracker beside published ones", measures.tracking_options, measures.tracking),
        "difficulty": Command(
            "what a fixed detection interval costs on the busy cameras",
            measures.difficulty_options,
            measures.difficulty,
        ),
        "evaluate": Command(
            "measure the weights as served, and in PyTorch", measures.evaluate_options, measures.evaluate
        ),
        "screenshots": Command("take the pictures of the live wall for the documentation", _run_options, _screenshots),
        "pages": Command(
            "write the documentation's contact sheets and training curve", measures.pages_options, measures.pages
        ),
        "stand-ins": Command(
            "let the n weights on three canvas sizes look at the clips", measures.tracking_options, measures.stand_ins
        ),
        "train": Command("train the small yolo12n weights on pictures of other streets", _train_options, _train),
    }


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cameras", type=int, default=8, metavar="N", help="how many cameras (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=30, metavar="S", help="length of the run (default %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, metavar="P", help="of the live wall (default 8080, or any that is free if that is taken)"
    )


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from demo.run import CLIP_S, check, run

    check(options.cameras, options.seconds, options.port)
    clips = argparse.Namespace(cameras=options.cameras, seconds=CLIP_S, seed=0, out=CLIPS, force=False, workers=2)
    return run([Path(clip) for clip in render(clips)["clips"]], options.seconds, options.port)


def _screenshots(options: argparse.Namespace) -> dict[str, Any]:
    from demo.run import CLIP_S
    from demo.screenshots import take

    clips = argparse.Namespace(cameras=options.cameras, seconds=CLIP_S, seed=0, out=CLIPS, force=False, workers=2)
    return take([Path(clip) for clip in render(clips)["clips"]], options.seconds)


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
    parser.add_argument(
        "--freeze", type=int, default=plan.freeze, metavar="N", help="first layers that stay as they are"
    )
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
        freeze=options.freeze,
    )
    return train(plan, weights=options.out or WEIGHTS)


if __name__ == "__main__":
    sys.exit(main())
