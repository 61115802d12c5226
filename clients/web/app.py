"""The app: routes, errors and pages put together once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope

from clients.web import happenings, overview, pictures, problems, streams, wall
from clients.web.desk import Desk
from clients.web.guard import Guard
from clients.web.problems import Problem

STATIC = Path(__file__).parent / "static"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TEXT = (
    "Cameras that come and go, what is found in them, and who spends the inference budget. "
    "Errors are problem details (RFC 9457)."
)


class _Pages(StaticFiles):
    """Files of the page: kept by browsers, but asked after each time."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def build(desk: Desk) -> FastAPI:
    """The app of one desk. `app.state.cut` is set by whoever serves it."""
    web = desk.settings.web
    app = FastAPI(title="YOLO12 Triton Fleet", version="1", description=_TEXT, docs_url=None, redoc_url=None)
    app.state.desk = desk
    app.state.cut = lambda _: None
    problems.install(app)
    for module in (streams, pictures, happenings, overview, wall):
        app.include_router(module.router)
    app.mount("/static", _Pages(directory=STATIC), name="static")
    for path, name in (("/", "index.html"), ("/docs", "docs.html")):
        app.add_api_route(path, _page(STATIC / name), include_in_schema=False, response_class=FileResponse)
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


def _page(path: Path) -> Any:
    async def page() -> FileResponse:
        return FileResponse(path, headers={"Cache-Control": "no-cache"})

    return page


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
