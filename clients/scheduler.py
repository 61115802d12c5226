"""Whose turn it is. Earliest virtual deadline first, per tier; pure and synchronous, the time is an argument.

A camera that has a frame waiting is *ready*; it has one request in flight at most, and is marked in flight before
anything else happens. Each tier has a virtual clock V. A camera of weight w that becomes ready gets the deadline

    F = max(F of its last turn, V - 1/w) + 1/w        so V <= F <= V + 1/w,

the earliest is granted, and V becomes its deadline (self-clocked fair queueing: Golestani, INFOCOM 1994; the credit of
one period makes up for the time until the next frame arrives). Under overload the turns of a tier are thus shared as
the weights are, and what a camera does not ask for goes to the others: weighted max-min over what the gates pass.
Around full load, where a camera often has nothing waiting when its turn would come, that holds only roughly.

A camera with `min_fps` whose last turn is longer ago than that is *due*, and goes before the others, the longest
overdue first. Of two turns in a row one at most is given so while others wait: minima are kept as long as they sum up
to half of the turns, and starve nobody when they do not.

**Bounded wait.** Let camera i become ready at V. Another camera j of the tier is granted by deadline before i only with
F_j <= F_i <= V + 1/w_i. Its first such deadline is at least V, each further one 1/w_j later, so these are at most
1 + w_j / w_i turns. However long turns take, i is granted after at most

    B = sum over j != i of 1 + floor(w_j / w_i)

turns of others of its tier, or 2 B + 1 where any of them has a minimum. `max_turns_before` computes it; the tests hold
the scheduler to it. Which tier goes on is not decided here: shares.py gives each its own room, and of the tiers that
have some, the camera that became ready first is granted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from clients.shares import TierShares
from clients.types import Tier

_ROUNDING = 1e-6  # of a quotient of two weights, before its floor is taken


@dataclass(slots=True)
class _Entry:
    name: str
    tier: Tier
    weight: float
    least_period_ns: int | None
    granted_ns: int
    deadline: float = 0.0  # virtual; of the frame that waits, or of the last turn
    before: tuple[float, int] = (0.0, 0)  # deadline and grant as they were before the turn that is open
    order: int = 0
    ready: bool = False
    in_flight: bool = False
    granted_tier: Tier = Tier.N  # of the turn that is open

    def due_ns(self) -> int | None:
        return None if self.least_period_ns is None else self.granted_ns + self.least_period_ns


@dataclass(slots=True)
class _Clock:
    """One tier's virtual time, and whether its last turn went past the earliest deadline to a camera that was due."""

    time: float = 0.0
    jumped: bool = False


