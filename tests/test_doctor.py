"""The doctor: what it says of cards that are not here, of hosts, configurations, cameras and servers that are."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, has_card, moving_square, write_clip
from live_servers import http_server, jpegs, mjpeg, tcp_server

from clients.config import load_settings
from clients.types import Tier
from deploy.doctor.card import CardFacts, judge_card, judge_memory, nvcuvid_problem
from deploy.doctor.engines import judge_engines
from deploy.doctor.findings import Finding, Level, ok, worst
from deploy.doctor.host import judge_disks, judge_ports, judge_shared_memory
from deploy.doctor.site import judge_config, judge_readiness, memory_need_mb, planned, sheet_of
from deploy.server import TritonServer
from export.machine import Card
from export.spec import engine_name
from export.status import Here

T4 = CardFacts("Tesla T4", "580.95.05", (7, 5), 15_360, 15_000, 1590, 1590, 70.0, 70.0, 0)


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {finding.what: finding.level for finding in findings}


def on_t4(card: CardFacts | str = T4, nvcuvid: str | None = None, **asked: bool) -> dict[str, Level]:
    return levels(judge_card(card, nvcuvid, **({"needs_decoder": False, "is_container": True} | asked)))


def test_a_good_t4_has_no_complaint() -> None:
    """Driver 580, SM 7.5, cool, its own power cap, decoders: all green."""
    assert set(on_t4().values()) == {Level.OK}


@pytest.mark.parametrize(
    ("change", "what", "level"),
    [
        ({"driver": "579.99"}, "driver", Level.PROBLEM),
        ({"driver": "535.230.02"}, "driver", Level.PROBLEM),
        ({"sm": (7, 0), "name": "Tesla V100"}, "gpu", Level.PROBLEM),
        ({"sm": (8, 9), "name": "NVIDIA L4"}, "gpu", Level.OK),
        ({"event_reasons": 0x40, "sm_clock_mhz": 900}, "gpu clocks", Level.WARNING),
        ({"event_reasons": 0x4}, "gpu clocks", Level.WARNING),
        ({"event_reasons": 0x1, "sm_clock_mhz": 300}, "gpu clocks", Level.OK),  # idle, not held down
        ({"power_limit_w": 60.0}, "gpu power cap", Level.WARNING),
    ],
)
def test_what_is_wrong_with_a_card_is_a_line(change: dict[str, Any], what: str, level: Level) -> None:
    """One complaint for one fault, the rest stays green."""
    found = on_t4(replace(T4, **change))
    assert found.pop(what) is level
    assert set(found.values()) == {Level.OK}


def test_a_driver_that_tells_nothing_of_clocks_is_no_complaint() -> None:
    """What a card or driver does not support is left out."""
    found = on_t4(replace(T4, sm_clock_mhz=None, power_limit_w=None))
    assert "gpu clocks" not in found
    assert set(found.values()) == {Level.OK}


def test_no_card_is_a_problem_and_says_what_to_do_where() -> None:
    """In a container it is the reservation or the toolkit, on a host the driver."""
    for inside, word in ((True, "Container Toolkit"), (False, "driver 580")):
        (finding,) = judge_card("NVML Shared Library Not Found", None, needs_decoder=False, is_container=inside)
        assert finding.level is Level.PROBLEM
        assert word in finding.mend


def test_a_decoder_that_does_not_load_costs_the_cpu_unless_a_camera_insists() -> None:
    """libnvcuvid is missing where NVIDIA_DRIVER_CAPABILITIES lacks `video`."""
    problem = nvcuvid_problem("libnvcuvid-that-is-nowhere.so.1")
    assert problem is not None
    assert on_t4(T4, problem)["video decoder"] is Level.WARNING
    assert on_t4(T4, problem, needs_decoder=True)["video decoder"] is Level.PROBLEM


def test_memory_is_held_against_the_planners_need(tmp_path: Path) -> None:
    """Free memory before the start, all of it afterwards: what runs already is ours."""
    settings = load_settings(fifty(tmp_path))
    need = memory_need_mb(planned(settings, {}, "t4"), T4.memory_mb)  # type: ignore[arg-type]
    assert need is not None
    need_mb, what = need
    assert 2_000 < need_mb < 15_000
    assert "decoding" in what
    full = replace(T4, free_mb=500)
    assert judge_memory(T4, need_mb, what, is_before=True).level is Level.OK
    assert judge_memory(full, need_mb, what, is_before=True).level is Level.PROBLEM
    assert judge_memory(full, need_mb, what, is_before=False).level is Level.OK


def test_an_unknown_data_sheet_is_said_not_raised(tmp_path: Path) -> None:
    """The planner's complaint is a finding."""
    said = planned(load_settings(fifty(tmp_path)), {}, "h9000")
    assert isinstance(said, str)
    assert "h9000" in said


