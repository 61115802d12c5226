"""Several Tritons behind one fleet: who gets a request, and what happens when one of them dies under load."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT, moving_square, write_clip
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from clients.backend import merged
from clients.config import Settings, parse_settings
from clients.control import Reading
from clients.errors import ConfigError, ServerUnavailable
from clients.fleet import Fleet
from clients.governor import AgeGovernor, ArticleGovernor, GovernorRules, Load
from clients.inference.balance import PROVEN, Balance
from clients.inference.server import EngineCounts, TritonLink
from clients.result import Result
from clients.serving import Served, first_window, in_flight_window
from clients.steering import reading_of
from clients.types import Tier
from deploy.server import TritonServer
from loadtest.coded_clips import as_bgr
from loadtest.emulator.camera_code import code_squares
from loadtest.emulator.repository import Emulation, assemble_emulated, models_of
from loadtest.fifty import PROFILES
from loadtest.profile import read_profile

COST_MS = {Tier.N: 1.0, Tier.M: 3.0, Tier.X: 7.0}
CAMERAS = 4

# --- who gets a request ----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(list(Tier)), st.booleans()), max_size=60), st.integers(1, 4))
def test_the_least_loaded_gets_the_next(steps: list[tuple[Tier, bool]], count: int) -> None:
    """By the time that is in flight, not by requests; and what is over is forgotten to the last millisecond."""
    balance = Balance(count, COST_MS)
    for index in range(count):
        balance.begin(index, Tier)
    flying: list[tuple[int, Tier]] = []
    for tier, ends in steps:
        loads = [sum(COST_MS[one] for at, one in flying if at == index) for index in range(count)]
        index = balance.take(tier)
        assert index is not None
        assert loads[index] == min(loads)
        flying.append((index, tier))
        if ends:
            balance.over(*flying.pop(0), answered=True)
    assert [balance.in_flight(index) for index in range(count)] == [
        sum(at == index for at, _ in flying) for index in range(count)
    ]


def test_of_equals_the_one_that_rested_longest_is_taken() -> None:
    """One request at a time, of costs that are no round numbers: nobody does more than the others."""
    balance, taken = Balance(3, {Tier.N: 0.1, Tier.M: 4.86}), []
    for index in range(3):
        balance.begin(index, Tier)
    for number in range(60):
        tier = (Tier.N, Tier.M)[number // 3 % 2]
        taken += [index for index in [balance.take(tier), balance.take(tier)] if index is not None]
        for index in taken[-2:]:
            balance.over(index, tier, answered=True)
    assert [taken.count(index) for index in range(3)] == [40, 40, 40]
    tenths = Balance(2, {Tier.N: 0.1})
    for index, other in ((0, 1), (0, 1), (0, 1), (1, 0), (1, 0)):
        tenths.begin(index, [Tier.N])
        assert tenths.take(Tier.N, but=[other]) == index
    tenths.over(0, Tier.N, answered=True)
    assert tenths.take(Tier.N) == 0, "0.1 + 0.1 + 0.1 - 0.1 is as little as 0.1 + 0.1"


def test_a_request_goes_only_where_its_tier_is() -> None:
    """And nowhere when no living server has it, or all that do were asked."""
    balance = Balance(3, COST_MS)
    balance.begin(0, [Tier.N])
    balance.begin(1, [Tier.N, Tier.X])
    assert [balance.take(Tier.X) for _ in range(3)] == [1, 1, 1]
    assert balance.take(Tier.X, but=[1]) is None
    assert balance.take(Tier.M) is None
    assert balance.away(1)
    assert not balance.away(1)
    assert balance.take(Tier.X) is None
    assert (balance.alive, balance.take(Tier.N)) == (1, 0)
    with pytest.raises(ValueError, match="no request is in flight at server 2"):
        balance.over(2, Tier.N, answered=False)


def test_who_comes_back_gets_little_at_first() -> None:
    """One request at a time, one more for every two answers, until it has proved itself; errors prove nothing."""
    balance = Balance(2, COST_MS)
    balance.begin(0, Tier)
    balance.back(1, Tier)
    taken = [balance.take(Tier.N) for _ in range(6)]
    assert taken.count(1) == 1
    for _ in range(4):
        balance.over(1, Tier.N, answered=False)
        assert [balance.take(Tier.N) for _ in range(3)] == [1, 0, 0]
    for _ in range(2):
        balance.over(1, Tier.N, answered=True)
        assert balance.take(Tier.N) == 1
    assert [balance.take(Tier.N) for _ in range(3)] == [1, 0, 0], "two at a time now"
    for _ in range(2 * PROVEN):
        balance.over(1, Tier.N, answered=True)
        assert balance.take(Tier.N) == 1
    assert {balance.take(Tier.N) for _ in range(2 * PROVEN)} == {0, 1}
    assert abs(balance.in_flight(0) - balance.in_flight(1)) <= 1, "as good as any"


def test_the_only_one_that_comes_back_takes_all() -> None:
    """Gentleness is for where another one works meanwhile."""
    balance = Balance(2, COST_MS)
    balance.back(1, Tier)
    assert [balance.take(Tier.M) for _ in range(5)] == [1] * 5


# --- budget, counts, configuration -----------------------------------------------------------------------------


def test_the_budget_is_the_sum_of_what_is_alive() -> None:
    """Of both governors, and of the engines' busy time; counts of several servers add up."""
    ours, article = AgeGovernor(GovernorRules()), ArticleGovernor()
    for servers in (2, 1, 3):
        load = Load(50.0, 1.0, 4, 60.0, servers=servers)
        assert ours.look(load, servers * 10**9).budget_ms_per_s == pytest.approx(800 * servers)
        assert article.look(load, servers * 10**9).budget_ms_per_s == 1000 * servers
    busy = EngineCounts(10, 5, busy_ns=10**9, queued=10, queue_ns=10**8)
    assert busy + busy == EngineCounts(20, 10, 2 * 10**9, 20, 2 * 10**8)
    told = reading_of(EngineCounts(0, 0), busy + busy, 2.0, None, 2)
    assert told == Reading(engine_ms=2000.0, queue_ms=10.0, busy_percent=50.0, servers=2)
    assert reading_of(busy + busy, busy, 1.0, None, 1) == Reading(), "one of them is gone: nothing is known"


