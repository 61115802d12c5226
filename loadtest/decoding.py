"""What decoding costs, with every picture and without those that no other one needs; on a clock that only counts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from clients.sources.decoder import Decoding, Skip
from clients.sources.file import FileSource, Timing

_ROUNDS = 5


class _Counted:
    """Time that passes only when it is slept: a file is decoded as fast as it goes, in its own order."""

    def __init__(self) -> None:
        self.now_ns = 0

    def timing(self) -> Timing:
        return Timing(lambda: self.now_ns, self._sleep)

    def _sleep(self, seconds: float) -> bool:
        self.now_ns += round(seconds * 1e9)
        return False


def measure(clips: Sequence[Path]) -> dict[str, Any]:
    """Per clip: CPU in ms of a second of video, and how long a picture waits in the decoder; medians of five rounds.

    Nothing is ever inferred, so all is left out that may be. Raises SourceError for a file that is none.
    """
    rows = {}
    for clip in clips:
        rounds = {may_skip: [_round(clip, may_skip) for _ in range(_ROUNDS)] for may_skip in (False, True)}
        cpu = {may_skip: median(one["cpu_ms_per_s"] for one in rounds[may_skip]) for may_skip in rounds}
        rows[str(clip)] = {
            "packets": rounds[True][0]["packets"],
            "not_needed": rounds[True][0]["not_needed"],
            "cpu_ms_per_s": {"all": round(cpu[False], 2), "skipping": round(cpu[True], 2)},
            "saved": round(1 - cpu[True] / cpu[False], 3),
            "wait_ms": {"all": rounds[False][0]["wait_ms"], "skipping": rounds[True][0]["wait_ms"]},
        }
    return {"kind": "measured", "clips": rows}


def _round(clip: Path, may_skip: bool) -> dict[str, float]:
    decoding, clock = Decoding(may_skip=may_skip), _Counted()
    started_s = time.thread_time()
    frames = FileSource("measured", clip, decoding=decoding).frames(clock.timing())
    waits = [frame.age_ms(clock.now_ns) for frame in frames]
    cpu_ms = 1000 * (time.thread_time() - started_s)
    tally = decoding.tally
    return {
        "packets": tally.packets,
        "not_needed": tally.skipped[Skip.NOT_NEEDED],
        "cpu_ms_per_s": cpu_ms / (clock.now_ns / 1e9),
        "wait_ms": round(sum(waits) / len(waits), 1),
    }
