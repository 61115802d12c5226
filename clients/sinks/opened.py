"""The configured sinks, opened together and closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from clients.config import Sinks
from clients.lane import Lane
from clients.sinks.jsonl import JsonlSink
from clients.sinks.mosaic import MosaicSink, View
from clients.types import Tier


@dataclass(slots=True)
class OpenSinks:
    """The sinks that take results; `failures` is complete when they are closed."""

    results: list[JsonlSink] = field(default_factory=list)
    failures: int = 0

    def dropped(self) -> dict[str, int]:
        """Results that each kind of sink could not take."""
        return {"jsonl": sum(sink.dropped for sink in self.results)}


@contextmanager
def opened(
    chosen: Sinks, views: Callable[[], Sequence[View]], labels: Mapping[Tier, tuple[str, ...]], *, cameras: int
) -> Iterator[OpenSinks]:
    """`views` are the mosaic's tiles at any moment, asked in its own thread, `cameras` of them to begin with.

    Raises SinkError.
    """
    sinks = OpenSinks()
    mosaic = None
    with ExitStack() as stack:
        if chosen.jsonl is not None:
            jsonl = JsonlSink(chosen.jsonl, labels)
            stack.callback(jsonl.close)
            sinks.results.append(jsonl)
        if chosen.mosaic_video is not None or chosen.mosaic_image is not None:
            mosaic = MosaicSink(
                views,
                cameras=cameras,
                video=chosen.mosaic_video,
                image=chosen.mosaic_image,
                fps=chosen.mosaic_fps,
            )
            stack.callback(mosaic.close)
        yield sinks
    sinks.failures = 0 if mosaic is None else mosaic.failures


def view_of(lane: Lane, labels: tuple[str, ...]) -> View:
    """A camera's tile: its newest inferred frame, and a line about it."""

    def caption() -> str:
        report = lane.report()
        age_ms = report.ages.quantile(0.5)
        age = "-" if age_ms is None else f"{age_ms:.0f} ms"
        return f"{report.state}  {lane.tier}  {len(report.ages)} inferred of {report.decoded}  {age}"

    return View(lane.spec.stream_id, labels, lane.shown, caption)
