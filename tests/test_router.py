"""Which tier each camera gets."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.pacing import Pace
from clients.router import (
    ArticleRouter,
    BudgetRouter,
    FixedRouter,
    RouterRules,
    Scene,
    TierCost,
    article_edges,
    edge_density,
    router_of,
    score_of,
    stake_of,
    tier_costs,
)
from clients.types import Tier

SECOND = 1_000_000_000
COSTS = tier_costs({Tier.N: 1.64, Tier.M: 4.86, Tier.X: 11.79})
EMPTY = Scene(objects=0, small=0, unsure=0, new=0, edges=0.9, motion=0)
CALM = Scene(objects=3, small=0, unsure=0.1, new=0, edges=0.1, motion=0.1)
BUSY = Scene(objects=20, small=12, unsure=0.5, new=3, edges=0.2, motion=0.5)
SCENES = st.builds(
    lambda objects, share, unsure, new, edges, motion: Scene(objects, int(objects * share), unsure, new, edges, motion),
    st.integers(0, 60),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 20),
    st.floats(0, 1),
    st.floats(0, 1),
)
ONE_M = 2 * 16.4 + 32.3  # two cameras of 10/s: n for both, and room for one upgrade to m


def at(rates: Mapping[str, float]) -> dict[str, Pace]:
    """Cameras that have these rates and no others, so that only tiers are to be chosen."""
    return {name: Pace(rate, rate, 1.0, 1.0) for name, rate in rates.items()}


def cost(rates: dict[str, float], tiers: dict[str, Tier]) -> float:
    """GPU-milliseconds per second."""
    ms = {one.tier: one.ms for one in COSTS}
    return sum(rate * ms[tiers[name]] for name, rate in rates.items())


def test_fixed_gives_what_is_configured() -> None:
    """Whatever the scene and the budget; a camera that comes later is read from the same mapping."""
    wanted = {"a": Tier.X, "b": Tier.N}
    router = FixedRouter(wanted, COSTS)
    router.observe("b", BUSY, 0)
    assert router.assign(at({"a": 25.0, "b": 25.0}), 0.0, 0) == {"a": Tier.X, "b": Tier.N}
    wanted["c"] = Tier.M
    assert router.assign(at({"c": 1.0}), 0.0, 0) == {"c": Tier.M}


def test_fixed_refuses_a_tier_that_is_not_served() -> None:
    """At once for the configured cameras, and later for one that nobody configured."""
    with pytest.raises(ValueError, match=r"a: expected one of the served tiers \(yolo12n, yolo12m\), got yolo12x"):
        FixedRouter({"a": Tier.X}, COSTS[:2])
    with pytest.raises(ValueError, match=r"z: expected .* got None"):
        FixedRouter({}, COSTS).assign(at({"z": 1.0}), 0.0, 0)


@pytest.mark.parametrize(
    ("edges", "tier"), [(0.0, "N"), (0.3, "N"), (0.301, "M"), (0.6, "M"), (0.601, "X"), (1.0, "X")]
)
def test_the_article_looks_at_edges_alone(edges: float, tier: str) -> None:
    """<= 0.3 n, <= 0.6 m, else x; the last scene decides, at once, whatever the budget."""
    router = ArticleRouter({"a": Tier.M}, COSTS)
    assert router.assign(at({"a": 1.0}), 0.0, 0) == {"a": Tier.M}, "not seen yet: as configured"
    router.observe("a", Scene(0, 0, 0.0, 0, 1 - edges, 0.0), 0)
    router.observe("a", Scene(0, 0, 0.0, 0, edges, 0.0), 0)
    assert router.assign(at({"a": 1.0}), 0.0, 0) == {"a": Tier[tier]}
    router.forget("a")
    assert router.assign(at({"a": 1.0}), 0.0, 0) == {"a": Tier.M}


def test_the_article_takes_the_next_cheaper_tier_that_is_served() -> None:
    """x wanted: m where there is no x; n wanted: the cheapest there is."""
    router = ArticleRouter({"a": Tier.N}, COSTS[:2])
    router.observe("b", Scene(0, 0, 0.0, 0, 0.9, 0.0), 0)
    assert router.assign(at({"b": 1.0}), 0.0, 0) == {"b": Tier.M}
    assert ArticleRouter({"a": Tier.N}, COSTS[1:]).assign(at({"a": 1.0}), 0.0, 0) == {"a": Tier.M}


@given(SCENES)
def test_a_score_lies_in_0_to_1_and_grows_with_each_signal(scene: Scene) -> None:
    """More of any one signal never lowers it, and of four of them raises it."""
    rules = RouterRules()
    score = score_of(scene, rules)
    assert 0 <= score <= 1
    more = {
        "small": Scene(scene.objects + 5, scene.small + 5, scene.unsure, scene.new, scene.edges, scene.motion),
        "unsure": Scene(scene.objects, scene.small, 1.0, scene.new, scene.edges, scene.motion),
        "new": Scene(scene.objects, scene.small, scene.unsure, scene.new + 5, scene.edges, scene.motion),
        "crowd": Scene(scene.objects + 5, scene.small, scene.unsure, scene.new, scene.edges, scene.motion),
        "motion": Scene(scene.objects, scene.small, scene.unsure, scene.new, scene.edges, 1.0),
        "edges": Scene(scene.objects, scene.small, scene.unsure, scene.new, 1.0, scene.motion),
    }
    for name, other in more.items():
        assert score_of(other, rules) >= score - 1e-12, name
    assert all(score_of(more[name], rules) > score for name in ("small", "new", "crowd"))
    assert score_of(more["unsure"], rules) > score or scene.unsure > 0.999


def test_an_empty_static_scene_scores_nothing_and_gets_the_smallest() -> None:
    """However rich its background is, and however much time is left."""
    assert score_of(EMPTY, RouterRules()) == 0
    router = BudgetRouter(COSTS)
    router.observe("a", EMPTY, 0)
    router.observe("b", BUSY, 0)
    assert router.assign(at({"a": 25.0, "b": 25.0}), 1e6, 0) == {"a": Tier.N, "b": Tier.X}


def test_a_rich_background_counts_where_something_moves() -> None:
    """Edges raise the score of a scene with motion or objects, by their weight."""
    still, moving = (Scene(0, 0, 0.0, 0, 0.0, motion) for motion in (0.0, 1.0))
    cluttered = Scene(0, 0, 0.0, 0, 1.0, 1.0)
    assert score_of(still, RouterRules()) == 0
    assert score_of(cluttered, RouterRules()) - score_of(moving, RouterRules()) == pytest.approx(0.05)


@given(SCENES, SCENES, st.floats(0.01, 20), st.integers(1, 40))
def test_a_stake_is_smoothed_over_seconds_not_over_frames(
    first: Scene, then: Scene, seconds: float, looks: int
) -> None:
    """After the same time it is the same, whether the camera was observed once or forty times meanwhile."""
    once, often = BudgetRouter(COSTS), BudgetRouter(COSTS)
    for router in (once, often):
        router.observe("a", first, 0)
    end_ns = round(seconds * SECOND)
    once.observe("a", then, end_ns)
    for look in range(1, looks + 1):
        often.observe("a", then, end_ns * look // looks)
    assert once.stake("a") == pytest.approx(often.stake("a"), abs=1e-4)
    start, goal = stake_of(first, RouterRules()), stake_of(then, RouterRules())
    assert once.stake("a") == pytest.approx(goal + (start - goal) * math.exp(-seconds / 3), abs=1e-4)


def test_time_that_runs_backwards_changes_nothing() -> None:
    """An answer that overtook another moves the score by nothing, not the wrong way."""
    router = BudgetRouter(COSTS)
    router.observe("a", CALM, 5 * SECOND)
    before = router.stake("a")
    router.observe("a", BUSY, 4 * SECOND)
    assert router.stake("a") == before


FLEETS = st.lists(st.tuples(SCENES, st.floats(0, 25)), min_size=1, max_size=12)


@given(FLEETS, st.lists(st.tuples(st.floats(0, 1.2), st.floats(0, 8)), min_size=1, max_size=8))
def test_the_budget_is_kept_at_every_decision(
    fleet: list[tuple[Scene, float]], steps: list[tuple[float, float]]
) -> None:
    """However the budget jumps and whoever must dwell: within it at once, or everything at the smallest tier."""
    router = BudgetRouter(COSTS)
    rates = {f"c{index}": rate for index, (_, rate) in enumerate(fleet)}
    now = 0
    for share, pause_s in steps:
        now += round(pause_s * SECOND)
        for index, (scene, _) in enumerate(fleet):
            router.observe(f"c{index}", scene, now)
        budget = share * sum(rates.values()) * 11.79
        tiers = router.assign(at(rates), budget, now)
        assert list(tiers) == list(rates)
        if cost(rates, dict.fromkeys(rates, Tier.N)) <= budget:
            assert cost(rates, tiers) <= budget * (1 + 1e-6)
        else:
            assert set(tiers.values()) == {Tier.N}


def two_cameras(first: Scene, second: Scene) -> tuple[BudgetRouter, dict[str, float]]:
    """Cameras a and b at 10/s each; their tiers chosen at 0 s with room for one m."""
    router, rates = BudgetRouter(COSTS), {"a": 10.0, "b": 10.0}
    router.observe("a", first, 0)
    router.observe("b", second, 0)
    router.assign(at(rates), ONE_M, 0)
    return router, rates


def test_a_camera_keeps_its_tier_for_the_dwell_time() -> None:
    """b has become far better than a: a keeps m until 5 s have passed, then b has it."""
    router, rates = two_cameras(BUSY, CALM)
    router.observe("a", EMPTY, 49 * SECOND // 10)
    router.observe("b", BUSY, 49 * SECOND // 10)
    assert router.assign(at(rates), ONE_M, 5 * SECOND - 1) == {"a": Tier.M, "b": Tier.N}
    assert router.assign(at(rates), ONE_M, 5 * SECOND) == {"a": Tier.N, "b": Tier.M}
    assert router.assign(at(rates), 1e6, 6 * SECOND) == {"a": Tier.N, "b": Tier.M}, "an upgrade waits too"
    assert router.assign(at(rates), 1e6, 10 * SECOND) == {"a": Tier.X, "b": Tier.X}


def test_a_shrinking_budget_waits_for_no_dwell_time() -> None:
    """Right after the upgrade the budget falls: the tier goes at once, and comes back only after the dwell time."""
    router, rates = two_cameras(BUSY, CALM)
    assert router.assign(at(rates), 40.0, 1) == {"a": Tier.N, "b": Tier.N}
    assert router.assign(at(rates), ONE_M, 2) == {"a": Tier.N, "b": Tier.M}, "b has not changed, so it may"
    assert router.assign(at(rates), 40.0, 3) == {"a": Tier.N, "b": Tier.N}
    assert router.assign(at(rates), ONE_M, 4) == {"a": Tier.N, "b": Tier.N}, "both have changed lately"
    assert router.assign(at(rates), ONE_M, 6 * SECOND) == {"a": Tier.M, "b": Tier.N}


def test_a_camera_that_dwells_rises_for_no_reason() -> None:
    """a took b's place a moment ago, then a asks thrice as often and loses it: b must wait although there is room."""
    router, rates = BudgetRouter(COSTS), {"a": 10.0, "b": 4.0}
    router.observe("a", EMPTY, 0)
    router.observe("b", CALM, 0)
    assert router.assign(at(rates), 60.0, 0) == {"a": Tier.N, "b": Tier.M}
    router.observe("a", BUSY, 60 * SECOND)
    assert router.assign(at(rates), 60.0, 60 * SECOND) == {"a": Tier.M, "b": Tier.N}
    assert router.assign(at({"a": 30.0, "b": 4.0}), 75.0, 61 * SECOND) == {"a": Tier.N, "b": Tier.N}
    assert router.assign(at({"a": 30.0, "b": 4.0}), 1e6, 62 * SECOND) == {"a": Tier.N, "b": Tier.N}
    assert router.assign(at({"a": 30.0, "b": 4.0}), 1e6, 66 * SECOND) == {"a": Tier.X, "b": Tier.X}


