"""The whole path on real input: H.264 clips, a real Triton, the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from conftest import MODELS, ROOT, demo_clip, moving_square, write_clip
from live_servers import hangs, rtsp_server, tcp_server

from clients.config import parse_settings
from clients.serving import in_flight_window
from clients.tracking.overlap import generalised_iou
from deploy.server import TritonServer

N_ONLY = {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"}


def configured(folder: Path, **sections: Any) -> Path:
    """A configuration for tier n of the demo, with its results in `folder`."""
    content = {
        "model": N_ONLY,
        "triton": {"models": str(MODELS), "log": str(folder / "triton.log")},
        "sinks": {"jsonl": str(folder / "detections.jsonl")},
    }
    for name, section in sections.items():
        content[name] = section if isinstance(section, list) else content.get(name, {}) | section
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def clients(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `python -m clients` to its end."""
    command = [sys.executable, "-m", "clients", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **options)


def one_clear_line(process: subprocess.CompletedProcess[str], *words: str) -> None:
    """Something is wrong, it is said in one line with these words, and nothing is a traceback."""
    assert process.returncode != 0
    errors = [line for line in process.stderr.splitlines() if line.startswith("ERROR")]
    assert any(all(word in line for word in words) for line in errors), process.stderr
    assert "Traceback" not in process.stderr


def test_a_clip_is_detected_and_tracked_as_it_is(tmp_path: Path) -> None:
    """From the file to JSONL: most clearly visible objects of the truth are found, at their place, with steady ids."""
    cameras = [{"id": "cam02", "source": str(demo_clip()), "max_age_ms": 5000}]
    config = configured(tmp_path, cameras=cameras, system={"target_fps": 4}, model={"confidence": 0.4})
    process = clients("run", "--config", config, "--duration", 12, "--summary", tmp_path / "summary.json")
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout.splitlines()[-1])
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["errors"] == 0
    assert summary["inferences"] >= 10
    assert summary["frames_decoded"] == summary["inferences"] + sum(summary["frames_skipped"].values())
    records = [json.loads(line) for line in (tmp_path / "detections.jsonl").read_text().splitlines()]
    assert len(records) == summary["inferences"]
    found, visible, ids = compared_with_truth(records, json.loads(demo_clip().with_suffix(".json").read_text()))
    assert visible >= 30, "the clip is meant to be busy"
    assert found / visible >= 0.75, f"{found} of {visible}"
    assert max(np.bincount(ids)) >= 5, "an object keeps its id over several inferences"


def compared_with_truth(records: list[dict[str, Any]], truth: dict[str, Any]) -> tuple[int, int, list[int]]:
    """Objects found, objects that are large and visible, and the track ids seen."""
    found = visible = 0
    ids: list[int] = []
    for record in records:
        objects = truth["frames"][record["frame"] % len(truth["frames"])]["objects"]
        clear = [o for o in objects if o["visibility"] > 0.8 and o["xyxy"][2] - o["xyxy"][0] >= 16]
        ids += [detected["track"] for detected in record["objects"] if detected["track"] is not None]
        visible += len(clear)
        for expected in clear:
            name = truth["classes"][expected["class_id"]]
            boxes = [d["xyxy"] for d in record["objects"] if d["class"] == name]
            if boxes:
                overlap = generalised_iou(np.array([expected["xyxy"]], np.float32), np.array(boxes, np.float32))
                found += bool(overlap.max() >= 0.5)
    return found, visible, ids


