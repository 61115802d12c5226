"""The commands that do harm, or wait long for it: `reliability`, `fuzz`, `soak`. What they need is imported late."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from clients.arguments import seconds


def add_harm(commands: Any) -> None:
    """The three subcommands."""
    text = "faults, injected one after the other into a running fleet; ends with 1 when a camera is lost"
    parser = commands.add_parser("reliability", help=text, description=text)
    parser.add_argument("--only", action="append", metavar="FAULT", help="one of them, may be repeated; all without it")
    _shared(parser, cameras=8, demand=10.0, out="reliability", run=_reliability)
    text = "hostile requests against a running Triton; ends with 1 when it dies, hangs, answers wrongly or keeps memory"
    parser = commands.add_parser("fuzz", help=text, description=text)
    parser.add_argument("--inputs", type=int, default=10_000, metavar="N", help="default %(default)s")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), metavar="DIR", help="default %(default)s")
    parser.set_defaults(command=_fuzz)
    text = "a fleet under load for a long time; ends with 1 when memory or open files grow, or a camera is lost"
    parser = commands.add_parser("soak", help=text, description=text)
    parser.add_argument("--seconds", type=seconds, default=1800.0, metavar="S", help="default %(default)s")
    _shared(parser, cameras=20, demand=8.0, out="soak", run=_soak)


def _shared(parser: argparse.ArgumentParser, *, cameras: int, demand: float, out: str, run: Any) -> None:
    parser.add_argument("--cameras", type=int, default=cameras, metavar="N", help="default %(default)s")
    parser.add_argument(
        "--demand", type=float, default=demand, metavar="FPS", help="inferences per camera (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("out") / out, metavar="DIR", help="default %(default)s")
    parser.set_defaults(command=run)


def _reliability(options: argparse.Namespace) -> dict[str, Any]:
    from loadtest.reliability import reliability

    return reliability(options)


def _fuzz(options: argparse.Namespace) -> dict[str, Any]:
    from loadtest.fuzz import fuzz  # hypothesis: a package of the tests

    return fuzz(options)


def _soak(options: argparse.Namespace) -> dict[str, Any]:
    from loadtest.soak import soak

    return soak(options)