def test_rising_rates_are_a_shrinking_budget() -> None:
    """Cameras that ask for more often than before lose their tiers at once when the sum no longer fits."""
    router, _ = two_cameras(BUSY, CALM)
    assert router.assign(at({"a": 20.0, "b": 10.0}), ONE_M, 1) == {"a": Tier.N, "b": Tier.N}


def test_a_camera_slightly_better_displaces_nobody() -> None:
    """Stakes within the margin of 10 % keep what they have, for ever."""
    first, second = (Scene(10, small, 0.3, 0, 0.1, 0.2) for small in (4, 5))
    router, rates = two_cameras(second, first)
    router.observe("a", first, 1000 * SECOND)
    router.observe("b", second, 1000 * SECOND)
    assert 1 < router.stake("b") / router.stake("a") < 1.15
    for now in range(1000, 1100):
        assert router.assign(at(rates), ONE_M, now * SECOND) == {"a": Tier.M, "b": Tier.N}


@settings(max_examples=8)
@given(st.lists(st.floats(-1, 1), min_size=200, max_size=200), st.integers(0, 10))
def test_noise_makes_no_camera_flap(noise: list[float], phase: int) -> None:
    """Rates that jitter by 2 % and scenes that differ by an object: after the first choice nothing changes in 200 s."""
    router = BudgetRouter(COSTS)
    seen = set()
    for second, jitter in enumerate(noise):
        rates = {f"c{index}": 10 * (1 + 0.02 * noise[(second + index) % 200]) for index in range(6)}
        for index in range(6):
            small = 3 * index + (jitter > 0)
            router.observe(f"c{index}", Scene(20, small, 0.05 * index, 0, 0.1, 0.2), second * SECOND)
        tiers = router.assign(at(rates), 300.0, second * SECOND)
        if second >= 20:
            seen.add(tuple(tiers.values()))
    assert len(seen) == 1


