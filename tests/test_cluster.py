"""Fleets on the nodes of a Ray cluster: who runs which camera, and what happens when a process, a node, is lost."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, moving_square, write_clip
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from test_fleet import one_clear_line

from clients.capacity.demand import Host, parse_source
from clients.capacity.fitting import most_cameras
from clients.capacity.of_settings import demand_of
from clients.capacity.plan import plan
from clients.cluster.assignment import Assignment
from clients.cluster.command import Asked, run_cluster
from clients.cluster.node import Node, capacity_of, nodes_with_cards
from clients.cluster.view import labelled
from clients.config import Settings, load_settings, parse_settings
from clients.data_sheet import sheet
from clients.errors import FleetError
from clients.statistics import Histogram
from deploy.server import TritonServer
from loadtest.cluster import ClusterRun, ray_cluster, slow_card
from loadtest.fifty import PROFILES
from loadtest.profile import read_profile

CAMERAS = [f"cam{number}" for number in range(6)]
NODES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.5, 100), min_size=1, max_size=6)
NAMES = st.lists(st.integers(0, 999).map(lambda number: f"cam{number}"), unique=True, max_size=60)


# --- who runs which camera -------------------------------------------------------------------------------------


def settled(nodes: dict[str, float], cameras: list[str]) -> Assignment:
    """With these nodes from the start."""
    assignment = Assignment()
    for node, capacity in nodes.items():
        assignment.joined(node, capacity)
    assignment.settle(cameras)
    return assignment


@given(NODES, NAMES)
def test_cameras_are_divided_by_capacity(nodes: dict[str, float], cameras: list[str]) -> None:
    """Each has one home, and no node could give one away to another that would then be less full than it is."""
    assignment = settled(nodes, cameras)
    held = Counter(assignment.home_of(camera) for camera in cameras)
    assert held.total() == len(cameras)
    assert set(held) <= set(nodes)
    fullest = max(held[node] / capacity for node, capacity in nodes.items())
    assert all((held[node] + 1) / capacity >= fullest * (1 - 1e-9) for node, capacity in nodes.items())


@given(NODES, NAMES, st.floats(0.5, 100), st.data())
def test_a_node_that_joins_only_takes(
    nodes: dict[str, float], cameras: list[str], new: float, data: st.DataObject
) -> None:
    """It takes its share; no camera moves between two others, however uneven cameras that went have left them."""
    assignment = settled(nodes, cameras)
    stays = data.draw(st.lists(st.booleans(), min_size=len(cameras), max_size=len(cameras)))
    left = [camera for camera, kept in zip(cameras, stays, strict=True) if kept]
    held = Counter(assignment.home_of(camera) for camera in left)
    assert all(not held[move.now] for move in assignment.settle(left)), "only who has none gets another one's"
    held = Counter(assignment.home_of(camera) for camera in left)
    assignment.joined("new", new)
    moves = assignment.settle(left)
    assert {move.now for move in moves} <= {"new"} | {node for node in nodes if not held[node]}
    held = Counter(assignment.home_of(camera) for camera in left)
    fullest = max((held[node] / capacity for node, capacity in nodes.items()), default=0.0)
    assert (held["new"] + 1) / new >= fullest * (1 - 1e-9)


@given(NODES, NAMES, st.data())
def test_a_node_that_is_lost_only_gives(nodes: dict[str, float], cameras: list[str], data: st.DataObject) -> None:
    """Its cameras go to the others and nothing else moves; without another one they have no home, and get one later."""
    lost = data.draw(st.sampled_from(sorted(nodes)))
    assignment = settled(nodes, cameras)
    its = {camera for camera in cameras if assignment.home_of(camera) == lost}
    assignment.lost(lost)
    moves = assignment.settle(cameras)
    if len(nodes) > 1:
        assert {move.camera for move in moves} == its
        return
    assert moves == []
    assert all(assignment.home_of(camera) is None for camera in cameras)
    assignment.joined("later", 1.0)
    assert len(assignment.settle(cameras)) == len(cameras)


STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "lose", "beat", "late", "cameras"]), st.sampled_from("abc"), st.integers(0, 8)),
    max_size=60,
)


@given(STEPS)
@example([("join", "a", 0), ("beat", "a", 0), ("join", "b", 8), ("beat", "a", 2), ("beat", "b", 0)])  # two end slowly
def test_no_camera_runs_twice(steps: list[tuple[str, str, int]]) -> None:
    """Whatever joins, is lost, answers late or is taken from the file: two nodes never run one camera at a time."""
    assignment, running = Assignment(), dict[str, set[str]]()
    cameras = list(CAMERAS)
    for step, node, number in steps:
        if step == "join" and node not in running:
            assignment.joined(node, number + 1.0)
            running[node] = set()
        elif step == "lose" and node in running:
            assignment.lost(node)
            del running[node]
        elif step == "cameras":
            cameras = CAMERAS[: number + 1]
        elif step in ("beat", "late") and node in running:
            told = assignment.tell(node)
            if step == "beat":
                ending = set(sorted(running[node] - set(told))[: number % 3])  # some take longer to end
                running[node] = set(told) | ending
                assignment.answered(node, told, running[node])
            else:
                running[node] |= set(told)  # it runs them, and its answer is not heard
        assignment.settle(cameras)
        assert max(Counter(camera for its in running.values() for camera in its).values(), default=1) == 1


@given(NODES, NAMES)
def test_every_camera_comes_to_run_where_it_belongs(nodes: dict[str, float], cameras: list[str]) -> None:
    """Two rounds of beats after a node has joined: the first ends it at the old one, the second begins it."""
    assignment = settled(nodes, cameras)
    for node in nodes:
        assignment.answered(node, told := assignment.tell(node), told)
    assignment.joined("new", 10.0)
    assignment.settle(cameras)
    for _ in range(2):
        for node in ("new", *nodes):
            assignment.answered(node, told := assignment.tell(node), told)
    assert {camera: node for node in ("new", *nodes) for camera in assignment.tell(node)} == {
        camera: assignment.home_of(camera) for camera in cameras
    }


# --- nodes, capacity, view -------------------------------------------------------------------------------------


def row(node_id: str, name: str, **resources: float) -> dict[str, Any]:
    """What Ray tells of a node."""
    return {"NodeID": node_id, "NodeName": name, "Alive": True, "Resources": {"CPU": 8.0, **resources}}


def test_nodes_with_cards_are_named_for_good() -> None:
    """Only those with the resource, and alive; the card's kind where Ray knows one that has a data sheet."""
    names: dict[str, str] = {}
    rows = [
        row("1", "10.0.0.5", card=1.0, **{"accelerator_type:L4": 1.0}),
        row("2", "10.0.0.6"),
        row("3", "10.0.0.5", card=2.0, **{"accelerator_type:H100": 1.0}),
        row("4", "10.0.0.7", card=1.0) | {"Alive": False},
    ]
    first = Node("1", "10.0.0.5", cards=1, cores=8.0, gpu="l4")
    assert nodes_with_cards(rows, names) == [first, Node("3", "10.0.0.5-2", cards=2, cores=8.0)]
    assert nodes_with_cards([row("5", "10.0.0.5", card=1.0), *rows], names)[0].name == "10.0.0.5-3"
    assert nodes_with_cards(rows, names)[0] == first


