"""Whether the TensorRT engines fit this card and the server's TensorRT. Asked where both are: in Triton's image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clients.config import Settings
from deploy.doctor.findings import Finding, ok, problem, warning
from deploy.run_repository import REPOSITORY
from export.configs import rendered_for
from export.errors import ExportError
from export.spec import Spec, engine_name
from export.status import Here, here, plan_state


def judge_engines(settings: Settings, models: Path | None, machine: Here | None = None) -> Iterator[Finding]:
    """A line for each configured tier; one in all where no engines of TensorRT are run. `machine` None: this."""
    if models is None and settings.triton.runtime != "tensorrt":
        yield ok("engines", "no TensorRT engines are configured here")
        return
    folder, found = models or settings.triton.models or REPOSITORY / "tensorrt", machine or here()
    if found.tensorrt is None:
        mend = (
            "ask where the server is: docker compose exec triton python -m deploy.doctor --models /models/tensorrt ..."
        )
        yield warning("engines", "there is no TensorRT here to compare them with", mend)
        return
    for tier in settings.tiers:
        name = engine_name(tier)
        try:
            state = plan_state(name, tier, rendered_for() or Spec(), REPOSITORY / "openvino", folder, found)
        except ExportError as error:
            yield problem(f"engine {tier}", str(error), f"python -m export build {tier}")
            continue
        if not state.present:
            yield problem(f"engine {tier}", f"{state.file} is not there", f"run `{state.mend}`")
        elif state.unloadable:
            yield problem(f"engine {tier}", "; ".join(state.unloadable), f"run `{state.mend}`")
        elif state.flaws:
            yield warning(f"engine {tier}", "; ".join(state.flaws), f"run `{state.mend}`")
        else:
            yield ok(f"engine {tier}", f"fits this card and TensorRT {found.tensorrt}")
