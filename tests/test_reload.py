"""A changed configuration while the fleet runs: the difference of cameras, and nothing else."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import moving_square, write_clip
from hypothesis import given
from hypothesis import strategies as st
from test_fleet import clients, inferred, one_clear_line, running

from clients.config import Camera, Settings, parse_settings
from clients.errors import ConfigError
from clients.reload import apply, difference, follow, with_cameras_of
from clients.statistics import CameraReport
from clients.types import StreamSpec
from clients.zones.layout import Layout
from deploy.server import TritonServer

LINE = {"name": "door", "points": [[0, 0], [1, 1]]}
CAMERA = st.fixed_dictionaries(
    {
        "source": st.sampled_from(["a.mp4", "b.mp4"]),
        "max_fps": st.sampled_from([None, 5]),
        "lines": st.sampled_from([[], [LINE]]),
    }
)
CAMERAS = st.dictionaries(st.sampled_from("abcd"), CAMERA, min_size=1)


def settings(cameras: dict[str, dict[str, Any]], **sections: Any) -> Settings:
    """A configuration with these cameras."""
    listed = [{"id": name, **camera} for name, camera in cameras.items()]
    return parse_settings({"cameras": listed, **sections}, origin="test")


def without_lines(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether two cameras differ in nothing but their lines."""
    return before | {"lines": []} == after | {"lines": []}


class Twin:
    """A fleet's cameras, without cameras."""

    def __init__(self, running: Settings) -> None:
        self.specs = {spec.stream_id: spec for spec in running.streams(may_be_empty=True)}
        self.touched: set[str] = set()
        self.redrawn: set[str] = set()

    async def file_says(self, cameras: Sequence[Camera]) -> None:
        self.said = [camera.id for camera in cameras]

    def add(self, spec: StreamSpec) -> None:
        assert spec.stream_id not in self.specs
        self.touched.add(spec.stream_id)
        self.specs[spec.stream_id] = spec

    async def remove_stream(self, stream_id: str) -> CameraReport:
        self.touched.add(stream_id)
        del self.specs[stream_id]
        return None  # type: ignore[return-value]

    def set_layout(self, stream_id: str, layout: Layout) -> None:
        self.redrawn.add(stream_id)
        self.specs[stream_id] = replace(self.specs[stream_id], layout=layout)


@pytest.mark.anyio
@given(CAMERAS, CAMERAS)
async def test_applying_the_difference_makes_the_fleet_what_the_file_says(
    before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]
) -> None:
    """Whatever was and is asked for: the same cameras in the end, and one that is as it was is not touched."""
    running, wanted = settings(before), settings(after)
    asked = difference(running, wanted)
    fleet = Twin(running)
    await apply(fleet, asked)
    assert fleet.specs == {spec.stream_id: spec for spec in wanted.streams()}
    differs = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    goes_on = {name for name in differs & {*before} & {*after} if without_lines(before[name], after[name])}
    assert fleet.touched == differs - goes_on
    assert fleet.redrawn == goes_on, "who only has other lines goes on undisturbed"
    assert asked.has_cameras == bool(differs)
    assert not difference(with_cameras_of(running, wanted), wanted).has_cameras


def test_what_is_not_a_camera_needs_a_restart() -> None:
    """Each changed key is named, and its cameras go on under what runs: no camera changes by a new default."""
    camera = {"a": {"source": "a.mp4"}}
    wanted = settings(camera, system={"target_fps": 5, "max_streams": 9}, triton={"timeout_ms": 100})
    asked = difference(settings(camera), wanted)
    assert asked.elsewhere == ("system.max_streams", "system.target_fps", "triton.timeout_ms")
    assert not asked.has_cameras


def test_cameras_must_fit_what_runs() -> None:
    """More of them than the running max_streams, or none at all, are refused in whole."""
    running = settings({"a": {"source": "a.mp4"}}, system={"max_streams": 1})
    with pytest.raises(ConfigError, match=r"2 cameras are more than system\.max_streams \(1\)"):
        difference(running, settings({"a": {"source": "a.mp4"}, "b": {"source": "b.mp4"}}))
    with pytest.raises(ConfigError, match="the list is empty"):
        difference(running, settings({}))


@pytest.mark.anyio
@pytest.mark.parametrize("watch", [True, False])
async def test_a_change_during_the_start_is_not_missed(tmp_path: Path, watch: bool) -> None:
    """The file says more than what the fleet was started with: noticed at the first look, or with the first SIGHUP."""
    path, hangup = tmp_path / "config.yaml", asyncio.Event()
    path.write_text(yaml.safe_dump({"cameras": [{"id": name, "source": "a.mp4"} for name in "ab"]}))
    running = settings({"a": {"source": "a.mp4"}})
    fleet = Twin(running)
    following = asyncio.create_task(follow(path, fleet, running, hangup, watch=watch))
    if not watch:
        hangup.set()
    while "b" not in fleet.specs:
        await asyncio.sleep(0.02)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert fleet.touched == {"b"}


