"""The fleet in virtual time: repeatable, lossless, and no better than its card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_city import city, recording

from clients.audit import AuditRules
from clients.types import Tier, Verdict
from loadtest.__main__ import main
from loadtest.fairness import jain
from loadtest.profile import read_profile
from loadtest.recordings import Recording
from loadtest.simulate import STAND_INS
from loadtest.simulation.card import TierTiming, VirtualCard, timings
from loadtest.simulation.clock import VirtualClock
from loadtest.simulation.pool import CardPool
from loadtest.simulation.report import report
from loadtest.simulation.run import Scenario, Simulation
from loadtest.simulation.verdict import Judge

T4 = timings(read_profile(ROOT / "loadtest" / "gpus" / "t4.json"))
N_ONLY = {Tier.N: T4[Tier.N]}
CITY = city()


def simulated(
    found: list[Recording] | None = None, tiers: dict[Tier, TierTiming] | None = None, **told: Any
) -> Simulation:
    scenario = Scenario(**{"cameras": 6, "seconds": 12, "judge_every": 2} | told)
    simulation = Simulation(scenario, found or CITY, tiers or N_ONLY, Judge(scenario.judge_every))
    simulation.run()
    return simulation


def answers(**told: Any) -> dict[str, Any]:
    return report(simulated(**told))


def test_the_same_run_prints_the_same_bytes() -> None:
    """In two processes whose hashes differ."""
    outputs = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, ROOT / "tests" / "synthetic_city.py"],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert set(json.loads(outputs[0])) >= {
        "streaming_ap",
        "ap",
        "gpu_ms_per_camera_s",
        "age_ms",
        "jain",
        "tier_share",
        "skip_share",
        "miss_rate",
    }


@pytest.mark.parametrize("told", [{}, {"policy": "budget"}, {"similarity": None}, {"window": 1}], ids=str)
def test_no_frame_is_lost(told: dict[str, Any]) -> None:
    """Every decoded frame has ended in one way, waits, or is in flight."""
    for one in simulated(**told).cameras.values():
        decoded, verdicts = one.camera.counts()
        assert decoded == 240
        assert 0 <= decoded - verdicts.total() <= 2


def test_a_perfect_detector_on_every_frame_is_perfect() -> None:
    """Where nothing is late that was inferred itself, plain precision is 100 %."""
    told = answers(similarity=None, demand_fps=60.0, cameras=3, overhead_ms=1, canvases=dict.fromkeys(Tier, "704x416"))
    assert told["inferences_per_camera_s"] == pytest.approx(20, rel=0.01)
    assert told["ap"] == pytest.approx(100, abs=0.1)


def test_the_warm_up_is_not_judged() -> None:
    """At the first frame nobody has boxes; without the first second a perfect detector is perfect for users too."""
    told = {"similarity": None, "demand_fps": 60.0, "cameras": 3, "overhead_ms": 1, "found": CITY[:1], "seconds": 4}
    told |= {"canvases": dict.fromkeys(Tier, "704x416")}
    cold, warm = answers(**told), answers(warm_up_s=1.0, **told)
    assert warm["streaming_ap"] == pytest.approx(100, abs=0.1)
    assert cold["streaming_ap"] < 98
    assert warm["inferences_per_camera_s"] == cold["inferences_per_camera_s"]


def test_what_is_late_costs_streaming_precision_only() -> None:
    """At four inferences a second, a wait of 120 ms: the same frames are inferred, and their boxes come too late."""
    quick, slow = (answers(similarity=None, demand_fps=4.0, cameras=3, overhead_ms=ms) for ms in (1, 120))
    assert slow["ap"] == pytest.approx(quick["ap"], abs=1)
    assert slow["streaming_ap"] < quick["streaming_ap"] - 3
    assert slow["age_ms"]["p50"] > quick["age_ms"]["p50"] + 100


def test_answers_in_time_are_those_within_the_deadline() -> None:
    """All of them where nothing is late, none where everything is, at the deadline that was asked for."""
    told = {"similarity": None, "demand_fps": 4.0, "cameras": 3}
    quick, slow = answers(overhead_ms=1, **told), answers(overhead_ms=120, deadline_ms=100.0, **told)
    assert (quick["in_time_share"], slow["in_time_share"]) == (1.0, 0.0)
    assert quick["in_time_per_camera_s"] == quick["inferences_per_camera_s"]


def test_boxes_that_are_held_are_worse_than_boxes_that_are_predicted() -> None:
    """At three inferences a second, on the street where things move."""
    moving = [recording("calm", objects=5, speed_px_s=60, seed=5)]
    few = {"similarity": None, "demand_fps": 3.0, "cameras": 1, "found": moving}
    assert answers(**few)["streaming_ap"] > answers(tracks=False, **few)["streaming_ap"] + 2


def test_a_budget_is_kept_and_spent_where_things_move() -> None:
    """At equal card time the busy camera gets more, the still one less, and precision is higher than by equal rates."""
    told = {
        "demand_fps": 20.0,
        "policy": "fixed",
        "capacity_ms_per_s": 8.0,
        "seconds": 20,
        "cameras": 3,
        "similarity": None,
    }
    even, by_need = simulated(by_need=False, **told), simulated(**told)
    assert by_need.pool.busy_ms <= even.pool.busy_ms * 1.05
    rates = [len(one.inferred_at) for one in by_need.cameras.values()]
    assert rates[0] < rates[1] < rates[2]
    assert report(by_need)["streaming_ap"] > report(even)["streaming_ap"] + 0.5
    assert jain(rates) < report(even)["jain"]


def test_a_stronger_tier_is_bought_where_it_is_worth_it() -> None:
    """With room for it the busy camera has one; where there is time for one n a second each, nobody has."""
    told = {"tiers": T4, "policy": "budget", "canvases": STAND_INS, "demand_fps": 5.0, "cameras": 3}
    rich, poor = simulated(capacity_ms_per_s=100.0, **told), simulated(capacity_ms_per_s=4.0, **told)
    assert list(rich.cameras.values())[2].tier is not Tier.N
    assert report(rich)["tier_share"]["yolo12n"] < 1
    assert {one.tier for one in poor.cameras.values()} == {Tier.N}


def test_the_audit_finds_what_the_gate_misses() -> None:
    """A gate that sees nothing misses much: the audit's interval holds the rate over all skipped frames."""
    blind = {"similarity": 1e-6, "max_skip_s": 2.0, "demand_fps": 20.0, "cameras": 3, "seconds": 60}
    blind |= {"counts_missed": True}
    everything = simulated(audit=AuditRules(share=1.0), **blind)
    sample = simulated(audit=AuditRules(share=0.1), **blind)
    told = report(sample)["audit"]
    assert told["frames"] > 100
    low, high = told["interval_95"]
    population = sample.population()
    assert low <= population <= high
    assert population > 0.1
    assert report(everything)["skipped"]["similar"] == 0
    assert simulated(cameras=1, seconds=1).population() is None, "it costs time, and is counted where it is asked for"


