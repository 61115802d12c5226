"""What the cameras of a configuration send, and whether they can be reached: each is asked for one picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from clients.errors import SourceError
from clients.sources.address import Address, address_of
from clients.sources.decoder import Decoding
from clients.sources.file import FileSource, live_timing
from clients.sources.frame import Frame
from clients.sources.live import LiveSource
from clients.sources.placement import NvdecPlan, Placement
from clients.sources.stream import StreamFacts
from clients.types import Canvas, StreamSpec


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a camera: what is wrong with it, fit to be shown, or what it sends and where it is decoded.

    `bits_per_s` is what it sent while it was watched; None where it was not watched long enough.
    """

    problem: str | None
    facts: StreamFacts | None = None
    placement: Placement | None = None
    bits_per_s: float | None = None

    def __str__(self) -> str:
        if self.facts is None or self.placement is None:
            return self.problem or "nothing is known of it"
        rate = "" if self.bits_per_s is None else f", {self.bits_per_s / 1e6:.2g} Mbit/s"
        return f"{self.facts}{rate}; decoded on {self.placement.device}: {self.placement.reason}"

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is not known is left out."""
        told: dict[str, Any] = {} if self.problem is None else {"problem": self.problem}
        if self.facts is not None:
            told |= self.facts.as_json()
        if self.placement is not None:
            told |= {"decoder": self.placement.device, "decoder_reason": self.placement.reason}
        if self.bits_per_s is not None:
            told["bits_per_s"] = round(self.bits_per_s)
        return told


@dataclass(frozen=True, slots=True)
class _Watch:
    """Until when all cameras are asked, and how long each is watched after its first picture."""

    stop: threading.Event
    seconds: float

    def bitrate(self, frames: Iterator[Frame], decoding: Decoding) -> float | None:
        """Bits per second while watched; None for one that ends, or breaks off, before half of the time."""
        started_s, before = time.monotonic(), decoding.tally.packet_bytes
        elapsed_s = 0.0
        try:
            for _ in frames:
                elapsed_s = time.monotonic() - started_s
                if elapsed_s >= self.seconds or self.stop.is_set():
                    break
        except SourceError:
            return None
        if elapsed_s < self.seconds / 2:
            return None
        return 8 * (decoding.tally.packet_bytes - before) / elapsed_s


def look_at(
    streams: Sequence[StreamSpec], nvdec: NvdecPlan, canvas: Canvas, *, watch_s: float = 0.0
) -> dict[str, Seen]:
    """Ask every camera for a picture, as a run would, and watch it so long for its bitrate; what is known, by its id.

    All are asked at the same time, live ones for as long as their own timeouts allow, so it takes no longer than the
    slowest. Raises ConfigError for a source that cannot be one.
    """
    asked = [(spec, address_of(spec)) for spec in streams]
    stop, answers = threading.Event(), dict[str, Seen]()
    watch = _Watch(stop, watch_s)
    threads = [threading.Thread(target=_ask, args=(*one, nvdec, canvas, watch, answers), daemon=True) for one in asked]
    for thread in threads:
        thread.start()
    longest_s = max((s.live.open_timeout_s + s.live.read_timeout_s for s in streams), default=0)
    deadline_s = time.monotonic() + longest_s + watch_s
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    stop.set()
    found = dict(answers)
    return {
        spec.stream_id: found.get(spec.stream_id, Seen(f"{address}: no picture in time")) for spec, address in asked
    }


def _ask(
    spec: StreamSpec,
    address: Address,
    nvdec: NvdecPlan,
    canvas: Canvas,
    watch: _Watch,
    answers: dict[str, Seen],
) -> None:
    """Leaves an answer, but for a camera that hangs."""
    decoding = Decoding(spec.stream_id, wish=spec.decode, plan=nvdec, canvas=canvas)
    try:
        with closing(_source(spec, address, decoding).frames(live_timing(watch.stop.wait))) as frames:
            found = next(frames, None)
            bits_per_s = None if found is None or not watch.seconds else watch.bitrate(frames, decoding)
        if found is not None or not watch.stop.is_set():
            problem = f"{address}: ends without a picture" if found is None else None
            answers[spec.stream_id] = Seen(problem, decoding.facts, decoding.placement, bits_per_s)
    except SourceError as error:
        answers[spec.stream_id] = Seen(str(error).removeprefix(f"camera {spec.stream_id}: "), decoding.facts)


def _source(spec: StreamSpec, address: Address, decoding: Decoding) -> FileSource | LiveSource:
    if address.is_live:
        return LiveSource(spec.stream_id, address, spec.live, decoding)
    files = address.files()
    if not files:
        raise SourceError(f"camera {spec.stream_id}: {address}: no file has such a name")
    return FileSource(spec.stream_id, files, decoding=decoding)
