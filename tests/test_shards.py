"""Which of several fleets runs a camera, and two of them on one server that share a file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import PATIENCE_S, ROOT, moving_square, write_clip
from hypothesis import given
from hypothesis import strategies as st
from test_fleet import N_ONLY, clients, one_clear_line

from clients.config import parse_settings
from clients.errors import ConfigError
from clients.roster import Roster, state_file
from clients.shards import Shard, parse_shard, shard_of
from deploy.server import TritonServer

NAMES = [f"cam{number:03}" for number in range(1000)]
IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=20)
WEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=8)


@given(st.lists(IDS, unique=True, min_size=1), WEIGHTS)
def test_every_camera_has_exactly_one_shard(names: list[str], weights: list[float]) -> None:
    """Whatever the shards weigh, they part the cameras among them, each knowing only its own number."""
    shards = [Shard(index, tuple(weights)) for index in range(len(weights))]
    assert all(sum(shard.owns(name) for shard in shards) == 1 for name in names)


@given(st.lists(IDS, unique=True, min_size=1), WEIGHTS, st.floats(0.01, 100))
def test_a_new_shard_only_takes(names: list[str], weights: list[float], new: float) -> None:
    """No camera changes between two shards that were there before, whatever they and the new one weigh."""
    before = {name: shard_of(name, weights) for name in names}
    after = {name: shard_of(name, [*weights, new]) for name in names}
    assert all(after[name] in (before[name], len(weights)) for name in names)


@given(st.lists(IDS, unique=True, min_size=1), WEIGHTS, st.floats(1, 10), st.data())
def test_a_shard_that_grows_only_takes(
    names: list[str], weights: list[float], more: float, data: st.DataObject
) -> None:
    """A greater weight brings it cameras and changes nothing else."""
    grown = data.draw(st.integers(0, len(weights) - 1))
    after = [weight * more if index == grown else weight for index, weight in enumerate(weights)]
    for name in names:
        assert shard_of(name, after) in (shard_of(name, weights), grown)


@pytest.mark.parametrize("count", range(1, 10))
def test_one_shard_more_moves_its_share(count: int) -> None:
    """Of 1000 cameras about 1/n move to the n-th shard: within four standard deviations of the binomial."""
    moved = sum(shard_of(name, [1.0] * count) != shard_of(name, [1.0] * (count + 1)) for name in NAMES)
    share = 1 / (count + 1)
    assert abs(moved - 1000 * share) < 4 * (1000 * share * (1 - share)) ** 0.5


def test_cameras_fall_to_shards_as_they_weigh() -> None:
    """3 : 1 : 1 of 1000 cameras, within four standard deviations."""
    held = Counter(shard_of(name, [3, 1, 1]) for name in NAMES)
    for index, share in enumerate((0.6, 0.2, 0.2)):
        assert abs(held[index] - 1000 * share) < 4 * (1000 * share * (1 - share)) ** 0.5


def test_the_shard_of_a_camera_is_the_same_in_every_version() -> None:
    """Two versions run side by side while a pool is upgraded: none may think otherwise of a camera."""
    assert [shard_of(name, [1.0] * 4) for name in NAMES[:12]] == [2, 3, 1, 2, 2, 1, 0, 1, 3, 1, 3, 0]


@pytest.mark.parametrize(
    ("text", "weights", "complaint"),
    [
        ("2", None, "--shard 2: expected I/N, such as 0/2"),
        ("-1/2", None, "--shard -1/2: expected I/N"),
        ("2/2", None, "expected a shard from 0 to 1 of 2, got 2"),
        ("0/0", None, "expected 1 to 1000 shards, got 0"),
        ("0/9999", None, "expected 1 to 1000 shards, got 9999"),
        ("0/2", "1", "expected a weight for each of 2 shards, got 1"),
        ("0/2", "1,no", "could not convert string to float: 'no'"),
        ("0/2", "1,0", "expected weights that are positive numbers, got 0"),
        ("0/2", "1,nan", "expected weights that are positive numbers, got nan"),
    ],
)
def test_an_impossible_shard_is_one_line(text: str, weights: str | None, complaint: str) -> None:
    """What was expected and what came."""
    with pytest.raises(ConfigError, match=r"^--shard ") as refused:
        parse_shard(text, weights)
    assert complaint in str(refused.value)


@pytest.mark.anyio
async def test_a_camera_is_added_where_it_falls(tmp_path: Path) -> None:
    """Over the API a shard takes no camera of another one, and names that; each keeps its changes in its own file."""
    settings = parse_settings({"web": {"enabled": True}}, origin="test")
    shard = Shard(0, (1.0, 1.0))
    camera = parse_settings({"cameras": [{"id": _name_of(1), "source": "a.mp4"}]}, origin="test").cameras[0]
    with pytest.raises(ConfigError, match="it falls to shard 1/2, this is 0/2; add it there"):
        await Roster(settings, shard=shard).create(camera)
    assert state_file(settings.web, tmp_path / "a.yaml", shard) == tmp_path / "a.state.shard-0.json"
    assert state_file(settings.web, tmp_path / "a.yaml") == tmp_path / "a.state.json"


def test_two_shards_share_a_file(tmp_path: Path, triton: TritonServer) -> None:
    """Every camera runs in one of two processes and in no other, and one added to the file while they run too."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(50))
    config = tmp_path / "config.yaml"
    names = NAMES[:6]
    _write(config, clip, triton, names)
    results = [tmp_path / f"shard-{index}.jsonl" for index in range(2)]
    runs = [_run(config, index, path, tmp_path) for index, path in enumerate(results)]
    try:
        _until(runs, lambda: _seen(results[0]) | _seen(results[1]) >= set(names))
        _write(config, clip, triton, [*names, "one-more"])
        _until(runs, lambda: "one-more" in _seen(results[0]) | _seen(results[1]))
    finally:
        for run in runs:
            run.terminate()
        outputs = [run.communicate(timeout=30)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    held = [set(json.loads(output.splitlines()[-1])["per_camera"]) for output in outputs]
    assert held == [{name for name in (*names, "one-more") if Shard(i, (1.0, 1.0)).owns(name)} for i in range(2)]
    assert all(held)
    assert [_seen(path) for path in results] == held


def test_a_shard_without_cameras_waits(tmp_path: Path, triton: TritonServer) -> None:
    """Few cameras on many shards: one that has none is no failure. A file without any camera is, as always."""
    config, lonely = tmp_path / "config.yaml", _name_of(1)
    _write(config, tmp_path / "no.mp4", triton, [lonely])
    run = clients("run", "--config", config, "--shard", "0/2", "--duration", 1, "--set", "sinks.jsonl=")
    assert run.returncode == 0, run.stderr
    assert "shard 0/2: 0 of 1 cameras" in run.stderr
    assert json.loads(run.stdout.splitlines()[-1])["cameras"] == 0
    _write(config, tmp_path / "no.mp4", triton, [])
    one_clear_line(clients("run", "--config", config, "--shard", "0/2"), "cameras: the list is empty")
    one_clear_line(clients("check", "--config", config, "--shard-weights", "1,1"), "--shard-weights: needs --shard")


def _name_of(index: int) -> str:
    return next(name for name in NAMES if shard_of(name, [1.0, 1.0]) == index)


def _write(config: Path, clip: Path, triton: TritonServer, names: list[str]) -> None:
    cameras = [{"id": name, "source": str(clip), "loop": True} for name in names]
    content = {"model": N_ONLY, "triton": {"url": triton.grpc_url}, "system": {"target_fps": 0.3}, "cameras": cameras}
    fresh = config.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(content))
    fresh.replace(config)


def _run(config: Path, index: int, results: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clients", "run", "--config", str(config), "--shard", f"{index}/2"]
    command += ["--set", f"sinks.jsonl={results}"]
    with (folder / f"{index}.log").open("w") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)


def _seen(results: Path) -> set[str]:
    """The cameras that have results."""
    if not results.exists():
        return set()
    return {json.loads(line)["camera"] for line in results.read_text().split("\n")[:-1]}


def _until(runs: list[subprocess.Popen[str]], holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert all(run.poll() is None for run in runs), "a shard has ended"
        assert time.monotonic() < deadline_s, "it does not come to that"
        time.sleep(0.1)
