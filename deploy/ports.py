"""The three ports of a server: those that the user chose, and free ones for the rest."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import LauncherError

_LOWEST = 10_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ATTEMPTS = 200
_BUSY = (errno.EADDRINUSE, errno.EACCES)  # the latter: below 1024, for the superuser only


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the server listens. `given` names those that the user chose; the others may be chosen again."""

    grpc: int
    http: int
    metrics: int
    given: frozenset[str]

    def items(self) -> tuple[tuple[str, int], ...]:
        """(name, port) of the three."""
        return (("grpc", self.grpc), ("http", self.http), ("metrics", self.metrics))


def choose(host: str, *, grpc: int | None, http: int | None, metrics: int | None) -> Ports:
    """The given ports, and free ones where None. Raises LauncherError: out of range, twice the same, host unusable."""
    asked = {"grpc": grpc, "http": http, "metrics": metrics}
    given = {name: port for name, port in asked.items() if port is not None}
    for name, port in given.items():
        if not 0 < port < 65536:
            raise LauncherError(f"the {name} port must lie in 1..65535, got {port}")
    if len(set(given.values())) < len(given):
        raise LauncherError(f"the ports must differ, got {', '.join(f'{name} {port}' for name, port in given.items())}")
    return _completed(host, given)


def choose_again(host: str, ports: Ports) -> Ports:
    """Other free ports in place of those that the user did not choose. Raises LauncherError."""
    return _completed(host, {name: port for name, port in ports.items() if name in ports.given})


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on `host:port` now. Raises LauncherError: `host` is not an address of this host."""
    with _translated(host), socket.socket() as probe:
        return _bind(probe, host, port)


def free_port(host: str) -> int:
    """A port on which nobody listens now. Raises LauncherError: `host` is not an address of this host."""
    with _translated(host):
        return _free(host, 1, set())[0]


def _completed(host: str, given: Mapping[str, int]) -> Ports:
    names = [name for name in ("grpc", "http", "metrics") if name not in given]
    with _translated(host):
        ports = {**given, **dict(zip(names, _free(host, len(names), set(given.values())), strict=True))}
    return Ports(ports["grpc"], ports["http"], ports["metrics"], frozenset(given))


def _free(host: str, count: int, others: set[int]) -> tuple[int, ...]:
    """`count` different ports on which nobody listens, none of `others`.

    They lie below the range from which the kernel takes the near end of outgoing connections: a client that keeps
    calling a restarting server would otherwise now and then be given the very port it calls, connect to itself and
    keep the server out.
    """
    ports: list[int] = []
    with ExitStack() as held:
        for _ in range(_ATTEMPTS):
            if len(ports) == count:
                return tuple(ports)
            candidate = random.randint(_LOWEST, _first_ephemeral() - 1)
            probe = held.enter_context(socket.socket())
            if candidate not in others and _bind(probe, host, candidate):
                ports.append(candidate)
    raise OSError(f"{_ATTEMPTS} ports tried, no {count} of them free")


def _first_ephemeral() -> int:
    try:
        first = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    return first if first > _LOWEST + 1000 else 65_536


def _bind(probe: socket.socket, host: str, port: int) -> bool:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: TIME_WAIT is no listener
    try:
        probe.bind((host, port))
        probe.listen(1)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


@contextmanager
def _translated(host: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LauncherError(f"{host}: a server cannot listen there: {error.strerror or error}") from error
