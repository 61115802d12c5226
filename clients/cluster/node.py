"""What of a Ray cluster runs fleets: the nodes with a card, and how many cameras the planner gives each. Pure.

A node has cards where it was started with the custom resource `card`, as many as that says. Which card it is, Ray finds
out by itself on a machine with an NVIDIA driver (`accelerator_type:T4`); else all are what `--gpu` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clients.capacity.demand import Demand, Host
from clients.capacity.fitting import most_cameras
from clients.data_sheet import GpuProfile, known_sheets, sheet

CARD = "card"
_KIND = "accelerator_type:"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine with `cards` cards of one kind; `gpu` is the name of their data sheet, None where it is not known."""

    node_id: str
    name: str
    cards: int
    cores: float
    gpu: str | None = None


def nodes_with_cards(rows: Sequence[Mapping[str, Any]], names: dict[str, str]) -> list[Node]:
    """Those that are alive, of what `ray.nodes()` tells.

    `names` keeps what each is called, by its id: its name in Ray, which is its address unless `ray start --node-name`
    gave another; a second one of the same name is called NAME-2.
    """
    found = []
    for row in rows:
        resources = row["Resources"]
        if not row["Alive"] or resources.get(CARD, 0) < 1:
            continue
        node_id = row["NodeID"]
        if node_id not in names:
            names[node_id] = _free_name(str(row.get("NodeName") or row["NodeManagerAddress"]), set(names.values()))
        kinds = [name.removeprefix(_KIND).lower() for name in resources if name.startswith(_KIND)]
        gpu = next((kind for kind in kinds if kind in known_sheets()), None)
        cores = float(resources.get("CPU", 1)) or 1.0
        found.append(Node(node_id, names[node_id], int(resources[CARD]), cores, gpu))
    return found


def capacity_of(node: Node, demand: Demand, default: GpuProfile) -> int:
    """Cameras such as these that the node takes, at least one. Raises ConfigError where the sheet cannot say."""
    card = default if node.gpu is None else sheet(node.gpu)
    return max(1, most_cameras(demand, card, Host(node.cores), cards=node.cards))


def _free_name(wanted: str, taken: set[str]) -> str:
    """Fit to be part of a file's name."""
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in wanted)
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    return name
