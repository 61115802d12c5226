"""The nearest plans that fit, where the one that is asked for does not. Pure.

Each lever is tried alone, from its smallest step to its largest: smaller tiers, H.265, the cameras' sub-stream,
decoding on the CPU what the card has no room for, more cards, more cores, lower rates. Levers that are not enough alone
are tried in pairs. What is named changes as little as the levers allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from clients.capacity.demand import Cameras, Demand, Host
from clients.capacity.limits import all_kept, limits
from clients.data_sheet import GpuProfile
from clients.types import Tier

LEAST_RATE_FPS = 0.5  # of a camera; less than this is not watching
MOST_CARDS, MOST_CORES = 64, 256
_SUB_STREAM_LINES = (720, 480, 360)
_HALVINGS = 20


@dataclass(frozen=True, slots=True)
class Situation:
    """What a lever changes."""

    demand: Demand
    host: Host
    cards: int


@dataclass(frozen=True, slots=True)
class Change:
    """Steps, each with the lever's name and what it says, and the situation after them."""

    steps: tuple[tuple[str, str], ...]
    situation: Situation


Step = tuple[str, Situation]
Fits = Callable[[Situation], bool]


@dataclass(frozen=True, slots=True)
class Lever:
    """`steps` from the smallest to the largest; `solve` is the smallest after which everything fits."""

    name: str
    steps: Callable[[Situation], Iterator[Step]]
    solve: Callable[[Situation, Fits], Step | None]


def nearest(demand: Demand, card: GpuProfile, host: Host, cards: int) -> list[Change]:
    """Changes after which everything fits: of each lever alone, then of two, the smallest. May be none."""
    start = Situation(demand, host, cards)

    def fits(situation: Situation) -> bool:
        found = limits(situation.demand, card, situation.host, situation.cards)
        return all_kept(found)

    levers = _levers(card)
    alone = {lever.name: step for lever in levers if (step := lever.solve(start, fits)) is not None}
    changes = [Change(((name, text),), situation) for name, (text, situation) in alone.items()]
    others = [lever for lever in levers if lever.name not in alone]
    pairs = (_pair(first, second, start, fits) for first, second in combinations(others, 2))
    return changes + [pair for pair in pairs if pair is not None]


def _levers(card: GpuProfile) -> list[Lever]:
    """In a pair the earlier one takes its steps, the later one is solved after each: so the finest come last."""

    def stepped(name: str, steps: Callable[[Situation], Iterator[Step]]) -> Lever:
        return Lever(name, steps, lambda start, fits: next((one for one in steps(start) if fits(one[1])), None))

    return [
        stepped("tier", lambda situation: _smaller_tiers(situation, card)),
        stepped("codec", lambda situation: _as_hevc(situation, card)),
        stepped("sub-stream", _sub_streams),
        stepped("decode", _on_cpu_too),
        Lever("cards", _more_cards, _fewest_cards),
        stepped("cores", _more_cores),
        Lever("rate", lambda _: iter(()), _slower),
    ]


def _pair(first: Lever, second: Lever, start: Situation, fits: Fits) -> Change | None:
    """The first step of one lever after which the other one is enough."""
    for text, between in first.steps(start):
        step = second.solve(between, fits)
        if step is not None:
            return Change(((first.name, text), (second.name, step[0])), step[1])
    return None


def _each(situation: Situation, change: Callable[[Cameras], Cameras]) -> Situation:
    groups = tuple(change(group) for group in situation.demand.groups)
    return replace(situation, demand=replace(situation.demand, groups=groups))


def _slower(situation: Situation, fits: Fits) -> Step | None:
    """The highest rates that fit, all cameras' in the same proportion; nothing below LEAST_RATE_FPS."""
    rates = [min(group.rate_fps, group.source.fps) for group in situation.demand.groups]
    low, high = LEAST_RATE_FPS / min(rates), 1.0

    def at(scale: float) -> Situation:
        return _each(situation, lambda group: replace(group, rate_fps=min(group.rate_fps, group.source.fps) * scale))

    if low >= 1 or not fits(at(low)):
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(at(middle)) else (low, middle)
    told = sorted({round(rate * low, 2) for rate in rates})
    shown = f"{told[0]:g}" if len(told) == 1 else f"{told[0]:g} to {told[-1]:g}"
    return f"{shown} inferences per second and camera ({low:.0%} of what is asked)", at(low)


def _smaller_tiers(situation: Situation, card: GpuProfile) -> Iterator[Step]:
    """Step by step the largest tier that is used gives its part to the next smaller one that the sheet has."""
    known = [tier for tier in Tier if tier.value in card.models]
    while True:
        used = [tier for tier in situation.demand.rates() if known.index(tier) > 0]
        if not used:
            return
        largest = used[-1]
        smaller = known[known.index(largest) - 1]

        def moved(group: Cameras, largest: Tier = largest, smaller: Tier = smaller) -> Cameras:
            shares = dict(group.tiers)
            shares[smaller] = shares.get(smaller, 0.0) + shares.pop(largest, 0.0)
            return replace(group, tiers=shares)

        situation = _each(situation, moved)
        yield f"{smaller.value} instead of {largest.value}", situation


def _as_hevc(situation: Situation, card: GpuProfile) -> Iterator[Step]:
    """All cameras that send H.264 send H.265, where the card decodes it."""
    if card.hardware is None or "hevc" not in card.hardware.decoders:
        return
    if any(group.source.load.codec == "h264" for group in situation.demand.groups):
        yield (
            "H.265 instead of H.264",
            _each(
                situation,
                lambda group: (
                    replace(group, source=group.source.as_hevc()) if group.source.load.codec == "h264" else group
                ),
            ),
        )


def _sub_streams(situation: Situation) -> Iterator[Step]:
    """The cameras' smaller streams, of their own shape; those that are small already stay."""
    for lines in _SUB_STREAM_LINES:
        if not any(group.source.load.height > lines for group in situation.demand.groups):
            continue

        def smaller(group: Cameras, lines: int = lines) -> Cameras:
            load = group.source.load
            if load.height <= lines:
                return group
            return replace(group, source=group.source.at(2 * round(load.width * lines / load.height / 2), lines))

        yield f"the cameras' sub-stream of {lines} lines", _each(situation, smaller)


def _on_cpu_too(situation: Situation) -> Iterator[Step]:
    """What the card has no room for is decoded on the CPU."""
    if any(group.decode == "cuda" for group in situation.demand.groups):
        yield (
            "decode: auto, the CPU decodes what the card has no room for",
            _each(situation, lambda group: replace(group, decode="auto") if group.decode == "cuda" else group),
        )


def _more_cores(situation: Situation) -> Iterator[Step]:
    cores = situation.host.cores
    while cores < MOST_CORES:
        cores = min(MOST_CORES, cores + max(1, cores // 4))
        yield f"{cores:g} cores", replace(situation, host=replace(situation.host, cores=cores))


def _more_cards(situation: Situation) -> Iterator[Step]:
    for cards in range(situation.cards + 1, MOST_CARDS + 1):
        yield f"{cards} cards", replace(situation, cards=cards)


def _fewest_cards(situation: Situation, fits: Fits) -> Step | None:
    """The shares of each card fall with every card that is added, so halving finds the fewest."""
    low, high = situation.cards, MOST_CARDS
    if low >= high or not fits(replace(situation, cards=high)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(replace(situation, cards=middle)) else (middle, high)
    return f"{high} cards", replace(situation, cards=high)
