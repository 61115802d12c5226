"""One run in virtual time, and what it measured. Deterministic: the same arguments give the same numbers for ever.

The shell is a few lines of its own, as the live one is: frames are offered, turns granted, answers handed on. All that
decides is the client's code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from clients.audit import AuditRules, misses
from clients.control import Control, Member, Reading, SceneReader
from clients.gate import GateRules
from clients.governor import GovernorRules, governor_of
from clients.router import Policy, Scene, edge_density, router_of, tier_costs
from clients.scheduler import Scheduler
from clients.shares import TierLimits, TierShares
from clients.sources.frame import Frame
from clients.statistics import Histogram
from clients.types import Canvas, Detections, Tier
from loadtest.recordings import Recording
from loadtest.simulation.camera import Ids, SimulatedCamera
from loadtest.simulation.card import TierTiming
from loadtest.simulation.clock import VirtualClock
from loadtest.simulation.pool import CardPool
from loadtest.simulation.verdict import Judge

_DECODE_NS = 1_000_000  # from a packet's arrival to its frame
_SECOND_NS = 1_000_000_000
CANVAS = Canvas()


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who is watched with what. `demand_fps` are each camera's inferences at most; `overhead_ms` is all of an inference
    that is not the card: scaling, transport, queues of the server, suppression. `judge_every` frames one is judged,
    none of the first `warm_up_s`: nobody has boxes then, and the fewer frames are judged the more the first one counts.
    `capacity_ms_per_s` and `window` are of each of the `cards`, as in the client."""

    cameras: int = 50
    seconds: float = 60.0
    demand_fps: float = 8.0
    tier: Tier = Tier.N
    similarity: float | None = 0.95
    max_skip_s: float = 0.8
    policy: Policy | None = None
    governor: Literal["ours", "article"] = "ours"
    by_need: bool = True
    capacity_ms_per_s: float = 1000.0
    threshold_percent: float = 80.0
    look_s: float = 1.0
    max_age_ms: float = 500.0
    window: int = 48
    cards: int = 1
    tracks: bool = True
    audit: AuditRules = field(default_factory=AuditRules)
    overhead_ms: float = 4.0
    judge_every: int = 5
    warm_up_s: float = 0.0
    deadline_ms: float = 200.0
    counts_missed: bool = False  # look at every frame that the gate calls similar, for `Simulation.population`
    in_step: bool = False  # all cameras' frames at the same moments, else spread over a frame's time
    slow: tuple[float, float, float] = (0.0, 0.0, 1.0)  # from, to (s), and how many times as slow the cards are then
    canvases: Mapping[Tier, str] = field(default_factory=lambda: dict.fromkeys(Tier, "640x384"))

    def __post_init__(self) -> None:
        if self.cameras < 1 or not (self.seconds > 0 and self.demand_fps > 0) or self.judge_every < 1:
            raise ValueError(
                f"cameras, seconds, demand and judge_every must be positive, got {self.cameras}, {self.seconds}, "
                f"{self.demand_fps} and {self.judge_every}"
            )
        if not 0 <= self.warm_up_s < self.seconds:
            raise ValueError(f"warm_up_s must be at least 0 and less than {self.seconds:g}, got {self.warm_up_s:g}")
        if self.cards < 1:
            raise ValueError(f"cards must be at least 1, got {self.cards}")

    @property
    def rules(self) -> GateRules:
        """The gate of every camera."""
        return GateRules(1 / self.demand_fps, self.max_age_ms, self.similarity, self.max_skip_s)


