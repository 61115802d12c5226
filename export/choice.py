"""Which plan is kept: of those that compute what FP32 computes, the fastest. Pure: works on what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from clients.data_sheet import Latency
from export.errors import ExportError
from export.parity import Difference, Limits

Form = Literal["canonical", "stock", "none"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One plan on the card. `parity` is None where nothing was compared."""

    form: Form
    fused: int
    parity: Difference | None
    latency: Mapping[int, Latency]
    device_bytes: int | None
    cuda_graphs: bool

    def as_json(self, limits: Limits) -> dict[str, Any]:
        """For plan.json."""
        parity = None if self.parity is None else asdict(self.parity) | {"passes": limits.hold(self.parity)}
        return {
            "fused": self.fused,
            "parity": parity,
            "latency_ms": {str(batch): asdict(latency) for batch, latency in self.latency.items()},
            "device_bytes": self.device_bytes,
            "cuda_graphs": self.cuda_graphs,
        }


def keep(trials: Sequence[Trial], limits: Limits, batch: int) -> Trial:
    """The fastest, by the median at `batch`, of those that pass; of equals the first.

    Raises ExportError when none passes.
    """
    passed = [trial for trial in trials if trial.parity is None or limits.hold(trial.parity)]
    if not passed:
        raise ExportError("no plan computes what FP32 computes: " + "; ".join(_failure(t, limits) for t in trials))
    return min(passed, key=lambda trial: trial.latency[batch].p50_ms)


def summary(trials: Sequence[Trial], kept: Trial, limits: Limits, batch: int) -> str:
    """One line: each form's median at `batch`, which is kept, and which could not be."""
    parts = []
    for trial in trials:
        fails = trial.parity is not None and not limits.hold(trial.parity)
        note = ", fails parity" if fails else ""
        parts.append(f"{trial.form} {trial.latency[batch].p50_ms:.2f} ms ({trial.fused} fused{note})")
    return f"batch {batch}: {', '.join(parts)}; kept: {kept.form}"


def _failure(trial: Trial, limits: Limits) -> str:
    assert trial.parity is not None
    found = trial.parity
    return (
        f"{trial.form} differs by {found.box_p95_px:.3f} px (95 % of boxes) and {found.score:.3f} (score), "
        f"expected at most {limits.box_p95_px} and {limits.score}"
    )
