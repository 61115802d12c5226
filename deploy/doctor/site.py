"""The configuration and its cameras: valid, of the tiers that are served, reachable, and not too much for this host."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from clients.capacity.demand import Host, Source
from clients.capacity.of_settings import demand_of
from clients.capacity.plan import Plan, plan
from clients.check import Seen
from clients.config import Settings
from clients.data_sheet import known_sheets, sheet
from clients.errors import ConfigError
from clients.sources.placement import Load, NvdecPlan
from clients.types import StreamSpec, Tier
from deploy.doctor.findings import Finding, judged, ok, problem, warning

_USUAL = Source(Load("h264", 1920, 1080, 25.0))  # a camera that could not be asked
_LIMITS = {"nvdec": "decoding", "pcie": "bus", "gpu": "inference", "cpu": "processor", "network": "network"}


def judge_config(
    settings: Settings, streams: Sequence[StreamSpec], file: Path, served: Sequence[Tier]
) -> Iterator[Finding]:
    """`served`: what the stack exports and serves; empty is not known."""
    if not streams:
        mend = f"add cameras to {file}, or look at the demo: docker compose --profile cameras up"
        yield problem("configuration", f"{file} names no camera", mend)
        return
    tiers = ", ".join(settings.tiers)
    yield ok("configuration", f"{file}: {len(streams)} cameras, tiers {tiers}", cameras=len(streams))
    missing = [tier.value for tier in settings.tiers if served and tier not in served]
    if missing:
        mend = (
            f"add {' '.join(missing)} to TIERS in .env, or take {'it' if len(missing) == 1 else 'them'} out of {file}"
        )
        yield warning("tiers", f"configured but not served: {', '.join(missing)}", mend)


def judge_cameras(seen: Mapping[str, Seen], live: Collection[str], *, is_before: bool) -> Iterator[Finding]:
    """A live camera that does not answer is a warning before the start: the fleet tries it for ever. A file is not."""
    for name, camera in seen.items():
        what = f"camera {name}"
        if camera.problem is None:
            yield ok(what, str(camera), **camera.as_json())
            continue
        if name not in live:
            yield problem(what, camera.problem, "put the file there, or correct `source`", **camera.as_json())
            continue
        mend = "look at its power, cable, address and login; the fleet goes on without it and tries it for ever"
        complain = warning if is_before else problem
        yield complain(what, camera.problem, mend, **camera.as_json())


def judge_decoding(seen: Mapping[str, Seen], nvdec: NvdecPlan) -> Finding:
    """How many cameras the GPU decodes, and who did not fit."""
    placed = [camera.placement for camera in seen.values() if camera.placement is not None]
    on_card = sum(place.device == "cuda" for place in placed)
    told = f"{on_card} of {len(placed)} cameras on the GPU, {nvdec.used:.0%} of its decoders"
    full = sum("full" in place.reason for place in placed)
    if full:
        mend = "send H.265, sub-streams or fewer pictures a second; a T4 decodes about 1 000 of 1080p H.264 a second"
        return warning("decoding", f"{told}; {full} more do not fit and the CPU decodes them", mend)
    return ok("decoding", told, on_gpu=on_card, used=round(nvdec.used, 3))


def sheet_of(card: str) -> str:
    """The name of the data sheet of a card called so, such as `l4` for NVIDIA L4; a T4's where there is none."""
    return next((name for name in known_sheets() if name.upper() in card.upper().split()), "t4")


def planned(settings: Settings, seen: Mapping[str, Seen], gpu: str) -> Plan | str:
    """What the planner says of these cameras on such a card and this machine, or why it says nothing."""
    facts = {name: camera.facts for name, camera in seen.items() if camera.facts is not None}
    try:
        demand = demand_of(settings, _USUAL, facts)
        return plan(demand, sheet(gpu), Host(cores=os.cpu_count() or 1))
    except (ConfigError, ValueError) as error:
        return str(error)


def judge_plan(found: Plan | str) -> Iterator[Finding]:
    """A line for each of the planner's limits but memory, which is judged with the card's own."""
    if isinstance(found, str):
        yield warning("plan", found, "name the nearest data sheet with --gpu t4, or have one: python -m export build")
        return
    for limit in found.limits:
        if limit.name not in _LIMITS:
            continue
        what, told = (
            _LIMITS[limit.name],
            f"{limit.share:.0%} of it, {limit.allowed:.0%} may be planned: {limit.use}; projected",
        )
        if limit.load <= 1:
            yield ok(f"plan: {what}", told, share=round(limit.share, 3))
        else:
            mend = (
                "lower max_fps, take a smaller tier, send smaller pictures: python -m loadtest plan says what would fit"
            )
            yield warning(f"plan: {what}", told, mend, share=round(limit.share, 3))


def memory_need_mb(found: Plan, memory_mb: int) -> tuple[float, str] | None:
    """Megabytes of the card's memory that the planner expects, and of what; None where it plans no card."""
    limit = next((one for one in found.limits if one.name == "vram"), None)
    return None if limit is None or not limit.share else (limit.share * memory_mb, limit.use)


def judge_readiness(ready: Sequence[Tier] | str, wanted: Sequence[Tier], url: str) -> Finding:
    """`ready`: tiers whose ensembles are, or why nobody knows."""
    mend = "docker compose ps; docker compose logs triton (or where Triton was started)"
    if isinstance(ready, str):
        return problem("triton", ready, mend)
    missing = [tier.value for tier in wanted if tier not in ready]
    told = f"{url} serves {', '.join(ready) or 'nothing'}" + (f", not {', '.join(missing)}" if missing else "")
    return judged(not missing, "triton", told, mend, ready=[tier.value for tier in ready])
