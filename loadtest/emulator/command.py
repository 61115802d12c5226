"""`python -m loadtest emulator`: a real Triton whose engines are an emulated card's, and the card's exporter."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clients.data_sheet import CENTRAL, sheet
from clients.types import Tier, parse_tier
from deploy.claim import scratch
from deploy.errors import ServerExited
from deploy.server import TritonServer
from loadtest.emulator.card_clock import Card
from loadtest.emulator.exporter import CardCollector, served_card
from loadtest.emulator.repository import Emulation, assemble_emulated, card_of, models_of

HOST = "127.0.0.1"
_LOOK_S = 0.2


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Serve until Ctrl-C or SIGTERM; what the card has done. One JSON line on stdout says when and where it is ready.

    Raises ConfigError, LauncherError; ServerExited when Triton ends by itself.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    how = Emulation(options.time_scale, options.slower, options.sag == "thermal")
    profile = sheet(options.gpu, options.variant)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch()) / "emulated"
        assemble_emulated(folder, profile, options.tiers, how, jpeg=True)
        card = Card(card_of(folder))
        stack.callback(card.close)
        collector = CardCollector(card, profile, options.tiers, options.decode_mpixels)
        gpu_metrics = stack.enter_context(served_card(collector, HOST, options.gpu_metrics_port))
        server = TritonServer(
            models_of(folder),
            host=HOST,
            grpc_port=options.grpc_port or None,
            http_port=options.http_port or None,
            metrics_port=options.metrics_port or None,
            log=options.log or _to_stderr,
        )
        try:
            stack.enter_context(server)
            told = _where(server, profile.gpu, how, options.tiers) | {
                "gpu_metrics": gpu_metrics,
                "card": str(card_of(folder)),
            }
            print(json.dumps(told), flush=True)
            _serve(server, _stdin_closed() if options.stop_with_stdin else threading.Event())
        except KeyboardInterrupt:
            pass
        state = card.read()
        mean_batch = round(state.inferences / state.batches, 2) if state.batches else None
        return {
            "kind": "emulated",
            "gpu": profile.gpu,
            "inferences": state.inferences,
            "batches": state.batches,
            "mean_batch": mean_batch,
            "busy_s": round(state.busy_ns / 1e9, 3),
        }


def add_emulator(commands: Any) -> None:
    """The subcommand."""
    text = "run a real Triton whose engines take an emulated card's time, and the card's exporter, until Ctrl-C"
    parser = commands.add_parser("emulator", help=text, description=text)
    parser.add_argument("--gpu", default="t4", metavar="NAME", help="data sheet of the card (default %(default)s)")
    parser.add_argument("--variant", default=CENTRAL, metavar="V", help="of the data sheet (default %(default)s)")
    parser.add_argument(
        "--tiers", type=_tiers, default=tuple(Tier), metavar="T,T", help=f"of {', '.join(Tier)}; default all"
    )
    parser.add_argument(
        "--time-scale", type=float, default=10.0, metavar="X", help="a card X times slower, and it says so (default 10)"
    )
    parser.add_argument(
        "--slower", type=float, default=1.0, metavar="X", help="a card X times slower that says nothing (default 1)"
    )
    parser.add_argument(
        "--sag", choices=("none", "thermal"), default="none", help="thermal: the clock falls while the card works"
    )
    text = "million pixels a second that its decoders are taken to decode (default 0)"
    parser.add_argument("--decode-mpixels", type=_not_negative, default=0.0, metavar="N", help=text)
    for name, port in (("grpc", 8001), ("http", 8000), ("metrics", 8002), ("gpu-metrics", 9401)):
        parser.add_argument(
            f"--{name}-port", type=_port, default=port, metavar="PORT", help="default %(default)s; 0 is a free one"
        )
    parser.add_argument("--log", type=Path, metavar="FILE", help="append Triton's log here; default stderr")
    parser.add_argument(
        "--stop-with-stdin", action="store_true", help="end when standard input is closed, as with who started it"
    )
    parser.set_defaults(command=run)


def _where(server: TritonServer, gpu: str, how: Emulation, tiers: tuple[Tier, ...]) -> dict[str, Any]:
    return {
        "grpc": server.grpc_url,
        "http": server.http_url,
        "metrics": server.metrics_url,
        "pid": server.pid,
        "kind": "emulated",
        "gpu": gpu,
        "time_scale": how.time_scale,
        "slower": how.slower,
        "tiers": tiers,
    }


def _serve(server: TritonServer, stopped: threading.Event) -> None:
    while not stopped.is_set():
        if server.wait(_LOOK_S):
            raise ServerExited(f"Triton ended by itself with code {server.exit_code}; its log says why")


def _stdin_closed() -> threading.Event:
    """Set when nobody holds the other end of standard input any more."""
    closed = threading.Event()

    def read() -> None:
        while sys.stdin.buffer.readline():
            pass
        closed.set()

    threading.Thread(target=read, name="stdin", daemon=True).start()
    return closed


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _tiers(text: str) -> tuple[Tier, ...]:
    try:
        return tuple(dict.fromkeys(parse_tier(name) for name in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def _port(text: str) -> int:
    if not (text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"expected a port in 0..65535, got {text!r}")
    return int(text)
