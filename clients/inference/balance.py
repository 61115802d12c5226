"""Which of several servers takes a request: one that is alive, has the tier and has the least to do. Pure.

Of several with equally little it is the one that was chosen longest ago: in quiet times too all do the same.

What a server has to do is what is in flight there, in GPU-milliseconds: a server that is slow keeps its requests longer
and so gets fewer. A server that has come back begins with one request at a time, and each answer lets one more in; it
is as good as any when it has answered `PROVEN` of them together. Where nobody else has the tier, it takes all at once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from clients.types import Tier

PROVEN = 16  # requests at a time, of a server that has come back
_MORE = 0.5  # room that an answer makes


@dataclass(slots=True)
class _Place:
    tiers: frozenset[Tier] = frozenset()
    is_alive: bool = False
    in_flight: int = 0
    in_flight_ms: float = 0.0
    room: float = math.inf
    chosen: int = 0  # how many choices had been made when it was chosen last


class Balance:
    """The servers by their numbers, 0 to `count` - 1; none is alive before it is `back`."""

    def __init__(self, count: int, cost_ms: Mapping[Tier, float]) -> None:
        """`cost_ms`: of one inference of each tier. Raises ValueError for no server."""
        if count < 1:
            raise ValueError(f"expected at least one server, got {count}")
        self._places = [_Place() for _ in range(count)]
        self._cost_ms = dict(cost_ms)
        self._choices = 0

    @property
    def alive(self) -> int:
        """How many servers are alive."""
        return sum(place.is_alive for place in self._places)

    def is_alive(self, index: int) -> bool:
        """Whether this one is."""
        return self._places[index].is_alive

    def in_flight(self, index: int) -> int:
        """Requests that this one has."""
        return self._places[index].in_flight

    def begin(self, index: int, tiers: Collection[Tier]) -> None:
        """A server is there from the start: nothing speaks against it."""
        place = self._places[index]
        place.is_alive, place.tiers, place.room = True, frozenset(tiers), math.inf

    def back(self, index: int, tiers: Collection[Tier]) -> None:
        """A server is there again, or for the first time while others work."""
        self.begin(index, tiers)
        self._places[index].room = 1.0

    def away(self, index: int) -> bool:
        """A server does not answer any more. True when it was alive until now."""
        was_alive, self._places[index].is_alive = self._places[index].is_alive, False
        return was_alive

    def take(self, tier: Tier, but: Collection[int] = ()) -> int | None:
        """The server of one more request, which is in flight there from now on; None where no living one has the tier.

        Those in `but` are not asked.
        """
        able = [
            index
            for index, place in enumerate(self._places)
            if place.is_alive and tier in place.tiers and index not in but
        ]
        roomy = [index for index in able if self._places[index].in_flight + 1 <= self._places[index].room]
        index = self._least(roomy or able)
        if index is not None:
            self._choices += 1
            place = self._places[index]
            place.in_flight += 1
            place.in_flight_ms += self._cost_ms[tier]
            place.chosen = self._choices
        return index

    def over(self, index: int, tier: Tier, *, answered: bool) -> None:
        """A request is not in flight any more. Raises ValueError when none was."""
        place = self._places[index]
        if not place.in_flight:
            raise ValueError(f"no request is in flight at server {index}")
        place.in_flight -= 1
        place.in_flight_ms = place.in_flight_ms - self._cost_ms[tier] if place.in_flight else 0.0
        if answered:
            place.room = place.room + _MORE if place.room < PROVEN else math.inf

    def _least(self, indexes: Sequence[int]) -> int | None:
        def load(index: int) -> tuple[float, int]:
            return round(self._places[index].in_flight_ms, 6), self._places[index].chosen

        return min(indexes, key=load, default=None)
