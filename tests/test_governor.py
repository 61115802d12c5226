"""How much may be spent, alone and in a loop with a card."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.governor import REASONS, AgeGovernor, ArticleGovernor, GovernorRules, Load, Orders, governor_of

SECOND = 1_000_000_000
RULES = GovernorRules(floor_ms_per_s=100, first_window=16, largest_window=48)
FULL = 800.0  # ms/s: one card at 80 %
CALM = Load(p95_age_ms=60, queue_ms=5, in_flight=2, busy_percent=50)
LATE = replace(CALM, p95_age_ms=300)


def looks(governor: AgeGovernor, load: Load, seconds: int, start: int = 0) -> list[Orders]:
    """A look per second at the same load."""
    return [governor.look(load, (start + second) * SECOND) for second in range(seconds)]


# --- alone ------------------------------------------------------------------------------------------------------------


def test_it_begins_with_the_target_share_of_the_card() -> None:
    """80 % of 1000 ms/s, all rates, the first window; and with calm results nothing changes."""
    orders = looks(AgeGovernor(RULES), CALM, 30)
    assert set(orders) == {Orders(16, FULL, 1.0, "steady")}


def test_tiers_are_sacrificed_first_then_rates_down_to_their_floors() -> None:
    """The budget falls to its floor before any rate does, and rates stop at theirs."""
    orders = looks(AgeGovernor(RULES), LATE, 30)
    budgets = [one.budget_ms_per_s for one in orders]
    assert budgets[:3] == pytest.approx([640, 512, 409.6])
    first_rate = next(index for index, one in enumerate(orders) if one.rate_scale < 1)
    assert budgets[first_rate - 1] == pytest.approx(100)
    assert orders[first_rate].rate_scale == pytest.approx(0.8)
    assert orders[-1] == Orders(16, pytest.approx(20), 0.2, "bottom")


def test_recovery_is_in_reverse_and_slower() -> None:
    """Rates come back to 1 before the budget moves, by steps, after a hold of 10 s, in the end to the start."""
    governor = AgeGovernor(RULES)
    down = looks(governor, LATE, 30)
    up = looks(governor, CALM, 400, start=30)
    last_cut = max(index for index, one in enumerate(down) if one.reason == "age")
    raises = [30 + index for index, one in enumerate(up) if one.reason == "recovery"]
    assert raises[0] >= last_cut + 10
    assert all(later - earlier >= 5 for earlier, later in pairwise(raises))
    assert all(one.rate_scale == 1 for one in up if one.budget_ms_per_s > 100.001)
    assert up[-1] == Orders(16, FULL, 1.0, "steady")
    assert raises[-1] - raises[0] > 5 * last_cut, "slower than the way down"


def test_a_change_must_settle_before_the_next_cut() -> None:
    """Looks every 100 ms cut once per second."""
    governor = AgeGovernor(RULES)
    orders = [governor.look(LATE, tenth * SECOND // 10) for tenth in range(30)]
    assert [one.reason for one in orders].count("age") == 3


def test_between_late_and_calm_nothing_moves() -> None:
    """From 70 to 100 % of the objective neither way, however long."""
    governor = AgeGovernor(RULES)
    looks(governor, LATE, 3)
    middle = {one.budget_ms_per_s for one in looks(governor, replace(CALM, p95_age_ms=141), 60, start=3)}
    assert len(middle) == 1
    edge = looks(governor, replace(CALM, p95_age_ms=200), 60, start=63)
    assert {one.budget_ms_per_s for one in edge} == middle, "the objective itself is met"
    assert looks(governor, replace(CALM, p95_age_ms=140), 1, start=123)[0].reason == "recovery"


def test_a_budget_that_is_not_used_is_cut_from_what_is_used() -> None:
    """Late with 500 of 800 ms/s done: 0.8 of 500, not of 800; and never by more than half at once."""
    assert AgeGovernor(RULES).look(replace(LATE, work_ms_per_s=700.0), 0).budget_ms_per_s == pytest.approx(560)
    assert AgeGovernor(RULES).look(replace(LATE, work_ms_per_s=10.0), 0).budget_ms_per_s == pytest.approx(400)
    assert AgeGovernor(RULES).look(replace(LATE, work_ms_per_s=900.0), 0).budget_ms_per_s == pytest.approx(640)


def test_the_clock_scales_the_budget_at_once_and_back_after_a_hold() -> None:
    """1590 → 900 MHz: 0.566 of the budget at this look; full again only after 10 s at full clock."""
    governor = AgeGovernor(RULES)
    fast, slow = (replace(CALM, busy_percent=80, sm_clock_mhz=mhz, sm_clock_max_mhz=1590) for mhz in (1590, 900))
    assert governor.look(fast, 0).budget_ms_per_s == FULL
    sagged = governor.look(slow, SECOND)
    assert (sagged.budget_ms_per_s, sagged.reason) == (pytest.approx(FULL * 900 / 1590), "clock")
    again = looks(governor, fast, 20, start=2)
    assert [one.budget_ms_per_s == FULL for one in again].index(True) == 9
    assert again[9].reason == "clock"


def test_an_idle_cards_clock_says_nothing() -> None:
    """A card that nobody uses lowers its clock; that, and a reading of 0, leaves the budget as it is."""
    for load in (
        replace(CALM, busy_percent=5, sm_clock_mhz=300, sm_clock_max_mhz=1590),
        replace(CALM, busy_percent=90, sm_clock_mhz=0, sm_clock_max_mhz=1590),
        replace(CALM, busy_percent=90, sm_clock_mhz=1575, sm_clock_max_mhz=1590),
    ):
        assert AgeGovernor(RULES).look(load, 0) == Orders(16, FULL, 1.0, "steady")


def test_the_window_follows_the_queue() -> None:
    """Twice the objective halves it nearly, at most by half per look; calm and used, it grows by 2 after the hold."""
    governor = AgeGovernor(RULES)
    assert governor.look(replace(CALM, queue_ms=40), 0) == Orders(8, FULL, 1.0, "queue")
    assert governor.look(replace(CALM, queue_ms=400), SECOND).window == 4
    assert governor.look(replace(CALM, queue_ms=15, in_flight=4), 30 * SECOND).window == 4, "in the band"
    assert governor.look(replace(CALM, queue_ms=5, in_flight=1), 31 * SECOND).window == 4, "it is not used"
    assert [one.window for one in looks(governor, replace(CALM, in_flight=40), 60, start=32)][-1] == 48
    assert governor.look(replace(CALM, queue_ms=21, in_flight=4), 100 * SECOND).window == 38
    assert governor.look(replace(CALM, in_flight=40), 109 * SECOND).window == 38
    assert governor.look(replace(CALM, in_flight=40), 110 * SECOND).window == 40


def test_the_window_is_cut_once_per_settling_time_and_stops_at_its_least() -> None:
    """Looks every 100 ms halve it once per second; at the least size there is nothing left to cut, and it says so."""
    governor = AgeGovernor(replace(RULES, least_window=6))
    load = replace(CALM, queue_ms=400)
    orders = [governor.look(load, tenth * SECOND // 10) for tenth in range(30)]
    assert [orders[tenth].window for tenth in (0, 9, 10, 29)] == [8, 8, 6, 6]
    assert [one.reason for one in orders].count("queue") == 2


def test_a_window_that_was_just_cut_comes_before_tiers() -> None:
    """Late and a long queue: the window at the first look, tiers too at the next."""
    governor = AgeGovernor(RULES)
    load = replace(LATE, queue_ms=100)
    assert governor.look(load, 0) == Orders(8, FULL, 1.0, "queue")
    assert governor.look(load, SECOND) == Orders(4, pytest.approx(640), 1.0, "age")


def test_an_age_that_falls_already_needs_no_further_cut() -> None:
    """500, then 390 ms: the queue drains, so wait; then 350: it does not any more, so cut."""
    governor = AgeGovernor(RULES)
    ages = (500, 390, 350)
    reasons = [governor.look(replace(LATE, p95_age_ms=age), second * SECOND).reason for second, age in enumerate(ages)]
    assert reasons == ["age", "waiting", "age"]


def tries(rules: GovernorRules, seconds: int, blind: range = range(0)) -> list[int]:
    """When results were late, on a card that gives 600 ms/s; calm otherwise, neither late nor calm in `blind`."""
    governor = AgeGovernor(rules)
    looks(governor, LATE, 2)
    late, second = [], 2
    while second < seconds:
        load = replace(CALM, p95_age_ms=150) if second in blind else CALM
        fits = governor.look(load, second * SECOND).budget_ms_per_s <= 600
        second += 1
        if not fits:
            late.append(second)
            assert governor.look(LATE, second * SECOND).reason == "age"
            second += 1
    return late


def test_a_level_that_failed_is_not_tried_again_before_its_patience_is_over() -> None:
    """The step that made results late is repeated after 30 s, then 60, 120, 240; the level before it serves."""
    gaps = [later - earlier for earlier, later in pairwise(tries(RULES, 1000))]
    assert [30 * 2**index <= gap < 30 * 2**index + 15 for index, gap in enumerate(gaps)] == [True] * 5


def test_patience_has_a_limit_and_is_short_again_after_a_long_time_without_failure() -> None:
    """With at most 60 s: 30, 60, 60 …; after three minutes in which nothing was tried it begins with 30 s again."""
    rules = replace(RULES, longest_patience_s=60)
    gaps = [later - earlier for earlier, later in pairwise(tries(rules, 600, blind=range(210, 390)))]
    assert [gap // 30 for gap in gaps] == [1, 2, 2, gaps[3] // 30, 1, 2, 2]
    assert gaps[3] > 180


def test_a_level_that_held_for_long_is_not_blamed() -> None:
    """Late 40 s after the last step up: something else has happened; the level is tried again after the hold."""
    governor = AgeGovernor(RULES)
    looks(governor, LATE, 2)
    raised = governor.look(CALM, 20 * SECOND)
    assert raised.reason == "recovery"
    assert governor.look(LATE, 60 * SECOND).reason == "age"
    again = [governor.look(CALM, second * SECOND).budget_ms_per_s for second in range(61, 90)]
    assert max(again) > raised.budget_ms_per_s


def test_when_cameras_leave_while_rates_are_reduced_tiers_come_back_by_steps() -> None:
    """The floor falls from 600 to 100: the budget stays at it until rates are back, and rises from there."""
    governor = AgeGovernor(replace(RULES, floor_ms_per_s=600))
    assert looks(governor, LATE, 5)[-1].rate_scale < 1
    after = [one.budget_ms_per_s for one in looks(governor, replace(CALM, floor_ms_per_s=100), 200, start=5)]
    assert after[0] <= 100
    assert max(later - earlier for earlier, later in pairwise(after)) <= 40.001
    assert after[-1] > 400


def test_a_full_decoder_is_not_answered_with_tiers() -> None:
    """Late with a decoder at its limit and no queue at the GPU: nothing is sacrificed. With a queue, it is."""
    load = replace(LATE, decoder_percent=99)
    assert AgeGovernor(RULES).look(load, 0) == Orders(16, FULL, 1.0, "decoder")
    assert AgeGovernor(RULES).look(replace(load, queue_ms=None), 0).reason == "age"
    assert AgeGovernor(RULES).look(replace(load, decoder_percent=90), 0).reason == "age"


def test_what_is_not_known_changes_nothing() -> None:
    """No answers since the last look is no evidence either way."""
    governor = AgeGovernor(RULES)
    looks(governor, LATE, 3)
    blind = looks(governor, Load(None, None, 16, None), 60, start=3)
    assert {(round(one.budget_ms_per_s, 6), one.reason) for one in blind} == {(409.6, "unknown")}


def test_lateness_beside_an_idle_card_is_not_the_cards() -> None:
    """Half idle and nothing queued: whatever makes results late, tiers and rates stay. Busy, or queued, they go."""
    late = replace(CALM, p95_age_ms=900, busy_percent=30)
    governor = AgeGovernor(RULES)
    for look in looks(governor, late, 20):
        assert (look.reason, look.rate_scale) == ("elsewhere", 1.0)
    for guilty in (replace(late, busy_percent=70), replace(late, busy_percent=None), replace(late, queue_ms=100)):
        assert "age" in {look.reason for look in looks(AgeGovernor(RULES), guilty, 20)}


def test_a_busy_card_is_not_asked_for_more() -> None:
    """Calm results on a card at 91 % leave the budget where it is; rates come back all the same."""
    governor = AgeGovernor(RULES)
    looks(governor, LATE, 14)
    after = looks(governor, replace(CALM, busy_percent=91), 300, start=14)
    assert (after[-1].rate_scale, after[-1].budget_ms_per_s) == (1, pytest.approx(100))
    assert looks(governor, replace(CALM, busy_percent=90), 1, start=314)[0].budget_ms_per_s == pytest.approx(140)


def test_the_floor_may_move_with_the_cameras() -> None:
    """More cameras than before: the budget is never below what all at the smallest tier cost."""
    governor = AgeGovernor(RULES)
    assert looks(governor, LATE, 3)[-1].budget_ms_per_s == pytest.approx(409.6)
    assert governor.look(replace(CALM, floor_ms_per_s=500), 3 * SECOND).budget_ms_per_s == 500
    assert governor.look(replace(CALM, floor_ms_per_s=3000), 4 * SECOND).budget_ms_per_s == 3000
    assert governor.look(replace(CALM, floor_ms_per_s=50), 5 * SECOND).budget_ms_per_s == pytest.approx(409.6)


@pytest.mark.parametrize("floor", [0.0, 100.0, 211.2, 249.4, 799.999, 5000.0])
def test_rates_follow_whatever_the_floor_is(floor: float) -> None:
    """No rounding of the floor keeps the rates from being cut."""
    assert looks(AgeGovernor(replace(RULES, floor_ms_per_s=floor)), LATE, 120)[-1].rate_scale == (
        1 if floor == 0 else pytest.approx(0.2)
    )


LOADS = st.builds(
    Load,
    st.none() | st.floats(0, 2000),
    st.none() | st.floats(0, 500),
    st.integers(0, 200),
    st.none() | st.floats(0, 100),
    st.none() | st.integers(0, 2000),
    st.none() | st.integers(0, 1590),
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 3000),
    st.none() | st.floats(0, 2000),
)


@given(st.lists(st.tuples(LOADS, st.floats(0, 60)), max_size=60))
def test_orders_stay_within_their_limits_and_keep_the_order(steps: list[tuple[Load, float]]) -> None:
    """Whatever is reported: limits hold, one step at a time, no rate is cut while the budget is above its floor."""
    governor = AgeGovernor(RULES)
    before, now = Orders(16, FULL, 1.0, "steady"), 0
    for load, pause_s in steps:
        now += round(pause_s * SECOND)
        orders = governor.look(load, now)
        floor = 100 if load.floor_ms_per_s is None else load.floor_ms_per_s
        assert 1 <= orders.window <= 48
        assert floor * orders.rate_scale <= orders.budget_ms_per_s <= max(FULL, floor) * (1 + 1e-9)
        assert 0.2 <= orders.rate_scale <= 1
        assert orders.reason in REASONS
        if orders.rate_scale < 1:
            assert orders.budget_ms_per_s == pytest.approx(floor * orders.rate_scale), "fewer buy no better ones"
        if orders.rate_scale != before.rate_scale:
            assert orders.reason in ("age", "recovery")
        before = orders


# --- in a loop with a card --------------------------------------------------------------------------------------------


@dataclass
class Card:
    """A card as a queue: cameras ask at a rate, the router spends the budget between all small and all large.

    Work is in GPU-milliseconds at full clock; `speed` is what the card really does per millisecond. What is not done
    waits: up to the window in the server's queue, the rest for a turn; what has waited 500 ms is dropped.
    """

    small_ms: float = 1.0
    large_ms: float = 7.0
    fps: float = 12.0
    backlog_ms: float = 0.0

    def run(self, orders: Orders, cameras: int, speed: float, clock_mhz: int | None, seconds: float) -> Load:
        """So many seconds under these orders, in steps of 20 ms."""
        step_s, ages, queues, done = 0.02, [], [], 0.0
        rate = cameras * self.fps * orders.rate_scale
        spend = min(max(orders.budget_ms_per_s, rate * self.small_ms), rate * self.large_ms)
        mean_ms = spend / rate
        for _ in range(round(seconds / step_s)):
            can = 1000 * speed * step_s
            waiting = self.backlog_ms + spend * step_s
            done += min(waiting, can)
            self.backlog_ms = min(max(0.0, waiting - can), 500 * speed)
            queues.append(min(self.backlog_ms, orders.window * mean_ms) / speed)
            ages.append(40 + (self.backlog_ms + mean_ms) / speed)
        return Load(
            p95_age_ms=float(np.percentile(ages, 95)),
            queue_ms=float(np.mean(queues)),
            in_flight=min(orders.window, 1 + int(rate * (np.mean(queues) + mean_ms) / 1000)),
            busy_percent=100 * done / (1000 * speed * seconds),
            sm_clock_mhz=clock_mhz,
            sm_clock_max_mhz=clock_mhz and 1590,
            work_ms_per_s=done / seconds,
            floor_ms_per_s=cameras * self.fps * self.small_ms,
        )


@dataclass
class Look:
    """One look of a run."""

    at_s: float
    load: Load
    orders: Orders

    @property
    def late(self) -> bool:
        """Whether the objective was missed since the look before."""
        return self.load.p95_age_ms is not None and self.load.p95_age_ms > RULES.age_objective_ms


@dataclass
class Scenario:
    """What happens to the card: cameras and real speed at each second, and whether the clock is reported."""

    cameras: Callable[[float], int] = lambda at_s: 20
    speed: Callable[[float], float] = lambda at_s: 1.0
    clock_known: bool = False
    busy_known: bool = True
    interval_s: float = 1.0

    def play(self, seconds: float) -> list[Look]:
        """All looks of the run."""
        return list(self._looks(seconds))

    def _looks(self, seconds: float) -> Iterator[Look]:
        governor, card, at_s = AgeGovernor(RULES), Card(), 0.0
        orders = Orders(RULES.first_window, FULL, 1.0, "steady")
        while at_s < seconds:
            speed = self.speed(at_s)
            clock = round(1590 * speed) if self.clock_known else None
            load = card.run(orders, self.cameras(at_s), speed, clock, self.interval_s)
            at_s += self.interval_s
            if not self.busy_known:
                load = replace(load, busy_percent=None)
            orders = governor.look(load, round(at_s * SECOND))
            yield Look(at_s, load, orders)


def turns(values: list[float]) -> int:
    """How often a sequence changes its direction."""
    signs = [np.sign(later - earlier) for earlier, later in pairwise(values) if later != earlier]
    return sum(first != second for first, second in pairwise(signs))


def check_order(run: list[Look]) -> None:
    """Rates are cut only when the budget is at its floor; it stays there until they are back."""
    for before, after in pairwise(run):
        if after.orders.rate_scale < before.orders.rate_scale:
            assert before.orders.budget_ms_per_s <= after.load.floor_ms_per_s * (1 + 1e-6)
        if after.orders.rate_scale < 1:
            assert after.orders.budget_ms_per_s == pytest.approx(after.load.floor_ms_per_s * after.orders.rate_scale)


@pytest.mark.parametrize("interval_s", [0.5, 1.0, 5.0])
def test_a_step_load_is_met_and_undone(interval_s: float) -> None:
    """20 → 120 cameras at 60 s, too many even at the smallest tier, back at 180 s: on time again within 8 looks."""
    run = Scenario(cameras=lambda at_s: 120 if 60 <= at_s < 180 else 20, interval_s=interval_s).play(480)
    during = [look for look in run if 60 < look.at_s <= 180]
    assert any(look.late for look in during), "the step must hurt"
    settled = 60 + 8 * max(interval_s, 1.0)
    assert sum(look.late for look in during if look.at_s > settled) <= 2 * (120 / 30), "only what probes cost"
    assert min(look.orders.rate_scale for look in during) < 0.9
    check_order(run)
    assert turns([look.orders.rate_scale for look in run]) <= 10
    assert run[-1].orders.budget_ms_per_s == FULL
    assert run[-1].orders.rate_scale == 1


@pytest.mark.parametrize("cameras", [20, 50, 80])
def test_a_sagging_clock_that_is_reported_makes_nothing_late(cameras: int) -> None:
    """1590 → 900 MHz over a minute and back: with room for the smallest tiers no look is late; else within 8 looks."""
    speed = np.interp(np.arange(600), [0, 60, 120, 300, 330, 600], [1.0, 1.0, 900 / 1590, 900 / 1590, 1.0, 1.0])
    run = Scenario(lambda at_s: cameras, lambda at_s: float(speed[int(at_s)]), clock_known=True).play(600)
    fits = cameras * 12 <= 1000 * 900 / 1590
    late = [look.at_s for look in run if look.late]
    assert len(late) == 0 if fits else 0 < len(late) <= 20
    check_order(run)
    assert turns([look.orders.rate_scale for look in run]) <= (0 if fits else 10)
    assert run[-1].orders.budget_ms_per_s == pytest.approx(max(FULL, cameras * 12))
    assert run[-1].orders.rate_scale == 1


@pytest.mark.parametrize("busy_known", [True, False])
def test_a_sagging_clock_that_nobody_reports_is_met_by_age(busy_known: bool) -> None:
    """The same without NVML: on time within 8 looks of the sag, few probes fail, and all comes back."""
    run = Scenario(speed=lambda at_s: 900 / 1590 if 60 <= at_s < 360 else 1.0, busy_known=busy_known).play(800)
    late = [look.at_s for look in run if look.late]
    assert late[0] == 61
    assert len([at_s for at_s in late if at_s > 68]) <= (0 if busy_known else 12)
    check_order(run)
    assert turns([look.orders.budget_ms_per_s for look in run]) <= (2 if busy_known else 14)
    assert all(look.orders.rate_scale == 1 for look in run)
    assert run[-1].orders.budget_ms_per_s == FULL


@pytest.mark.parametrize("seconds", [1, 3, 10])
def test_a_burst_of_cameras_passes(seconds: int) -> None:
    """100 cameras more for some seconds: on time 8 looks later, everything given back within four minutes."""
    run = Scenario(lambda at_s: 120 if 60 <= at_s < 60 + seconds else 20).play(300)
    assert not any(look.late for look in run if not 60 < look.at_s <= 60 + seconds + 8)
    check_order(run)
    assert turns([look.orders.rate_scale for look in run]) <= 1
    assert (run[-1].orders.budget_ms_per_s, run[-1].orders.rate_scale) == (FULL, 1.0)


@pytest.mark.parametrize("busy_known", [True, False])
@pytest.mark.parametrize("speed", [0.45, 0.6, 0.75, 0.9])
def test_a_card_slower_than_its_profile_is_not_tried_again_and_again(speed: float, busy_known: bool) -> None:
    """For half an hour: what failed is tried ever more rarely, so directions change a few times, not every minute."""
    run = Scenario(speed=lambda at_s: speed, busy_known=busy_known).play(1800)
    assert turns([look.orders.budget_ms_per_s for look in run]) <= 16
    assert sum(look.late for look in run) <= 30
    first, second = ([look for look in run if low < look.at_s <= low + 600] for low in (0, 1200))
    assert sum(look.late for look in second) <= sum(look.late for look in first)
    spent = np.mean([look.load.work_ms_per_s for look in second if look.load.work_ms_per_s is not None])
    assert spent >= 0.8 * min(FULL, 1000 * speed), "and what the card can do is used"


# --- the article's ----------------------------------------------------------------------------------------------------


def batches(utilisations: list[float | None], interval_s: float = 5) -> list[int]:
    """The batch after each look."""
    governor = ArticleGovernor()
    return [
        governor.look(replace(CALM, busy_percent=busy), round(index * interval_s * SECOND)).window
        for index, busy in enumerate(utilisations)
    ]


def test_the_article_takes_two_when_busy_and_gives_two_when_idle() -> None:
    """Above 80 two less down to 4, below 50 two more up to 32, from 80 to 50 nothing, nor at the limits themselves."""
    assert batches([81] * 4) == [6, 4, 4, 4]
    assert batches([49] * 13) == [10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 32]
    assert batches([80, 50, 65]) == [8, 8, 8]


def test_the_article_takes_the_mean_of_ten_and_assumes_50() -> None:
    """One low reading among high ones is not enough; after ten looks the old ones are forgotten; None is 50."""
    assert batches([100, 100, 0]) == [6, 4, 4]
    assert batches([0] * 10 + [100] * 6)[9:] == [28, 30, 32, 32, 32, 32, 32]
    assert batches([0] * 10 + [100] * 9)[-1] == 30
    assert batches([None] * 5) == [8] * 5


def test_the_article_looks_every_five_seconds() -> None:
    """More frequent looks change nothing, and budget and rates are never touched."""
    assert batches([100] * 10, interval_s=1) == [6, 6, 6, 6, 6, 4, 4, 4, 4, 4]
    orders = ArticleGovernor(RULES).look(LATE, 0)
    assert (orders.budget_ms_per_s, orders.rate_scale) == (1000, 1)
    assert orders.reason in REASONS


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_each_policy_has_its_name() -> None:
    """Both policies, and an error that lists them."""
    assert isinstance(governor_of("ours", RULES), AgeGovernor)
    assert isinstance(governor_of("article", RULES), ArticleGovernor)
    with pytest.raises(ValueError, match="one of ours, article, got 'best'"):
        governor_of("best", RULES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"age_objective_ms": 0},
        {"floor_ms_per_s": -1},
        {"gpu_utilization_threshold": 101},
        {"cut": 1},
        {"calm": 0},
        {"first_window": 0},
        {"largest_window": 3},
    ],
    ids=str,
)
def test_rules_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    """Each with its name and the value that came."""
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}.* {value}"):
        GovernorRules(**wrong)  # type: ignore[arg-type]
