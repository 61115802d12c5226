"""`python -m loadtest`: load the fleet. The last line of stdout is JSON."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.arguments import seconds
from clients.errors import FleetError
from loadtest.bench.command import add_bench
from loadtest.cluster import add_cluster
from loadtest.emulator.command import add_emulator
from loadtest.event_delay import add_events
from loadtest.fidelity import add_fidelity
from loadtest.harm_command import add_harm
from loadtest.load.sweep import add_sweep
from loadtest.opponents.command import add_opponents
from loadtest.plan import add_plan
from loadtest.pool import add_pool
from loadtest.savings_command import add_savings
from loadtest.scaling_command import add_scaling
from loadtest.server_profile import add_profile
from loadtest.simulate import add_simulate
from loadtest.tuning import add_tuning


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 it cannot be done, or answers were wrong, 2 what `plan` was asked makes no sense.

    An error is one line on stderr.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr, force=True)
    try:
        report = options.command(options)
    except (FleetError, ValueError) as error:
        sys.stderr.write(f"loadtest: {error}\n")
        return int(getattr(options, "failure", 1))
    sys.stdout.write(json.dumps(report) + "\n")
    return int(bool(report.get("cross_talk") or report.get("errors")))


def _fifty(options: argparse.Namespace) -> dict[str, Any]:
    from demo.progress import bars
    from loadtest.coded_clips import coded_clips
    from loadtest.fifty import CLIP_S, PROFILES, Fifty, run
    from loadtest.profile import read_profile

    asked = Fifty(
        options.cameras,
        options.seconds,
        options.demand,
        options.gate,
        options.time_scale,
        options.transport,
        options.out,
    )
    profile = read_profile(PROFILES / f"{options.gpu}.json")
    with bars() as bar:
        task = bar.add_task("clips", total=None)
        folder = asked.out / "clips"
        clips = coded_clips(asked.cameras, CLIP_S, folder, lambda done, of: bar.update(task, completed=done, total=of))
    return run(asked, clips, profile)


def _decode(options: argparse.Namespace) -> dict[str, Any]:
    from loadtest.decoding import measure

    return measure(options.clips)


def _client(options: argparse.Namespace) -> dict[str, Any]:
    from demo.progress import bars
    from loadtest.client_cost import ClientCost, measure
    from loadtest.fifty import PROFILES
    from loadtest.profile import read_profile

    asked = ClientCost(options.cameras, options.seconds, options.demand, options.rounds, options.transport, options.out)
    profile = read_profile(PROFILES / f"{options.gpu}.json")
    with bars() as bar:
        task = bar.add_task("client", total=1.0)
        return measure(asked, profile, lambda name, done: bar.update(task, completed=done, description=name))


def _neighbours(options: argparse.Namespace) -> dict[str, Any]:
    from loadtest.neighbours import KINDS, Neighbours, measure

    asked = Neighbours(options.clip, options.cameras, options.seconds, options.demand, options.rounds)
    return measure(asked, options.beside or KINDS)


def _wall(options: argparse.Namespace) -> dict[str, Any]:
    from loadtest.fifty import PROFILES
    from loadtest.profile import read_profile
    from loadtest.wall import Asked, measure

    asked = Asked(tuple(options.clips), options.tiles, options.seconds, options.cycles, real=options.real)
    return measure(asked, read_profile(PROFILES / "t4.json"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description="Load the fleet, or a card that is emulated."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = (
        "fifty H.264 cameras, really decoded, against a real Triton whose engines only wait; ends with 1 on any error"
    )
    fifty = commands.add_parser("fifty", help=text, description=text)
    fifty.add_argument("--cameras", type=int, default=50, metavar="N", help="default %(default)s")
    fifty.add_argument("--seconds", type=seconds, default=60.0, metavar="S", help="default %(default)s")
    fifty.add_argument(
        "--demand", type=float, default=8.0, metavar="FPS", help="inferences per camera (default %(default)s)"
    )
    fifty.add_argument("--gate", action="store_true", help="skip similar frames; without it, all that are due are sent")
    fifty.add_argument("--gpu", default="t4", metavar="NAME", help="loadtest/gpus/NAME.json (default %(default)s)")
    fifty.add_argument("--time-scale", type=float, default=1.0, metavar="X", help="a card X times slower (default 1)")
    fifty.add_argument("--transport", default="auto", choices=("auto", "shm", "grpc"), help="default %(default)s")
    fifty.add_argument("--out", type=Path, default=Path("out/fifty"), metavar="DIR", help="default %(default)s")
    fifty.set_defaults(command=_fifty)
    text = "CPU of decoding, with every picture and without those that no other one needs"
    decode = commands.add_parser("decode", help=text, description=text)
    decode.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    decode.set_defaults(command=_decode)
    text = "CPU of the client beside decoding, per inference, for several numbers of cameras; pictures come uncoded"
    client = commands.add_parser("client", help=text, description=text)
    client.add_argument("--cameras", type=int, nargs="+", default=[10, 50, 100], metavar="N", help="default 10 50 100")
    client.add_argument("--seconds", type=seconds, default=15.0, metavar="S", help="of each run (default %(default)s)")
    client.add_argument(
        "--demand", type=float, default=4.0, metavar="FPS", help="inferences per camera (default %(default)s)"
    )
    client.add_argument("--rounds", type=int, default=2, metavar="N", help="of all runs (default %(default)s)")
    client.add_argument("--gpu", default="t4", metavar="NAME", help="loadtest/gpus/NAME.json (default %(default)s)")
    client.add_argument("--transport", default="auto", choices=("auto", "shm", "grpc"), help="default %(default)s")
    client.add_argument("--out", type=Path, default=Path("out/client-cost"), metavar="DIR", help="default %(default)s")
    client.set_defaults(command=_client)
    text = "what one bad camera of each kind costs the good ones: their rate, the age of their results, CPU"
    neighbours = commands.add_parser("neighbours", help=text, description=text)
    neighbours.add_argument("clip", type=Path, metavar="CLIP", help="what the good cameras show, looped")
    neighbours.add_argument("--cameras", type=int, default=8, metavar="N", help="good cameras (default %(default)s)")
    neighbours.add_argument(
        "--seconds", type=seconds, default=8.0, metavar="S", help="of each run (default %(default)s)"
    )
    neighbours.add_argument(
        "--demand", type=float, default=10.0, metavar="FPS", help="inferences per camera (default %(default)s)"
    )
    neighbours.add_argument("--rounds", type=int, default=2, metavar="N", help="of all runs (default %(default)s)")
    neighbours.add_argument("--beside", action="append", metavar="KIND", help="a kind of camera; all without it")
    neighbours.set_defaults(command=_neighbours)
    text = "the live wall in a headless Chromium: what a viewer costs, long tasks, memory; cameras that come and go"
    wall = commands.add_parser("wall", help=text, description=text)
    wall.add_argument("clips", type=Path, nargs="+", metavar="CLIP", help="what the cameras show, in turn, looped")
    wall.add_argument("--tiles", type=int, default=50, metavar="N", help="default %(default)s")
    wall.add_argument(
        "--seconds", type=float, default=300.0, metavar="S", help="watched; 0 is not (default %(default)s)"
    )
    wall.add_argument("--cycles", type=int, default=0, metavar="N", help="cameras added and removed (default 0)")
    wall.add_argument("--real", action="store_true", help="the demo's weights on this processor, not an emulated card")
    wall.set_defaults(command=_wall)
    add_events(commands)
    add_emulator(commands)
    add_sweep(commands)
    add_harm(commands)
    add_simulate(commands)
    add_savings(commands)
    add_fidelity(commands)
    add_tuning(commands)
    add_plan(commands)
    add_scaling(commands)
    add_pool(commands)
    add_cluster(commands)
    add_profile(commands)
    add_opponents(commands)
    add_bench(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
