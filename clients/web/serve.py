"""The web server: uvicorn in the fleet's own event loop, without signal handlers of its own.

It listens before the fleet starts, so that `/healthz` and `/readyz` tell the truth while models load. What a stranger
can hold open is bounded: connections in all, the time until a request has come, viewers, and a slow reader's patience.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from clients.config import Web
from clients.errors import ConfigError
from clients.roster import Roster
from clients.secret import Secrets
from clients.serving import ended
from clients.web.app import build
from clients.web.desk import Desk
from clients.web.guard import Token
from clients.web.telemetry import Telemetry

MOST_CONNECTIONS = 256
REQUEST_WITHIN_S = 10.0
_LEAVE_S = 2
log = logging.getLogger(__name__)


class _Patient(H11Protocol):
    """Cuts a connection that brings no request in time, and those beyond `MOST_CONNECTIONS`."""

    within_s = REQUEST_WITHIN_S

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self.loop.call_later(self.within_s, self._look_whether_it_asks)

    def _look_whether_it_asks(self) -> None:
        if self in self.connections and self.cycle is None:  # a WebSocket has another protocol by now
            self.transport.abort()


class _Impatient(_Patient):
    within_s = 0.2  # for tests


class WebServer(uvicorn.Server):
    """Serves one app on a socket until `should_exit` is set."""

    def __init__(
        self, app: FastAPI, *, patient: bool = True, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                http=_Patient if patient else _Impatient,
                ws="websockets-sansio",
                ws_max_size=64 * 1024,
                ws_per_message_deflate=False,  # JPEGs do not shrink
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=_LEAVE_S,
            )
        )
        app.state.cut = self.cut

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: they are the run's."""
        yield

    def cut(self, client: tuple[str, int] | None) -> None:
        """End a connection whose reader takes nothing, without waiting for it."""
        for connection in list(self.server_state.connections):
            if getattr(connection, "client", None) == client and connection.transport is not None:
                connection.transport.abort()


@contextlib.asynccontextmanager
async def serving(roster: Roster) -> AsyncIterator[None]:
    """Serve the API and the wall while open. Raises ConfigError: the port cannot be had, the token is missing."""
    web = roster.base.web
    token = token_of(web)
    listener = _listen(web)
    desk = Desk(roster, token)
    app = build(desk)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is worth a line, the app says itself
    server = WebServer(app, certificate=web.tls_cert, key=web.tls_key)
    _load_tls(server.config, listener)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="web")
    numbers = asyncio.create_task(_numbers(desk), name="telemetry")
    log.info("the live wall: %s", address(web.host, listener, "http" if web.tls_cert is None else "https"))
    try:
        yield
    finally:
        await ended(numbers, "the wall's numbers")
        desk.viewers.close()
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        listener.close()
        desk.previews.close()


def token_of(web: Web) -> Token | None:
    """The token that `web.token_env` names. Raises ConfigError when the variable is not set."""
    if web.token_env is None:
        if not _is_loopback(web.host):
            log.warning("web: whoever reaches %s can change cameras; web.token_env asks for a token", web.host)
        return None
    try:
        value = Secrets(os.environ).get(web.token_env, "")
    except ValueError as error:
        raise ConfigError(f"web.token_env: {error}") from None
    if not value:
        raise ConfigError(f"web.token_env: the environment variable {web.token_env} is not set, or empty")
    return Token(value)


def _load_tls(config: uvicorn.Config, listener: socket.socket) -> None:
    """Read the certificate before anything is served. Raises ConfigError."""
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one: not PEM, a key that does not belong to it
        listener.close()
        told = f"{config.ssl_certfile} and {config.ssl_keyfile} cannot be used: {error.strerror or error}"
        raise ConfigError(f"web.tls_cert: {told}") from None


def address(host: str, listener: socket.socket, scheme: str = "http") -> str:
    """Where to point a browser."""
    port = listener.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{shown}:{port}/"


async def _numbers(desk: Desk) -> None:
    """Begin to look when the fleet runs."""
    await desk.roster.attached.wait()
    desk.telemetry = Telemetry(desk.fleet, desk.roster)
    await desk.telemetry.run()


def _listen(web: Web) -> socket.socket:
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((web.host, web.port))
        listener.listen(MOST_CONNECTIONS)  # from here on who comes waits, and is not refused
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise ConfigError(f"web.port: {web.host}:{web.port} cannot be used: {reason}") from error
    listener.setblocking(False)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