def configured(**sections: Any) -> Settings:
    """Cameras of two kinds."""
    cameras = [{"id": f"cam{number}", "source": "rtsp://10.0.0.9/a", "max_fps": 5} for number in range(3)]
    cameras += [{"id": "slow", "source": "rtsp://10.0.0.9/b", "max_fps": 1, "model": "yolo12x"}]
    return parse_settings({"cameras": cameras, **sections}, origin="test")


def test_a_node_takes_what_the_planner_says() -> None:
    """The most cameras of this mixture that fit: so many do, one more in proportion does not; a larger machine more."""
    demand, card = demand_of(configured(), parse_source("1920x1080@25/h264"), {}), sheet("t4")
    most = most_cameras(demand, card, Host(4.0))
    assert most > 4
    for count, fits in ((most, True), (most * 3 // 2, False)):
        groups = tuple(
            type(group)(round(count * group.count / 4) or 1, group.source, group.rate_fps, group.tiers, group.decode)
            for group in demand.groups
        )
        assert plan(type(demand)(groups, demand.canvas), card, Host(4.0)).fits is fits
    one, two = Node("1", "a", cards=1, cores=4.0), Node("2", "b", cards=2, cores=8.0)
    assert capacity_of(one, demand, card) == most
    assert 1.8 * most <= capacity_of(two, demand, card) <= 2.2 * most
    assert capacity_of(Node("3", "c", cards=1, cores=0.01), demand, card) == 1, "a node that is there is used"


def test_a_node_has_its_own_files_and_no_ports() -> None:
    """Files of several nodes in one folder do not overwrite each other."""
    keys = {"events": "out/e.jsonl", "videos": "out/videos", "clips": {"folder": "clips"}, "mosaic_video": "m.mp4"}
    base = configured(sinks=keys, monitoring={"metrics_port": 9000}, web={"enabled": True})
    own = base.of_node("10.0.0.5")
    assert (own.cameras, own.monitoring.metrics_port, own.web.enabled) == ((), None, False)
    sinks = own.sinks
    assert [
        str(path) for path in (sinks.jsonl, sinks.events, sinks.videos, sinks.clips.folder, sinks.mosaic_video)
    ] == [
        "out/detections.10.0.0.5.jsonl",
        "out/e.10.0.0.5.jsonl",
        "out/videos/10.0.0.5",
        "clips/10.0.0.5",
        "m.10.0.0.5.mp4",
    ]
    assert sinks.mosaic_image is None
    assert str(sinks.webhook.dead_letters) == "out/dead-letters.10.0.0.5.jsonl"
    assert str(own.triton.log) == "out/triton.10.0.0.5.log"
    assert own.system == base.system


def test_metrics_of_all_nodes_are_one() -> None:
    """One family of each name, every sample with its node."""
    of = {node: CounterMetricFamily("y12_x", "X.", labels=["camera"]) for node in "ab"}
    of["a"].add_metric(["cam0"], 1)
    of["b"].add_metric(["cam1"], 2)
    (both,) = labelled({node: [metric] for node, metric in of.items()})
    assert [(sample.labels, sample.value) for sample in both.samples] == [
        ({"camera": "cam0", "node": "a"}, 1),
        ({"camera": "cam1", "node": "b"}, 2),
    ]


def test_a_histogram_travels_without_its_empty_bins() -> None:
    """It is the same on the other side."""
    histogram = Histogram()
    for value in (0.3, 12.0, 12.0, 4000.0):
        histogram.add(value)
    carried = pickle.dumps(histogram)
    assert len(carried) < 500
    other = pickle.loads(carried)
    assert (other.as_counts(), other.sum_ms) == (histogram.as_counts(), histogram.sum_ms)


# --- what cannot begin -----------------------------------------------------------------------------------------


def test_without_ray_the_group_is_named(tmp_path: Path) -> None:
    """One line and exit code 2; everything else works without it."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"cameras": [{"id": "a", "source": "a.mp4"}]}))
    code = "import sys; sys.modules['ray'] = None; from clients.__main__ import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "cluster", "--config", str(config)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    one_clear_line(process, "Ray is not installed; pip install --group cluster")


@pytest.mark.parametrize(
    ("address", "gpu", "complaint"),
    [
        ("nonsense", "t4", "--address nonsense: expected auto, or host:port of the cluster's head"),
        ("ray://10.0.0.5:10001", "t4", "expected auto, or host:port"),
        ("127.0.0.1:9", "t4", "--address 127.0.0.1:9: no Ray cluster"),
        (None, "t5", "there is no data sheet of 't5'"),
    ],
)
def test_what_cannot_begin_is_one_line(address: str | None, gpu: str, complaint: str, tmp_path: Path) -> None:
    """An address that is none, one where nobody answers, a card that nobody knows."""
    asked = Asked(address, gpu, duration_s=None, wait_s=1.0)
    with pytest.raises(FleetError) as refused:
        run_cluster(configured(), asked, tmp_path / "config.yaml", load_settings, watch=False)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


# --- a real cluster --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A real Ray cluster on this machine, whose head has no card."""
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A real Triton on an emulated T4 that all nodes share."""
    with slow_card(tmp_path_factory.mktemp("card"), read_profile(PROFILES / "t4.json")) as server:
        yield server


@pytest.fixture
def run(cluster: Any, card: TritonServer, tmp_path: Path) -> Iterator[ClusterRun]:
    """The command, not started yet, and no node with a card; whatever joins is removed again."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(50))
    run = ClusterRun(cluster, card, tmp_path, [clip], 3.0)
    yield run
    run.close()


def scraped(port: int) -> dict[str, Metric]:
    """What a scrape gives, by name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return {one.name: one for one in text_string_to_metric_families(answer.read().decode())}


def assert_nothing_ran_twice(run: ClusterRun) -> None:
    """No fleet's results of a camera begin before those of the one that had it earlier have ended."""
    for name, fleets in run.results().items():
        spans = sorted((times[0], times[-1]) for times in fleets.values())
        assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans)), (name, spans)


