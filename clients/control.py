"""The budget at work: what answers show goes in; each camera's tier and rate, and the fleet's window, come out. Pure.

At each look the governor says what may be spent (governor.py). The router chooses each camera's tier for that budget,
knowing that a dearer tier means fewer inferences (router.py). At these tiers the budget is then divided into
inferences, by what each camera would lose without them (pacing.py). It opens nothing and sends nothing: the live
pipeline and the simulator both obey it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from clients.admission import Admission, Mode, admit
from clients.governor import Governor, Load, Orders
from clients.pacing import Need, Pace, paces
from clients.router import Router, Scene, TierCost
from clients.statistics import Histogram
from clients.types import Detections, Tier

_SMALL_CANVAS_PX = 32.0
_UNSURE = 0.5
_MEMORY = 0.5  # share of a new look in a camera's counted rate
_LEAST_BUSY = 0.02  # share of the time that the engines must have worked for their speed to be told
_LEAST_SLOWNESS = 0.05
_LEAST_PASSES = 0.1  # a gate that has let nothing through may do so at any moment


@dataclass(frozen=True, slots=True)
class Reading:
    """What server and card say, since the last look; None where it is not known. The rest as in `governor.Load`."""

    engine_ms: float | None = None  # that the engines were busy, all batches together
    queue_ms: float | None = None
    busy_percent: float | None = None
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    memory_percent: float | None = None
    decoder_percent: float | None = None
    servers: int = 1


@dataclass(frozen=True, slots=True)
class Member:
    """What a camera may have: inferences per second at least and at most, and its weight."""

    least_fps: float
    most_fps: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Decision:
    """From now on: the governor's orders; each camera's tier, and its inferences per second at most.

    `slowness`: how many times as long as their costs say the engines take.
    """

    orders: Orders
    slowness: float = 1.0
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    paces: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Camera:
    member: Member
    pace_fps: float
    rate_fps: float
    need: Need = field(default_factory=Need)
    answered: int = 0
    seen_s: float | None = None

    @property
    def passes(self) -> float:
        """The share of its pace that it has used."""
        return min(1.0, max(_LEAST_PASSES, self.rate_fps / self.pace_fps))


class Control:
    """Decides at each `look`; `answered` is told in between. `by_need` off gives all cameras the same rate."""

    def __init__(
        self,
        router: Router,
        governor: Governor,
        costs: Sequence[TierCost],
        *,
        full_ms_per_s: float,
        by_need: bool = True,
    ) -> None:
        """`costs`: the served tiers; `full_ms_per_s`: one server's budget at best. Raises ValueError without costs."""
        if not costs:
            raise ValueError("expected the costs of at least one served tier, got none")
        self._router = router
        self._governor = governor
        self._ms = {one.tier: one.ms for one in costs}
        self._full_ms_per_s = full_ms_per_s
        self._by_need = by_need
        self._cameras: dict[str, _Camera] = {}
        self._work_ms = 0.0
        self._slowness = 1.0
        self._servers = 1
        self._ages = Histogram()
        self._looked_ns: int | None = None

    def add(self, stream_id: str, member: Member) -> None:
        """A camera joins; until it was counted it is planned at its highest rate."""
        self._cameras[stream_id] = _Camera(member, member.most_fps, member.most_fps)

    def admission(self, member: Member, max_streams: int, mode: Mode) -> Admission:
        """Whether one more camera may join, and at which share of its rate.

        `strict`: when all cameras, this one too, can have their highest rates. `degrade`: when all can have their
        least; at its own highest rate where that fits, else the budget is divided anew.
        """
        ms, members = min(self._ms.values()) * self._slowness, [one.member for one in self._cameras.values()]
        budget, count = self._full_ms_per_s * self._servers, len(members)
        most = sum(one.most_fps for one in members) * ms
        full = admit(most, member.most_fps * ms, budget, count, max_streams, "strict")
        if full.accepted or mode == "strict":
            return full
        least = sum(one.least_fps for one in members) * ms
        reduced = admit(least, member.least_fps * ms, budget, count, max_streams, "strict")
        if not reduced.accepted:
            return reduced
        return Admission(True, budget / (most + member.most_fps * ms), full.reason)

    def remove(self, stream_id: str) -> None:
        """A camera has gone."""
        self._cameras.pop(stream_id, None)
        self._router.forget(stream_id)

    def answered(self, stream_id: str, tier: Tier, age_ms: float, wrong: float, media_time_s: float) -> None:
        """An inference of this camera was answered; `wrong` is what its tracker has corrected (tracker.py)."""
        camera = self._cameras[stream_id]
        camera.answered += 1
        if camera.seen_s is not None and media_time_s > camera.seen_s:
            camera.need.corrected(wrong, media_time_s - camera.seen_s)
        camera.seen_s = media_time_s
        self._work_ms += self._ms[tier]
        self._ages.add(age_ms)

    def observed(self, stream_id: str, scene: Scene, now_ns: int) -> None:
        """What that inference has shown."""
        self._router.observe(stream_id, scene, now_ns)

    def wrong_per_s(self, stream_id: str) -> float:
        """What a camera is estimated to lose: boxes that go wrong per second of waiting."""
        return self._cameras[stream_id].need.wrong_per_s

    def look(self, reading: Reading, in_flight: int, now_ns: int) -> Decision:
        """Decide anew. The first look only begins to count."""
        elapsed_s = 0.0 if self._looked_ns is None else (now_ns - self._looked_ns) / 1e9
        self._looked_ns = now_ns
        if elapsed_s > 0:
            for camera in self._cameras.values():
                camera.rate_fps += _MEMORY * (camera.answered / elapsed_s - camera.rate_fps)
                camera.answered = 0
        self._follow_engines(reading, elapsed_s)
        self._servers = reading.servers
        orders = self._governor.look(self._load(reading, in_flight, elapsed_s), now_ns)
        self._work_ms, self._ages = 0.0, Histogram()
        budget_ms_per_s = orders.budget_ms_per_s / self._slowness
        wanted = {name: self._pace(one, orders.rate_scale) for name, one in self._cameras.items()}
        tiers = self._router.assign(wanted, budget_ms_per_s, now_ns)
        smallest = min(self._ms.values())
        for name, tier in tiers.items():
            wanted[name] = replace(wanted[name], cost=self._ms[tier] / smallest)
        chosen = paces(wanted, budget_ms_per_s / smallest)
        for name, pace in chosen.items():
            self._cameras[name].pace_fps = pace
        return Decision(orders, self._slowness, tiers, chosen)

    def _follow_engines(self, reading: Reading, elapsed_s: float) -> None:
        """Costs come from a data sheet; what is served here may be slower or quicker, all tiers alike."""
        if not self._work_ms or reading.engine_ms is None or reading.engine_ms < _LEAST_BUSY * elapsed_s * 1000:
            return
        self._slowness += _MEMORY * (max(_LEAST_SLOWNESS, reading.engine_ms / self._work_ms) - self._slowness)

    def _pace(self, camera: _Camera, rate_scale: float) -> Pace:
        member = camera.member
        most_fps = max(member.least_fps, member.most_fps * rate_scale)
        wrong_per_s = camera.need.wrong_per_s if self._by_need else 1.0
        return Pace(member.least_fps, most_fps, member.weight, wrong_per_s, camera.passes)

    def _load(self, reading: Reading, in_flight: int, elapsed_s: float) -> Load:
        least_fps = sum(camera.member.least_fps for camera in self._cameras.values())
        return Load(
            p95_age_ms=self._ages.quantile(0.95),
            queue_ms=reading.queue_ms,
            in_flight=in_flight,
            busy_percent=reading.busy_percent,
            sm_clock_mhz=reading.sm_clock_mhz,
            sm_clock_max_mhz=reading.sm_clock_max_mhz,
            memory_percent=reading.memory_percent,
            decoder_percent=reading.decoder_percent,
            servers=reading.servers,
            work_ms_per_s=self._work_ms * self._slowness / elapsed_s if elapsed_s > 0 else None,
            floor_ms_per_s=least_fps * min(self._ms.values()) * self._slowness,
        )


class SceneReader:
    """Makes a Scene of what an inference of one camera has shown. Knows the ids that it has seen before."""

    def __init__(self, scale: float) -> None:
        """`scale`: canvas pixels per source pixel."""
        self._scale = scale
        self._newest_id = 0

    def read(self, found: Detections, ids: NDArray[np.int64], edges: float, similarity: float | None) -> Scene:
        """`found` and `ids` (n,) are one answer with its tracks' ids, 0 for none; ids grow, so a new track is seen.

        `similarity` is the picture's to the inferred one before it, None for the first.
        """
        known = ids > 0
        heights = (found.xyxy[known, 3] - found.xyxy[known, 1]) * self._scale
        confidence = found.confidence[known]
        new = int(np.count_nonzero(ids > self._newest_id))
        self._newest_id = max(self._newest_id, int(ids.max(initial=0)))
        return Scene(
            objects=int(np.count_nonzero(known)),
            small=int(np.count_nonzero(heights < _SMALL_CANVAS_PX)),
            unsure=float(np.mean(confidence < _UNSURE)) if len(confidence) else 0.0,
            new=new,
            edges=edges,
            motion=0.0 if similarity is None else 1.0 - similarity,
        )