def test_equal_cameras_are_told_apart_by_name_only() -> None:
    """The choice does not depend on the order in which cameras came or are asked for."""
    choices = []
    for names in (["a", "b", "c"], ["c", "a", "b"]):
        router = BudgetRouter(COSTS)
        for name in names:
            router.observe(name, BUSY, 0)
        choices.append(router.assign(at(dict.fromkeys(names, 10.0)), 3 * 16.4 + 40, 0))
    assert choices[0] == choices[1] == {"a": Tier.M, "b": Tier.N, "c": Tier.N}


def test_a_camera_that_was_forgotten_begins_anew() -> None:
    """No stake, no tier, no dwell time of the one that had the name before."""
    router, rates = two_cameras(BUSY, CALM)
    router.forget("a")
    assert router.stake("a") == RouterRules().first_stake
    assert router.assign(at(rates), 1e6, 1) == {"a": Tier.X, "b": Tier.X}


def test_only_served_tiers_are_given() -> None:
    """Without m it is n or x, and a card with one tier gives that."""
    router = BudgetRouter((COSTS[0], COSTS[2]))
    router.observe("a", BUSY, 0)
    assert router.assign(at({"a": 1.0}), 1e6, 0) == {"a": Tier.X}
    assert BudgetRouter(COSTS[1:2]).assign(at({"a": 1.0}), 0.0, 0) == {"a": Tier.M}


