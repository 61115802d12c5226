"""Loopback ports: free ones, and whether a given one is still free."""

from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack
from pathlib import Path

_LOWEST = 10_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ATTEMPTS = 200
_BUSY = (errno.EADDRINUSE, errno.EACCES)  # the latter: below 1024, for the superuser only


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on `host:port` now. Raises OSError when `host` is not an address of this host."""
    with socket.socket() as probe:
        return _bind(probe, host, port)


def free_ports(host: str, count: int) -> tuple[int, ...]:
    """`count` different ports on which nobody listens.

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
            if _bind(probe, host, candidate):
                ports.append(candidate)
    raise OSError(f"no {count} free ports")


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