class Simulation:
    """Cameras, scheduler and cards of a scenario, from 0 s to its end."""

    def __init__(
        self, scenario: Scenario, recordings: Sequence[Recording], tiers: Mapping[Tier, TierTiming], judge: Judge
    ) -> None:
        self.scenario = scenario
        self.clock = VirtualClock()
        self.pool = CardPool(self.clock, tiers, scenario.cards)
        most = {tier: 3 * timing.largest * scenario.cards for tier, timing in tiers.items()}
        limits = {tier: TierLimits(timing.per_inference_ms, most[tier]) for tier, timing in tiers.items()}
        self.scheduler = Scheduler(TierShares(limits, scenario.window * scenario.cards))
        self.ages = Histogram()
        self.tiers = tuple(tiers)
        self._population = self._population_missed = 0
        self.answered: Counter[Tier] = Counter()
        self.in_time = 0
        self.judge = judge
        self.cameras = {one.name: one for one in _cameras(scenario, recordings)}
        self.control = self._control(tiers)
        self._scenes = {one.name: SceneReader(_scale(one)) for one in self.cameras.values()}

    def run(self) -> None:
        """To the end; requests in flight then are not answered any more."""
        end_ns = round(self.scenario.seconds * _SECOND_NS)
        for place, one in enumerate(self.cameras.values()):
            self.scheduler.add(one.name, weight=1.0, now_ns=0, tier=one.tier)
            spread = 0 if self.scenario.in_step else place
            first_ns = spread * _SECOND_NS // (len(self.cameras) * one.recording.fps)
            self.clock.at(first_ns, partial(self._captured, one, 0, first_ns, end_ns))
        start_s, end_s, slowness = self.scenario.slow
        if slowness != 1:
            self.clock.at(round(start_s * _SECOND_NS), partial(self.pool.slow_down, slowness))
            self.clock.at(round(end_s * _SECOND_NS), partial(self.pool.slow_down, 1.0))
        if self.control is not None:
            self._look()
        self.clock.run(end_ns)
        for one in self.cameras.values():
            self.judge.ended(one, self._frames(one, end_ns))

    def _control(self, tiers: Mapping[Tier, TierTiming]) -> Control | None:
        told = self.scenario
        if told.policy is None:
            return None
        costs = tier_costs({tier: timing.per_inference_ms for tier, timing in tiers.items()})
        wanted = {one.name: one.tier for one in self.cameras.values()}
        rules = GovernorRules(
            capacity_ms_per_s=told.capacity_ms_per_s,
            gpu_utilization_threshold=told.threshold_percent,
            first_window=min(16, told.window) * told.cards,
            largest_window=told.window * told.cards,
        )
        control = Control(
            router_of(told.policy, wanted, costs),
            governor_of(told.governor, rules),
            costs,
            full_ms_per_s=told.capacity_ms_per_s * told.threshold_percent / 100,
            by_need=told.by_need,
        )
        for one in self.cameras.values():
            control.add(one.name, Member(1.0, min(told.demand_fps, one.recording.fps)))
        return control

    def _look(self) -> None:
        """What the live client does every `look_s`: read, decide, obey."""
        assert self.control is not None
        now_ns = self.clock.now_ns
        engine_ms, busy_percent = self.pool.take_busy()
        reading = Reading(engine_ms, self.pool.take_queue_ms(), busy_percent, servers=self.scenario.cards)
        decision = self.control.look(reading, self.scheduler.in_flight, now_ns)
        self.scheduler.shares.window = decision.orders.window
        for name, pace in decision.paces.items():
            self.cameras[name].gate.pace(pace)
        for name, tier in decision.tiers.items():
            if tier is not self.cameras[name].tier:
                self.cameras[name].tier = tier
                self.scheduler.move(name, tier)
        self.clock.at(now_ns + round(self.scenario.look_s * _SECOND_NS), self._look)

    def _frames(self, one: SimulatedCamera, end_ns: int) -> int:
        return int(end_ns * one.recording.fps / _SECOND_NS)

    def _captured(self, one: SimulatedCamera, number: int, captured_ns: int, end_ns: int) -> None:
        if captured_ns >= self.scenario.warm_up_s * _SECOND_NS:
            self.judge.captured(one, number)
        frame = one.frame(number, captured_ns)
        self.clock.at(captured_ns + _DECODE_NS, partial(self._offered, one, frame))
        next_ns = captured_ns + _SECOND_NS // one.recording.fps
        if next_ns < end_ns:
            self.clock.at(next_ns, partial(self._captured, one, number + 1, next_ns, end_ns))

    def population(self) -> float | None:
        """The share of all frames that were called similar, audited or not, that a full audit would call missed.

        None where there was none, or where the scenario does not count them.
        """
        return self._population_missed / self._population if self._population else None

    def _offered(self, one: SimulatedCamera, frame: Frame) -> None:
        was_similar = one.camera.similar
        waits = one.camera.offer(frame, self.clock.now_ns)
        if self.scenario.counts_missed and one.camera.similar > was_similar:
            shown, found = one.now_shown(frame.media_time_s), one.detections(frame.index, one.tier)
            self._population += 1
            self._population_missed += bool(misses(shown, found, one.audit.rules)[1])
        if waits:
            self.scheduler.ready(one.name)
            self._grant()

    def _grant(self) -> None:
        now_ns = self.clock.now_ns
        while (name := self.scheduler.grant(now_ns)) is not None:
            one = self.cameras[name]
            frame = one.camera.take(now_ns)
            if frame is None:
                self.scheduler.withdraw(name)
            else:
                self._send(one, frame)

    def _send(self, one: SimulatedCamera, frame: Frame) -> None:
        half_ns = round(self.scenario.overhead_ms * 5e5)
        self.pool.send(one.tier, half_ns, partial(self._answered, one, frame, one.tier, one.camera.took_audit))

    def _answered(self, one: SimulatedCamera, frame: Frame, tier: Tier, audited: bool) -> None:
        found = one.detections(frame.index, tier)
        age_ms = frame.age_ms(self.clock.now_ns)
        self.ages.add(age_ms)
        self.answered[tier] += 1
        self.in_time += age_ms <= self.scenario.deadline_ms
        if audited:
            one.audit.judged(one.now_shown(frame.media_time_s), found)
        self.judge.answered(one, frame, found)
        ids = one.answered(frame, found)
        if self.control is not None:
            self.control.answered(one.name, tier, age_ms, one.tracker.wrong, frame.media_time_s)
            self.control.observed(one.name, self._scene(one, frame, found, ids), self.clock.now_ns)
        self.scheduler.finish(one.name)
        if one.camera.has_waiting:
            self.scheduler.ready(one.name)
        self._grant()

    def _scene(self, one: SimulatedCamera, frame: Frame, found: Detections, ids: Ids) -> Scene:
        if self.scenario.policy == "article":
            edges = float(one.recording.edges[one.place(frame.index)])
        else:
            edges = edge_density(frame.picture.thumbnail())
        return self._scenes[one.name].read(found, ids, edges, one.gate.likeness)


def _scale(one: SimulatedCamera) -> float:
    """Canvas pixels per source pixel."""
    return min(CANVAS.width / one.recording.size_px[0], CANVAS.height / one.recording.size_px[1])


def _cameras(scenario: Scenario, recordings: Sequence[Recording]) -> list[SimulatedCamera]:
    """Every recording as often as needed, each time from another moment of it."""
    found = []
    rounds = -(-scenario.cameras // len(recordings))
    for number in range(scenario.cameras):
        recording = recordings[number % len(recordings)]
        first = len(recording) * (number // len(recordings)) // rounds
        canvases = dict(scenario.canvases)
        name = f"cam{number:03d}"
        found.append(
            SimulatedCamera(
                name,
                recording,
                first,
                scenario.rules,
                canvases,
                scenario.tier,
                tracks=scenario.tracks,
                audit=scenario.audit,
            )
        )
    return found