def test_two_servers_have_twice_as_much_in_flight() -> None:
    """As far as there are cameras, and unless a window was ordered."""
    two = [{"url": f"10.0.0.{number}:8001"} for number in (1, 2)]
    for keys, window in (({"endpoints": two}, 96), ({"url": "a:1"}, 48), ({"endpoints": two, "window": 7}, 7)):
        assert in_flight_window(parse_settings({"system": {"max_streams": 500}, "triton": keys}, origin="t")) == window
    both = parse_settings({"triton": {"endpoints": two}}, origin="t")
    assert (in_flight_window(both), first_window(both)) == (50, 8)
    assert first_window(parse_settings({"triton": {"endpoints": two, "window": 7}}, origin="t")) == 7


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"url": "a:1", "endpoints": [{"url": "b:1"}]}, "triton: url and endpoints exclude each other, got a:1 and 1"),
        ({"endpoints": [{"url": "a:1"}, {"url": "a:1"}]}, "triton: endpoints must have different urls, got a:1, a:1"),
        ({"endpoints": [{"url": "a"}]}, r"triton\.endpoints\[0\]\.url: must be host:port"),
        ({"endpoints": [{"url": "a:1", "tier": "x"}]}, r"endpoints\[0\]\.tier: unknown key; did you mean 'tiers'"),
        ({"endpoints": [{"url": "a:1", "tiers": ["q"]}]}, r"triton\.endpoints\[0\]\.tiers\[0\]: "),
    ],
)
def test_impossible_endpoints_are_one_line(keys: dict[str, Any], complaint: str) -> None:
    """The key, what was expected and what came."""
    with pytest.raises(ConfigError, match=complaint):
        parse_settings({"triton": keys}, origin="test")