class Edited:
    """A running fleet, its configuration file and what it says."""

    def __init__(self, folder: Path, url: str) -> None:
        self.clip = write_clip(folder / "clip.mp4", moving_square(50))
        self.path, self.results, self.log = folder / "config.yaml", folder / "d.jsonl", folder / "log"
        self.content: dict[str, Any] = {
            "model": {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"},
            "system": {"target_fps": 5},
            "triton": {"url": url},
            "sinks": {"jsonl": str(self.results)},
        }

    def write(self, **cameras: dict[str, Any]) -> None:
        """As editors do it: a new file in place of the old one."""
        listed = [{"id": name, "source": str(self.clip), "loop": True, **camera} for name, camera in cameras.items()]
        self.write_text(yaml.safe_dump(self.content | {"cameras": listed}))

    def write_text(self, text: str) -> None:
        draft = self.path.with_suffix(".new")
        draft.write_text(text)
        draft.replace(self.path)

    def until_more(self, process: subprocess.Popen[str], *names: str) -> None:
        """Until each of these cameras has been inferred three times more."""
        before = {name: inferred(self.results, name) for name in names}
        while not all(inferred(self.results, name) >= before[name] + 3 for name in names):
            assert process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def until_said(self, process: subprocess.Popen[str], words: str) -> None:
        """Until a line of the log says so."""
        while words not in self.log.read_text():
            assert process.poll() is None, self.log.read_text()
            time.sleep(0.05)


def test_a_changed_file_changes_its_cameras_only(tmp_path: Path, triton: TritonServer) -> None:
    """One added, one removed, one changed, one left: the one left never notices, and the sums hold in the end."""
    fleet = Edited(tmp_path, triton.grpc_url)
    fleet.write(stays={}, goes={}, changes={"max_fps": 2})
    with fleet.log.open("w") as log, running("run", "--config", fleet.path, stderr=log) as process:
        fleet.until_more(process, "stays", "goes", "changes")
        fleet.write(stays={}, comes={"max_fps": 4}, changes={"max_fps": 8})
        fleet.until_said(process, f"{fleet.path}: added comes, removed goes, changed changes")
        fleet.until_more(process, "stays", "comes", "changes")
        fleet.write_text("cameras: [{id: a, sorce: x}]")
        fleet.until_said(process, "nothing is changed: ")
        fleet.content["system"] = {"target_fps": 9}
        fleet.write(stays={}, comes={"max_fps": 4}, changes={"max_fps": 8})
        fleet.until_said(process, "a restart is needed for system.target_fps")
        fleet.until_more(process, "stays", "comes", "changes")
        process.terminate()
        output, _ = process.communicate(timeout=30)
    summary, said = json.loads(output.splitlines()[-1]), fleet.log.read_text()
    assert process.returncode == 0
    assert (summary["cameras"], summary["cameras_removed"], summary["errors"]) == (3, 2, 0)
    assert set(summary["per_camera"]) == {"stays", "comes", "changes"}
    assert summary["per_camera"]["stays"]["states"] == {"connecting": 1, "live": 1}
    assert summary["frames_decoded"] == summary["inferences"] + sum(summary["frames_skipped"].values())
    assert summary["inferences"] == sum(inferred(fleet.results, n) for n in ("stays", "goes", "comes", "changes"))
    errors = [line for line in said.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1, "one line for a broken file"
    assert "did you mean 'source'" in errors[0]
    assert "cameras[0].source: is required" in errors[0]
    assert said.count("added") == said.count("a restart is needed") == 1


def test_sighup_applies_the_file_when_nobody_watches_it(tmp_path: Path, triton: TritonServer) -> None:
    """With --no-watch a changed file waits for SIGHUP; a missing one is an error that changes nothing."""
    fleet = Edited(tmp_path, triton.grpc_url)
    fleet.write(a={})
    with fleet.log.open("w") as log, running("run", "--no-watch", "--config", fleet.path, stderr=log) as process:
        fleet.until_more(process, "a")
        fleet.path.rename(tmp_path / "away")
        process.send_signal(signal.SIGHUP)
        fleet.until_said(process, "nothing is changed: ")
        fleet.write(a={}, b={})
        fleet.until_more(process, "a")
        assert inferred(fleet.results, "b") == 0
        process.send_signal(signal.SIGHUP)
        fleet.until_more(process, "a", "b")
        process.terminate()
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(output.splitlines()[-1])["cameras"] == 2
    assert "no such configuration file" in fleet.log.read_text()


def test_a_file_without_cameras_is_refused_at_the_start(tmp_path: Path, triton: TritonServer) -> None:
    """The library may begin without cameras, the command line may not."""
    fleet = Edited(tmp_path, triton.grpc_url)
    fleet.write()
    process = clients("run", "--config", fleet.path)
    one_clear_line(process, "cameras: the list is empty")
    assert process.returncode == 2
