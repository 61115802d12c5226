"""What a request must satisfy before the app sees it, as plain ASGI: host, origin, token, size and type of the body.

A page of somebody else's in the user's browser can reach this port. So a browser's requests that change something, and
its WebSockets, which no CORS holds back, are taken from this server's own pages and `web.cors_origins` only; and on a
loopback address only loopback names are answered, so no foreign name can be pointed at it (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clients.web import problems
from clients.web.problems import Refused

MOST_BODY_BYTES = 256 * 1024
_BODY_WITHIN_S = 10.0
COOKIE = "fleet_session"
_OPEN = ("/healthz", "/readyz", "/v1/session")  # no token is asked for these, nor for the page itself
_CHANGES = ("POST", "PUT", "PATCH", "DELETE")
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Token:
    """The token that callers must send; a browser that has shown it once gets a cookie in its place."""

    def __init__(self, value: str) -> None:
        self._value = value.encode()

    @property
    def session(self) -> str:
        """What the cookie holds: made of the token, which cannot be read from it."""
        return hmac.new(self._value, b"session of the live wall", hashlib.sha256).hexdigest()

    def matches(self, text: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self._value)

    def is_shown(self, headers: Headers) -> bool:
        """Whether a request shows it, as a bearer token or by its cookie."""
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.matches(value.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self.session.encode())


class Guard:
    """ASGI middleware; refuses with problem details, and adds the security headers to every answer."""

    def __init__(
        self, app: ASGIApp, *, token: Token | None, origins: Sequence[str] = (), only_loopback: bool = False
    ) -> None:
        self._app = app
        self._token = token
        self._origins = {origin.rstrip("/").lower() for origin in origins}
        self._only_loopback = only_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
            if scope["type"] == "http" and scope["method"] in _CHANGES:
                body = await _body(receive)
                _check_text(body)
                receive = _given(body, receive)
            await self._app(scope, receive, _with_headers(send))
        except Refused as refused:
            answer = problems.response(refused.status, refused.detail, headers=refused.headers)
            if scope["type"] == "websocket":
                await _deny(bytes(answer.body), answer.status_code, _with_headers(send))
            else:
                await answer(scope, receive, _with_headers(send))

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._only_loopback and not _is_loopback(host):
            raise Refused(421, "this server listens on a loopback address and answers to its names only")
        origin = headers.get("origin")
        if origin is not None and (scope["type"] == "websocket" or scope["method"] in _CHANGES):
            self._check_origin(origin, host)
        if self._token is not None and _asks_token(scope["path"]) and not self._token.is_shown(headers):
            if scope["type"] == "http" and scope["method"] == "OPTIONS":
                return  # a browser's preflight cannot show it
            raise Refused(401, "a bearer token is needed", {"WWW-Authenticate": 'Bearer realm="fleet"'})
        if scope["type"] == "http" and scope["method"] in _CHANGES:
            _check_body(headers)

    def _check_origin(self, origin: str, host: str) -> None:
        if origin.lower() in self._origins or (host and urlsplit(origin).netloc.lower() == host.lower()):
            return
        raise Refused(403, "a page of another origin may not do this; web.cors_origins lists those that may")


def _asks_token(path: str) -> bool:
    return path not in _OPEN and (path.startswith("/v1/") or path in ("/metrics", "/openapi.json"))


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _check_body(headers: Headers) -> None:
    length = headers.get("content-length")
    has_body = "transfer-encoding" in headers or (length is not None and length != "0")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise Refused(415, "the body must be application/json", {"Accept": "application/json"})
    if length is not None and length.isdigit() and int(length) > MOST_BODY_BYTES:
        raise Refused(413, f"a body has at most {MOST_BODY_BYTES} bytes")


async def _body(receive: Receive) -> bytes:
    """The whole body, which must come in time and must not be too large."""
    taken = bytearray()
    try:
        async with asyncio.timeout(_BODY_WITHIN_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return bytes(taken)
                taken += message.get("body", b"")
                if len(taken) > MOST_BODY_BYTES:
                    raise Refused(413, f"a body has at most {MOST_BODY_BYTES} bytes")
                if not message.get("more_body", False):
                    return bytes(taken)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {_BODY_WITHIN_S:g} s") from None


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError:
        raise Refused(422, "the body is not JSON: it is not UTF-8") from None


def _given(body: bytes, receive: Receive) -> Receive:
    """The body at once, then whatever comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def take() -> Message:
        return messages.pop() if messages else await receive()

    return take


def _with_headers(send: Send) -> Send:
    async def put(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return put


async def _deny(body: bytes, status: int, send: Send) -> None:
    headers = [(b"content-type", problems.MEDIA_TYPE.encode())]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