def held(run: ClusterRun) -> Counter[str]:
    """How many cameras have their newest result from each fleet."""
    homes = run.homes()
    return Counter(homes[name] for name in CAMERAS if name in homes)


ON_NODE = """
import asyncio, json, sys
from pathlib import Path
from clients.cluster.host import FleetOnNode
from clients.config import load_settings

async def main():
    settings, fleet, told = load_settings(Path(sys.argv[1])), FleetOnNode(), []
    cameras = settings.streams()
    await fleet.start(sys.argv[2], settings.of_node("a"))
    told.append((await fleet.beat(1, cameras)).running)
    while len((beat := await fleet.beat(3, cameras[:1])).running) > 1:
        await asyncio.sleep(0.1)
    told += [beat.running, (await fleet.beat(2, cameras)).running, (await fleet.beat(4, cameras)).running]
    print(json.dumps(told), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_fleet_obeys_the_newest_beat_and_ends_alone(run: ClusterRun) -> None:
    """A beat that comes late changes nothing. When none comes any more the process ends, whoever may be told of it."""
    run.write(CAMERAS[:2])
    command = [sys.executable, "-c", ON_NODE, str(run.config), str(run.folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert process.returncode == 75, process.stderr
    assert "no word from the driver for 4.5 s" in process.stderr
    assert json.loads(process.stdout) == [CAMERAS[:2], CAMERAS[:1], CAMERAS[:1], CAMERAS[:2]]
    assert (run.folder / "results.a.jsonl").exists()


def test_no_card_is_one_line(run: ClusterRun) -> None:
    """After a bounded time it says what was expected; nothing is printed that is not JSON."""
    run.start(CAMERAS, "--wait", "1")
    assert run.process is not None
    output, _ = run.process.communicate(timeout=90)
    assert (run.process.returncode, output) == (1, "")
    (told,) = run.events("message")[-1:]
    assert told["message"].startswith("no node with a card is there after 1 s, and 1 without: expected one that was")
    assert """--resources='{"card": 1}'""" in told["message"]


@pytest.mark.timeout(400)  # on a busy machine a worker of Ray takes half a minute to start
def test_a_node_joins_and_one_dies_under_load(run: ClusterRun) -> None:
    """All cameras run once; who joins takes its share from each; a dead node's cameras run elsewhere, others go on."""
    run.start(CAMERAS)
    run.add_node("a")
    run.add_node("b")
    run.until(lambda: held(run) == {"a": 3, "b": 3})
    first = run.homes()
    assert run.events("camera_moved") == [], "they began where they belong"
    run.write([*CAMERAS, "added"])
    run.until(lambda: "added" in run.homes())
    run.write(CAMERAS)
    run.until(lambda: any("removed added" in told["message"] for told in run.events("configuration_applied")))

    run.add_node("c")
    run.until(lambda: held(run) == {"a": 2, "b": 2, "c": 2})
    second = run.homes()
    assert all(second[name] in (first[name], "c") for name in CAMERAS), "only the new one took"
    metrics = scraped(run.port)
    inferred = {(one.labels["camera"], one.labels["node"]) for one in metrics["y12_inferences"].samples if one.value}
    assert inferred >= {(name, second[name]) for name in CAMERAS}
    assert {one.labels["node"]: one.value for one in metrics["y12_node_up"].samples} == {"a": 1, "b": 1, "c": 1}

    run.remove_node("b")
    run.until(lambda: held(run) == {"a": 3, "c": 3})
    third = run.homes()
    assert all(third[name] == second[name] for name in CAMERAS if second[name] != "b")
    assert_nothing_ran_twice(run)

    summary = run.end()
    assert (summary["nodes"], summary["nodes_lost"], summary["errors"]) == (2, 1, 0)
    assert {name: told["node"] for name, told in summary["per_camera"].items()} == {
        name: third[name] for name in CAMERAS
    }
    assert all(told["states"] == {"connecting": 1, "live": 1} for told in summary["per_camera"].values())
    assert summary["cameras_not_running"] == {}
    assert set(summary["per_node"]) == {"a", "b", "c"}
    assert summary["inferences"] == sum(told["inferences"] for told in summary["per_node"].values())


