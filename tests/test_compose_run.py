"""The whole `cpu` stack of docker-compose.yml, its own commands and health checks, without an engine."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from compose_file import command, in_order, services
from compose_pod import pod_command
from conftest import demo_clip

import clients.__main__
import deploy.doctor.__main__
import deploy.triton
import export.cli

LEFT_OUT = "grafana"  # there is no package of it here


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the stack did, from nothing but rendered clips to its end."""
    demo_clip()
    process = subprocess.run(
        pod_command(tmp_path_factory.mktemp("pod"), "cpu", LEFT_OUT), capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr[-4000:]
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    print(found)
    return found


@pytest.mark.timeout(900)
def test_every_service_comes_up_in_order(told: dict[str, Any]) -> None:
    """Doctor, export, Triton, streams, Prometheus: one-shots end well, the others are healthy by their own."""
    assert told["order"] == [name for name in in_order("cpu") if name != LEFT_OUT]
    times = list(told["ready_s"].values())
    assert times == sorted(times)


def test_detections_come_out_and_prometheus_sees_both(told: dict[str, Any]) -> None:
    """The sink's volume has results of a camera of the configuration, and both scrape targets are up."""
    assert told["first"]["camera"].startswith("cam0")
    assert {"streams", "triton"} <= set(told["targets"])


def test_everything_stops_in_its_grace_period_and_leaves_nothing(told: dict[str, Any]) -> None:
    """SIGTERM is enough, and shared memory is as empty as before."""
    assert all(seconds < 20 for seconds in told["stopped_s"].values()), told["stopped_s"]
    assert told["left_in_shm"] == []


PARSERS = {
    "clients": clients.__main__._parser,
    "deploy.doctor": deploy.doctor.__main__._parser,
    "deploy.triton": deploy.triton._parser,
    "export": export.cli._parser,
}


@pytest.mark.parametrize(
    "name", [name for name, one in services().items() if command(one)[2:3] and command(one)[2] in PARSERS]
)
def test_every_command_is_one_that_our_programs_take(name: str) -> None:
    """The words after `python -m`, read by the program's own parser, those that need a GPU included."""
    _, _, program, *words = command(services()[name])
    if program == "export" and words[0] != "build":
        words = ["models", *words]  # as the program itself completes it
    assert PARSERS[program]().parse_args(words)
