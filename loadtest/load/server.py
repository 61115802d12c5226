"""The server under test: the one at `--host`, or an emulated card in a real Triton that the test starts itself."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from clients.data_sheet import GpuProfile, parse_profile, sheet
from clients.errors import ConfigError, FleetError, ServerUnavailable
from clients.types import Canvas, Tier
from export.spec import jpeg_name
from loadtest.emulator.repository import TOLD_SCALE, TOLD_SHEET
from loadtest.load.wanted import Wanted

ROOT = Path(__file__).resolve().parents[2]
LOG = Path("out/loadtest/triton.log")
_STOP_S = 20.0
_CONTROL_S = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is ready for the load. `profile` is None, and `scale` 1, where the server does not tell them."""

    address: str
    metrics: tuple[str, ...]
    canvas: Canvas
    profile: GpuProfile | None = None
    scale: float = 1.0
    emulated: bool = False


class Embedded:
    """`python -m loadtest emulator` as a child, which ends with us however we end."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Start it and wait until it is ready. Raises FleetError with its own words."""
        LOG.parent.mkdir(parents=True, exist_ok=True)
        card = ("gpu", "variant", "time_scale", "slower", "sag")
        told = {name: str(getattr(options, name)) for name in card if getattr(options, name)}
        command = [sys.executable, "-m", "loadtest", "emulator", "--stop-with-stdin", "--log", str(LOG.resolve())]
        command += [f"--{port}-port=0" for port in ("grpc", "http", "metrics", "gpu-metrics")]
        command += [f"--{name.replace('_', '-')}={value}" for name, value in told.items()]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; it ends when we close its standard input
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise FleetError(f"the emulated card cannot be started: {self._last_words()}")
        self.told: dict[str, Any] = json.loads(line)

    def stop(self) -> None:
        """End it; may be called again."""
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
            self._process.communicate(timeout=_STOP_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        _, said = self._process.communicate(timeout=_STOP_S)
        lines = [line for line in said.splitlines() if line.strip()]
        return lines[-1].removeprefix("loadtest: ") if lines else f"exit code {self._process.returncode}"


def address_of(host: str) -> str:
    """`localhost:8001`, `grpc://localhost:8001` or `http://localhost:8001/` -> host:port. Raises ConfigError."""
    address = host.rpartition("://")[2].rstrip("/")
    name, colon, port = address.rpartition(":")
    if not colon or not name or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"--host must be host:port of a Triton's gRPC, such as 127.0.0.1:8001, got {host!r}")
    return address


def metrics_urls(told: str, address: str) -> tuple[str, ...]:
    """What `--metrics-url` says, else Triton's own page on the port that it has by default."""
    urls = tuple(url.strip() for url in told.split(",") if url.strip())
    return urls or (f"http://{address.rpartition(':')[0]}:8002/metrics",)


def target_of(address: str, metrics: tuple[str, ...], wanted: Wanted, gpu: str, variant: str) -> Target:
    """Ask the server whether it is ready and has what the cameras want.

    Raises ServerUnavailable, ConfigError: nobody answers, a model is missing, or the data sheet that is named is.
    """
    client = InferenceServerClient(address)
    try:
        if not client.is_server_ready(client_timeout=_CONTROL_S):
            raise ServerUnavailable(f"{address}: the server is not ready")
        for tier in wanted.mix:
            model = tier.value if wanted.path == "ensemble" else jpeg_name(tier)
            if not client.is_model_ready(model, client_timeout=_CONTROL_S):
                raise ConfigError(f"{address}: the server has no model {model}, which --tier-mix and --path ask for")
        told = _parameters(client, next(iter(wanted.mix)))
    except InferenceServerException as error:
        raise ServerUnavailable(f"{address}: {' '.join(str(error.message()).split())}") from error
    finally:
        client.close()
    named = sheet(gpu, variant) if gpu else None
    canvas = Canvas.parse(told["canvas"]) if "canvas" in told else Canvas()
    if TOLD_SHEET in told:
        return Target(address, metrics, canvas, named or parse_profile(told[TOLD_SHEET]), float(told[TOLD_SCALE]), True)
    return Target(address, metrics, canvas, named)


def _parameters(client: InferenceServerClient, tier: Tier) -> dict[str, str]:
    """The ensemble's parameters; none where the server keeps configurations to itself."""
    try:
        config = client.get_model_config(tier.value, client_timeout=_CONTROL_S).config
    except InferenceServerException:
        return {}
    return {key: value.string_value for key, value in config.parameters.items()}
