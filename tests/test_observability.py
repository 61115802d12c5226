"""Rules, alerts and dashboards against the real thing: promtool, and a Prometheus that scrapes a running fleet."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import PATIENCE_S, ROOT, moving_square, write_clip
from test_fleet import configured, lines_of, running, wait_for_lines

from clients.data_sheet import sheet
from clients.types import Tier
from deploy.ports import free_port
from deploy.server import TritonServer
from loadtest.emulator.card_clock import Card
from loadtest.emulator.exporter import CardCollector, served_card
from loadtest.emulator.repository import assemble_emulated, card_of, models_of

PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))


def promtool(*arguments: object) -> None:
    """Run it; what it complains of is the failure."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules of a kind: `alert` or `record`."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def panels(path: Path) -> list[dict[str, Any]]:
    """The panels of a dashboard that show something."""
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


def test_configuration_and_rules_are_valid() -> None:
    """As Prometheus itself reads them."""
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", *RULES)


def test_alerts_fire_when_they_should() -> None:
    """The unit tests of the rules pass, and they make every alert fire."""
    files = sorted((PROMETHEUS / "tests").glob("*.yml"))
    promtool("test", "rules", *files)
    told = [test for path in files for test in yaml.safe_load(path.read_text())["tests"]]
    cases = [case for test in told for case in test.get("alert_rule_test", [])]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fires == {rule["alert"] for rule in rules("alert")}


def test_every_alert_has_a_runbook() -> None:
    """A section of its name in docs/alerts.md, to which it leads, that says what it means and what to do."""
    told = (ROOT / "docs" / "alerts.md").read_text()
    sections = {part.splitlines()[0]: part for part in told.split("\n## ")[1:]}
    for rule in rules("alert"):
        name = rule["alert"]
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("page", "warn")
        for part in ("**Means.**", "**Do.**"):
            assert part in sections[name], name
    assert {name for name in sections if name.startswith("Y12")} == {rule["alert"] for rule in rules("alert")}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    """Panels lie on the grid beside each other, each with its own id, a title, a text and a unit; docs name each."""
    board, told = json.loads(path.read_text()), (ROOT / "docs" / "alerts.md").read_text()
    datasource = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())
    uid = datasource["datasources"][0]["uid"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    for panel in panels(path):
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {uid}
        assert f"| {panel['title']} |" in told, panel["title"]


def test_grafana_finds_what_it_is_given() -> None:
    """The provider reads the folder that the dashboards are mounted at, and both have an address of their own."""
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "yolo12.yml").read_text())["providers"][0]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    assert [json.loads(path.read_text())["uid"] for path in DASHBOARDS] == ["y12-camera", "y12-fleet"]


@contextmanager
def emulated_card(folder: Path) -> Iterator[tuple[TritonServer, str]]:
    """A real Triton whose engine takes a T4's time, and host:port of the exporter that tells how busy that card is."""
    profile = sheet("t4")
    assemble_emulated(folder / "card", profile, [Tier.N])
    card = Card(card_of(folder / "card"))
    collector = CardCollector(card, profile, [Tier.N], decoded_mpixels_per_s=100)
    server = TritonServer(models_of(folder / "card"), log=folder / "triton.log")
    with closing(card), served_card(collector, "127.0.0.1", 0) as url, server:
        yield server, host_of(url)


def host_of(url: str) -> str:
    """host:port of a metrics page's address, as a target of Prometheus."""
    return url.removeprefix("http://").removesuffix("/metrics")