def test_a_card_works_on_one_batch_at_a_time() -> None:
    """Two tiers that are asked together take the sum of their times."""
    clock = VirtualClock()
    card = VirtualCard(clock, T4)
    done: list[tuple[str, float]] = []
    for tier in (Tier.X, Tier.N):
        card.send(tier, lambda tier=tier: done.append((tier.value, clock.now_ns / 1e6)))
    clock.run(1_000_000_000)
    x_ms, n_ms = T4[Tier.X].latency_ms(1), T4[Tier.N].latency_ms(1)
    assert [name for name, _ in done] == ["yolo12x", "yolo12n"]
    assert done[0][1] == pytest.approx(2 + x_ms)
    assert done[1][1] == pytest.approx(2 + x_ms + n_ms)
    assert card.busy_ms == pytest.approx(x_ms + n_ms)


@settings(max_examples=40, deadline=None)
@given(arrivals=st.lists(st.integers(0, 60_000), min_size=1, max_size=60))
def test_batchers_answer_all_in_order_and_in_time(arrivals: list[int]) -> None:
    """Microseconds of arrival: each is answered once, first come first served, in batches no larger than allowed."""
    clock = VirtualClock()
    card = VirtualCard(clock, N_ONLY)
    order: list[int] = []

    def arrive(number: int) -> Callable[[], None]:
        return lambda: card.send(Tier.N, lambda: order.append(number))

    for number, at_us in enumerate(sorted(arrivals)):
        clock.at(at_us * 1000, arrive(number))
    clock.run(10_000_000_000)
    assert order == list(range(len(arrivals)))
    assert card.inferences == len(arrivals)
    assert card.inferences / card.batches <= N_ONLY[Tier.N].largest
    assert card.waiting == 0


