"""`python -m loadtest savings`: the article's table as an experiment. What each technique saves, and what it costs.

**Before** is what the article calls so: every stream its own model at batch 1, every frame, square 640, stock graph,
tier n; as many cards as that takes, so nothing waits. Then one technique at a time, then all together, last what a
uniform rate reaches in the same GPU time. Cameras are the demo's, static, calm and busy ones alike.

Engine milliseconds per camera-second are *measured* on this CPU, times inferences counted in virtual time; shares of a
T4 are *projected* from its data sheet; precision is that of yolo12n's real detections against the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clients.types import Tier
from loadtest.profile import GpuProfile
from loadtest.recordings import Recording
from loadtest.simulate import run, tier_timings
from loadtest.simulation.card import TierTiming
from loadtest.simulation.run import Scenario

SQUARE_MS = 1.64  # T4, 640x640, batch 1: YOLO12's authors
# Of the plans for SM 7.5, by `export verify`: weights, activations at batch 1 and at the largest batch, postprocess.
_WEIGHTS_MB, _ONE_MB, _LARGEST_MB, _POST_MB = 5.8, 41.4, 131.7, 47.8
_SQUARE_PIXELS = 640 / 384
_EVERY_FRAME = 60.0
_FREE = TierTiming((1,), (0.001,), 1000, (1,), 0.0)  # a card of its own for every camera: nothing waits
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `step` is the engine's form (engine_cost.py); `t4_ms` a T4's time for one inference."""

    name: str
    tier: str
    step: str
    t4_ms: float
    told: Mapping[str, Any]

    def as_json(self, costs_ms: Mapping[str, float], before: Row | None, cameras: int) -> dict[str, Any]:
        """Plain values; shares in percent."""
        rate = self.told["inferences_per_camera_s"]
        engine = rate * costs_ms[self.step]
        t4 = rate * self.t4_ms
        first = before or self
        base_engine = first.told["inferences_per_camera_s"] * costs_ms[first.step]
        return {
            "name": self.name,
            "tier": self.tier,
            "inferences_per_camera_s": round(rate, 3),
            "engine_ms_per_camera_s": round(engine, 2),
            "saved_percent": round(100 * (1 - engine / base_engine), 2),
            "t4_share_percent": round(t4 / 10, 3),
            "t4_saved_percent": round(100 * (1 - t4 / (first.told["inferences_per_camera_s"] * first.t4_ms)), 2),
            "memory_mb_per_stream": round(_memory_mb(self.step, cameras), 1),
            "streams_per_t4": int(800 / t4) if t4 else None,
            "streaming_ap": self.told["streaming_ap"],
            "ap": self.told["ap"],
            "ap_retained_percent": round(100 * self.told["streaming_ap"] / first.told["streaming_ap"], 2),
            "added_latency_ms_p50": _added(self.told["age_ms"]["p50"], self.t4_ms),
            "added_latency_ms_p95": _added(self.told["age_ms"]["p95"], self.t4_ms),
        }


def _memory_mb(step: str, cameras: int) -> float:
    """Of a T4, for one stream: a model of its own, or its part of a shared one."""
    if step == "batching":
        return (_WEIGHTS_MB + _LARGEST_MB + _POST_MB) / cameras
    pixels = _SQUARE_PIXELS if step == "square" else 1.0
    return _WEIGHTS_MB + _ONE_MB * pixels + _POST_MB / 32


def _added(age_ms: float | None, inference_ms: float) -> float | None:
    return None if age_ms is None else round(age_ms - inference_ms, 1)


