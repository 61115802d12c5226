"""Router, governor and pacing at work together, and what reaches the pipeline of it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from conftest import PATIENCE_S, moving_square, write_clip
from hypothesis import given
from hypothesis import strategies as st

from clients.config import parse_settings
from clients.control import Control, Decision, Member, Reading, SceneReader
from clients.errors import NoRoom
from clients.fleet import Fleet
from clients.governor import AgeGovernor, GovernorRules, Orders
from clients.gpu import GpuReading
from clients.inference.server import EngineCounts
from clients.router import BudgetRouter, FixedRouter, Scene, TierCost
from clients.serving import Served
from clients.steering import control_of, reading_of
from clients.types import Detections, Tier
from deploy.server import TritonServer

SECOND = 1_000_000_000
N = (TierCost(Tier.N, 1.0, 40.6),)
ALL = (*N, TierCost(Tier.M, 3.0, 52.5), TierCost(Tier.X, 7.0, 55.2))
BUSY = Scene(objects=10, small=8, unsure=0.6, new=4, edges=0.3, motion=0.5)
STILL = Scene(objects=0, small=0, unsure=0.0, new=0, edges=0.3, motion=0.0)


def control(full_ms_per_s: float, costs: tuple[TierCost, ...] = N, **told: Any) -> Control:
    """On a card that may be busy all the time."""
    rules = GovernorRules(capacity_ms_per_s=full_ms_per_s, gpu_utilization_threshold=100, first_window=4)
    router = BudgetRouter(costs) if len(costs) > 1 else FixedRouter(dict.fromkeys("abc", Tier.N), costs)
    return Control(router, AgeGovernor(rules), costs, full_ms_per_s=full_ms_per_s, **told)


def lived(
    one: Control,
    wrong: dict[str, float],
    seconds: int = 12,
    *,
    passes: float = 1.0,
    slowness: float | None = None,
    start: int = 0,
) -> Decision:
    """Seconds in which every camera uses `passes` of its pace, each inference correcting wrong boxes per second."""
    decision = one.look(Reading(), 0, start * SECOND)
    clocks, owed, spent_ms = dict.fromkeys(wrong, 0.0), dict.fromkeys(wrong, 0.0), 0.0
    for second in range(1, seconds + 1):
        for name, per_s in wrong.items():
            owed[name] += decision.paces[name] * passes
            gap = 1 / (decision.paces[name] * passes)
            while owed[name] >= 1:
                owed[name] -= 1
                clocks[name] += gap
                tier = decision.tiers[name]
                one.answered(name, tier, 30.0, per_s * gap, clocks[name])
                spent_ms += {cost.tier: cost.ms for cost in ALL}[tier] * (slowness or 1)
        reading = Reading() if slowness is None else Reading(engine_ms=spent_ms)
        spent_ms = 0.0
        decision = one.look(reading, 1, (start + second) * SECOND)
    return decision


def test_the_budget_is_divided_by_need() -> None:
    """Nine times the wrong boxes get three times the inferences, and the sum is what the budget gives."""
    one = control(12)
    for name in "ab":
        one.add(name, Member(0.5, 25))
    decision = lived(one, {"a": 1.0, "b": 9.0}, 40)
    assert sum(decision.paces.values()) == pytest.approx(12, rel=0.02)
    assert decision.paces["b"] / decision.paces["a"] == pytest.approx(3, rel=0.1)
    assert one.wrong_per_s("b") == pytest.approx(9, rel=0.1)


def test_without_need_all_get_the_same() -> None:
    """The ablation: one rate for all."""
    one = control(12, by_need=False)
    for name in "ab":
        one.add(name, Member(0.5, 25))
    assert lived(one, {"a": 1.0, "b": 9.0}).paces == pytest.approx({"a": 6, "b": 6}, rel=0.02)


def test_engines_slower_than_their_costs_give_fewer_inferences() -> None:
    """Twice as slow: half as many, whatever the data sheet says."""
    one = control(120)
    one.add("a", Member(0.5, 250))
    decision = lived(one, {"a": 1.0}, slowness=2.0)
    assert decision.paces["a"] == pytest.approx(60, rel=0.02)
    assert decision.slowness == pytest.approx(2, rel=0.02)


def test_slow_engines_leave_no_budget_for_better_tiers() -> None:
    """What is affordable at the data sheet's speed is not when everything takes 64 times as long."""
    tiers = []
    for slowness in (1.0, 64.0):
        one = control(60, ALL)
        one.add("b", Member(0.5, 3))
        for second in range(5):
            one.observed("b", BUSY, second * SECOND)
        tiers.append(lived(one, {"b": 1.0}, 20, slowness=slowness).tiers["b"])
    assert tiers[0] is not Tier.N
    assert tiers[1] is Tier.N