def test_what_servers_offer_is_added_up_where_it_goes_together() -> None:
    """All tiers, the largest batches of all together; another server's classes for a tier are refused by its name."""
    labels = {Tier.N: ("a", "b"), Tier.X: ("a", "b")}
    small = Served((Tier.N,), labels, {Tier.N: 16}, "fp16")
    large = Served((Tier.N, Tier.X), labels, {Tier.N: 16, Tier.X: 2}, "int8")
    both = merged(tuple(Tier), {"a:1": small, "b:1": large})
    assert (both.tiers, both.largest_batch) == ((Tier.N, Tier.X), {Tier.N: 32, Tier.X: 2})
    assert both.precision == "fp16/int8"
    odd = Served((Tier.N,), {Tier.N: ("b", "a", "c", "d")}, {Tier.N: 16}, "fp16")
    with pytest.raises(ConfigError, match=r"c:1 serves yolo12n with other classes \(4: b, a, c, …; others 2: a, b\)"):
        merged(tuple(Tier), {"a:1": small, "c:1": odd})
    with pytest.raises(ConfigError, match="none of yolo12m is used at any of a:1"):
        merged((Tier.M,), {"a:1": small})


# --- two real servers ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[TritonServer]]:
    """Two real Tritons on emulated T4s, each eight times slower."""
    with emulated_cards(2, [Tier.N, Tier.M], tmp_path_factory.mktemp("cards")) as servers:
        yield servers


@contextmanager
def emulated_cards(count: int, tiers: list[Tier], folder: Path) -> Iterator[list[TritonServer]]:
    """So many real Tritons on emulated T4s, each eight times slower; started all at once."""
    profile, servers = read_profile(PROFILES / "t4.json"), []
    for number in range(count):
        assemble_emulated(folder / f"card{number}", profile, tiers, Emulation(time_scale=8))
        servers.append(TritonServer(models_of(folder / f"card{number}"), log=folder / f"triton{number}.log"))
    with ExitStack() as stack, ThreadPoolExecutor(count) as threads:
        for started in [threads.submit(stack.enter_context, server) for server in servers]:
            started.result()
        yield servers


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A short clip per camera, with its number in its pixels."""
    folder = tmp_path_factory.mktemp("clips")
    return [_clip(folder / f"cam{number}.mp4", number) for number in range(CAMERAS)]


def _clip(path: Path, number: int) -> Path:
    pictures, squares = moving_square(25, width=640, height=360), as_bgr(code_squares(number))
    for picture in pictures:
        picture[: squares.shape[0], : squares.shape[1]] = squares
    return write_clip(path, pictures)


def configured(clips: list[Path], *endpoints: dict[str, Any], model: str = "yolo12n", **triton: Any) -> Settings:
    """Every clip as a camera of this tier, at these endpoints; tier n is the fallback."""
    content = {
        "system": {"target_fps": 5},
        "model": {"default": model, "fallback": "yolo12n", "high_precision": model},
        "optimization": {"enable_memory_optimization": False, "switching": "fixed"},
        "monitoring": {"age_objective_ms": 60_000},  # a slow machine is no reason to spend less
        "triton": {"endpoints": list(endpoints), **triton},
        "sinks": {"jsonl": None},
        "cameras": [{"id": str(number), "source": str(path), "loop": True} for number, path in enumerate(clips)],
    }
    return parse_settings(content, origin="test")


async def more(fleet: Fleet, count: int = 4) -> list[Result]:
    """The next results of every camera, each of which carries its own camera's number and nothing else."""

    async def of(stream_id: str) -> list[Result]:
        found: list[Result] = []
        async for result in fleet.results(stream_id):
            assert result.detections.class_id.tolist() == [int(stream_id)]
            found.append(result)
            if len(found) == count:
                break
        return found

    async with asyncio.timeout(PATIENCE_S):
        return [result for one in await asyncio.gather(*map(of, fleet.lanes)) for result in one]