class Experiment:
    """All rows on one set of recordings and one card."""

    def __init__(
        self, profile: GpuProfile, found: Sequence[Recording], cameras: int, seconds: float, fps: float, every: int
    ) -> None:
        """`fps` is the rate per camera, on average, that all techniques together may spend."""
        self._found = found
        self._tiers = tier_timings(profile, "fixed", Tier.N)
        self._one_ms = self._tiers[Tier.N].latency_ms(1)
        self._batched_ms = self._tiers[Tier.N].per_inference_ms
        self._fps = fps
        self.plain = Scenario(
            cameras, seconds, _EVERY_FRAME, similarity=None, tracks=False, judge_every=every, window=4 * cameras
        )

    def rows(self, progress: Progress) -> list[Row]:
        """In the table's order."""
        planned: list[tuple[str, Callable[[], Row]]] = [
            ("before", self._before),
            ("canvas", lambda: self._same("canvas", self._one_ms)),
            ("attention", lambda: self._same("attention", self._one_ms)),
            ("batching", lambda: self._same("batching", self._batched_ms)),
            ("gate", lambda: self._alone("gate", replace(self.plain, similarity=0.95))),
            ("interval, boxes held", lambda: self._alone("interval, boxes held", self._at(self._fps))),
            ("interval + tracker", lambda: self._alone("interval + tracker", self._at(self._fps, tracks=True))),
            ("scheduler by need", lambda: self._together("scheduler by need", similarity=None)),
            ("all together", lambda: self._together("all together", similarity=0.95)),
            ("uniform, equal GPU time", self._uniform),
        ]
        done: list[Row] = []
        self._done = done
        for number, (name, make) in enumerate(planned):
            progress(name, number / len(planned))
            done.append(make())
        progress("done", 1.0)
        return done

    def _before(self) -> Row:
        told = self._run(replace(self.plain, overhead_ms=self.plain.overhead_ms + SQUARE_MS), free=True)
        return Row("before", Tier.N.value, "square", SQUARE_MS, told)

    def _same(self, name: str, t4_ms: float) -> Row:
        """The same inferences by another engine; precision is the canvas' own: mAP differs by a tenth of a point."""
        return Row(name, Tier.N.value, name, t4_ms, self._done[0].told)

    def _alone(self, name: str, scenario: Scenario) -> Row:
        told = self._run(replace(scenario, overhead_ms=scenario.overhead_ms + SQUARE_MS), free=True)
        return Row(name, Tier.N.value, "square", SQUARE_MS, told)

    def _at(self, fps: float, *, tracks: bool = False) -> Scenario:
        return replace(self.plain, demand_fps=fps, tracks=tracks)

    def together(self, fps: float, *, similarity: float | None = 0.95, by_need: bool = True) -> dict[str, Any]:
        """Everything on one shared card, with GPU time for `fps` inferences per camera and second on average."""
        capacity = fps * self.plain.cameras * self._one_ms
        scenario = replace(
            self.plain,
            demand_fps=25.0,
            similarity=similarity,
            tracks=True,
            policy="fixed",
            by_need=by_need,
            capacity_ms_per_s=capacity,
            threshold_percent=100.0,
        )
        return self._run(scenario)

    def _together(self, name: str, *, similarity: float | None) -> Row:
        told = self.together(self._fps, similarity=similarity)
        return Row(name, Tier.N.value, "batching", told["gpu_ms_per_camera_s"] / told["inferences_per_camera_s"], told)

    def uniform(self, gpu_ms_per_camera_s: float, first_fps: float) -> dict[str, Any]:
        """One rate for all, tracker included, at this GPU time: looked for in two runs."""
        fps = first_fps
        told = self._run(replace(self.plain, demand_fps=fps, tracks=True))
        for _ in range(1):
            fps *= gpu_ms_per_camera_s / told["gpu_ms_per_camera_s"]
            told = self._run(replace(self.plain, demand_fps=fps, tracks=True))
        return told

    def _uniform(self) -> Row:
        ours = self._done[-1].told
        told = self.uniform(ours["gpu_ms_per_camera_s"], ours["inferences_per_camera_s"])
        t4_ms = told["gpu_ms_per_camera_s"] / told["inferences_per_camera_s"]
        return Row("uniform, equal GPU time", Tier.N.value, "batching", t4_ms, told)

    def _run(self, scenario: Scenario, *, free: bool = False) -> dict[str, Any]:
        return run(scenario, self._found, {Tier.N: _FREE} if free else self._tiers)
