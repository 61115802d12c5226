"""The emulated card's clock, in a file that the engines' processes, the exporter and tests share.

The card works on one batch at a time, first come, first served. It can be slower than its data sheet says (`slowness`,
which may be changed while it runs), and its SM clock sags while it is hot: heat goes to 1 under work and to 0 without,
both with the time constant `heat_s`, and the clock goes down from its highest in proportion, to `floor` of it.
A T4's clock falls under sustained load, from 1590 to about 900 MHz (report: mlcommons/inference_results_v0.5#20); the
exponential and its time constant are assumed. Runs in the server's environment too: the standard library only.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import struct
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path

_LAYOUT = "=qqqqdddd"


@dataclass(frozen=True, slots=True)
class CardState:
    """When the card is free again, how long it has worked, on what, how hot it is, and what it is like.

    `free_ns` is monotonic; `busy_ns` holds work that is reserved and not done yet too. `heat` (0..1) is that of the
    moment `free_ns`.
    """

    free_ns: int = 0
    busy_ns: int = 0
    batches: int = 0
    inferences: int = 0
    heat: float = 0.0
    slowness: float = 1.0
    floor: float = 1.0
    heat_s: float = 60.0

    def worked(self, nominal_ns: int, inferences: int, now_ns: int) -> CardState:
        """The state once work that takes `nominal_ns` at the highest clock has been queued."""
        start_ns = max(self.free_ns, now_ns)
        heat = self._cooled(start_ns)
        duration_ns = round(nominal_ns * self.slowness / self._clock(heat))
        heat = 1 - (1 - heat) * math.exp(-duration_ns / 1e9 / self.heat_s)
        return replace(
            self,
            free_ns=start_ns + duration_ns,
            busy_ns=self.busy_ns + duration_ns,
            batches=self.batches + 1,
            inferences=self.inferences + inferences,
            heat=heat,
        )

    def done_ns(self, now_ns: int) -> int:
        """How long the card has worked until now."""
        return self.busy_ns - max(0, self.free_ns - now_ns)

    def clock_share(self, now_ns: int) -> float:
        """The SM clock now, as a share of the highest."""
        return self._clock(self._cooled(max(self.free_ns, now_ns)))

    def _cooled(self, at_ns: int) -> float:
        return self.heat * math.exp(-max(0, at_ns - self.free_ns) / 1e9 / self.heat_s)

    def _clock(self, heat: float) -> float:
        return 1 - (1 - self.floor) * heat


class Card:
    """The file, open. A card's file is made by `write_card`."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when there is none, ValueError when it is too short to be a card's."""
        self._file = path.open("r+b")
        self._memory = mmap.mmap(self._file.fileno(), struct.calcsize(_LAYOUT))

    def reserve(self, nominal_ns: int, inferences: int) -> int:
        """The monotonic time in nanoseconds at which a batch that is queued now is done."""
        return self._change(lambda state: state.worked(nominal_ns, inferences, time.monotonic_ns())).free_ns

    def slow_down(self, slowness: float) -> None:
        """From now on every batch takes so many times as long as the data sheet says. Raises ValueError."""
        if not 0 < slowness < math.inf:
            raise ValueError(f"how many times slower must be a positive number, got {slowness}")
        self._change(lambda state: replace(state, slowness=slowness))

    def read(self) -> CardState:
        """The state at this moment."""
        return self._change(lambda state: state)

    def close(self) -> None:
        """Let go of the file."""
        self._memory.close()
        self._file.close()

    def _change(self, change: Callable[[CardState], CardState]) -> CardState:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            state = change(CardState(*struct.unpack(_LAYOUT, self._memory[:])))
            self._memory[:] = struct.pack(_LAYOUT, *astuple(state))
            return state
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


def write_card(path: Path, state: CardState) -> None:
    """A new card's file. Raises OSError."""
    path.write_bytes(struct.pack(_LAYOUT, *astuple(state)))
