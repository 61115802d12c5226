"""The page's files, read once: a fleet under load has no thread to spare for each of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from clients.web.problems import Refused

STATIC = Path(__file__).parent / "static"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    kind: str
    tag: str


def router() -> APIRouter:
    """`/`, `/docs` and the files that they name, by their exact names: no path is ever made of what is asked for."""
    files = {path.name: _file(path) for path in sorted(STATIC.iterdir())}
    pages = APIRouter(include_in_schema=False)

    def answer(request: Request, name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise Refused(404, "Not Found")
        headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.kind, headers=headers)

    @pages.get("/")
    async def wall(request: Request) -> Response:
        return answer(request, "index.html")

    @pages.get("/docs")
    async def docs(request: Request) -> Response:
        return answer(request, "docs.html")

    @pages.get("/static/{name}")
    async def static(request: Request, name: str) -> Response:
        return answer(request, name)

    return pages


def _file(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, _KINDS[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"')