@dataclass(slots=True)
class Scraper:
    """A real Prometheus on the committed configuration; only addresses and intervals are those of the test."""

    folder: Path
    targets: dict[str, str]
    port: int = field(default_factory=lambda: free_port("127.0.0.1"))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it on what an earlier one has stored, and wait until it answers."""
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(PROMETHEUS / "rules" / "*.yml")]
        assert {job["job_name"] for job in config["scrape_configs"]} == {*self.targets, "prometheus"}
        for job in config["scrape_configs"]:
            job.pop("dns_sd_configs", None)
            target = self.targets.get(job["job_name"], f"127.0.0.1:{self.port}")
            job["static_configs"] = [{"targets": [target]}]
        path = self.folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        program = shutil.which("prometheus")
        assert program, "the tests need Debian's package prometheus"
        address, data = f"--web.listen-address=127.0.0.1:{self.port}", f"--storage.tsdb.path={self.folder / 'data'}"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([program, f"--config.file={path}", address, data], stdout=log, stderr=log)
        self.until(self.is_ready)

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def until(self, condition: Callable[[], bool], what: str = "ready") -> None:
        """Until it holds; a minute is more than anything here takes."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"it does not come to that: {what}"
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer. An error of the query is the failure."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def values(self, query: str) -> list[float]:
        """The numbers that a query gives now."""
        return [float(series["value"][1]) for series in self.ask("query", query=query)["result"]]

    def kill(self) -> None:
        """As the kernel does it when memory is short."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=30)


@dataclass(slots=True)
class Stack:
    """What runs together: the fleet's process with its results, and who scrapes it."""

    fleet: subprocess.Popen[str]
    results: Path
    scraper: Scraper


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An emulated card, a fleet with a still and a moving camera, and Prometheus. Skipped frames are audited often, so
    that the rate of misses has something to show."""
    folder, port = tmp_path_factory.mktemp("stack"), free_port("127.0.0.1")
    still = write_clip(folder / "still.mp4", [np.full((192, 320, 3), 90, np.uint8)] * 50)
    moving = write_clip(folder / "moving.mp4", moving_square(50))
    cameras = [{"id": path.stem, "source": str(path), "loop": True} for path in (still, moving)]
    (folder / "prometheus").mkdir()
    with (folder / "log").open("w") as log, emulated_card(folder) as (triton, card):
        config = configured(
            folder,
            cameras=cameras,
            triton={"url": triton.grpc_url},
            system={"target_fps": 5},
            optimization={"audit_share": 1.0},
            monitoring={"metrics_port": port},
        )
        with running("run", "--config", config, stderr=log) as fleet:
            wait_for_lines(folder / "detections.jsonl", 4, fleet)
            targets = {"streams": f"127.0.0.1:{port}", "triton": host_of(triton.metrics_url), "gpu": card}
            scraper = Scraper(folder / "prometheus", targets)
            try:
                scraper.start()
                yield Stack(fleet, folder / "detections.jsonl", scraper)
            finally:
                scraper.kill()
                fleet.send_signal(signal.SIGTERM)
                assert fleet.wait(timeout=30) == 0, (folder / "log").read_text()


def test_every_target_is_scraped(stack: Stack) -> None:
    """All four jobs answer; the two without which there is no product do so under the names that the alerts use."""
    stack.scraper.until(lambda: stack.scraper.values("sum(up)") == [4.0])
    assert len(stack.scraper.values('up{job=~"streams|triton"} == 1')) == 2


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_no_panel_is_empty(stack: Stack, path: Path) -> None:
    """Each query of each panel gives numbers, while a small fleet runs without any trouble."""
    for variable in json.loads(path.read_text())["templating"]["list"]:
        match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
        assert match is not None
        assert "still" in stack.scraper.ask(f"label/{match[2]}/values", **{"match[]": match[1]})
    for panel in panels(path):
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "10s").replace("$camera", "still")

            def has_numbers(query: str = query) -> bool:
                values = stack.scraper.values(query)
                return bool(values) and bool(np.isfinite(values).any())

            stack.scraper.until(has_numbers, f"{panel['title']}: {query}")


def test_rules_are_evaluated_and_nothing_is_wrong(stack: Stack) -> None:
    """No rule has an error, each recorded name has a value, and a fleet without trouble raises no alert."""
    stack.scraper.until(lambda: all(stack.scraper.values(rule["record"]) for rule in rules("record")))
    told = [rule for group in stack.scraper.ask("rules")["groups"] for rule in group["rules"]]
    assert len(told) == len(rules("record")) + len(rules("alert"))
    assert [rule["name"] for rule in told if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in told if rule.get("state", "inactive") == "firing"] == []


def test_every_name_that_is_asked_for_exists(stack: Stack) -> None:
    """What rules and dashboards ask for is scraped; NVML's own figures, which only a real card has, are in the code."""
    asked = [rule["expr"] for kind in ("record", "alert") for rule in rules(kind)]
    asked += [target["expr"] for path in DASHBOARDS for panel in panels(path) for target in panel["targets"]]
    names = set(re.findall(r"\b(?:y12_|nv_|process_|DCGM_)\w+", " ".join(asked)))
    missing = names - set(stack.scraper.ask("label/__name__/values"))
    told = (ROOT / "clients" / "metrics.py").read_text()
    elsewhere = {name for name in missing if name.startswith("y12_gpu_") and f'"{name}"' in told}
    assert missing - elsewhere <= {"y12_failures_total"}, "the first failure makes it"


def test_prometheus_is_killed(stack: Stack) -> None:
    """The fleet goes on as if nobody had ever scraped it; the next Prometheus has what the first one had stored."""
    stack.scraper.until(lambda: bool(stack.scraper.values("y12:cameras_live:count")))
    began = float(
        stack.scraper.ask("query", query="min(min_over_time(timestamp(up)[10m:1s]))")["result"][0]["value"][1]
    )
    stack.scraper.kill()
    wait_for_lines(stack.results, lines_of(stack.results) + 10, stack.fleet)
    stack.scraper.start()
    stack.scraper.until(lambda: bool(stack.scraper.values("y12:cameras_live:count")))
    query = f"min(min_over_time(timestamp(up)[10m:1s])) < bool {began + 1}"
    assert stack.scraper.values(query) == [1.0]
    states = stack.scraper.values('max by (camera) (y12_camera_state{state="live"})')
    assert states == [1.0, 1.0]