def test_the_data_sheet_is_chosen_by_the_cards_name() -> None:
    """A card that nobody has a sheet of is planned as a T4."""
    assert [sheet_of(name) for name in ("Tesla T4", "NVIDIA L4", "NVIDIA L40S")] == ["t4", "l4", "t4"]


def fifty(tmp_path: Path) -> Path:
    cameras = "".join(f"  - {{id: c{n}, source: 'rtsp://cam/{n}', max_fps: 5}}\n" for n in range(50))
    file = tmp_path / "fifty.yaml"
    file.write_text(f"model: {{default: yolo12n}}\ncameras:\n{cameras}")
    return file


def test_a_tier_that_is_configured_and_not_served_is_a_warning() -> None:
    """config.yaml and TIERS in .env must go together; no camera at all is a problem that names the demo."""
    settings = load_settings(ROOT / "config.demo.yaml")
    streams = settings.streams()
    assert levels(list(judge_config(settings, streams, Path("c.yaml"), [Tier.N]))) == {"configuration": Level.OK}
    found = list(judge_config(settings, streams, Path("c.yaml"), [Tier.X]))
    assert levels(found)["tiers"] is Level.WARNING
    (nothing,) = judge_config(settings, [], Path("c.yaml"), [])
    assert nothing.level is Level.PROBLEM
    assert "--profile cameras" in nothing.mend


def test_a_port_that_is_taken_is_named_with_its_variable() -> None:
    """The other one is free."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as closed:
        taken, free = listener.getsockname()[1], closed.getsockname()[1]
        closed.close()
        found = list(judge_ports({"GRAFANA_PORT": taken, "WEB_PORT": free}, "127.0.0.1"))
    assert [one.level for one in found] == [Level.PROBLEM, Level.OK]
    assert "GRAFANA_PORT" in found[0].mend


def test_shared_memory_must_hold_every_slot(tmp_path: Path) -> None:
    """What the client takes is known beforehand; where frames travel otherwise, nothing is needed."""
    file = tmp_path / "config.yaml"
    file.write_text("triton: {window: 512}\n")
    big = judge_shared_memory(load_settings(file))
    assert big.facts["need_mb"] == round(2 * 512 * 576 * 640 / 1e6 + 64)
    file.write_text("triton: {transport: grpc}\n")
    assert judge_shared_memory(load_settings(file), Path("/nowhere")).level is Level.OK
    file.write_text("triton: {transport: shm}\n")
    assert judge_shared_memory(load_settings(file), Path("/nowhere")).level is Level.PROBLEM


def test_a_disk_is_looked_at_once() -> None:
    """Folders of one file system are one line, those that do not exist yet included."""
    found = list(judge_disks([ROOT, ROOT / "out" / "not" / "there"]))
    assert len(found) == 1
    assert found[0].facts["free_gb"] > 0


def test_engines_are_compared_with_this_card_and_tensorrt(tmp_path: Path) -> None:
    """An engine of another TensorRT is a problem with the command that mends it; none at all, too."""
    settings = load_settings(ROOT / "config.demo.yaml")
    folder = tmp_path / engine_name(Tier.N)
    (absent,) = judge_engines(settings, tmp_path, Here(None, "11.2.1"))
    assert absent.level is Level.PROBLEM
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.plan").write_bytes(b"a plan")
    told = {"tensorrt": "11.0.0", "sm": "7.5", "gpu": "Tesla T4", "batches": {"largest": 16}}
    (folder / "plan.json").write_text(json.dumps(told))
    (other,) = judge_engines(settings, tmp_path, Here(Card("Tesla T4", (7, 5), "580"), "11.2.1"))
    assert other.level is Level.PROBLEM
    assert "TensorRT 11.0.0, here it is 11.2.1" in other.found
    assert "python -m export build yolo12n" in other.mend
    (unknown,) = judge_engines(settings, tmp_path, Here(None, None))
    assert unknown.level is Level.WARNING
    (none,) = judge_engines(settings, None)
    assert none.level is Level.OK


def test_a_complaint_always_says_what_to_do() -> None:
    """And what is fine says nothing more."""
    with pytest.raises(ValueError, match="what is not ok says what to do"):
        Finding("x", Level.PROBLEM, "broken")
    with pytest.raises(ValueError, match="what is not ok says what to do"):
        Finding("x", Level.OK, "fine", "do it")
    assert worst([]) is Level.OK
    assert worst([ok("a", "b"), Finding("x", Level.WARNING, "y", "z")]) is Level.WARNING


def test_who_is_not_ready_is_named() -> None:
    """Readiness is that of every wanted ensemble."""
    assert judge_readiness((Tier.N,), (Tier.N,), "h:1").level is Level.OK
    missing = judge_readiness((Tier.N,), (Tier.N, Tier.X), "h:1")
    assert missing.level is Level.PROBLEM
    assert "not yolo12x" in missing.found


def doctor(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON on the last line of stdout, the table."""
    command = [sys.executable, "-m", "deploy.doctor", *arguments]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in process.stderr
    return process.returncode, json.loads(process.stdout.splitlines()[-1]), process.stderr


