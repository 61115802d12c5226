"""The whole fleet: its numbers, whether one more camera fits, whether it is well, and what Prometheus reads."""

from __future__ import annotations

import os
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from clients.capacity.demand import Host, parse_source
from clients.capacity.of_settings import demand_of
from clients.capacity.plan import plan as project
from clients.config import Camera, parse_camera
from clients.data_sheet import sheet
from clients.types import Tier
from clients.web.desk import Desk, TheDesk
from clients.web.guard import COOKIE, Token
from clients.web.problems import Refused, documented

router = APIRouter(responses=documented(401, 403, 421, 503))


class Plan(BaseModel):
    """Whether one more camera would fit now."""

    fits: bool = Field(description="Whether it would be accepted.")
    rate_scale: float = Field(description="0..1: the share of its rate that all cameras could keep.")
    reason: str = Field(description="Why not, or why not at its full rate; empty where nothing is wrong.")
    cameras: int
    max_streams: int
    budget_ms_per_s: float | None = Field(description="GPU-milliseconds a second that may be spent, if governed.")
    spent_ms_per_s: float = Field(description="What is spent now.")
    projected: dict[str, Any] | None = Field(
        None, description="With `gpu`: all cameras and this one on such a card, as `python -m loadtest plan` says it."
    )


class Health(BaseModel):
    """Whether it is well."""

    status: str


class Login(BaseModel):
    """A browser shows the token once."""

    token: str = Field(max_length=4096, repr=False)


@router.get("/v1/stats", tags=["fleet"])
async def stats(desk: TheDesk) -> dict[str, Any]:
    """The summary of the run so far, as `python -m clients run` prints it at its end, and the last look (`now`)."""
    wall = {"viewers": desk.viewers.count, "previews_made": desk.previews.made}
    return desk.fleet.stats().as_json() | {"wall": wall, "now": desk.numbers.now}


@router.get("/v1/plan", tags=["fleet"], responses=documented(422))
async def plan(
    desk: TheDesk,
    max_fps: Annotated[float | None, Query(gt=0, le=240, allow_inf_nan=False)] = None,
    min_fps: Annotated[float, Query(ge=0, le=240, allow_inf_nan=False)] = 0,
    model: Annotated[Tier | None, Query(description="Its tier; the fleet's default.")] = None,
    gpu: Annotated[
        str | None, Query(pattern="^[a-z0-9]{1,16}$", description="Project onto this card too: t4, l4.")
    ] = None,
    source: Annotated[
        str, Query(max_length=64, description="What cameras send, for `gpu`.", examples=["1280x720@25/h265"])
    ] = "1920x1080@25/h264",
) -> Plan:
    """Would one more camera fit, and why not? Nothing is changed."""
    one_more = parse_camera("one-more", "one-more.mp4", {"max_fps": max_fps, "min_fps": min_fps, "model": model})
    verdict = desk.fleet.would_fit(desk.settings.stream(one_more))
    cameras, most = len(list(desk.roster)), desk.settings.system.max_streams
    is_full = cameras >= most
    budget = desk.numbers.now["budget"]
    return Plan(
        fits=verdict.accepted and not is_full,
        rate_scale=0.0 if is_full else verdict.rate_scale,
        reason=f"there are system.max_streams ({most}) cameras already" if is_full else verdict.reason,
        cameras=cameras,
        max_streams=most,
        budget_ms_per_s=budget["ms_per_s"],
        spent_ms_per_s=budget["spent_ms_per_s"],
        projected=None if gpu is None else await run_in_threadpool(_projected, desk, one_more, gpu, source),
    )


def _projected(desk: Desk, one_more: Camera, gpu: str, source: str) -> dict[str, Any]:
    """Raises ConfigError: no data sheet of such a card, a source of another form, a number missing in the sheet."""
    settings = desk.roster.settings()
    system = settings.system.model_copy(update={"max_streams": settings.system.max_streams + 1})
    cameras = (*settings.cameras, one_more)
    demand = demand_of(settings.model_copy(update={"cameras": cameras, "system": system}), parse_source(source), {})
    return project(demand, sheet(gpu), Host(cores=os.cpu_count() or 1)).as_json()


@router.get("/healthz", tags=["health"])
async def healthz() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/readyz", tags=["health"])
async def readyz(desk: TheDesk) -> Health:
    """The cameras run and the inference server answers."""
    if not (desk.roster.has_fleet and desk.fleet.is_ready):
        raise Refused(503, "the inference server is not ready, or the fleet is stopping", {"Retry-After": "2"})
    return Health(status="ready")


TEXT = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/metrics", tags=["health"], response_class=Response, responses=TEXT)  # type: ignore[arg-type]
async def metrics(desk: TheDesk) -> Response:
    """For Prometheus; the same as `monitoring.metrics_port` serves."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(desk.fleet.collector())
    return Response(await run_in_threadpool(generate_latest, registry), media_type=CONTENT_TYPE_LATEST)


@router.post("/v1/session", tags=["health"], status_code=204, responses=documented(413, 415, 422))
async def session(desk: TheDesk, login: Login, response: Response) -> None:
    """Show the token once; a cookie that no script can read stands for it from then on."""
    token: Token | None = desk.token
    if token is None:
        return
    if not token.matches(login.token):
        raise Refused(401, "this is not the token", {"WWW-Authenticate": 'Bearer realm="fleet"'})
    response.set_cookie(
        COOKIE, token.session, httponly=True, samesite="strict", path="/", secure=desk.settings.web.tls_cert is not None
    )
