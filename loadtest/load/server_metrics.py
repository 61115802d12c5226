"""What Triton and the card say of themselves, read from their metrics pages in Prometheus' text format."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from clients.errors import FleetError

TIMEOUT_S = 5.0
_READ = ("nv_inference_count{", "nv_inference_exec_count{", "nv_gpu_", "DCGM_")  # the rest costs time every second


class MetricsUnreachable(FleetError):
    """A metrics page cannot be read, or is not Triton's."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Σ over all `*_engine`: inferences and batches so far. The card, where it is told: utilisation 0..1, and more."""

    inferences: float
    batches: float
    utilisation: float | None = None
    memory_used_bytes: float | None = None
    sm_clock_mhz: float | None = None
    decoder_percent: float | None = None

    def mean_batch_since(self, before: Reading) -> float | None:
        """Between two readings; None when nothing ran, or the server is not the same any more."""
        inferences, batches = self.inferences - before.inferences, self.batches - before.batches
        return inferences / batches if batches > 0 and inferences >= batches else None


def read_metrics(urls: Sequence[str]) -> Reading:
    """The pages together: the first is Triton's. Raises MetricsUnreachable."""
    samples = [sample for url in urls for sample in _samples(url)]
    return _reading(samples, urls[0])


def _samples(url: str) -> list[tuple[str, dict[str, str], float]]:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            lines = answer.read().decode("utf-8").splitlines()
        families = list(text_string_to_metric_families("\n".join(line for line in lines if line.startswith(_READ))))
    except (OSError, ValueError, http.client.HTTPException, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or error
        raise MetricsUnreachable(f"{url}: the metrics cannot be read: {reason}") from error
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def _reading(samples: Sequence[tuple[str, dict[str, str], float]], url: str) -> Reading:
    def engines(name: str) -> float:
        values = [
            value for found, labels, value in samples if found == name and labels.get("model", "").endswith("_engine")
        ]
        if not values:
            raise MetricsUnreachable(f"{url}: there is no {name} of an engine; is this Triton's metrics page?")
        return sum(values)

    def card(name: str) -> float | None:
        return next((value for found, _, value in samples if found == name), None)

    return Reading(
        inferences=engines("nv_inference_count"),
        batches=engines("nv_inference_exec_count"),
        utilisation=card("nv_gpu_utilization"),
        memory_used_bytes=card("nv_gpu_memory_used_bytes"),
        sm_clock_mhz=card("DCGM_FI_DEV_SM_CLOCK"),
        decoder_percent=card("DCGM_FI_DEV_DEC_UTIL"),
    )


@dataclass(slots=True)
class CardFigures:
    """Readings of the card during a run, and their means."""

    readings: list[Reading] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Means of what was told; None where nothing was."""

        def mean(values: list[float | None], digits: int) -> float | None:
            known = [value for value in values if value is not None]
            return round(sum(known) / len(known), digits) if known else None

        used = mean([one.memory_used_bytes for one in self.readings], 0)
        return {
            "utilisation": mean([one.utilisation for one in self.readings], 3),
            "memory_used_mb": None if used is None else round(used / 1e6),
            "sm_clock_mhz": mean([one.sm_clock_mhz for one in self.readings], 0),
            "decoder_percent": mean([one.decoder_percent for one in self.readings], 1),
        }