def test_a_visit_before_the_start(tmp_path: Path) -> None:
    """Cameras are asked together: codec, size, bitrate of those that answer, a warning for the dead."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(75))
    config = tmp_path / "config.yaml"
    with tcp_server(mjpeg(jpegs())) as port, socket.create_server(("127.0.0.1", 0)) as nobody:
        dead = nobody.getsockname()[1]
        nobody.close()
        config.write_text(
            f"model: {{default: yolo12n, fallback: yolo12n, high_precision: yolo12n}}\ncameras:\n"
            f"  - {{id: file, source: {clip}}}\n"
            f"  - {{id: live, source: 'http://127.0.0.1:{port}/v.mjpg'}}\n"
            f"  - {{id: dead, source: 'rtsp://user:secret@127.0.0.1:{dead}/1', open_timeout_s: 2}}\n"
        )
        asked = ("--preflight", "--no-gpu", "--watch", "1", "--tiers", "yolo12n")
        code, told, table = doctor("--config", str(config), *asked)
    lines = {one["what"]: one for one in told["findings"]}
    assert code == 0, table
    assert told["verdict"] == "warning"
    assert lines["camera file"]["facts"]["codec"] == "h264"
    assert lines["camera file"]["facts"]["width"] == 320
    assert lines["camera file"]["facts"]["bits_per_s"] > 1000
    assert lines["camera live"]["facts"]["codec"] == "mjpeg"
    assert lines["camera live"]["facts"]["bits_per_s"] > 10_000
    assert lines["camera dead"]["level"] == "warning"
    assert "secret" not in table + json.dumps(told)
    assert "→" in table


def test_a_visit_to_a_server_that_runs(triton: TritonServer, tmp_path: Path) -> None:
    """Ready ensembles are green; a camera that is dead is red now, and so is the exit code."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(10))
    config = tmp_path / "config.yaml"
    config.write_text(
        f"model: {{default: yolo12n, fallback: yolo12n, high_precision: yolo12n}}\n"
        f"cameras:\n  - {{id: file, source: {clip}}}\n"
    )
    asked = ("--config", str(config), "--no-gpu", "--watch", "0", "--set", f"triton.url={triton.grpc_url}")
    code, told, table = doctor(*asked)
    assert code == 0, table
    assert {"what": "triton", "level": "ok"}.items() <= {one["what"]: one for one in told["findings"]}["triton"].items()
    code, told, _ = doctor(*asked, "--set", "model.high_precision=yolo12x")
    assert code == 1
    assert told["verdict"] == "problem"
    code, told, _ = doctor(*asked[:-1], "triton.url=127.0.0.1:9")
    assert code == 1
    config.write_text(config.read_text().replace(str(clip), '"rtsp://${NOT_SET_HERE}/1"'))
    code, told, _ = doctor(*asked)
    assert code == 1
    code, told, table = doctor(*asked, "--no-cameras")  # as from Triton's container, which has no secrets of cameras
    assert code == 0, table


def health(*arguments: str) -> tuple[int, str]:
    """Exit code and what it says, without site-packages, as in a container's check."""
    command = [sys.executable, "-S", "-m", "deploy.health", *arguments]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return process.returncode, process.stderr.strip()


def test_a_server_is_healthy_when_every_named_ensemble_is_ready(triton: TritonServer) -> None:
    """One tier that is missing, or nobody there, is not well, and one line says which."""
    port = triton.http_url.rpartition(":")[2]
    assert health("triton", "yolo12n", "--port", port) == (0, "")
    assert health("triton", "yolo12n", "yolo12x", "--port", port) == (1, "not ready: yolo12x")
    assert health("triton", "--port", "9") == (1, "Triton is not ready")


def test_a_fleet_is_healthy_while_its_triton_answers_it() -> None:
    """By its own metrics."""
    for value, expected in (("1.0", (0, "")), ("0.0", (1, "the fleet runs, its Triton does not answer"))):
        with http_server(lambda _path, value=value: f"y12_server_up {value}\n".encode()) as port:
            assert health("streams", "--port", str(port)) == expected
    assert health("streams", "--port", "9") == (1, "the fleet does not answer")


@pytest.mark.parametrize("words", [(), ("unknown",), ("page",), ("streams", "more")])
def test_a_wrong_health_check_is_no_verdict(words: tuple[str, ...]) -> None:
    """2, which no container takes for well."""
    assert health(*words)[0] == 2


@pytest.mark.skipif(has_card(), reason="there is a GPU here")
def test_without_a_gpu_the_doctor_says_so(tmp_path: Path) -> None:
    """Red, with what to do, and the rest of the visit goes on."""
    code, told, _ = doctor("--config", str(tmp_path / "none.yaml"), "--preflight")
    lines = {one["what"]: one for one in told["findings"]}
    assert code == 1
    assert "no NVIDIA GPU can be used" in lines["gpu"]["found"]
    assert "no such configuration file" in lines["configuration"]["found"]
