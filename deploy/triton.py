"""`python -m deploy.triton`: run a local Triton with the exported models until Ctrl-C.

Says on stderr which tiers run and which are missing; when the server is ready, one JSON line on stdout says where.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from clients.arguments import seconds
from clients.config import load_settings
from clients.errors import ConfigError, FleetError
from clients.types import Tier, parse_tier
from deploy.claim import scratch
from deploy.errors import ServerExited
from deploy.run_repository import MODEL_FILES, PRECISIONS, Assembled, RuntimeName, assemble, export_command
from deploy.server import ENVIRONMENT, TritonServer

__all__ = ["TritonServer", "main"]

_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to serve and how; None keeps the default of `assemble` or `TritonServer`."""

    tiers: tuple[Tier, ...] = tuple(Tier)
    runtime: RuntimeName = "openvino"
    models: Path | None = None
    max_batch: int | None = None
    dynamic_batching: bool = True
    precision: str | None = None
    threads: int | None = None
    ready_timeout_s: float = 60
    log: Path | None = None


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 stopped by the user, 1 the server could not start or has died, 2 unusable settings."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _serve(options)
    except KeyboardInterrupt:
        return 0
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _serve(options: argparse.Namespace) -> None:
    wanted = _wanted(options)
    with scratch() as folder:
        assembled = assemble(
            folder,
            wanted.tiers,
            runtime=wanted.runtime,
            models_dir=wanted.models,
            max_batch=wanted.max_batch,
            dynamic_batching=wanted.dynamic_batching,
            precision=wanted.precision,
            threads=wanted.threads,
        )
        _tell_tiers(assembled, wanted.runtime)
        with TritonServer(
            assembled.path,
            environment=options.environment,
            grpc_port=options.grpc_port,
            http_port=options.http_port,
            metrics_port=options.metrics_port,
            ready_timeout_s=wanted.ready_timeout_s,
            log=wanted.log or _to_stderr,
        ) as server:
            _tell_ready(server, assembled)
            while not server.wait(_LOOK_S):
                pass
            raise ServerExited(f"Triton ended by itself with code {server.exit_code}; its log says why")


def _tell_tiers(assembled: Assembled, runtime: RuntimeName) -> None:
    print(f"running: {', '.join(assembled.present)}", file=sys.stderr)
    for tier in assembled.missing:
        print(f"missing: {tier} is not exported; run `{export_command(tier, runtime)}`", file=sys.stderr)
    for warning in assembled.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _tell_ready(server: TritonServer, assembled: Assembled) -> None:
    told = {
        "grpc": server.grpc_url,
        "http": server.http_url,
        "metrics": server.metrics_url,
        "pid": server.pid,
        "tiers": assembled.present,
        "missing": assembled.missing,
    }
    print(json.dumps(told), flush=True)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _wanted(options: argparse.Namespace) -> _Wanted:
    """The configuration's choices, those of the command line before them."""
    wanted = _Wanted() if options.config is None else _configured(options.config)
    names = ("tiers", "runtime", "models", "precision", "threads", "ready_timeout_s", "log")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return replace(wanted, **given)


def _configured(file: Path) -> _Wanted:
    settings = load_settings(file)
    return _Wanted(
        tiers=settings.tiers,
        runtime=settings.triton.runtime,
        models=settings.triton.models,
        max_batch=settings.system.max_batch_size,
        dynamic_batching=settings.optimization.enable_dynamic_batching,
        precision=settings.triton.precision,
        ready_timeout_s=settings.triton.ready_timeout_s,
        log=settings.triton.log,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.triton", description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="take tiers, runtime and models from this file")
    parser.add_argument("--tiers", type=_tiers, metavar="T,T", help=f"of {', '.join(Tier)}; default all")
    parser.add_argument("--runtime", choices=tuple(MODEL_FILES), help="default openvino")
    parser.add_argument("--models", type=Path, metavar="DIR", help="exported models; default the model repository")
    parser.add_argument("--precision", choices=PRECISIONS, help="arithmetic of openvino; default as committed")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads per model; 0 is all cores")
    parser.add_argument("--grpc-port", type=_port, default=8001, metavar="PORT", help="default 8001")
    parser.add_argument("--http-port", type=_port, default=8000, metavar="PORT", help="default 8000")
    parser.add_argument("--metrics-port", type=_port, default=8002, metavar="PORT", help="default 8002")
    parser.add_argument("--ready-timeout", dest="ready_timeout_s", type=seconds, metavar="S", help="default 60")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append Triton's log here; default stderr")
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT, metavar="DIR", help="where the wheel is")
    return parser


def _tiers(text: str) -> tuple[Tier, ...]:
    try:
        return tuple(parse_tier(name) for name in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _port(text: str) -> int:
    if not (text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"expected a port in 1..65535, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
