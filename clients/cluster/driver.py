"""The one process that says which node runs which camera: it starts a fleet on each node with a card and asks it on.

A fleet whose process has ended is known to be gone at once; one that is silent is given up after SILENCE_S, when its
lease is over (host.py). Its process is killed, its cameras go to the other nodes, and the node gets a new fleet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as NoAnswer
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric

from clients.cluster.assignment import Assignment
from clients.cluster.calls import answer, kill_process, rows_of_nodes, start_process
from clients.cluster.host import LEASE_S, Beat
from clients.cluster.node import CARD, Node, nodes_with_cards
from clients.cluster.view import ClusterCollector, NodeView, summary_of
from clients.config import Camera, Settings
from clients.errors import FleetError, NodeLost, NodeSilent
from clients.logs import about, of_node
from clients.statistics import CameraReport
from clients.types import StreamSpec
from clients.zones.layout import Layout

BEAT_S = 0.5
SILENCE_S = LEASE_S + 0.5
LOOK_S = 1.0  # between two looks at the nodes of the cluster
_START_S = 60.0  # beside the time that Triton may take
_LEAVE_S = 20.0
_TOGETHER_S = 15.0  # for how long the first nodes wait for each other before cameras are given out
_SCRAPE_S = 2.0
_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0  # until a fleet that has ended is started anew
_OVER = ("ended", "failed")
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Member:
    """A node, its fleet while it has one, and what is known of it."""

    node: Node
    view: NodeView
    task: asyncio.Task[None] | None = None
    fleet: Any = None
    fleets: int = 0  # that it has had
    beats: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    problem: FleetError | None = None  # why its newest fleet could not start


class Driver:
    """The cameras of a configuration on the nodes of the cluster that this process is connected to.

    It is what reload.py needs of a fleet: a changed file changes what the nodes are told.
    """

    def __init__(self, settings: Settings, capacity_of: Callable[[Node], float], folder: Path) -> None:
        """`folder` is where relative paths begin, on every node. Raises ConfigError for cameras that cannot be."""
        self._settings, self._capacity_of, self._folder = settings, capacity_of, folder
        self._specs = {spec.stream_id: spec for spec in settings.streams()}
        self._listed: set[str] = set(self._specs)
        self._assignment = Assignment()
        self._members: dict[str, _Member] = {}
        self._names: dict[str, str] = {}
        self._alive: set[str] = set()
        self._moves = 0
        self._room = 0.0
        self._begun = False
        self._without_card = 0
        self._woken, self._stopped = asyncio.Event(), asyncio.Event()
        self._started_s = time.monotonic()
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """End in order."""
        self._stopped.set()

    async def run(self, duration_s: float | None, wait_s: float) -> None:
        """Until the time is over, `stop` is called or all cameras have ended; then every fleet ends in order.

        Raises FleetError when no node with a card is there within `wait_s`, or no fleet can be started at all.
        """
        looking = asyncio.create_task(self._look(), name="nodes")
        try:
            await self._first(wait_s)
            over = asyncio.create_task(self._until_over(), name="over")
            stopped = asyncio.create_task(self._stopped.wait())
            waited = {over, stopped, looking}
            await asyncio.wait(waited, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            stopped.cancel()
            if looking.done():
                looking.result()
        finally:
            self._stopped.set()
            looking.cancel()
            self._wake()
            tasks = [member.task for member in self._members.values() if member.task is not None]
            for member in self._members.values():
                if member.task is not None and member.fleet is None:  # it starts: nothing is lost with it
                    member.task.cancel()
            await asyncio.gather(looking, *tasks, return_exceptions=True)

    def reports(self) -> list[CameraReport]:
        """The numbers of each camera where it runs now."""
        return [report for view in self.views() for report in view.cameras]

    def views(self) -> list[NodeView]:
        """All nodes that have been there."""
        return [member.view for member in self._members.values() if member.fleets]

    def summary(self) -> dict[str, Any]:
        """All nodes so far, as plain values."""
        return summary_of(time.monotonic() - self._started_s, self.views(), self._moves, self._idle())

    def collector(self) -> ClusterCollector:
        """The metrics of all nodes, to be read from another thread."""
        return ClusterCollector(self._metrics, self.views, lambda: self._moves)

    # What a changed file asks for, see reload.py.

    async def file_says(self, cameras: Sequence[Camera]) -> None:
        """The file lists these now."""
        self._listed = {camera.id for camera in cameras}

    def add(self, spec: StreamSpec) -> None:
        """One more camera, or another one of this name."""
        self._specs[spec.stream_id] = spec
        self._settle()

    async def remove_stream(self, stream_id: str) -> None:
        """One camera less; one that the file still lists is only changed, and keeps its node."""
        if stream_id not in self._listed:
            self._specs.pop(stream_id, None)
            self._settle()

    def set_layout(self, stream_id: str, layout: Layout) -> None:
        """Other zones and lines for a camera that goes on."""
        self._specs[stream_id] = replace(self._specs[stream_id], layout=layout)
        self._wake()

    # Nodes.

    async def _look(self) -> None:
        """Until cancelled: whoever is new gets a fleet."""
        while True:
            for member in self._members.values():
                if member.task is not None and member.task.done():
                    member.task.result()  # of a node that is gone: nothing, unless our own code has failed
            rows = await rows_of_nodes()
            nodes = nodes_with_cards(rows, self._names)
            self._alive = {node.node_id for node in nodes}
            self._without_card = sum(bool(row["Alive"]) for row in rows) - len(nodes)
            for node in nodes:
                if node.node_id not in self._members:
                    member = self._members[node.node_id] = _Member(node, NodeView(node.name))
                    member.task = asyncio.create_task(self._tend(member), name=node.name)
            await asyncio.sleep(LOOK_S)

    async def _first(self, wait_s: float) -> None:
        """Until a fleet runs, and a little longer for those that start beside it, lest every camera moves at once."""
        deadline_s = time.monotonic() + wait_s
        while not (self._assignment.nodes or self._stopped.is_set()):
            problems = [member.problem for member in self._members.values()]
            if problems and problems[0] is not None and None not in problems:
                raise problems[0]
            if not self._members and time.monotonic() > deadline_s:
                raise FleetError(
                    f"no node with a card is there after {wait_s:g} s, and {self._without_card} without: "
                    f"""expected one that was started with ray start --resources='{{"{CARD}": 1}}'"""
                )
            await asyncio.sleep(BEAT_S / 5)
        deadline_s = time.monotonic() + _TOGETHER_S
        while time.monotonic() < deadline_s and not self._stopped.is_set():
            if all(member.fleets or member.problem for member in self._members.values()):
                break
            await asyncio.sleep(BEAT_S / 5)
        self._begun, self._started_s = True, time.monotonic()
        self._settle()

    async def _tend(self, member: _Member) -> None:
        """A fleet on a node for as long as the node is there, started anew after pauses."""
        pause_s = _PAUSE_S
        while not self._stopped.is_set():
            began_s = time.monotonic()
            try:
                await self._one_fleet(member)
                member.problem = None
            except FleetError as error:
                member.problem = error
            if time.monotonic() - began_s > _LONGEST_PAUSE_S:
                pause_s = _PAUSE_S
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause_s)
            if member.node.node_id not in self._alive:
                return
            if member.problem is not None:
                told = about("node_failed", node=member.view.name)
                log.error("node %s: %s; it is tried again", member.view.name, member.problem, extra=told)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _one_fleet(self, member: _Member) -> None:
        """From its start to its end. Raises FleetError when it cannot start."""
        name, number = member.view.name, member.fleets + 1
        settings = self._settings.of_node(name if number == 1 else f"{name}.{number}")  # a fleet empties its files
        fleet = start_process(member.node)
        try:
            await self._started(fleet, settings)
            member.fleet, member.fleets, member.beats = fleet, number, 0
            self._joined(member)
            try:
                await self._beats(member)
                self._heard(member, (), await answer(fleet.leave.remote(), _LEAVE_S))
            except FleetError as error:
                log.error("node %s is lost: %s", name, error, extra=about("node_lost", node=name))
                self._lost(member)
        finally:
            kill_process(fleet)
            member.fleet = None

    async def _started(self, fleet: Any, settings: Settings) -> None:
        patience_s = settings.triton.ready_timeout_s + _START_S
        try:
            await answer(fleet.start.remote(str(self._folder), settings), patience_s)
        except NodeSilent as error:
            raise NodeLost(f"no fleet for {patience_s:g} s ({error}); is its card taken by another run?") from error

    def _joined(self, member: _Member) -> None:
        name, capacity = member.view.name, self._capacity_of(member.node)
        member.view.is_up, member.view.capacity = True, capacity
        self._assignment.joined(name, capacity)
        told = about("node_joined", node=name, capacity=capacity)
        log.info("node %s has joined: %g cameras by the plan", name, capacity, extra=told)
        self._settle()

    def _lost(self, member: _Member) -> None:
        """Its process is killed before its cameras get other homes."""
        kill_process(member.fleet)
        member.refused = {}
        member.view.closed()
        self._assignment.lost(member.view.name)
        self._settle()

    async def _beats(self, member: _Member) -> None:
        """Until the run is to end. Raises NodeLost, and what has ended the fleet."""
        answered_s = time.monotonic()
        while not self._stopped.is_set():
            told = self._assignment.tell(member.view.name)
            specs = [self._specs[camera] for camera in told]
            member.beats += 1
            left_s = answered_s + SILENCE_S - time.monotonic()
            try:
                if left_s <= 0:
                    raise NodeLost(f"no answer for {SILENCE_S:g} s")
                beat = await answer(member.fleet.beat.remote(member.beats, specs), left_s)
            except NodeSilent:
                await self._pause()
                continue
            answered_s = time.monotonic()
            self._heard(member, told, beat)
            await self._pause()

    def _heard(self, member: _Member, told: Sequence[str], beat: Beat) -> None:
        name = member.view.name
        member.view.last = beat.summary
        for line in beat.lines:
            log.log(line.level, "node %s: %s", name, line.text, extra=of_node(line.about, name))
        for camera, why in beat.refused.items():
            if member.refused.get(camera) != why:
                told_of = about("camera_refused", camera=camera, node=name)
                log.error("node %s does not run camera %s: %s", name, camera, why, extra=told_of)
        member.refused = dict(beat.refused)
        self._assignment.answered(name, told, beat.running)

    def _settle(self) -> None:
        """Give every camera its node, and say what has moved."""
        if not self._begun or self._stopped.is_set():
            return
        for move in self._assignment.settle(tuple(self._specs)):
            if move.before is not None:
                self._moves += 1
                told = about("camera_moved", camera=move.camera, node=move.now, before=move.before)
                log.info("camera %s moves from node %s to %s", move.camera, move.before, move.now, extra=told)
        room = sum(self._assignment.capacity_of(node) for node in self._assignment.nodes)
        if len(self._specs) > room > 0 and room != self._room:
            text = "%d cameras are more than the %g that the nodes take by the plan: all get fewer inferences"
            log.warning(text, len(self._specs), room, extra=about("nodes_full", cameras=len(self._specs), room=room))
        self._room = room
        self._wake()

    def _wake(self) -> None:
        self._woken.set()
        self._woken.clear()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), BEAT_S)

    async def _until_over(self) -> None:
        """Until no camera can bring results any more."""
        while True:
            await asyncio.sleep(BEAT_S)
            states = {report.stream_id: report.state for report in self.reports()}
            if all(states.get(camera) in _OVER for camera in self._specs):
                return

    def _idle(self) -> dict[str, str]:
        """Cameras that do not run, and why."""
        running = {report.stream_id for report in self.reports()}
        refused = {camera: why for member in self._members.values() for camera, why in member.refused.items()}
        return {camera: refused.get(camera, "no node has it") for camera in self._specs if camera not in running}

    def _metrics(self) -> Mapping[str, Sequence[Metric]]:
        asked = asyncio.run_coroutine_threadsafe(self._ask_metrics(), self._loop)
        try:
            return asked.result(_SCRAPE_S + 1)
        except NoAnswer:  # the loop is ending
            return {}

    async def _ask_metrics(self) -> dict[str, Sequence[Metric]]:
        members = [member for member in self._members.values() if member.fleet is not None]
        calls = (answer(member.fleet.metrics.remote(), _SCRAPE_S) for member in members)
        told = await asyncio.gather(*calls, return_exceptions=True)
        pairs = zip(members, told, strict=True)
        return {member.view.name: found for member, found in pairs if not isinstance(found, BaseException)}
