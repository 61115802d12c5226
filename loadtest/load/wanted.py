"""What a load test is asked for: Locust's own options and ours, checked. Times are the card's, see `Plan`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from clients.data_sheet import GpuProfile
from clients.errors import ConfigError
from clients.types import Canvas, Tier, parse_tier
from loadtest.simulation.card import timings

SendPath = Literal["ensemble", "jpeg"]
Shape = Literal["constant", "ramp", "step", "soak", "flash"]
PATHS: tuple[SendPath, ...] = get_args(SendPath)
SHAPES: tuple[Shape, ...] = get_args(Shape)


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} must be a positive number, got {value:g}")


@dataclass(frozen=True, slots=True)
class Objective:
    """95 % of the answers are no older than `age_p95_ms`; a share of `goodput` of the frames is answered in time."""

    age_p95_ms: float = 150.0
    goodput: float = 0.95

    def __post_init__(self) -> None:
        _positive("--slo-age-p95-ms", self.age_p95_ms)
        if not 0 < self.goodput <= 1:
            raise ConfigError(f"--slo-goodput must lie above 0 and be 1 at most, got {self.goodput:g}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The load, as a user describes it. `fps` of a camera, 0: so many that all together are `load` of the capacity.

    `burst_s`: the cameras' key frames come together so often, 0: never. `stale`: the share of frames that reach the
    client when they are older than the deadline already; a camera does not send them.
    """

    path: SendPath = "ensemble"
    mix: Mapping[Tier, float] = field(default_factory=lambda: {Tier.N: 1.0})
    load: float = 0.6
    fps: float = 0.0
    deadline_ms: float = 200.0
    burst_s: float = 0.0
    stale: float = 0.0
    shape: Shape = "constant"
    step_s: float = 10.0
    objective: Objective = Objective()

    def __post_init__(self) -> None:
        if self.path not in PATHS:
            raise ConfigError(f"--path must be one of {', '.join(PATHS)}, got {self.path!r}")
        if self.shape not in SHAPES:
            raise ConfigError(f"--shape must be one of {', '.join(SHAPES)}, got {self.shape!r}")
        _positive("--load", self.load)
        _positive("--deadline-ms", self.deadline_ms)
        _positive("--step-s", self.step_s)
        for name, value in (("--fps", self.fps), ("--burst-s", self.burst_s)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} must not be negative, got {value:g}")
        if not 0 <= self.stale < 1:
            raise ConfigError(f"--stale must be a share from 0 up to less than 1, got {self.stale:g}")

    @classmethod
    def of(cls, options: argparse.Namespace) -> Wanted:
        """From Locust's parsed options. Raises ConfigError, one line that names the option."""
        return cls(
            path=options.path,
            mix=parse_mix(str(options.tier_mix)),
            load=float(options.load),
            fps=float(options.fps),
            deadline_ms=float(options.deadline_ms),
            burst_s=float(options.burst_s),
            stale=float(options.stale),
            shape=options.shape,
            step_s=float(options.step_s),
            objective=Objective(float(options.slo_age_p95_ms), float(options.slo_goodput)),
        )


def parse_mix(text: str) -> dict[Tier, float]:
    """`n:0.8,m:0.15,x:0.05` -> shares that sum to 1; `n` alone is all. Raises ConfigError."""
    mix: dict[Tier, float] = {}
    for part in text.split(","):
        name, _, share = part.partition(":")
        try:
            tier, value = parse_tier(name), float(share or 1)
        except ValueError as error:
            raise ConfigError(f"--tier-mix: expected TIER:SHARE,TIER:SHARE such as n:0.8,m:0.2: {error}") from error
        if tier in mix or not 0 < value < math.inf:
            raise ConfigError(f"--tier-mix: expected each tier once with a positive share, got {text!r}")
        mix[tier] = value
    total = sum(mix.values())
    return {tier: value / total for tier, value in mix.items()}


def capacity_per_s(profile: GpuProfile, mix: Mapping[Tier, float]) -> float:
    """Inferences a second that a card does of this mix, all batches being the largest. Raises ConfigError."""
    known = timings(profile)
    for tier in mix:
        if tier not in known:
            raise ConfigError(f"the data sheet of {profile.gpu} has no {tier}; it has {', '.join(profile.models)}")
    return 1000 / sum(share * known[tier].per_inference_ms for tier, share in mix.items())


def tier_of(number: int, mix: Mapping[Tier, float]) -> Tier:
    """The tier of a camera: of the first N cameras each tier has its share of N, to one camera."""
    given = dict.fromkeys(mix, 0)
    for served in range(1, number + 2):
        tier = max(mix, key=lambda one: mix[one] * served - given[one])
        given[tier] += 1
    return tier


@dataclass(frozen=True, slots=True)
class Plan:
    """The load in figures. `fps` of a camera and all other times are the card's.

    A card that is slowed down `scale` times, so that a small machine can feed it, takes so much longer for everything;
    what is asked of it and read off it is divided by that: the figures are those of the card at full speed.
    `capacity_per_s` is None where the card is not known. `emulated`: every answer carries its camera's number.
    """

    wanted: Wanted
    fps: float
    scale: float = 1.0
    emulated: bool = False
    capacity_per_s: float | None = None
    canvas: Canvas = field(default_factory=Canvas)

    def as_options(self) -> dict[str, Any]:
        """What a worker must know beside the options that Locust hands on itself; plain values."""
        return {
            "planned_fps": self.fps,
            "planned_scale": self.scale,
            "planned_emulated": self.emulated,
            "planned_capacity_per_s": self.capacity_per_s,
            "planned_canvas": str(self.canvas),
        }

    @classmethod
    def of(cls, options: argparse.Namespace) -> Plan:
        """The plan that a master has put into the options. Raises ConfigError, or AttributeError without a plan."""
        return cls(
            Wanted.of(options),
            options.planned_fps,
            options.planned_scale,
            options.planned_emulated,
            options.planned_capacity_per_s,
            Canvas.parse(options.planned_canvas),
        )


def plan(wanted: Wanted, cameras: int, profile: GpuProfile | None, scale: float, *, emulated: bool) -> Plan:
    """How often each of so many cameras sends. Raises ConfigError.

    No data sheet and no rate, a tier that the data sheet does not have, or an objective that even an idle card misses.
    """
    if profile is None:
        if not wanted.fps:
            raise ConfigError(
                "nothing says what this server's card can do: give --fps, or --gpu with the name of its data sheet"
            )
        return Plan(wanted, wanted.fps, scale, emulated)
    capacity = capacity_per_s(profile, wanted.mix)
    known = timings(profile)
    slowest, least_ms = max(((tier, known[tier].latency_ms(1)) for tier in wanted.mix), key=lambda one: one[1])
    for name, limit_ms in (("--slo-age-p95-ms", wanted.objective.age_p95_ms), ("--deadline-ms", wanted.deadline_ms)):
        if limit_ms <= least_ms:
            raise ConfigError(
                f"{name} {limit_ms:g} cannot be met: {slowest} alone takes {least_ms:g} ms on an idle card"
            )
    fps = wanted.fps or wanted.load * capacity / max(1, cameras)
    return Plan(wanted, fps, scale, emulated, capacity)
