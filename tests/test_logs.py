"""The log as JSON: one object per line, with the event's name and the camera that it is about."""

from __future__ import annotations

import io
import json
import logging
from datetime import datetime
from pathlib import Path

from conftest import moving_square, write_clip
from test_fleet import clients, configured

from clients.logs import JsonFormatter, about
from deploy.server import TritonServer


def test_a_run_that_logs_json(tmp_path: Path, triton: TritonServer) -> None:
    """Every line of stderr is an object; a good and a missing camera are told by event, camera and state."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(25))
    sources = {"good": clip, "missing": tmp_path / "no.mp4"}
    cameras = [{"id": name, "source": str(path)} for name, path in sources.items()]
    told = {"log_format": "json", "check_interval": 0.3}
    config = configured(tmp_path, cameras=cameras, triton={"url": triton.grpc_url}, monitoring=told)
    process = clients("run", "--config", config)
    assert process.returncode == 0
    lines = [json.loads(line) for line in process.stderr.splitlines()]
    assert all(datetime.fromisoformat(line["time"]).tzinfo and line["message"] for line in lines)
    states = {(line["camera"], line["state"], line["level"]) for line in lines if line["event"] == "camera_state"}
    assert {("good", "live", "info"), ("good", "ended", "info"), ("missing", "failed", "error")} <= states
    assert "progress" in {line["event"] for line in lines}
    (failed,) = [line for line in lines if line.get("state") == "failed"]
    assert failed["message"] == f"camera missing: failed: {tmp_path / 'no.mp4'}: no such file"


def test_a_check_that_logs_json(tmp_path: Path) -> None:
    """`clients check` too: a script reads which camera has a problem."""
    cameras = [{"id": "missing", "source": str(tmp_path / "no.mp4")}]
    process = clients("check", "--config", configured(tmp_path, cameras=cameras, monitoring={"log_format": "json"}))
    lines = [json.loads(line) for line in process.stderr.splitlines()]
    (seen,) = [line for line in lines if line["event"] == "camera_checked"]
    assert (seen["camera"], seen["level"]) == ("missing", "error")


def test_whatever_is_logged_is_one_line() -> None:
    """A line break, a quote, a value that JSON does not know, a traceback: still one object in one line."""
    stream, log = io.StringIO(), logging.Logger("test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    try:
        int("broken\noff")
    except ValueError:
        log.exception('camera %s: "so"\nit is', "a", extra=about("turn_failed", camera="a", at=Path("/x")))
    log.info("nothing special")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["message"] == 'camera a: "so"\nit is'
    assert (first["event"], first["camera"], first["at"]) == ("turn_failed", "a", "/x")
    assert "ValueError: invalid literal" in first["traceback"]
    assert (second["event"], second["level"]) == ("message", "info")
