"""Locust's users as cameras, against a real Triton with an emulated card. Locust runs in processes of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT

from clients.errors import ConfigError, ServerUnavailable
from clients.types import Tier
from loadtest.emulator.card_clock import Card
from loadtest.load.server import target_of
from loadtest.load.wanted import Wanted

LOCUST = Path(sys.executable).with_name("locust")
LOAD = ("-u", "50", "-r", "25")
SPAWNED = "All users spawned"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """`python -m loadtest emulator`, a T4 ten times slower: what its line on stdout tells."""
    log = tmp_path_factory.mktemp("emulator") / "triton.log"
    ports = [f"--{name}-port=0" for name in ("grpc", "http", "metrics", "gpu-metrics")]
    command = [sys.executable, "-m", "loadtest", "emulator", "--tiers", "n,m", *ports, "--log", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        report = json.loads(process.stdout.read())
        assert process.wait() == 0
        assert report["inferences"] > report["batches"] > 0
        assert report["busy_s"] > 0


def against(emulator: dict[str, Any]) -> list[str]:
    """Options that name the emulator as a server like any other."""
    return ["--host", emulator["grpc"], "--metrics-url", f"{emulator['metrics']},{emulator['gpu_metrics']}"]


@contextmanager
def locust(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Locust on our file. It is killed when the test fails."""
    command = [str(LOCUST), "-f", "loadtest/locustfile.py", "--report", str(folder / "report.html"), *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(folder: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """A test from its start to its end: exit code, the last line of stdout, stderr."""
    with locust(folder, "--headless", *options) as process:
        out, err = process.communicate()
    return process.returncode, json.loads(out.splitlines()[-1]) if out else {}, err


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What Locust has said on stderr until this text came."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"{text!r} was never said:\n{said}")


def test_fifty_cameras_at_planned_load_pass(tmp_path: Path) -> None:
    """The command of scripts: no server is there, one is started, loaded at 60 %, judged and stopped again."""
    code, report, err = run(tmp_path, *LOAD, "-t", "8s")
    assert code == 0, err
    assert report["passed"]
    assert report["problems"] == []
    assert (report["kind"], report["cameras"], report["cross_talk"]) == ("emulated", 50, 0)
    assert report["goodput"] >= 0.95
    assert report["age_ms"]["p95"] <= 150
    assert report["jain"] > 0.99
    assert report["mean_batch"] > 1
    assert report["fps"] * 50 == pytest.approx(0.6 * report["planned_capacity_per_s"], rel=1e-3)
    assert 0 < report["gpu"]["utilisation"] < 1
    assert report["gpu"]["sm_clock_mhz"] == 1590
    assert sum(report["frames"].values()) > 100
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert "The objective held" in page
    assert not [one for one in psutil.process_iter(["cmdline"]) if "--stop-with-stdin" in (one.info["cmdline"] or [])]


def test_a_card_three_times_slower_fails(emulator: dict[str, Any], tmp_path: Path) -> None:
    """The same load on a card that does not say that it is slow: the objective breaks, and the exit code says so."""
    card = Card(Path(emulator["card"]))
    card.slow_down(3)
    try:
        code, report, err = run(tmp_path, *against(emulator), *LOAD, "-t", "4s")
    finally:
        card.slow_down(1)
        card.close()
    assert code == 1
    assert not report["passed"]
    assert report["goodput"] < 0.95
    assert report["frames"]["superseded"] > 0
    assert re.search(r"^locust: goodput [\d.]+ is below 0.95$", err, re.MULTILINE)
    assert "below 0.95" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_two_workers_count_for_one_master(emulator: dict[str, Any], tmp_path: Path) -> None:
    """JPEG, two tiers, bursts, stale frames; the master merges what its workers saw of different cameras."""
    load = ("--path", "jpeg", "--tier-mix", "n:0.8,m:0.2", "--burst-s", "0.5", "--stale", "0.1", "--load", "0.3")
    master = ("--master", "--expect-workers", "2", "--master-bind-port", "15557", *against(emulator), *load)
    worker = ("--worker", "--expect-workers", "2", "--master-port", "15557")
    with locust(tmp_path, *worker) as one, locust(tmp_path, *worker) as other:
        code, report, err = run(tmp_path, *master, "-u", "20", "-r", "20", "-t", "3s")
        for process in (one, other):
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0, said
    assert code == 0, err
    assert (report["path"], report["cameras"], report["cross_talk"]) == ("jpeg", 20, 0)
    frames = report["frames"]
    assert frames["good"] > 5 * frames["stale"] > 0
    due = report["fps"] / report["time_scale"] * report["seconds"] * report["cameras"]
    assert sum(frames.values()) > 0.5 * due  # the workers' last counts too, which come after the test's end
    assert report["jain"] > 0.95
    assert report["mean_batch"] > 1


def test_sigterm_ends_a_shape_that_goes_on(emulator: dict[str, Any], tmp_path: Path) -> None:
    """At once, with what was seen; an interrupted test is no success."""
    options = ("--headless", *against(emulator), "--shape", "soak", "-u", "10", "-r", "10")
    with locust(tmp_path, *options) as process:
        read_until(process, SPAWNED)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    report = json.loads(out.splitlines()[-1])
    assert report["shape"] == "soak"
    assert re.fullmatch(r"interrupted after [\d.]+ s", report["problems"][0])


def test_a_test_in_the_browser(emulator: dict[str, Any], tmp_path: Path) -> None:
    """Our options are in the form and count; /fleet shows the figures; SIGTERM ends Locust with the verdict."""
    with locust(tmp_path, *against(emulator), "--web-host", "127.0.0.1", "--web-port", "18089") as process:
        read_until(process, "frames/s of card time")
        while not listens(18089):
            assert process.poll() is None
        page = fetched("/")
        assert "tier_mix" in page
        assert "slo_goodput" in page
        form = {"user_count": 10, "spawn_rate": 10, "host": emulator["grpc"], "fps": "20", "tier_mix": "m"}
        assert json.loads(fetched("/swarm", form))["success"]
        read_until(process, SPAWNED)
        while not (seen := json.loads(fetched("/fleet"))).get("frames", {}).get("good"):
            time.sleep(0.1)
        assert seen["fps"] == 20
        assert seen["planned_capacity_per_s"] == pytest.approx(373, abs=1)
        fetched("/stop", {})
        assert json.loads(fetched("/swarm", form | {"path": "jpeg", "tier_mix": "n"}))["success"]
        read_until(process, SPAWNED)
        while (seen := json.loads(fetched("/fleet"))).get("path") != "jpeg" or not seen["frames"]["good"]:
            time.sleep(0.1)
        fetched("/stop", {})
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    report = json.loads(out.splitlines()[-1])
    assert report["passed"]
    assert (report["path"], report["failures"]) == ("jpeg", {})


def fetched(path: str, form: dict[str, Any] | None = None) -> str:
    """A page of Locust's web interface."""
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:18089{path}", data, timeout=10) as answer:
        return str(answer.read().decode())


def listens(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_dies_fails_the_test_whatever_the_objective(tmp_path: Path) -> None:
    """Half a goodput is asked for, and half was there: still no success, and the metrics are named."""
    options = ("--headless", "-u", "10", "-r", "10", "-t", "3s", "--slo-goodput", "0.01", "--deadline-ms", "100")
    with locust(tmp_path, *options) as process:
        read_until(process, SPAWNED)
        (triton,) = [one for one in descendants(process.pid) if "tritonserver" in one.name()]
        triton.kill()
        out, err = process.communicate()
    assert process.returncode == 1
    report = json.loads(out.splitlines()[-1])
    assert report["failures"]["ServerUnavailable"] > 0
    assert any("the metrics cannot be read" in problem for problem in report["problems"]), report["problems"]
    assert "Traceback" not in err


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below one."""
    return psutil.Process(pid).children(recursive=True)


def test_what_cannot_be_is_one_line(emulator: dict[str, Any], tmp_path: Path) -> None:
    """A model that the server does not have, nobody at the address; on the command line without a traceback."""
    target = target_of(emulator["grpc"], (), Wanted(), "", "central")
    assert (target.scale, target.emulated) == (10, True)
    assert target.profile is not None
    with pytest.raises(ConfigError, match="the server has no model yolo12x, which --tier-mix and --path ask for"):
        target_of(emulator["grpc"], (), Wanted(mix={Tier.X: 1.0}), "", "central")
    with pytest.raises(ServerUnavailable, match=r"^127\.0\.0\.1:1: "):
        target_of("127.0.0.1:1", (), Wanted(), "", "central")
    unreachable = ("--host", emulator["grpc"], "--metrics-url", "http://127.0.0.1:1/metrics")
    code, report, err = run(tmp_path, *unreachable, "-t", "5s")
    assert (code, report) == (1, {})
    assert "locust: http://127.0.0.1:1/metrics: the metrics cannot be read: [Errno 111] Connection refused\n" in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