def test_a_stronger_tier_that_is_not_better_here_is_never_used() -> None:
    """Strengths decide, not names: a tier that costs more and finds less is off the hull."""
    costs = (TierCost(Tier.N, 1.0, 50.0), TierCost(Tier.M, 5.0, 49.0), TierCost(Tier.X, 12.0, 60.0))
    router = BudgetRouter(costs)
    router.observe("a", BUSY, 0)
    assert router.assign(at({"a": 1.0}), 11.0, 0) == {"a": Tier.N}
    assert router.assign(at({"a": 1.0}), 100.0, 0) == {"a": Tier.X}


def test_a_stake_counts_objects_and_one_that_is_not_seen() -> None:
    """In a scene of the usual score each object counts once, and so does what nobody has found yet."""
    moving, crowd = Scene(0, 0, 0.0, 0, 0.0, 1.0), Scene(9, 0, 0.0, 0, 0.0, 1.0)
    for scene, objects in ((moving, 1), (crowd, 10)):
        assert stake_of(scene, RouterRules()) == pytest.approx(objects * score_of(scene, RouterRules()) / 0.25)
    assert stake_of(EMPTY, RouterRules()) == 0


@pytest.mark.parametrize(("waiting", "tier"), [(1.0, Tier.N), (0.01, Tier.M)])
def test_who_blames_waiting_buys_inferences(waiting: float, tier: Tier) -> None:
    """A hundred boxes corrected a second: were it all for waiting, inferences; were it flicker, the better model."""
    router = BudgetRouter(COSTS[:2], RouterRules(waiting=waiting))
    router.observe("a", BUSY, 0)
    assert router.assign({"a": Pace(0.0, 1e6, 1.0, 100.0)}, 10.0, 0) == {"a": tier}