def test_one_bad_camera_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    """A missing file, a text file and a good clip: the good one is inferred to its end, exit code 0."""
    good = write_clip(tmp_path / "good.mp4", moving_square(50))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    sources = {"good": good, "text": text, "missing": tmp_path / "missing.mp4"}
    cameras = [{"id": name, "source": str(path)} for name, path in sources.items()]
    process = clients("run", "--config", configured(tmp_path, cameras=cameras, system={"target_fps": 5}))
    summary = json.loads(process.stdout.splitlines()[-1])
    assert process.returncode == 0
    assert summary["errors"] == 2
    assert {name: camera["state"] for name, camera in summary["per_camera"].items()} == {
        "good": "ended",
        "text": "failed",
        "missing": "failed",
    }
    assert summary["per_camera"]["good"]["inferences"] > 0
    for reason in ("text.mp4: not a video", "missing.mp4: no such file"):
        assert reason in process.stderr
    assert "Traceback" not in process.stderr


def test_the_fleet_outlives_its_server(tmp_path: Path, own_triton: TritonServer) -> None:
    """The server is killed in the middle of a run and returns: it is said, and the run goes on to its end."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(100))
    cameras = [{"id": f"cam{index}", "source": str(clip), "loop": True} for index in range(4)]
    config = configured(tmp_path, cameras=cameras, triton={"url": own_triton.grpc_url}, system={"target_fps": 5})
    results = tmp_path / "detections.jsonl"
    with running("run", "--config", config) as process:
        wait_for_lines(results, 8, process)
        os.kill(own_triton.pid, signal.SIGKILL)
        own_triton.restart()
        wait_for_lines(results, lines_of(results) + 8, process)
        process.terminate()
        output, log = process.communicate(timeout=30)
    summary = json.loads(output.splitlines()[-1])
    assert process.returncode == 0
    assert "the server is away, waiting for it" in log
    assert "the server is back" in log
    assert summary["errors"] > 0
    assert summary["frames_decoded"] == summary["inferences"] + sum(summary["frames_skipped"].values())
    assert all(camera["state"] == "live" for camera in summary["per_camera"].values())


def test_the_embedded_server_is_started_again(tmp_path: Path) -> None:
    """The embedded Triton dies: the fleet starts it again by itself."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(100))
    config = configured(tmp_path, cameras=[{"id": "cam", "source": str(clip), "loop": True}])
    results = tmp_path / "detections.jsonl"
    with running("run", "--config", config) as process:
        wait_for_lines(results, 4, process)
        os.kill(server_of(process.pid), signal.SIGKILL)
        wait_for_lines(results, lines_of(results) + 4, process)
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "the embedded Triton has died, starting it again" in log


def server_of(pid: int) -> int:
    """The tritonserver among the descendants of a process."""
    return next(p.pid for p in psutil.Process(pid).children(recursive=True) if "tritonserver" in p.name())


