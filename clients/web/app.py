"""The app: routes, errors and pages put together once."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from clients.web import happenings, overview, pages, pictures, problems, streams, wall
from clients.web.desk import Desk
from clients.web.guard import Guard
from clients.web.problems import Problem

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TEXT = (
    "Cameras that come and go, what is found in them, and who spends the inference budget. "
    "Errors are problem details (RFC 9457)."
)


def build(desk: Desk) -> FastAPI:
    """The app of one desk. `app.state.cut` is set by whoever serves it."""
    web = desk.settings.web
    app = FastAPI(title="YOLO12 Triton Fleet", version="1", description=_TEXT, docs_url=None, redoc_url=None)
    app.state.desk = desk
    app.state.cut = lambda _: None
    problems.install(app)
    for module in (streams, pictures, happenings, overview, wall):
        app.include_router(module.router)
    app.include_router(pages.router())
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    if web.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=web.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
        )
    app.add_middleware(Guard, token=desk.token, origins=web.cors_origins, only_loopback=web.host in _LOOPBACK)
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own description, with our problems in place of its validation errors."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = Problem.model_json_schema()
        if app.state.desk.token is not None:
            schema["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"bearer": []}]
        app.openapi_schema = schema
    return app.openapi_schema
