"""`python -m loadtest simulate`: a fleet in virtual time against a GPU's data sheet, and what its users would see."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from clients.arguments import seconds
from clients.capacity.cost import cost_json, cost_of
from clients.data_sheet import CENTRAL
from clients.errors import ConfigError
from clients.router import Policy
from clients.types import Tier
from demo.clips import Job, render_jobs
from demo.run import CLIP_S
from loadtest.profile import GpuProfile, sheet
from loadtest.recordings import CAMERAS, CANVASES, Recording, recordings
from loadtest.simulation.card import TierTiming, timings
from loadtest.simulation.report import report
from loadtest.simulation.run import Scenario, Simulation
from loadtest.simulation.verdict import Judge

PROFILES = Path(__file__).resolve().parent / "gpus"
CLIPS, CACHE = Path("demo/clips"), Path("out/recordings")
RECORDINGS = len(CAMERAS)
# n at three canvas sizes stands in for n, m and x: see recordings.py
STAND_INS: Mapping[Tier, str] = dict(zip(Tier, map(str, CANVASES), strict=True))


def add_simulate(commands: Any) -> None:
    """The command and its options."""
    text = "a fleet in virtual time: what fifty cameras on a card would cost and show, to the last digit every time"
    parser = commands.add_parser("simulate", help=text, description=text)
    parser.add_argument("--gpu", default="t4", metavar="NAME", help="loadtest/gpus/NAME.json (default %(default)s)")
    text = "of the sheet: pessimistic, central or optimistic (default %(default)s)"
    parser.add_argument("--variant", default=CENTRAL, metavar="NAME", help=text)
    parser.add_argument("--cameras", type=int, default=50, metavar="N", help="default %(default)s")
    text = "of the kind, each with a Triton of its own behind one fleet (default %(default)s)"
    parser.add_argument("--cards", type=int, default=1, metavar="N", help=text)
    parser.add_argument("--seconds", type=seconds, default=60.0, metavar="S", help="default %(default)s")
    text = "at the start, of which no frame is judged (default %(default)s)"
    parser.add_argument("--warm-up", type=float, default=0.0, metavar="S", help=text)
    parser.add_argument("--policy", choices=get_args(Policy), default="budget", help="of tiers (default %(default)s)")
    parser.add_argument("--tier", type=Tier, default=Tier.N, help="of policy fixed (default %(default)s)")
    parser.add_argument("--governor", choices=("ours", "article"), default="ours", help="default %(default)s")
    parser.add_argument("--demand", type=float, default=25.0, metavar="FPS", help="most per camera (default 25)")
    parser.add_argument("--busy", type=float, default=80.0, metavar="PERCENT", help="of a card, at most (default 80)")
    parser.add_argument(
        "--recordings", type=int, default=RECORDINGS, metavar="N", help="different clips (default %(default)s)"
    )
    text = "of one card with its part of the machine, in any currency"
    parser.add_argument("--price-per-hour", type=float, metavar="PRICE", help=text)
    parser.set_defaults(command=simulate)


def simulate(options: argparse.Namespace) -> dict[str, Any]:
    """Run it. Raises FleetError and ValueError."""
    profile = sheet(options.gpu, options.variant)
    scenario = Scenario(
        options.cameras,
        options.seconds,
        options.demand,
        options.tier,
        policy=options.policy,
        governor=options.governor,
        threshold_percent=options.busy,
        canvases=STAND_INS,
        judge_every=judged(options.cameras, options.seconds),
        warm_up_s=options.warm_up,
        cards=options.cards,
    )
    costs = cost_json(cost_of(options.price_per_hour, options.cards, options.cameras))
    found = replay(options.recordings)
    told = run(scenario, found, tier_timings(profile, options.policy, options.tier))
    return {**told, **costs, "kind": profile.kind, "gpu": profile.gpu, "policy": options.policy, "stand_ins": named()}


def run(scenario: Scenario, found: Sequence[Recording], tiers: Mapping[Tier, TierTiming]) -> dict[str, Any]:
    """One scenario, judged."""
    simulation = Simulation(scenario, found, tiers, Judge(scenario.judge_every))
    simulation.run()
    return report(simulation)


def judged(cameras: int, run_s: float) -> int:
    """Every so many frames one is judged: some thousands say all, and more only take time."""
    return max(1, round(cameras * run_s * 25 / 6000))


def tier_timings(profile: GpuProfile, policy: Policy, tier: Tier) -> dict[Tier, TierTiming]:
    """What the card serves: the one tier of `fixed`, else all. Raises ConfigError for a tier without times."""
    known = timings(profile)
    wanted = [tier] if policy == "fixed" else list(Tier)
    missing = [one.value for one in wanted if one not in known]
    if missing:
        raise ConfigError(f"the data sheet of {profile.gpu} has no times of {', '.join(missing)}")
    return {one: known[one] for one in wanted}


def replay(count: int) -> list[Recording]:
    """The demo's first `count` cameras, rendered, decoded and looked at where that has not been done yet."""
    from demo.progress import bars

    if not 1 <= count <= len(CAMERAS):
        raise ValueError(f"--recordings must be 1 to {len(CAMERAS)}, got {count}")
    jobs = [Job(index, 0, CLIP_S, CLIPS) for index in CAMERAS[:count]]
    with bars() as bar:
        task = bar.add_task("recordings", total=1.0)

        def told(name: str, share: float) -> None:
            bar.update(task, completed=share, description=f"recordings: {name}")

        render_jobs(jobs, progress=lambda name, share: told(f"rendering {name}", share * 0.4))
        return recordings(jobs, CACHE, lambda name, share: told(name, 0.4 + share * 0.6))


def named() -> dict[str, str]:
    """For a report: what stands in for each tier."""
    return {tier.value: f"yolo12n on {canvas}" for tier, canvas in STAND_INS.items()}
