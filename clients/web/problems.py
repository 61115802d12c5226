"""Every error of the API as problem details (RFC 9457): one shape, one media type, one line that says what to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from clients.errors import (
    ConfigError,
    FleetError,
    FleetStopped,
    NoRoom,
    NotSaved,
    SourceError,
    StreamExists,
    TooManyStreams,
    UnknownStream,
)

MEDIA_TYPE = "application/problem+json"
_STATUS: Mapping[type[FleetError], int] = {
    ConfigError: 422,
    StreamExists: 409,
    TooManyStreams: 409,
    NoRoom: 409,
    UnknownStream: 404,
    FleetStopped: 503,
    SourceError: 500,
    NotSaved: 500,
}
log = logging.getLogger(__name__)


class Problem(BaseModel):
    """Problem details."""

    type: str = Field("about:blank", description="What kind of problem this is; a name that stays.")
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong this time, in one line.")
    errors: list[str] = Field([], description="All complaints, where there are several.")


class Refused(Exception):
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def response(
    status: int, detail: str, *, kind: str = "about:blank", errors: list[str] | None = None, headers: Any = None
) -> JSONResponse:
    """A problem as a response."""
    problem = Problem(
        type=kind, title=HTTPStatus(status).phrase, status=status, detail=detail.strip(), errors=errors or []
    )
    return JSONResponse(problem.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses for OpenAPI, each a problem."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content, "model": None} for status in statuses
    }


def install(app: FastAPI) -> None:
    """Have the app answer every error so."""
    app.add_exception_handler(FleetError, _fleet)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)


async def _fleet(_: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    lines = str(error).splitlines() or [type(error).__name__]
    headers = {"Retry-After": "2"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return response(status, lines[0], kind=f"urn:fleet:{_name(error)}", errors=lines, headers=headers)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return response(error.status, error.detail, headers=error.headers)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # Starlette names those of the first route of this path only
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return response(error.status_code, str(error.detail), headers=headers)


def _methods(request: Request) -> set[str]:
    """What the path of a request allows."""
    allowed: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            allowed |= getattr(route, "methods", None) or set()
    return allowed


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    lines = [_complaint(detail) for detail in error.errors()]
    return response(422, lines[0], kind="urn:fleet:invalid-request", errors=lines)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed unexpectedly: %s", request.method, request.url.path, type(error).__name__, exc_info=error)
    return response(500, "failed unexpectedly; the log says more")


def _complaint(detail: Any) -> str:
    """Where and what; never the value, which may be a password."""
    if detail["type"] == "json_invalid":
        return f"the body is not JSON: {detail['ctx']['error']}"
    where = ".".join(str(part) for part in detail["loc"] if part != "body")
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{where or 'the body'}: {message[:1].lower()}{message[1:]}"


def _name(error: Exception) -> str:
    """`StreamExists` -> `stream-exists`."""
    text = type(error).__name__
    return "".join(f"-{letter.lower()}" if letter.isupper() and i else letter.lower() for i, letter in enumerate(text))
