"""What a test has shown, as one JSON object, and whether its objective held. Pure: everything is an argument.

A test never passes on what it has not seen: no frames, metrics that cannot be read, a server that went away, answers of
other cameras, workers that were lost are problems, and a problem fails the test whatever the figures say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clients.statistics import Histogram
from loadtest.fairness import jain
from loadtest.load.server_metrics import CardFigures, Reading
from loadtest.load.tally import CROSS_TALK, Fate, Tally
from loadtest.load.wanted import Objective, Plan

SOAK_WINDOW_S = 60.0
_FEWEST_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One second of the test, for the plots and for `held`; ages and rates are the card's, `at_s` is not."""

    at_s: float
    cameras: int
    good: int
    asked: int
    ages: Histogram
    mean_batch: float | None = None
    utilisation: float | None = None


@dataclass(slots=True)
class Seen:
    """Everything that is judged."""

    plan: Plan
    tally: Tally
    seconds: float
    cameras: int
    before: Reading | None = None
    after: Reading | None = None
    card: CardFigures = field(default_factory=CardFigures)
    samples: Sequence[Sample] = ()
    problems: Sequence[str] = ()
    held_cameras: int | None = None
    broke_cameras: int | None = None
    client_cpu_s: float | None = None


def judged(seen: Seen) -> dict[str, Any]:
    """The report; `passed` is the verdict, `problems` are the reasons where it is false."""
    plan, tally = seen.plan, seen.tally
    wanted, card_s = plan.wanted, seen.seconds / plan.scale
    good_per_s = tally.total(Fate.GOOD) / card_s if card_s > 0 else 0.0
    shares = tally.shares()
    mean_batch = seen.after.mean_batch_since(seen.before) if seen.before and seen.after else None
    problems = [*seen.problems, *_broken(seen, mean_batch)]
    index, steady_per_s = jain(shares), steady(seen.samples, plan.scale) or good_per_s
    return {
        "kind": "emulated" if plan.emulated else "measured",
        "path": wanted.path,
        "shape": wanted.shape,
        "cameras": seen.cameras,
        "seconds": round(seen.seconds, 1),
        "time_scale": plan.scale,
        "fps": round(plan.fps, 3),
        "planned_capacity_per_s": None if plan.capacity_per_s is None else round(plan.capacity_per_s, 1),
        "goodput": None if tally.goodput is None else round(tally.goodput, 4),
        "goodput_per_s": round(good_per_s, 1),
        "steady_per_s": round(steady_per_s, 1),
        "capacity_used": None if plan.capacity_per_s is None else round(steady_per_s / plan.capacity_per_s, 3),
        "age_ms": tally.ages.summary(),
        "jain": None if index is None else round(index, 4),
        "worst_share": round(min(shares), 4) if shares else None,
        "worst_of_fair": round(min(shares) * len(shares) / sum(shares), 4) if any(shares) else None,
        "mean_batch": None if mean_batch is None else round(mean_batch, 2),
        "frames": {fate.value: tally.total(fate) for fate in Fate},
        "failures": {reason: count for reason, count in tally.problems.items() if reason != CROSS_TALK},
        "cross_talk": tally.problems[CROSS_TALK],
        "gpu": seen.card.summary(),
        "client_cpu_ms_per_frame": _per_frame_ms(seen.client_cpu_s, tally.total(Fate.GOOD, Fate.LATE)),
        "held_cameras": seen.held_cameras,
        "broke_cameras": seen.broke_cameras,
        "objective": {"age_p95_ms": wanted.objective.age_p95_ms, "goodput": wanted.objective.goodput},
        "passed": not problems,
        "problems": problems,
    }


def _per_frame_ms(cpu_s: float | None, frames: int) -> float | None:
    return None if cpu_s is None or not frames else round(cpu_s * 1000 / frames, 3)


def objective_problems(objective: Objective, ages: Histogram, goodput: float | None) -> list[str]:
    """Why the objective does not hold; nothing when it does."""
    problems = []
    age_ms = ages.quantile(0.95)
    if goodput is None or age_ms is None:
        return ["no frame was answered"]
    if goodput < objective.goodput:
        problems.append(f"goodput {goodput:.4f} is below {objective.goodput:g}")
    if age_ms > objective.age_p95_ms:
        problems.append(f"age p95 {age_ms:.1f} ms is above {objective.age_p95_ms:g}")
    return problems


def held(objective: Objective, samples: Sequence[Sample]) -> bool:
    """Whether the objective held in these samples together; where nothing was asked, it did."""
    asked, good, ages = sum(one.asked for one in samples), sum(one.good for one in samples), Histogram()
    for one in samples:
        ages.merge(one.ages)
    return not asked or not objective_problems(objective, ages, good / asked)


def windows(samples: Sequence[Sample], length_s: float) -> list[list[Sample]]:
    """The samples in pieces of so many seconds; a short piece at the end is not one."""
    if not samples:
        return []
    pieces = [
        [one for one in samples if start <= one.at_s < start + length_s]
        for start in (number * length_s for number in range(int(samples[-1].at_s // length_s)))
    ]
    return [piece for piece in pieces if piece]


def steady(samples: Sequence[Sample], scale: float) -> float | None:
    """Good answers a second of card time while all cameras were there, without the test's first and last tenths.

    At the start frames have not come due yet, at the end what is in flight is lost: neither tells of the card. None
    where there are too few samples.
    """
    if not samples:
        return None
    most, end_s = max(one.cameras for one in samples), samples[-1].at_s
    middle = [one for one in samples if one.cameras == most and 0.1 * end_s <= one.at_s <= 0.9 * end_s]
    if len(middle) < _FEWEST_SAMPLES:
        return None
    return sum(one.good for one in middle[1:]) / (middle[-1].at_s - middle[0].at_s) * scale


def _broken(seen: Seen, mean_batch: float | None) -> list[str]:
    tally, wanted = seen.tally, seen.plan.wanted
    problems = []
    if tally.problems[CROSS_TALK]:
        problems.append(f"{tally.problems[CROSS_TALK]} answers were another camera's")
    if mean_batch is None and not seen.problems:
        problems.append("the server's counts do not cover the test: it was restarted, or inferred nothing")
    if wanted.shape == "ramp":
        return problems if seen.held_cameras else [*problems, "the objective broke before the ramp began"]
    problems += objective_problems(wanted.objective, tally.ages, tally.goodput)
    if wanted.shape == "soak":
        minutes = windows(seen.samples, SOAK_WINDOW_S)
        bad = sum(not held(wanted.objective, minute) for minute in minutes)
        problems += [f"the objective did not hold in {bad} of {len(minutes)} minutes"] if bad else []
    return problems
