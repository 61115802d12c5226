"""Which node each camera falls to, and which node may run it now. Pure.

A camera that has a home keeps it. One that has none goes to the node that is then filled least, by its capacity. A node
without cameras is filled from those that are fullest until it has its share: it only takes, and nothing moves between
two others. The cameras of a node that is lost go to the rest, and nothing else moves.

A camera that moves is offered to its new node only when the old one has said that it has ended there, or is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Move:
    """A camera has another home than before; None: it is new."""

    camera: str
    before: str | None
    now: str


class Assignment:
    """The nodes with their capacities, in cameras, and the cameras' homes."""

    def __init__(self) -> None:
        self._capacities: dict[str, float] = {}
        self._homes: dict[str, str] = {}
        self._holders: dict[str, str] = {}  # who was told to run a camera, until it is known that it does not

    @property
    def nodes(self) -> tuple[str, ...]:
        """Those that are there."""
        return tuple(self._capacities)

    def home_of(self, camera: str) -> str | None:
        """The node that it falls to; None where there is none."""
        return self._homes.get(camera)

    def capacity_of(self, node: str) -> float:
        """How many cameras the node takes. Raises KeyError."""
        return self._capacities[node]

    def joined(self, node: str, capacity: float) -> None:
        """A node that takes so many cameras, or as a part of the rest. Raises ValueError unless that is positive."""
        if not capacity > 0:
            raise ValueError(f"a node takes a positive number of cameras, got {capacity:g}")
        self._capacities[node] = capacity

    def lost(self, node: str) -> None:
        """It is gone, and runs nothing any more: whoever says so has seen to that."""
        self._capacities.pop(node, None)
        self._holders = {camera: holder for camera, holder in self._holders.items() if holder != node}

    def settle(self, cameras: Sequence[str]) -> list[Move]:
        """Give every camera a home among the nodes; what has moved. Without nodes nothing has one."""
        held: dict[str, list[str]] = {node: [] for node in self._capacities}
        homeless: list[str] = []
        for camera in cameras:
            held.get(self._homes.get(camera, ""), homeless).append(camera)
        empty = [node for node in held if not held[node]]
        if held:
            for camera in homeless:
                held[self._least_filled(held, held)].append(camera)
            self._fill(held, empty)
        before, self._homes = self._homes, {camera: node for node, names in held.items() for camera in names}
        return [
            Move(camera, before.get(camera), self._homes[camera])
            for camera in cameras
            if camera in self._homes and before.get(camera) != self._homes[camera]
        ]

    def tell(self, node: str) -> tuple[str, ...]:
        """What the node is to run now: its cameras, but not those that another one may still run. It may run these."""
        told = tuple(
            camera for camera, home in self._homes.items() if home == node and self._holders.get(camera, node) == node
        )
        self._holders.update(dict.fromkeys(told, node))
        return told

    def answered(self, node: str, told: Iterable[str], running: Collection[str]) -> None:
        """The node has been told to run these and runs those: what is neither may be run elsewhere."""
        kept = {*told, *running}
        for camera in [camera for camera, holder in self._holders.items() if holder == node and camera not in kept]:
            del self._holders[camera]

    def _fill(self, held: Mapping[str, list[str]], empty: Sequence[str]) -> None:
        """Until none of the nodes that were empty would be less full with one more than the fullest is."""
        while empty:
            giver = max(held, key=lambda node: self._fullness(held, node))
            taker = self._least_filled(held, empty)
            if self._fullness(held, taker, more=1) >= self._fullness(held, giver):
                return
            held[taker].append(held[giver].pop())

    def _least_filled(self, held: Mapping[str, list[str]], among: Iterable[str]) -> str:
        return min(among, key=lambda node: self._fullness(held, node, more=1))

    def _fullness(self, held: Mapping[str, list[str]], node: str, more: int = 0) -> float:
        return (len(held[node]) + more) / self._capacities[node]
