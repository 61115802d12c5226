"""`python -m deploy.triton`: run a Triton with the exported models until Ctrl-C.

Says on stderr which tiers run and which are missing; when the server is ready, one JSON line on stdout says where.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clients.arguments import add_config, seconds
from clients.config import load_settings
from clients.errors import ConfigError, FleetError
from clients.secret import Secrets
from clients.types import Tier, parse_tier
from deploy.access import ServerAccess, made_admin_key
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
    wanted, access = _wanted(options), _access(options)
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
            installed=options.installed,
            listen=options.listen,
            grpc_port=options.grpc_port,
            http_port=options.http_port,
            metrics_port=options.metrics_port,
            ready_timeout_s=wanted.ready_timeout_s,
            access=access,
            extra_args=tuple(_server_arguments(options)),
            log=wanted.log or _to_stderr,
        ) as server:
            _tell_ready(server, assembled)
            while not server.wait(_LOOK_S):
                pass
            raise ServerExited(f"Triton ended by itself with code {server.exit_code}; its log says why")


def _server_arguments(options: argparse.Namespace) -> Iterator[str]:
    if options.client_shm:
        yield "--allow-client-shm=true"
    if options.pool_mb is not None:
        size = options.pool_mb << 20
        yield from (f"--pinned-memory-pool-byte-size={size}", f"--cuda-memory-pool-byte-size=0:{size}")


def _access(options: argparse.Namespace) -> ServerAccess:
    name = options.admin_key_env
    key = None if name is None else made_admin_key(name, Secrets(os.environ), os.environ)
    return ServerAccess(key, options.tls_cert, options.tls_key)


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
    if options.config is None and options.overrides:
        raise ConfigError("--set changes a configuration; name it with --config")
    wanted = _Wanted() if options.config is None else _configured(options.config, options.overrides)
    names = ("tiers", "runtime", "models", "precision", "threads", "ready_timeout_s", "log")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return replace(wanted, **given)


def _configured(file: Path, overrides: Sequence[str]) -> _Wanted:
    settings = load_settings(file, overrides)
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
    add_config(parser, required=False)
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
    _add_guarded(parser)
    return parser


def _add_guarded(parser: argparse.ArgumentParser) -> None:
    """What a Triton needs that others than this machine's user can reach."""
    text = "a Triton of the system in place of the wheel's, such as /opt/tritonserver"
    parser.add_argument("--installed", type=Path, metavar="DIR", help=text)
    text = "address of gRPC and metrics, 0.0.0.0 for all; HTTP stays on the loopback"
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help=f"{text} (default %(default)s)")
    text = "restrict what only the fleet needs to who has this secret; where NAME_FILE is not there yet, it is made"
    parser.add_argument("--admin-key-env", metavar="NAME", help=text)
    parser.add_argument("--tls-cert", type=_file, metavar="PEM", help="speak TLS on gRPC with this certificate")
    parser.add_argument("--tls-key", type=_file, metavar="PEM", help="the certificate's private key")
    text = "let clients name shared memory; Triton asks for it from 26.04 on"
    parser.add_argument("--client-shm", action="store_true", help=text)
    text = "memory pools, pinned and on the GPU, MiB each; default Triton's own"
    parser.add_argument("--pool-mb", type=_positive, metavar="N", help=text)


def _tiers(text: str) -> tuple[Tier, ...]:
    try:
        return tuple(parse_tier(name) for name in text.replace(",", " ").split())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _file(text: str) -> Path | None:
    """A path; empty is none, so that a variable that is not set switches nothing on."""
    return Path(text) if text else None


def _positive(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not (text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"expected a port in 1..65535, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
