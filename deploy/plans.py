"""Before Triton starts: do the TensorRT plans fit this GPU, its TensorRT and the ONNX files that they came from?

Triton refuses a foreign plan with words that name neither what is wrong nor what helps, after a wait. Here it is an
error at once, with the command that mends it; what Triton would load all the same is only said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clients.errors import ConfigError
from clients.types import Tier
from export.spec import POSTPROCESS, Spec, engine_name

if TYPE_CHECKING:
    from export.status import Here


def check_plans(
    tiers: Sequence[Tier], spec: Spec, onnx: Path, plans: Path, machine: Here | None = None
) -> tuple[str, ...]:
    """What is to be said of plans that can be loaded, each line with the command that mends it.

    `spec`: the repository's; `onnx` and `plans` are models folders; `machine` None: this one.
    Raises ConfigError when a plan cannot be loaded here, or its plan.json cannot be read.
    """
    from export.errors import ExportError
    from export.status import here, plan_state

    found = here() if machine is None else machine
    names = {engine_name(tier): tier for tier in tiers} | {POSTPROCESS: tiers[0]}
    try:
        states = [plan_state(name, tier, spec, onnx, plans, found) for name, tier in names.items()]
    except ExportError as error:
        raise ConfigError(str(error)) from error
    refused = [
        f"{state.file}: {'; '.join(state.unloadable)}; run `{state.mend}`" for state in states if state.unloadable
    ]
    if refused:
        raise ConfigError("TensorRT could not load " + " and ".join(refused))
    return tuple(f"{state.file}: {flaw}; `{state.mend}` mends it" for state in states for flaw in state.flaws)
