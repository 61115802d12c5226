"""Whether the cameras of a configuration can be reached: files are looked for, live ones asked for one picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing

from clients.errors import SourceError
from clients.sources.address import Address, address_of
from clients.sources.file import live_timing
from clients.sources.live import LiveSource
from clients.types import StreamSpec


def unreachable(streams: Sequence[StreamSpec]) -> dict[str, str]:
    """What is wrong with each camera that cannot be reached, by its id; the addresses in it are fit to be shown.

    All live cameras are asked at the same time, each for as long as its own timeouts allow, so it takes no longer
    than the slowest. Raises ConfigError for a source that cannot be one.
    """
    addresses = {spec.stream_id: address_of(spec) for spec in streams}
    problems = {name: f"{address}: no such file" for name, address in addresses.items() if not _is_there(address)}
    stop = threading.Event()
    answers: dict[str, str | None] = {}
    asked = [(spec, addresses[spec.stream_id]) for spec in streams if addresses[spec.stream_id].is_live]
    threads = [threading.Thread(target=_ask, args=(*one, stop, answers), daemon=True) for one in asked]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + max((s.live.open_timeout_s + s.live.read_timeout_s for s, _ in asked), default=0)
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    stop.set()
    for spec, address in asked:
        problem = answers.get(spec.stream_id, f"{address}: no picture in time")
        if problem is not None:
            problems[spec.stream_id] = problem
    return problems


def _is_there(address: Address) -> bool:
    return address.is_live or any(path.is_file() for path in address.files())


def _ask(spec: StreamSpec, address: Address, stop: threading.Event, answers: dict[str, str | None]) -> None:
    """Leaves None in `answers` for a camera that shows a picture, else what is wrong; nothing when it hangs."""
    source = LiveSource(spec.stream_id, address, spec.live)
    try:
        with closing(source.frames(live_timing(stop.wait))) as frames:
            found = next(frames, None)
        if found is not None or not stop.is_set():
            answers[spec.stream_id] = f"{address}: ends without a picture" if found is None else None
    except SourceError as error:
        answers[spec.stream_id] = str(error).removeprefix(f"camera {spec.stream_id}: ")