def test_what_gates_save_is_given_back() -> None:
    """Gates that let half through: the paces are twice what the budget could pay if all were used."""
    one = control(6)
    for name in "ab":
        one.add(name, Member(0.5, 25))
    decision = lived(one, {"a": 1.0, "b": 1.0}, passes=0.5)
    assert sum(decision.paces.values()) == pytest.approx(12, rel=0.1)


def test_tiers_and_rates_share_one_budget() -> None:
    """The difficult camera that hardly moves gets a better tier, the empty one does not; the whole budget is spent."""
    one = control(60, ALL)
    for name, scene, most_fps in (("a", STILL, 100), ("b", BUSY, 3)):
        one.add(name, Member(0.5, most_fps))
        for second in range(5):
            one.observed(name, scene, second * SECOND)
    decision = lived(one, {"a": 1.0, "b": 1.0})
    ms = {cost.tier: cost.ms for cost in ALL}
    assert decision.tiers["a"] is Tier.N
    assert decision.tiers["b"] is not Tier.N
    spent = sum(pace * ms[decision.tiers[name]] for name, pace in decision.paces.items())
    assert spent == pytest.approx(60, rel=0.05)


def test_fixed_tiers_are_planned_at_their_own_cost() -> None:
    """A camera on x gets as many inferences as x's time allows."""
    rules = GovernorRules(capacity_ms_per_s=70, gpu_utilization_threshold=100, first_window=4)
    one = Control(FixedRouter({"a": Tier.X}, ALL), AgeGovernor(rules), ALL, full_ms_per_s=70)
    one.add("a", Member(0.5, 100))
    assert lived(one, {"a": 1.0}).paces["a"] == pytest.approx(10, rel=0.05)


def test_who_has_left_is_planned_no_more() -> None:
    """And the others get what it had."""
    one = control(12)
    for name in "ab":
        one.add(name, Member(0.5, 25))
    lived(one, {"a": 1.0, "b": 1.0})
    one.remove("b")
    decision = lived(one, {"a": 1.0}, start=60)
    assert decision.paces.keys() == decision.tiers.keys() == {"a"}
    assert decision.paces["a"] == pytest.approx(12, rel=0.02)


def test_one_camera_more_is_admitted_by_what_is_planned() -> None:
    """`strict` when all keep their highest rates, `degrade` when all keep their least; never beyond max_streams."""
    one = control(100)
    for name in "abc":
        one.add(name, Member(1, 25))
    fourth, fifth = Member(1, 25), Member(1, 26)
    assert one.admission(fourth, 50, "strict").accepted
    refused = one.admission(fifth, 50, "strict")
    assert not refused.accepted
    assert refused.reason == "it needs 26.0 GPU-ms/s, 25.0 of 100.0 are left"
    reduced = one.admission(fifth, 50, "degrade")
    assert reduced.accepted
    assert reduced.rate_scale == pytest.approx(100 / 101)
    assert reduced.reason == refused.reason
    assert not one.admission(Member(98, 200), 50, "degrade").accepted
    assert one.admission(fourth, 3, "degrade").reason.startswith("max_streams is 3")


@given(budget=st.floats(0.1, 500), least=st.floats(0, 2), most=st.floats(2, 30))
def test_no_camera_leaves_its_limits(budget: float, least: float, most: float) -> None:
    """Whatever the budget is."""
    one = control(budget)
    one.add("a", Member(least, most))
    pace = one.look(Reading(), 0, 0).paces["a"]
    assert least <= pace <= most


