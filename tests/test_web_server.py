"""What a stranger can hold open is bounded in time: readers that take nothing, connections that ask nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI, Response

from clients.web.live import LiveResponse
from clients.web.serve import WebServer
from clients.web.viewers import Viewers

PART = b"x" * 65536


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[tuple[WebServer, socket.socket]]:
    """The real server with little patience, and a connection to it that has not asked yet."""
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server = WebServer(app, patient=False)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        await asyncio.get_running_loop().sock_connect(client, listener.getsockname())
        yield server, client
        server.should_exit = True
        await task


async def until_cut(server: WebServer) -> None:
    """Until no connection is left."""
    while server.server_state.connections:
        await asyncio.sleep(0.02)


@pytest.mark.anyio
async def test_a_reader_that_takes_nothing_is_cut() -> None:
    """Parts are made while he takes them, a few more fill the buffers between; then he is cut, his place is free."""
    app, viewers, made = FastAPI(), Viewers(most=1, patience_s=0.2), 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield PART

    @app.get("/live")
    async def live() -> Response:
        return LiveResponse(parts(), viewers, media_type="application/octet-stream")

    async with serving(app) as (server, client):
        await asyncio.get_running_loop().sock_sendall(client, b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not viewers.count:
            await asyncio.sleep(0.01)
        await until_cut(server)
        assert viewers.count == 0
        assert made * len(PART) < 16e6, "nothing queues for him but in the system's buffers"


@pytest.mark.anyio
async def test_a_connection_that_asks_nothing_is_cut() -> None:
    """Half a request line, and no more."""
    async with serving(FastAPI()) as (server, client):
        await asyncio.get_running_loop().sock_sendall(client, b"GET /hea")
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        await until_cut(server)


@pytest.mark.anyio
async def test_places_are_counted_and_end_with_the_server() -> None:
    """No more than there are; a pause ends at once when the server does, and no place is given then."""
    viewers = Viewers(most=2)
    with viewers.one(), viewers.one(), pytest.raises(Exception, match="all 2 places"), viewers.one():
        pass
    assert viewers.count == 0
    pausing = asyncio.create_task(viewers.pause(60))
    await asyncio.sleep(0)
    viewers.close()
    assert await pausing is False
    with pytest.raises(Exception, match="places"), viewers.one():
        pass