class Scheduler:
    """Grants turns to cameras. Not thread-safe; one event loop, or one simulation, owns it."""

    def __init__(self, shares: TierShares) -> None:
        self.shares = shares
        self._entries: dict[str, _Entry] = {}
        self._waiting: dict[str, _Entry] = {}  # ready and not in flight
        self._clocks = {tier: _Clock() for tier in Tier}
        self._orders = count(1)

    @property
    def in_flight(self) -> int:
        """Turns granted and not yet finished."""
        return self.shares.in_flight

    @property
    def waiting(self) -> int:
        """Cameras that have a frame and no turn."""
        return len(self._waiting)

    def add(self, stream_id: str, *, weight: float, now_ns: int, min_fps: float = 0.0, tier: Tier = Tier.N) -> None:
        """Admit a camera. Raises ValueError: it is there already, a weight not positive, a negative minimum."""
        if stream_id in self._entries:
            raise ValueError(f"camera {stream_id!r} is scheduled already")
        if not (weight > 0 and min_fps >= 0):
            raise ValueError(
                f"camera {stream_id!r}: weight must be positive, min_fps not negative, got {weight} and {min_fps}"
            )
        period_ns = round(1e9 / min_fps) if min_fps else None
        self._entries[stream_id] = _Entry(stream_id, tier, weight, period_ns, now_ns, self._clocks[tier].time)

    def remove(self, stream_id: str) -> None:
        """Forget a camera. Raises ValueError while it has a turn."""
        if self._entries[stream_id].in_flight:
            raise ValueError(f"camera {stream_id!r} has a turn that is not finished")
        del self._entries[stream_id]
        self._waiting.pop(stream_id, None)

    def move(self, stream_id: str, tier: Tier) -> None:
        """The camera's next turns are of another tier; it keeps its distance from that tier's virtual time.

        A turn that is open is finished in the tier that it was granted in.
        """
        entry = self._entries[stream_id]
        period = 1 / entry.weight
        ahead = min(max(entry.deadline - self._clocks[entry.tier].time, -period), period)
        if entry.ready:  # as in `ready`, V <= F: what the others' bound rests on
            ahead = max(ahead, 0.0)
        entry.tier, entry.deadline = tier, self._clocks[tier].time + ahead

    def ready(self, stream_id: str) -> None:
        """The camera has a frame waiting; saying so twice changes nothing."""
        entry = self._entries[stream_id]
        if not entry.ready:
            period, clock = 1 / entry.weight, self._clocks[entry.tier]
            entry.ready, entry.order = True, next(self._orders)
            entry.deadline = max(entry.deadline, clock.time - period) + period
            if not entry.in_flight:
                self._waiting[stream_id] = entry

    def grant(self, now_ns: int) -> str | None:
        """Give the next turn away, or None when nobody waits or nobody who waits has room."""
        waiting: dict[Tier, list[_Entry]] = {}
        for entry in self._waiting.values():
            waiting.setdefault(entry.tier, []).append(entry)
        demand = {tier: len(cameras) for tier, cameras in waiting.items()}
        firsts = [self._first(cameras, now_ns) for tier, cameras in waiting.items() if self.shares.room(tier, demand)]
        if not firsts:
            return None
        entry = min(firsts, key=lambda one: one.order)
        self._reserve(entry, waiting[entry.tier], now_ns)
        return entry.name

    def finish(self, stream_id: str) -> None:
        """The camera's turn is over, well or not. Raises ValueError when it had none."""
        entry = self._entries[stream_id]
        if not entry.in_flight:
            raise ValueError(f"camera {stream_id!r} has no turn to finish")
        entry.in_flight = False
        if entry.ready:
            self._waiting[stream_id] = entry
        self.shares.give_back(entry.granted_tier)

    def withdraw(self, stream_id: str) -> None:
        """The turn just granted was not used: it costs the camera nothing. Raises ValueError when it had none."""
        self.finish(stream_id)
        entry = self._entries[stream_id]
        entry.deadline, entry.granted_ns = entry.before

    def max_turns_before(self, stream_id: str) -> int:
        """Most turns that others of its tier can be granted before this camera, ready from now on, is."""
        entry = self._entries[stream_id]
        others = [e for name, e in self._entries.items() if name != stream_id and e.tier is entry.tier]
        turns = sum(1 + int(other.weight / entry.weight + _ROUNDING) for other in others)
        return 2 * turns + 1 if any(other.least_period_ns for other in others) else turns

    def _first(self, waiting: list[_Entry], now_ns: int) -> _Entry:
        """Of the waiting cameras of one tier: the longest overdue, if it may, else the earliest virtual deadline."""
        if not self._clocks[waiting[0].tier].jumped:
            due = [(at, one.order, one) for one in waiting if (at := one.due_ns()) is not None and at <= now_ns]
            if due:
                return min(due)[2]
        return _earliest(waiting)

    def _reserve(self, entry: _Entry, waiting: list[_Entry], now_ns: int) -> None:
        clock = self._clocks[entry.tier]
        clock.jumped = entry is not _earliest(waiting)
        entry.before = (entry.deadline - 1 / entry.weight, entry.granted_ns)
        if not clock.jumped:  # else it was due, and virtual time stands still
            clock.time = max(clock.time, entry.deadline)
        entry.deadline = min(entry.deadline, clock.time)
        entry.ready, entry.in_flight, entry.granted_ns = False, True, now_ns
        entry.granted_tier = entry.tier
        del self._waiting[entry.name]
        self.shares.take(entry.tier)


def _earliest(waiting: list[_Entry]) -> _Entry:
    """Of equal deadlines the heavier camera's: its frames are replaced sooner while it waits."""
    return min(waiting, key=lambda one: (round(one.deadline, 9), -one.weight, one.order))
