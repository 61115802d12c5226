"""`python -m loadtest fuzz`: thousands of hostile requests against a running Triton, eight at a time.

Every request must end in time, with an answer or with an error of a kind; the server's process must be the same
afterwards; a good request in between must get what it always got; and the memory of all its processes must be back,
that is their own: pools that Triton shares with its Python backends are touched page by page, and end with their size.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2_grpc

from clients.errors import FleetError
from clients.types import Tier
from deploy.claim import scratch
from deploy.run_repository import assemble
from deploy.server import TritonServer
from loadtest.hostile import CANVAS, Hostile, Input, request_of, requests
from loadtest.resident import resident_of, tree_of

_MODELS = Path(__file__).resolve().parent.parent / "demo" / "weights"
_AT_ONCE = 8
_WARM_SHARE = 0.4  # of the requests: Triton's pools have grown to their largest by then, and never shrink
_ANSWER_S, _SETTLE_S = 30.0, 3.0
_MOST_KEPT_MB = 50.0  # after that share, in a tree of processes that has 800 MB: a leak of 10 kB a request shows
_TYPED = ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "ALREADY_EXISTS")
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(slots=True)
class Tally:
    """What came of the requests: by kind and outcome. `other` are errors that do not say whose fault it is."""

    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    unanswered: list[str] = field(default_factory=list)


def fuzz(options: argparse.Namespace) -> dict[str, Any]:
    """Run it; the report has `errors` for what was never answered. Raises FleetError and ValueError."""
    if options.inputs < _AT_ONCE:
        raise ValueError(f"--inputs: expected at least {_AT_ONCE}, got {options.inputs}")
    options.out.mkdir(parents=True, exist_ok=True)
    with scratch() as folder:
        path = assemble(folder / "repository", [Tier.N], models_dir=_MODELS).path
        with TritonServer(path, log=options.out / "triton.log") as server:
            return Fuzzer(server).run(options.inputs)


class Fuzzer:
    """Sends, counts and watches one server."""

    def __init__(self, server: TritonServer, settle_s: float = _SETTLE_S) -> None:
        """`settle_s`: how long memory may take to be given back before it is looked at."""
        self._server, self._pid = server, server.pid
        self._tally = Tally()
        self._sent = 0
        self._settle_s = settle_s

    def run(self, inputs: int) -> dict[str, Any]:
        """At least so many. Raises FleetError when the server died, hung, or answered a good request differently."""
        began_s = time.monotonic()
        with grpc.insecure_channel(self._server.grpc_url, _OPTIONS) as channel, ThreadPoolExecutor(_AT_ONCE) as pool:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            expected = _good_answers(stub)
            memory_mb = [self._settled_mb()]
            self._rounds(round(inputs * _WARM_SHARE), stub, pool, expected)
            memory_mb.append(self._settled_mb())
            self._rounds(inputs - self._sent, stub, pool, expected, seed=1)
            self._is_well(stub, expected)
            memory_mb.append(self._settled_mb())
        kept_mb = memory_mb[2] - memory_mb[1]
        tally = self._tally
        return {
            "inputs": self._sent,
            "seconds": round(time.monotonic() - began_s, 1),
            "outcomes": dict(tally.outcomes.most_common()),
            "kinds": dict(tally.kinds.most_common()),
            "untyped": dict(tally.other.most_common(20)),
            "unanswered": tally.unanswered[:20],
            "server_alive": self._server.is_running() and self._server.pid == self._pid,
            "memory_mb": [round(look, 1) for look in memory_mb],
            "memory_kept_mb": round(kept_mb, 1),
            "shared_mb": round(resident_of(tree_of(self._pid)).shared_mb, 1),
            "errors": len(tally.unanswered) + int(kept_mb > _MOST_KEPT_MB),
        }

    def _rounds(
        self, inputs: int, stub: Any, pool: ThreadPoolExecutor, expected: Sequence[bytes], seed: int = 0
    ) -> None:
        if inputs <= 0:
            return
        rounds = -(-inputs // _AT_ONCE)

        def one_round(together: list[Hostile]) -> None:
            outcomes = list(pool.map(lambda one: self._outcome(one, stub), together))
            for one, outcome in zip(together, outcomes, strict=True):
                self._count(one, outcome)
            self._sent += len(together)
            if not self._server.is_running():
                raise FleetError(f"the server has died of one of {together}")
            if self._sent % (50 * _AT_ONCE) == 0:
                self._is_well(stub, expected)
                memory = resident_of(tree_of(self._pid))
                sys.stderr.write(f"{self._sent} requests, {memory.own_mb:.0f} MB, {memory.shared_mb:.0f} MB shared\n")

        together = st.lists(requests(), min_size=_AT_ONCE, max_size=_AT_ONCE)
        limits = settings(
            max_examples=rounds,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        one_round.__qualname__ = f"one_round_{seed}"  # derandomized by name: another name, other requests
        limits(given(together)(one_round))()

    def _outcome(self, one: Hostile, stub: Any) -> str:
        if one.message is None:
            port = self._server.grpc_url if one.port == "grpc" else self._server.http_url.removeprefix("http://")
            return _poured(port, one.data)
        try:
            stub.ModelInfer(one.message, timeout=_ANSWER_S)
        except grpc.RpcError as error:
            name = str(error.code().name)
            if name not in _TYPED:
                self._tally.other[f"{name}: {one.kind}: {str(error.details())[:160]}"] += 1
            return name
        return "answered"

    def _count(self, one: Hostile, outcome: str) -> None:
        self._tally.outcomes[outcome] += 1
        self._tally.kinds[one.kind] += 1
        if outcome in ("DEADLINE_EXCEEDED", "silent"):
            self._tally.unanswered.append(repr(one)[:400])

    def _is_well(self, stub: Any, expected: Sequence[bytes]) -> None:
        if list(_good_answers(stub)) != list(expected):
            raise FleetError("a good request gets another answer than before the hostile ones")

    def _settled_mb(self) -> float:
        """The least of a few looks, so that what is being freed is not counted."""
        looks = []
        for _ in range(4):
            time.sleep(self._settle_s / 4)
            looks.append(resident_of(tree_of(self._pid)).own_mb)
        return min(looks)


def _good_answers(stub: Any) -> list[bytes]:
    """What an honest picture and an honest canvas get, as bytes."""
    chance = np.random.default_rng(0)
    picture = cv2.imencode(".jpg", chance.integers(0, 255, (360, 640, 3), dtype=np.uint8))[1].tobytes()
    frames = chance.integers(0, 255, CANVAS, dtype=np.uint8).tobytes()
    limits = Input("thresholds", "FP32", (1, 2), np.array([0.01, 0.7], np.float32).tobytes())
    geometry = Input("geometry", "FP32", (1, 4), np.array([1, 1, 0, 12], np.float32).tobytes())
    asked = [
        request_of("yolo12n_jpeg", [Input("image", "UINT8", (1, len(picture)), picture), limits]),
        request_of("yolo12n", [Input("frames", "UINT8", (1, *CANVAS), frames), geometry, limits]),
    ]
    return [b"".join(stub.ModelInfer(one, timeout=_ANSWER_S).raw_output_contents) for one in asked]


def _poured(address: str, data: bytes) -> str:
    """Send bytes, say that there are no more, and read until the other side ends; `silent` when it never does."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        except TimeoutError:
            return "silent"
        except OSError:
            return "hung up"
    return "closed"
