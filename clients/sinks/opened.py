"""The configured sinks, opened together and closed together. New ones go to `_result_sinks` or `_event_sinks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from clients.config import Sinks
from clients.lane import Lane
from clients.result import Result
from clients.sinks.clips import ClipSink
from clients.sinks.jsonl import JsonlSink, Rotation, as_record
from clients.sinks.mosaic import MosaicSink, View
from clients.sinks.mqtt import MqttSink
from clients.sinks.videos import VideosSink
from clients.sinks.webhook import WebhookSink
from clients.types import Tier
from clients.zones.event import Event
from clients.zones.event import as_record as as_event_record

Item = TypeVar("Item", contravariant=True)
Labels = Mapping[Tier, tuple[str, ...]]


class Taker(Protocol[Item]):
    """What every sink has; `write` never waits, `dropped` counts what it could not take or deliver."""

    @property
    def dropped(self) -> int:
        """See above."""

    def write(self, item: Item) -> None:
        """Hand one over."""

    def close(self) -> None:
        """Deliver what is queued, within seconds, and give everything back."""


@dataclass(slots=True)
class OpenSinks:
    """The sinks by the names of their keys; `failures` is complete when they are closed."""

    of_results: dict[str, Taker[Result]] = field(default_factory=dict)
    of_events: dict[str, Taker[Event]] = field(default_factory=dict)
    clips: ClipSink | None = None
    videos: VideosSink | None = None
    failures: int = 0

    @property
    def results(self) -> list[Taker[Result]]:
        """Those that take results."""
        return list(self.of_results.values())

    @property
    def events(self) -> list[Taker[Event]]:
        """Those that take events."""
        return list(self.of_events.values())

    def dropped(self) -> dict[str, int]:
        """Results and events that each sink could not take or deliver."""
        counted = {name: sink.dropped for name, sink in (self.of_results | self.of_events).items()}
        return counted if self.videos is None else counted | {"videos": self.videos.dropped}


@contextmanager
def opened(chosen: Sinks, views: Callable[[], Sequence[View]], labels: Labels, *, cameras: int) -> Iterator[OpenSinks]:
    """`views` are the mosaic's tiles at any moment, asked in its own thread, `cameras` of them to begin with.

    Raises SinkError, ConfigError.
    """
    sinks = OpenSinks()
    mosaic = None
    with ExitStack() as stack:
        for name, sink in _result_sinks(chosen, labels):
            stack.callback(sink.close)
            sinks.of_results[name] = sink
        for name, event_sink in _event_sinks(chosen):
            stack.callback(event_sink.close)
            sinks.of_events[name] = event_sink
        if chosen.clips.folder is not None:
            sinks.clips = sinks.of_events["clips"] = ClipSink(chosen.clips)
            stack.callback(sinks.clips.close)
        if chosen.videos is not None:
            sinks.videos = VideosSink(views, chosen.videos, chosen.videos_fps)
            stack.callback(sinks.videos.close)
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


def _result_sinks(chosen: Sinks, labels: Labels) -> Iterator[tuple[str, Taker[Result]]]:
    if chosen.jsonl is not None:
        yield (
            "jsonl",
            JsonlSink[Result](
                "sinks.jsonl",
                chosen.jsonl,
                lambda result: as_record(result, labels.get(result.tier, ())),
                _rotation(chosen),
            ),
        )


def _event_sinks(chosen: Sinks) -> Iterator[tuple[str, Taker[Event]]]:
    if chosen.events is not None:
        yield (
            "events",
            JsonlSink[Event]("sinks.events", chosen.events, as_event_record, _rotation(chosen), appends=True),
        )
    if chosen.webhook.url is not None:
        yield "webhook", WebhookSink(chosen.webhook, _rotation(chosen))
    if chosen.mqtt.url is not None:
        yield "mqtt", MqttSink(chosen.mqtt)


def _rotation(chosen: Sinks) -> Rotation:
    return Rotation(round(chosen.rotate_mb * 1e6), chosen.rotate_keep)


def view_of(lane: Lane, labels: tuple[str, ...]) -> View:
    """A camera's tile: its newest inferred frame, and a line about it."""

    def caption() -> str:
        report = lane.report()
        age_ms = report.ages.quantile(0.5)
        age = "-" if age_ms is None else f"{age_ms:.0f} ms"
        return f"{report.state}  {lane.tier}  {len(report.ages)} inferred of {report.decoded}  {age}"

    return View(lane.spec.stream_id, labels, lane.shown, caption)
