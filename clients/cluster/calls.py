"""Calls to a fleet on another machine: Ray's errors are translated here, and only here."""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from clients.cluster.host import FleetOnNode
from clients.cluster.node import CARD, Node
from clients.errors import FleetError, NodeLost, NodeSilent


def start_process(node: Node) -> ActorHandle:
    """A process for the node's fleet, which takes the node's cards; Ray does not start another one when it dies."""
    return (
        ray.remote(FleetOnNode)
        .options(
            num_cpus=0,
            resources={CARD: node.cards},
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        )
        .remote()
    )


def kill_process(fleet: ActorHandle) -> None:
    """Whatever it does; one that is dead stays so. One that is stopped ends when it goes on (host.py)."""
    try:
        ray.kill(fleet)
    except RayError:
        return


async def rows_of_nodes() -> list[dict[str, Any]]:
    """What Ray knows of each node, dead ones too. Raises FleetError when the cluster's head is gone."""
    try:
        return list(await asyncio.to_thread(ray.nodes))
    except (RayError, OSError, RuntimeError) as error:
        raise FleetError(f"the cluster does not say which nodes there are: {first_line(error)}") from error


async def answer(call: Any, timeout_s: float) -> Any:
    """What a call returns.

    Raises NodeLost: the process has ended; NodeSilent: no answer in time, or no connection; and the FleetError that the
    call itself raised.
    """
    waiting = asyncio.wrap_future(call.future())
    try:
        return await asyncio.wait_for(waiting, timeout_s)
    except TimeoutError:
        raise NodeSilent(f"no answer for {timeout_s:.1f} s") from None
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, FleetError):
            raise cause from None
        raise NodeLost(f"{type(cause).__name__}: {first_line(cause)}") from error
    except ActorUnavailableError as error:
        raise NodeSilent("it cannot be reached") from error
    except RayError as error:
        raise NodeLost(reason(error)) from error


def first_line(error: object) -> str:
    """An error in one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason is told")


def reason(error: RayError) -> str:
    """Ray's last line says why; those before it say who."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