def test_a_scene_is_read_off_an_answer() -> None:
    """Confirmed objects only; small ones by canvas pixels; ids that were not there before are new."""
    reader = SceneReader(0.5)
    rows = np.array([[0, 0, 20, 60, 0.9, 0], [0, 0, 20, 70, 0.4, 0], [0, 0, 20, 100, 0.9, 0]], np.float32)
    found = Detections.from_rows(rows)
    scene = reader.read(found, np.array([1, 2, 0]), 0.1, None)
    assert scene == Scene(objects=2, small=1, unsure=0.5, new=2, edges=0.1, motion=0.0)
    again = reader.read(found, np.array([1, 2, 3]), 0.1, 0.75)
    assert (again.objects, again.new, again.motion) == (3, 1, 0.25)
    assert reader.read(Detections.empty(), np.zeros(0, np.int64), 0.1, 1.0) == Scene(0, 0, 0.0, 0, 0.1, 0.0)


def test_readings_are_differences() -> None:
    """Of Triton's counters; a card's own figures go before the engines' busy time; after a restart nothing is known."""
    before = EngineCounts(10, 5, busy_ns=1_000_000_000, queued=10, queue_ns=100_000_000)
    after = EngineCounts(30, 15, busy_ns=1_500_000_000, queued=30, queue_ns=200_000_000)
    assert reading_of(before, after, 1.0, None) == Reading(engine_ms=500.0, queue_ms=5.0, busy_percent=50.0)
    card = GpuReading("T4", 91.0, 40.0, 1200, 1590, 12.0)
    told = reading_of(before, after, 1.0, card)
    assert (told.busy_percent, told.sm_clock_mhz, told.sm_clock_max_mhz, told.decoder_percent) == (
        91.0,
        1200,
        1590,
        12.0,
    )
    assert reading_of(after, before, 1.0, None) == reading_of(None, after, 1.0, None) == Reading()
    assert reading_of(before, before, 1.0, None) == Reading(engine_ms=0.0, queue_ms=None, busy_percent=0.0)


def test_the_configuration_chooses_the_policies() -> None:
    """`governor: off` steers nothing; a single tier never switches."""
    served = Served((Tier.N,), {Tier.N: ()}, {Tier.N: 16}, "f32")
    settings = {"model": {"default": "n", "fallback": "n", "high_precision": "n"}}
    off = parse_settings(settings | {"optimization": {"governor": "off"}}, origin="test")
    assert control_of(off, served, {}) is None
    ours = control_of(parse_settings(settings, origin="test"), served, {"a": Tier.N})
    assert ours is not None
    ours.add("a", Member(1, 25))
    decision = ours.look(Reading(), 0, 0)
    assert decision.tiers == {"a": Tier.N}
    assert decision.orders == Orders(4, 800.0, 1.0, decision.orders.reason)


@pytest.mark.parametrize("size", [1, 2, 16])
def test_the_window_begins_with_the_smallest_batch(size: int) -> None:
    """Whatever min_batch_size is allowed, one request at a time too."""
    settings = parse_settings({"model": {"default": "n"}, "system": {"min_batch_size": size}}, origin="test")
    control = control_of(settings, Served((Tier.N,), {Tier.N: ()}, {Tier.N: 16}, "f32"), {"a": Tier.N})
    assert control is not None
    assert control.look(Reading(), 0, 0).orders.window == size


@pytest.mark.anyio
async def test_a_real_server_is_steered(triton: TritonServer, tmp_path: Any) -> None:
    """A busy camera and a still one on a real Triton: the budget follows what the engines really take."""
    busy = write_clip(tmp_path / "busy.mp4", moving_square(50))
    still = write_clip(tmp_path / "still.mp4", [moving_square(1)[0]] * 50)
    cameras = [{"id": path.stem, "source": str(path), "loop": True} for path in (busy, still)]
    told = {
        "model": {"default": "n", "fallback": "n", "high_precision": "n"},
        "triton": {"url": triton.grpc_url},
        "sinks": {"jsonl": None},
        "system": {"admission": "strict"},
        "optimization": {"audit_share": 1.0},
        "cameras": cameras,
    }
    async with Fleet(parse_settings(told, origin="test")) as fleet:
        async with asyncio.timeout(PATIENCE_S):
            async for _ in fleet.results("still"):  # a CPU is no T4: what its engines take is told at the second look
                if (decision := fleet.decision) is not None and decision.slowness != 1.0:
                    break
        assert decision.paces.keys() == {"busy", "still"}
        with pytest.raises(NoRoom, match=r"camera third: it needs .* GPU-ms/s"):
            await fleet.add_stream("third", str(busy), max_fps=240)
        report = fleet.stats().as_json()
    assert report["audit"]["frames"] > 0
    assert report["audit"]["miss_rate"] is not None