def lines_of(path: Path) -> int:
    """Lines written so far."""
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for_lines(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until the fleet has written so many results."""
    while lines_of(path) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


@contextmanager
def running(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """`python -m clients` in the background; killed when the test fails before it has ended."""
    command = [sys.executable, "-m", "clients", *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with subprocess.Popen(command, cwd=ROOT, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_being_told_to_stop_while_triton_starts_is_orderly(tmp_path: Path) -> None:
    """SIGTERM before the cameras run: one line, exit code 130, no server and no folder left."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(3))
    config = configured(tmp_path, cameras=[{"id": "cam", "source": str(clip), "loop": True}])
    with running("run", "--config", config) as process:
        for line in process.stderr:  # type: ignore[union-attr]
            if "starting Triton" in line:
                break
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted before the cameras were running" in log
    assert "Traceback" not in log


def test_a_second_signal_does_not_cost_the_summary(tmp_path: Path) -> None:
    """SIGTERM twice while the run is ending: the summary is printed all the same."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(50))
    config = configured(tmp_path, cameras=[{"id": "cam", "source": str(clip), "loop": True}])
    with running("run", "--config", config) as process:
        wait_for_lines(tmp_path / "detections.jsonl", 2, process)
        process.terminate()
        time.sleep(0.5)  # into the teardown; whenever it arrives, the outcome must be the same
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(output.splitlines()[-1])["inferences"] >= 2


CANNOT_RUN = {
    "no server": ({"triton": {"url": "127.0.0.1:9", "ready_timeout_s": 0.5}}, 1, ["no Triton is ready at 127.0.0.1:9"]),
    "no tier exported": ({"model": {"default": "x", "fallback": "x", "high_precision": "x"}}, 2, ["python -m export"]),
    "another canvas": ({"model": {"canvas": "320x192"}}, 2, ["320x192"]),
    "no sink": ({"sinks": {"jsonl": "/proc/nowhere/d.jsonl"}}, 1, ["sinks.jsonl", "/proc/nowhere"]),
    "no camera": ({"cameras": []}, 2, ["cameras: the list is empty"]),
}


@pytest.mark.parametrize("name", CANNOT_RUN)
def test_what_cannot_run_says_why(tmp_path: Path, name: str) -> None:
    """One clear line and a non-zero exit code, no traceback."""
    sections, code, words = CANNOT_RUN[name]
    clip = write_clip(tmp_path / "clip.mp4", moving_square(10))
    process = clients(
        "run", "--config", configured(tmp_path, **({"cameras": [{"id": "a", "source": str(clip)}]} | sections))
    )
    one_clear_line(process, *words)
    assert process.returncode == code


def test_nothing_inferred_is_a_failure(tmp_path: Path) -> None:
    """When every camera is bad the run ends by itself and fails."""
    process = clients("run", "--config", configured(tmp_path, cameras=[{"id": "a", "source": "nowhere.mp4"}]))
    assert process.returncode == 1
    one_clear_line(process, "nothing was inferred")
    assert json.loads(process.stdout.splitlines()[-1])["errors"] == 1


def test_check_tells_good_from_bad(tmp_path: Path) -> None:
    """`check` exits 0 for a good file, 1 for a camera that is not there, 2 for a file that is wrong."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(3))
    good = clients("check", "--config", configured(tmp_path, cameras=[{"id": "a", "source": str(clip)}]))
    assert (good.returncode, json.loads(good.stdout)["valid"]) == (0, True)
    gone = clients("check", "--config", configured(tmp_path, cameras=[{"id": "a", "source": "nowhere.mp4"}]))
    one_clear_line(gone, "camera a", "nowhere.mp4")
    assert gone.returncode == 1
    wrong = clients("check", "--config", configured(tmp_path, system={"max_streems": 1}))
    one_clear_line(wrong, "max_streams")
    assert wrong.returncode == 2


def test_check_asks_live_cameras_together_and_names_the_unreachable(tmp_path: Path) -> None:
    """Good and bad ones side by side: only the bad are named, with the reason and without their passwords."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(25), tags=(1, 2))
    with rtsp_server(f"a={clip}") as port, tcp_server(hangs) as hung:
        sources = {
            "good": f"rtsp://127.0.0.1:{port}/a",
            "file": str(clip),
            "hung": f"rtsp://viewer:hunter22@127.0.0.1:{hung}/a",
            "refused": "http://127.0.0.1:9/v.mjpg?password=hunter22",
            "nowhere": f"rtsp://127.0.0.1:{port}/nowhere",
            "pattern": str(tmp_path / "none-*.mp4"),
        }
        cameras = [{"id": name, "source": source, "open_timeout_s": 2} for name, source in sources.items()]
        process = clients("check", "--config", configured(tmp_path, cameras=cameras))
    assert process.returncode == 1
    assert set(json.loads(process.stdout)["unreachable"]) == {"hung", "refused", "nowhere", "pattern"}
    for words in (("hung", "no answer within 2 s"), ("refused", "Connection refused"), ("nowhere", "404")):
        one_clear_line(process, *words)
    assert "hunter22" not in process.stdout + process.stderr
    told = json.loads(process.stdout)["per_camera"]
    for name in ("good", "file"):
        expected = {"codec": "h264", "width": 320, "height": 192, "fps": 25.0, "colour": "BT.709 full"}
        assert told[name].items() >= expected.items()
        assert told[name]["decoder"] in ("cpu", "cuda")
        assert f"INFO camera {name}: h264 320x192, 25 fps, BT.709 full; decoded on " in process.stderr
    assert "refused" in told["refused"]["problem"]


def test_live_cameras_and_a_real_triton(tmp_path: Path, triton: TritonServer) -> None:
    """A login from the environment, a camera that hangs, one that is not there: the good ones are inferred, SIGTERM
    ends the run though the hanging one has minutes left, and no password is anywhere."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(75), options={"preset": "ultrafast", "g": "25"})
    environment = os.environ | {"CAM_PASSWORD": "hunter22/@:x"}
    with rtsp_server(f"a={clip}", login="viewer:hunter22/@:x") as port, tcp_server(hangs) as hung:
        cameras = [
            {"id": "rtsp", "source": f"rtsp://viewer:${{CAM_PASSWORD}}@127.0.0.1:{port}/a"},
            {"id": "file", "source": str(clip), "loop": True},
            {"id": "hung", "source": f"rtsp://viewer:hunter22@127.0.0.1:{hung}/a", "open_timeout_s": 300},
            {"id": "refused", "source": "rtsp://viewer:hunter22@127.0.0.1:9/a"},
        ]
        config = configured(tmp_path, cameras=cameras, triton={"url": triton.grpc_url}, system={"target_fps": 5})
        with running("run", "--config", config, env=environment) as process:
            while not all(inferred(tmp_path / "detections.jsonl", name) >= 10 for name in ("rtsp", "file")):
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.05)
            process.terminate()
            output, log = process.communicate(timeout=20)
    summary = json.loads(output.splitlines()[-1])
    assert process.returncode == 0
    cameras = summary["per_camera"]
    assert {name: cameras[name]["state"] for name in ("rtsp", "file", "hung")} == {
        "rtsp": "live",
        "file": "live",
        "hung": "connecting",
    }
    assert cameras["rtsp"]["states"] == cameras["file"]["states"] == {"connecting": 1, "live": 1}
    assert cameras["refused"]["states"]["backing_off"] >= 1
    assert "Connection refused" in cameras["refused"]["last_problem"]
    assert summary["errors"] == 1, "the refused one; the hanging one has not failed yet"
    assert "camera hung: hangs while it is being read and is left behind" in log
    assert "Traceback" not in log
    for text in (output, log, (tmp_path / "detections.jsonl").read_text()):
        assert "hunter22" not in text