def test_each_policy_has_its_name() -> None:
    """The three policies, and an error that lists them."""
    kinds = {policy: type(router_of(policy, {}, COSTS)) for policy in ("fixed", "article", "budget")}
    assert kinds == {"fixed": FixedRouter, "article": ArticleRouter, "budget": BudgetRouter}
    with pytest.raises(ValueError, match="one of fixed, article, budget, got 'best'"):
        router_of("best", {}, COSTS)  # type: ignore[arg-type]


def test_the_articles_edges_are_those_of_at_most_1280_px() -> None:
    """A step is one line of edge pixels; a frame of 2560 px is first made 1280 px wide."""
    luma = np.full((720, 1280), 50, np.uint8)
    luma[:, 640:] = 200
    assert article_edges(luma) == pytest.approx(1 / 1280, rel=0.01)
    large = luma.repeat(2, axis=0).repeat(2, axis=1)
    assert article_edges(large) == pytest.approx(1 / 1280, rel=0.01)
    assert article_edges(np.full((36, 64), 50, np.uint8)) == 0


def test_edge_density_counts_steps_between_neighbours() -> None:
    """An even picture has none, a chess board has nothing else, a slope is no edge, one column is one in 63."""
    assert edge_density(np.full((36, 64), 80, np.uint8)) == 0
    assert edge_density((np.indices((36, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)) == 1
    slope = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (36, 1))
    assert edge_density(slope) == 0
    step = np.full((36, 64), 80, np.uint8)
    step[:, 32:] = 104
    assert edge_density(step) == pytest.approx(1 / 63)
    assert edge_density(step.T[:36, :36]) == pytest.approx(1 / 35), "steps downwards count too"
    step[:, 32:] = 103
    assert edge_density(step) == 0


@pytest.mark.parametrize(
    "wrong", [{"small": 4}, {"new": -1}, {"unsure": 1.1}, {"edges": math.nan}, {"motion": -0.1}], ids=str
)
def test_a_scene_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    """More small objects than objects, or a share outside 0..1."""
    good = {"objects": 3, "small": 0, "unsure": 0.1, "new": 0, "edges": 0.1, "motion": 0.1}
    with pytest.raises(ValueError, match="expected"):
        Scene(**good | wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"small": -1}, {"half_new": 0}, {"smoothing_s": 0}, {"usual_score": 0}, {"margin": -0.1}, {"waiting": 0}],
    ids=str,
)
def test_rules_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    """Each with the value that came."""
    with pytest.raises(ValueError, match=f"got .*{next(iter(wrong.values()))}"):
        RouterRules(**wrong)


def test_costs_and_rates_that_cannot_be_are_refused() -> None:
    """A tier without a cost, no tiers, a tier twice, a budget that is no number."""
    with pytest.raises(ValueError, match="yolo12n: expected ms > 0"):
        TierCost(Tier.N, 0.0, 40.6)
    for costs in ((), (COSTS[0], COSTS[0])):
        with pytest.raises(ValueError, match="each served tier once"):
            BudgetRouter(costs)
    with pytest.raises(ValueError, match="expected a budget, got nan"):
        BudgetRouter(COSTS).assign(at({"a": 1.0}), math.nan, 0)
