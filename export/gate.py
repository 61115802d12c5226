"""The accuracy gate inside an export: a converted engine that loses too much is not published, the old one stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.types import Tier
from demo.progress import bars
from export.errors import ExportError
from export.evaluate import Reference, Report, measure
from export.precision import Precision
from export.spec import Spec


@dataclass(frozen=True, slots=True)
class Gate:
    """Labelled pictures in `data`, at most about `pictures` of them, and what each precision may lose on them."""

    data: Path
    pictures: int
    limits: dict[Precision, float]

    def check(
        self, spec: Spec, tier: Tier, weights: Path | None, precision: Precision, engine: bytes
    ) -> dict[str, Any]:
        """What the sidecar says of the engine's accuracy. Raises ExportError when it loses more than it may."""
        reference = Reference(tier, weights, self.data, self.pictures)
        with bars() as bar:
            task = bar.add_task(f"{tier.value}: accuracy", total=None)
            scores = measure(
                spec, reference, {precision: engine}, lambda done, of: bar.update(task, completed=done, total=of)
            )
        report = Report(scores, self.limits)
        if report.failures():
            raise ExportError(f"{tier.value} at {report.failures()[0]}; nothing was written")
        return {**report.as_json(), "data": str(self.data)}