async def until(fleet: Fleet, holds: Callable[[], bool]) -> None:
    """Take results until it holds."""
    async with asyncio.timeout(PATIENCE_S):
        async for _ in fleet.results("0"):
            if holds():
                return


async def inferred(server: TritonServer) -> int:
    """What a server's engines have inferred since it was started."""
    async with TritonLink(server.grpc_url) as link:
        return (await link.engine_counts()).inferences


def budget(fleet: Fleet) -> float:
    """GPU-milliseconds per second that the governor allows."""
    return 0.0 if fleet.decision is None else fleet.decision.orders.budget_ms_per_s


@pytest.mark.anyio
async def test_a_server_that_is_killed_is_not_missed(cards: list[TritonServer], clips: list[Path]) -> None:
    """Its cameras go on at the other one without an error; when it is back it works again, and the budget follows."""
    urls = [{"url": server.grpc_url} for server in cards]
    async with Fleet(configured(clips, *urls)) as fleet:
        await more(fleet)
        assert all([await inferred(server) for server in cards])
        await until(fleet, lambda: budget(fleet) == 1600)
        os.kill(cards[0].pid, signal.SIGKILL)
        await more(fleet)
        await until(fleet, lambda: fleet.servers_alive == 1)
        await until(fleet, lambda: budget(fleet) == 800)
        metrics = CollectorRegistry()
        metrics.register(fleet.collector())
        assert metrics.get_sample_value("y12_servers_alive_ratio") == 0.5
        assert metrics.get_sample_value("y12_server_up") == 1
        await asyncio.to_thread(cards[0].restart)
        await until(fleet, lambda: fleet.servers_alive == 2 and budget(fleet) == 1600)
        await more(fleet)
        assert await inferred(cards[0]), "the new one has work"
        assert fleet.is_ready
    told = fleet.stats().as_json()
    assert (told["errors"], told["transport"]) == (0, "shm")
    assert told["frames_decoded"] == told["inferences"] + sum(told["frames_skipped"].values())
    assert told["frames_skipped"]["failed"] == 0


@pytest.mark.anyio
async def test_a_server_that_hangs_is_not_waited_for(cards: list[TritonServer], clips: list[Path]) -> None:
    """Stopped in the middle of its work: what it has is sent to the other one, long before a request's time is up."""
    urls = [{"url": server.grpc_url} for server in cards]
    async with Fleet(configured(clips, *urls, timeout_ms=60_000)) as fleet:
        await more(fleet)
        os.kill(cards[1].pid, signal.SIGSTOP)
        try:
            await until(fleet, lambda: fleet.servers_alive == 1)
            await more(fleet)
        finally:
            os.kill(cards[1].pid, signal.SIGCONT)
        await until(fleet, lambda: fleet.servers_alive == 2)
        await more(fleet)
    assert fleet.stats().errors == 0


@pytest.mark.timeout(400)  # four servers start at once
@pytest.mark.anyio
async def test_four_servers_share_the_work(clips: list[Path], tmp_path: Path) -> None:
    """Each does a quarter; one is killed under load: no error, every camera goes on, the others share its part."""
    with emulated_cards(4, [Tier.N], tmp_path) as servers:
        async with Fleet(configured(clips, *({"url": server.grpc_url} for server in servers))) as fleet:
            await more(fleet, 16)
            shares = await parts(servers)
            assert max(shares) < 1.3 * min(shares), shares
            os.kill(servers[2].pid, signal.SIGKILL)
            await until(fleet, lambda: fleet.servers_alive == 3)
            left = servers[:2] + servers[3:]
            before = await parts(left)
            await more(fleet, 12)
            shares = [after - earlier for after, earlier in zip(await parts(left), before, strict=True)]
            assert max(shares) < 1.3 * min(shares), shares
            await until(fleet, lambda: budget(fleet) == 2400)
        told = fleet.stats().as_json()
    assert told["errors"] == 0
    assert told["frames_skipped"]["failed"] == 0