def inferred(path: Path, camera: str) -> int:
    """Results of one camera written so far; the last line may be half written."""
    return path.read_text().count(f'"{camera}"') if path.exists() else 0


def test_a_variable_that_is_not_set_is_a_configuration_error(tmp_path: Path) -> None:
    """One line with the camera and the variable, exit code 2."""
    cameras = [{"id": "gate", "source": "rtsp://viewer:${NO_SUCH_PASSWORD}@127.0.0.1/a"}]
    process = clients("run", "--config", configured(tmp_path, cameras=cameras))
    one_clear_line(process, "camera gate", "NO_SUCH_PASSWORD", "is not set")
    assert process.returncode == 2


@pytest.mark.parametrize("arguments", [["run"], ["run", "--config", "x", "--duration", "-1"], ["fly"], []])
def test_wrong_arguments_are_explained(arguments: list[str]) -> None:
    """Usage and the reason on stderr, exit code 2."""
    process = clients(*arguments)
    assert process.returncode == 2
    assert "usage: python -m clients" in process.stderr


def test_the_window_follows_the_cameras() -> None:
    """One request per camera, between min_batch_size and three of the largest batches; a given window counts."""
    for most, window in ((1, 4), (10, 10), (500, 48)):
        assert in_flight_window(parse_settings({"system": {"max_streams": most}}, origin="test")) == window
    assert in_flight_window(parse_settings({"triton": {"window": 7}}, origin="test")) == 7