def test_a_preferred_size_leaves_at_once_and_three_wait_for_company() -> None:
    """Eight leave as soon as they are there; fewer than any preferred size leave after the longest wait."""
    for count, batches, first_ms in ((16, 2, 0.0), (3, 1, 2.0), (20, 3, 0.0)):
        clock = VirtualClock()
        card = VirtualCard(clock, N_ONLY)
        done: list[float] = []
        for _ in range(count):
            card.send(Tier.N, lambda clock=clock, done=done: done.append(clock.now_ns / 1e6))
        clock.run(1_000_000_000)
        assert card.batches == batches
        assert done[0] == pytest.approx(first_ms + N_ONLY[Tier.N].latency_ms(min(8, count)))


SATURATED = {"similarity": None, "demand_fps": 20.0, "seconds": 6, "judge_every": 10**9, "found": CITY[:1]}
SLOW_N = {Tier.N: replace(T4[Tier.N], latencies_ms=tuple(20 * ms for ms in T4[Tier.N].latencies_ms))}


@pytest.mark.parametrize("cards", [2, 5])
def test_so_many_cards_carry_so_many_times_as_much(cards: int) -> None:
    """Each has as many cameras that ask for more than they get: inferences within 4 % of linear, results no older."""
    one, several = (
        simulated(tiers=SLOW_N, cards=count, cameras=24 * count, window=24, **SATURATED) for count in (1, cards)
    )
    assert one.pool.busy_shares(6)[0] > 0.97
    assert sum(several.answered.values()) == pytest.approx(cards * sum(one.answered.values()), rel=0.04)
    assert several.ages.quantile(0.95) == pytest.approx(one.ages.quantile(0.95), rel=0.05)
    assert several.pool.mean_batch == pytest.approx(one.pool.mean_batch, rel=0.05)


@pytest.mark.parametrize(("cameras", "policy"), [(4, None), (40, None), (30, "budget")], ids=str)
def test_the_work_is_spread_evenly(cameras: int, policy: str | None) -> None:
    """Over three cards, idle or full, of one tier or of three: none is busier by more than a few percent."""
    tiers = SLOW_N if policy is None else T4
    told = answers(
        tiers=tiers, cards=3, cameras=cameras, policy=policy, canvases=STAND_INS, **(SATURATED | {"judge_every": 40})
    )
    assert told["busy_share_min"] > 0.1
    assert told["busy_share_max"] < 1.07 * told["busy_share_min"]
    assert told["cards"] == 3


def test_a_slow_card_gets_less_and_nobody_waits_for_it() -> None:
    """One of two takes three times as long: it answers a third of what the other one does; all slow down alike too."""
    scenario = Scenario(
        cameras=48, **{key: value for key, value in SATURATED.items() if key != "found"}, cards=2, window=24
    )
    simulation = Simulation(scenario, CITY[:1], SLOW_N, Judge(scenario.judge_every))
    simulation.pool.cards[0].slowness = 3.0
    simulation.run()
    slow, quick = (card.inferences for card in simulation.pool.cards)
    assert slow == pytest.approx(quick / 3, rel=0.25)
    halved = simulated(tiers=SLOW_N, cards=2, cameras=48, window=24, slow=(0.0, 6.0, 2.0), **SATURATED)
    alone = simulated(tiers=SLOW_N, cards=2, cameras=48, window=24, **SATURATED)
    assert sum(halved.answered.values()) == pytest.approx(sum(alone.answered.values()) / 2, rel=0.06)


