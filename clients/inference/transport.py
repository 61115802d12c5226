"""The seam between the pipeline and the server. The pipeline knows this protocol, not what is behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from clients.sources.picture import Picture
from clients.types import Detections, Thresholds, Tier


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One picture of one camera, the tier that is to look at it and what counts as a detection."""

    stream_id: str
    picture: Picture
    tier: Tier
    thresholds: Thresholds


class Transport(Protocol):
    """Carries pictures to the server and detections back."""

    async def start(self) -> None:
        """Get ready, or get ready again after the server was away; may be called any number of times.

        Raises ServerUnavailable.
        """

    async def infer(self, request: Request) -> Detections:
        """Detections in source pixels, sorted by confidence.

        Raises ServerUnavailable, RequestTimeout, RequestRejected, ModelError. When the caller is cancelled or the
        request times out, what the server may still be reading stays untouched until it has answered.
        """

    async def close(self) -> None:
        """Release everything. What is still in flight is given up."""