@pytest.mark.timeout(400)  # on a busy machine a worker of Ray takes half a minute to start
def test_a_fleet_that_dies_or_hangs_is_replaced(run: ClusterRun) -> None:
    """Its process killed, or stopped: the cameras run on the other node, the node gets a new fleet and its share back;
    a process that wakes up again ends itself, and none of its cameras has run twice."""
    run.add_node("a")
    run.add_node("b")
    run.start(CAMERAS)
    run.until(lambda: held(run) == {"a": 3, "b": 3})
    its = {name for name, home in run.homes().items() if home == "a"}
    run.process_of("a").kill()
    run.until(lambda: held(run) == {"b": 6})
    assert [told["node"] for told in run.events("node_lost")] == ["a"]
    assert {told["camera"] for told in run.events("camera_moved")} == its
    run.until(lambda: held(run) == {"a.2": 3, "b": 3})

    stopped = run.process_of("b")
    stopped.suspend()
    run.until(lambda: held(run) == {"a.2": 6})
    stopped.resume()
    run.until(lambda: not stopped.is_running())
    run.until(lambda: held(run) == {"a.2": 3, "b.2": 3})
    assert_nothing_ran_twice(run)
    summary = run.end()
    assert (summary["nodes"], summary["nodes_lost"], summary["cameras"]) == (2, 2, 6)
