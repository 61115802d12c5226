"""`python -m clients`: run the cameras of a configuration, or check it."""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import logging
import sys
from pathlib import Path
from typing import Any

from clients.arguments import add_config, seconds
from clients.check import look_at
from clients.config import load_settings
from clients.errors import ConfigError, FleetError
from clients.fleet import run_fleet
from clients.logs import about, write_logs
from clients.nvdec import nvdec_plan
from clients.shards import Shard, parse_shard

OK, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
log = logging.getLogger("clients")


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 the run could not go on or inferred nothing, 2 the configuration or a file is unusable."""
    options = _parser().parse_args(arguments)
    write_logs("text")  # until the configuration is known
    try:
        return int(options.command(options))
    except ConfigError as error:
        for line in str(error).splitlines():
            log.error("%s", line)
        return UNUSABLE
    except (KeyboardInterrupt, asyncio.CancelledError):
        log.error("interrupted before the cameras were running")
        return INTERRUPTED
    except FleetError as error:
        log.error("%s", error)
        return FAILED


def _run(options: argparse.Namespace) -> int:
    load = functools.partial(load_settings, overrides=options.overrides)
    shard, settings = _shard(options), load(options.config)
    write_logs(settings.monitoring.log_format)
    running = run_fleet(
        settings, options.duration, file=options.config, watch=not options.no_watch, load=load, shard=shard
    )
    summary = asyncio.run(running)
    _tell(summary.as_json(), options.summary)
    if summary.inferences or (shard is not None and not summary.cameras):
        return OK
    log.error("nothing was inferred")
    return FAILED


def _cluster(options: argparse.Namespace) -> int:
    from clients.cluster.command import Asked, run_cluster

    load = functools.partial(load_settings, overrides=options.overrides)
    settings = load(options.config)
    write_logs(settings.monitoring.log_format)
    asked = Asked(options.address, options.gpu, options.duration, options.wait)
    summary = run_cluster(settings, asked, options.config, load, watch=not options.no_watch)
    _tell(summary, options.summary)
    if summary["inferences"]:
        return OK
    log.error("nothing was inferred")
    return FAILED


def _tell(summary: dict[str, Any], file: Path | None) -> None:
    """On the last line of stdout, and in a file where one is asked for."""
    line = json.dumps(summary)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(line + "\n", encoding="utf-8")
        except OSError as error:
            log.error("--summary %s cannot be written: %s", file, error.strerror)
    print(line, flush=True)


def _check(options: argparse.Namespace) -> int:
    shard = _shard(options)
    settings = load_settings(options.config, options.overrides).of_shard(shard)
    write_logs(settings.monitoring.log_format)
    streams = settings.streams(may_be_empty=shard is not None)
    cameras = look_at(streams, nvdec_plan(settings), settings.canvas)
    problems = [stream_id for stream_id, seen in cameras.items() if seen.problem is not None]
    for stream_id, seen in cameras.items():
        told = about("camera_checked", camera=stream_id)
        level = logging.ERROR if seen.problem else logging.INFO
        log.log(level, "camera %s: %s", stream_id, seen.problem or seen, extra=told)
    found = {"cameras": len(streams), "unreachable": problems, "tiers": settings.tiers}
    per_camera = {stream_id: seen.as_json() for stream_id, seen in cameras.items()}
    print(json.dumps({"config": str(options.config), "valid": True, **found, "per_camera": per_camera}))
    return FAILED if problems else OK


def _shard(options: argparse.Namespace) -> Shard | None:
    if options.shard is None:
        if options.shard_weights is not None:
            raise ConfigError("--shard-weights: needs --shard")
        return None
    return parse_shard(options.shard, options.shard_weights)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clients", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the cameras; the last line of stdout is the summary as JSON")
    run.set_defaults(command=_run)
    cluster = commands.add_parser("cluster", help="run the cameras on all nodes of a Ray cluster that have a card")
    text = "of the cluster: auto, or host:port of its head; without it Ray is started here, with one card"
    cluster.add_argument("--address", metavar="WHERE", help=text)
    text = "data sheet of nodes whose card Ray does not know (default %(default)s)"
    cluster.add_argument("--gpu", default="t4", metavar="NAME", help=text)
    text = "how long to wait for the first node with a card (default %(default)s)"
    cluster.add_argument("--wait", type=seconds, default=30.0, metavar="S", help=text)
    cluster.set_defaults(command=_cluster)
    for command in (run, cluster):
        command.add_argument("--duration", type=seconds, metavar="S", help="stop after S seconds; else at the end")
        command.add_argument("--summary", type=Path, metavar="FILE", help="write the summary to FILE too")
        text = "apply the file's cameras on SIGHUP only, not when it changes"
        command.add_argument("--no-watch", action="store_true", help=text)
    check = commands.add_parser("check", help="check a configuration and whether its cameras can be reached")
    check.set_defaults(command=_check)
    for command in (run, cluster, check):
        add_config(command)
    for command in (run, check):
        command.add_argument(
            "--shard", metavar="I/N", help="only the cameras of the fleet I, from 0, of N with one file"
        )
        command.add_argument(
            "--shard-weights", metavar="W,W", help="what share of the cameras each of the N fleets gets"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
