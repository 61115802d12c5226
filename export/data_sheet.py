"""The GPU's data sheet out of the plans that it built: each plan.json holds what was measured of that plan.

Apart from sidecar.py, so that a server's start-up, which reads plan.json, needs no data sheet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clients.data_sheet import GpuProfile, Latency, ModelProfile, sheet_of
from clients.types import Tier
from export.machine import Card
from export.sidecar import told_of
from export.spec import POSTPROCESS, engine_name

_MB = 1e6


def data_sheet(card: Card, tensorrt: str, canvas: str, plans: Path) -> GpuProfile | None:
    """The measured profile of all plans in a folder that this card and TensorRT built; None where there are none.

    What cannot be timed, such as the card's decoders, comes from a sheet that knows the card already, with its sources.
    """
    names = {engine_name(tier): tier.value for tier in Tier} | {POSTPROCESS: POSTPROCESS}
    same = {"gpu": card.name, "tensorrt": tensorrt, "driver": card.driver}
    found = {}
    for folder, name in names.items():
        told = told_of(plans / folder / "plan.json")
        if told is None or "forms" not in told or any(told.get(key) != value for key, value in same.items()):
            continue
        if told.get("canvas", canvas) == canvas:
            found[name] = _model_profile(told)
    if not found:
        return None
    known = sheet_of(card.name)
    tiers = [name for name in found if name != POSTPROCESS] or [Tier.N.value]
    return GpuProfile(
        kind="measured",
        gpu=card.name,
        sm=f"{card.sm[0]}.{card.sm[1]}",
        driver=card.driver,
        tensorrt=tensorrt,
        memory_mb=card.memory_mb,
        sm_clock_max_mhz=card.sm_clock_max_mhz,
        canvas=canvas,
        command=f"python -m export build {' '.join(tiers)} --canvas {canvas} --force",
        models=found,
        hardware=known.hardware if known else None,
        sources=_of_hardware(known.sources) if known else {},
    )


def _of_hardware(sources: Mapping[str, str]) -> dict[str, str]:
    return {place: source for place, source in sources.items() if place.startswith("hardware")}


def _model_profile(told: Mapping[str, Any]) -> ModelProfile:
    form = told["forms"][told["attention"]]
    latency = {int(batch): Latency(**value) for batch, value in form["latency_ms"].items()}
    size = form["device_bytes"]
    return ModelProfile(
        precision=told["precision"],
        attention=told["attention"],
        latency=dict(sorted(latency.items())),
        device_mb=None if size is None else round(size / _MB, 1),
        sm_clock_mhz=told["sm_clock_mhz"],
        cuda_graphs=form["cuda_graphs"],
        plan_sha256=told["plan_sha256"],
    )
