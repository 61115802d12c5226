"""`python -m deploy.doctor`: what is wrong here, and what mends it.

Looks at driver, card, shared memory, disk, ports, configuration and cameras; and, unless it is the preflight, at Triton
and whether its engines fit. A table on stderr, one line of JSON on stdout. Exit code: 0 nothing red, 1 something is,
2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from clients.arguments import add_config
from clients.check import Seen, look_at
from clients.config import Settings, load_settings
from clients.errors import ConfigError, InferenceError
from clients.inference.access import access_to
from clients.inference.server import TritonLink
from clients.nvdec import nvdec_plan
from clients.sources.address import address_of
from clients.sources.placement import NvdecPlan, cpu_only
from clients.types import Tier, parse_tier
from deploy.doctor.card import CardFacts, judge_card, judge_memory, nvcuvid_problem, read_card
from deploy.doctor.engines import judge_engines
from deploy.doctor.findings import Finding, Level, ok, problem, report, show, worst
from deploy.doctor.host import is_container, judge_disks, judge_ports, judge_shared_memory, judge_toolkit
from deploy.doctor.site import (
    judge_cameras,
    judge_config,
    judge_decoding,
    judge_plan,
    judge_readiness,
    memory_need_mb,
    planned,
    sheet_of,
)

_PORTS = {"WEB_PORT": 8080, "PROMETHEUS_PORT": 9090, "GRAFANA_PORT": 3000}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code as above."""
    options = _parser().parse_args(arguments)
    findings = list(examine(options))
    show(findings, Console(stderr=True, width=None if sys.stderr.isatty() else 160))
    print(json.dumps(report(findings)), flush=True)
    return int(worst(findings) is Level.PROBLEM)


def examine(options: argparse.Namespace) -> Iterator[Finding]:
    """Everything, in the order in which it is mended: card, host, configuration, cameras, server."""
    inside = is_container()
    settings = _settings(options)
    card = None if options.no_gpu else read_card()
    if card is None:
        yield ok("gpu", "not looked at (--no-gpu)")
    else:
        needs = isinstance(settings, Settings) and any(
            (camera.decode or settings.sources.decode) == "cuda" for camera in settings.cameras
        )
        yield from judge_card(card, nvcuvid_problem(), needs_decoder=needs, is_container=inside)
    if not inside and not options.no_gpu:
        yield judge_toolkit()
    if not inside and options.preflight:
        yield from judge_ports(_ports(os.environ), os.environ.get("BIND", "127.0.0.1"))
    yield from judge_disks(options.disk or [Path()])
    if isinstance(settings, Finding):
        yield settings
        return
    if not (inside and options.preflight):  # the container of Triton brings its own
        yield judge_shared_memory(settings)
    if not options.no_cameras:
        yield from _site(settings, options, card if isinstance(card, CardFacts) else None)
    if not options.preflight:
        yield from _served(settings, options)


def _settings(options: argparse.Namespace) -> Settings | Finding:
    try:
        settings = load_settings(options.config, options.overrides)
        if not options.no_cameras:
            settings.streams(may_be_empty=True)
    except ConfigError as error:
        return problem("configuration", "; ".join(str(error).splitlines()), f"correct {options.config}")
    return settings


def _site(settings: Settings, options: argparse.Namespace, card: CardFacts | None) -> Iterator[Finding]:
    streams = settings.streams(may_be_empty=True)
    yield from judge_config(settings, streams, options.config, options.tiers)
    if not streams:
        return
    nvdec = _nvdec(settings, card)
    seen = look_at(streams, nvdec, settings.canvas, watch_s=options.watch)
    live = {spec.stream_id for spec in streams if address_of(spec).is_live}
    yield from judge_cameras(seen, live, is_before=options.preflight)
    yield judge_decoding(seen, nvdec)
    if card is not None:
        yield from _plan(settings, options, card, seen)


def _nvdec(settings: Settings, card: CardFacts | None) -> NvdecPlan:
    if card is None:
        return cpu_only()
    try:
        return nvdec_plan(settings)
    except ConfigError:  # a camera insists on a decoder that is not there: the video decoder's line says so
        return cpu_only()


def _plan(
    settings: Settings, options: argparse.Namespace, card: CardFacts, seen: Mapping[str, Seen]
) -> Iterator[Finding]:
    found = planned(settings, seen, options.gpu or sheet_of(card.name))
    if not isinstance(found, str) and (need := memory_need_mb(found, card.memory_mb)) is not None:
        yield judge_memory(card, *need, is_before=options.preflight)
    yield from judge_plan(found)


def _served(settings: Settings, options: argparse.Namespace) -> Iterator[Finding]:
    for url in settings.triton.addresses:
        ready = asyncio.run(_ready(settings, url))
        yield judge_readiness(ready, options.tiers or settings.tiers, url)
    if not settings.triton.addresses:
        yield ok("triton", "the fleet starts its own (triton.url is empty)")
    yield from judge_engines(settings, options.models)


async def _ready(settings: Settings, url: str) -> tuple[Tier, ...] | str:
    try:
        async with TritonLink(url, access=access_to(settings.triton)) as link:
            return await link.ready_tiers(settings.tiers)
    except (ConfigError, InferenceError) as error:
        return str(error)


def _ports(environment: Mapping[str, str]) -> dict[str, int]:
    """What docker-compose.yml publishes; a variable that is no port is Compose's to complain about."""
    given = {name: environment.get(name, "") for name in _PORTS}
    return {name: int(given[name]) if given[name].isdigit() else port for name, port in _PORTS.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.doctor", description=__doc__)
    add_config(parser)
    text = "before the start: a dead camera is a warning, ports must be free, Triton is not asked"
    parser.add_argument("--preflight", action="store_true", help=text)
    parser.add_argument("--no-gpu", action="store_true", help="there is none, and none is wanted")
    text = "leave the cameras alone: they cannot be reached from here, such as from Triton's container"
    parser.add_argument("--no-cameras", action="store_true", help=text)
    parser.add_argument("--tiers", type=_tiers, default=(), metavar="T,T", help="what is exported and served here")
    text = "data sheet for the plan, such as t4 (default: by the card's name)"
    parser.add_argument("--gpu", metavar="NAME", help=text)
    text = "seconds that each camera is watched for its bitrate (default %(default)s)"
    parser.add_argument("--watch", type=float, default=2.0, metavar="S", help=text)
    parser.add_argument(
        "--models", type=Path, metavar="DIR", help="folder of plans to compare with this card's TensorRT"
    )
    parser.add_argument("--disk", type=Path, action="append", metavar="DIR", help="look at the disk of this folder")
    return parser


def _tiers(text: str) -> tuple[Tier, ...]:
    try:
        return tuple(parse_tier(name) for name in text.replace(",", " ").split())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