def test_the_budget_is_the_sum_of_the_cards() -> None:
    """At a tenth of each card, two spend twice as much; and what the governor sees is the mean of both."""
    told = {"policy": "fixed", "similarity": None, "demand_fps": 20.0, "capacity_ms_per_s": 50.0}
    one, two = (simulated(cards=count, cameras=12 * count, **told) for count in (1, 2))
    assert two.pool.busy_ms == pytest.approx(2 * one.pool.busy_ms, rel=0.05)
    assert simulated(policy="fixed", cards=3, window=16, seconds=0.5).scheduler.shares.window == 3 * 16
    assert max(two.pool.busy_shares(12)) == pytest.approx(one.pool.busy_shares(12)[0], rel=0.05)


def test_what_a_pool_says_of_its_cards() -> None:
    """Work and waits since they were last asked for, of all cards together; a share of a run is 1 at most."""
    clock = VirtualClock()
    pool = CardPool(clock, N_ONLY, 4)
    assert (pool.take_busy(), pool.take_queue_ms()) == ((0, None), None)
    pool.send(Tier.N, 0, lambda: None)
    clock.run(250_000_000)
    one_ms = N_ONLY[Tier.N].latency_ms(1)
    assert pool.take_busy() == (one_ms, pytest.approx(one_ms / 10))
    assert (pool.take_queue_ms(), pool.take_queue_ms()) == (2.0, None)
    pool.cards[0].work(100.0, 1)
    clock.run(300_000_000)
    assert pool.take_busy() == (pytest.approx(100), pytest.approx(50))
    assert max(pool.busy_shares(0.05)) == 1.0
    with pytest.raises(ValueError, match="yolo12x is not served"):
        pool.send(Tier.X, 0, lambda: None)


def test_one_card_is_what_it_was() -> None:
    """The pool of one does what a card alone does, to the last digit: figures kept from before there were pools."""
    told = answers(
        tiers=T4, policy="budget", canvases=STAND_INS, capacity_ms_per_s=60.0, demand_fps=20.0, judge_every=5
    )
    kept = {
        "streaming_ap": 38.013,
        "ap": 47.321,
        "gpu_ms_per_camera_s": 8.022,
        "inferences_per_camera_s": 2.9167,
        "mean_batch": 1.0,
        "age_ms": {"p50": 9.9, "p95": 9.9, "p99": 9.9},
        "jain": 0.739,
        "tier_share": {"yolo12n": 0.0857, "yolo12m": 0.9143, "yolo12x": 0.0},
        "skip_share": 0.8542,
    }
    assert {name: told[name] for name in kept} == kept


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--seconds", "5", "--warm-up", "5"], "warm_up_s must be at least 0 and less than 5, got 5"),
        (["--cards", "0"], "cards must be at least 1, got 0"),
        (["--price-per-hour", "-1"], "price: expected at least 0 per hour, got -1"),
        (["--price-per-hour", "nan"], "price: expected at least 0 per hour, got nan"),
    ],
)
def test_a_pool_that_cannot_be_is_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is rendered or looked at."""
    assert main(["simulate", *arguments]) == 1
    assert capsys.readouterr().err == f"loadtest: {complaint}\n"


def test_time_does_not_run_backwards() -> None:
    """What is planned for the past is an error; what is planned for the same moment happens in order."""
    clock = VirtualClock()
    seen: list[str] = []
    clock.at(5, lambda: seen.append("a"))
    clock.at(5, lambda: seen.append("b"))
    clock.run(10)
    assert seen == ["a", "b"]
    with pytest.raises(ValueError, match="9 ns has passed, it is 10 ns"):
        clock.at(9, lambda: None)


def test_verdicts_are_counted_by_kind() -> None:
    """The still camera is skipped as similar, never the one where everything moves."""
    still, _, busy = simulated(cameras=3).cameras.values()
    assert still.camera.counts()[1][Verdict.SIMILAR] > 50
    assert busy.camera.counts()[1][Verdict.SIMILAR] == 0


@pytest.mark.parametrize("wrong", [{"cameras": 0}, {"seconds": 0}, {"demand_fps": -1}, {"judge_every": 0}], ids=str)
def test_an_impossible_scenario_is_refused(wrong: dict[str, Any]) -> None:
    """Nobody, no time, no rate."""
    with pytest.raises(ValueError, match="must be positive"):
        Scenario(**wrong)