async def parts(servers: list[TritonServer]) -> list[int]:
    """What each has inferred since it was started."""
    return [await inferred(server) for server in servers]


@pytest.mark.timeout(600)  # five servers are started one after another, and a clone makes the clips first
def test_the_pool_benchmark_counts_both_servers(tmp_path: Path) -> None:
    """The command as it is: one Triton, two, and one of two killed; figures that a table can show, no errors."""
    command = [
        sys.executable,
        "-m",
        "loadtest",
        "pool",
        "--servers",
        "1",
        "2",
        "--seconds",
        "2",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["kind"], told["errors"], list(told["servers"])) == ("emulated", 0, ["1", "2"])
    for one in told["servers"].values():
        assert one["inferences_per_s"] > 0
        assert {"of_linear", "mean_batch", "age_p50_ms", "age_p95_ms", "age_p99_ms", "errors"} <= one.keys()
    death = told["one_of_two_killed"]
    assert {"longest_silence_before_s", "longest_silence_after_s", "settled_after_s", "errors"} <= death.keys()
    for flat in (*told["servers"].values(), death):
        assert all(isinstance(value, int | float) for value in flat.values()), flat
    assert told["servers"]["1"]["least_share"] == 1
    assert 0.3 < told["servers"]["2"]["least_share"] <= 0.5, "both had work"


@pytest.mark.anyio
async def test_tiers_live_on_different_servers(cards: list[TritonServer], clips: list[Path]) -> None:
    """Each camera's tier is asked where it is; when its only server dies, its cameras use the other one's."""
    first, second = ({"url": server.grpc_url, "tiers": [tier]} for server, tier in zip(cards, "nm", strict=True))
    async with Fleet(configured(clips, first, second, model="yolo12m")) as fleet:
        assert fleet.served.tiers == (Tier.N, Tier.M)
        assert {result.tier for result in await more(fleet)} == {Tier.M}
        os.kill(cards[1].pid, signal.SIGKILL)
        await until(fleet, lambda: fleet.servers_alive == 1)
        await until(fleet, lambda: all(lane.tier is Tier.N for lane in fleet.lanes.values()))
        assert {result.tier for result in await more(fleet)} == {Tier.N}
    await asyncio.to_thread(cards[1].restart)


@pytest.mark.anyio
async def test_servers_that_differ_are_refused_by_name(
    cards: list[TritonServer], triton: TritonServer, clips: list[Path]
) -> None:
    """Other classes for one tier, another canvas; one that is away is no reason, as long as another is there."""
    emulated, demo = ({"url": server.grpc_url} for server in (cards[0], triton))
    with pytest.raises(ConfigError, match=rf"{demo['url']} serves yolo12n with other classes \(4: person"):
        await Fleet(configured(clips, emulated, demo)).__aenter__()
    wide = configured(clips, emulated)
    wide = wide.model_copy(update={"model": wide.model.model_copy(update={"canvas": "704x416"})})
    with pytest.raises(ConfigError, match=f"model.canvas is 704x416, .* but yolo12n on {emulated['url']} takes"):
        await Fleet(wide).__aenter__()
    nobody = {"url": "127.0.0.1:9"}
    with pytest.raises(ServerUnavailable, match=r"no Triton is ready at 127\.0\.0\.1:9 after"):
        await Fleet(configured(clips, nobody, ready_timeout_s=0.1)).__aenter__()
    async with Fleet(configured(clips, nobody, emulated, ready_timeout_s=60)) as fleet:
        await more(fleet, 1)
        assert fleet.servers_alive == 1
