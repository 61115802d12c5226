"""`python -m demo run`, which is `make demo`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, demo_clip

from clients.config import load_settings
from demo.run import with_cameras
from deploy.run_repository import cpu_precision


def demo_run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "demo", "run", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)


def test_the_demo_ends_with_its_summary() -> None:
    """Two cameras for five seconds: JSON on the last line, no errors, boxes in the results, a picture of both."""
    demo_clip()  # rendered once for all tests
    process = demo_run("--cameras", 2, "--seconds", 5)
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout.splitlines()[-1])
    assert (summary["cameras"], summary["errors"], summary["precision"]) == (2, 0, cpu_precision())
    assert set(summary["per_camera"]) == {"cam01", "cam02"}
    for tier in ("yolo12m", "yolo12x"):
        assert f"{tier} is not exported, and not asked for; export it with: python -m export {tier}" in process.stderr
    assert all(camera["inferences"] >= 3 for camera in summary["per_camera"].values())
    records = [json.loads(line) for line in (ROOT / "out" / "detections.jsonl").read_text().splitlines()]
    assert sum(len(record["objects"]) for record in records) > 10
    assert (ROOT / "out" / "mosaic.png").stat().st_size > 50_000


def test_cameras_beyond_the_configured_ones_are_added() -> None:
    """The configuration's cameras keep their settings, further clips become looped cameras."""
    settings = load_settings(ROOT / "config.demo.yaml")
    clips = [Path("demo/clips/cam02.mp4"), Path("elsewhere/cam77.mp4")]
    known, new = with_cameras(settings, clips).cameras
    assert known == settings.cameras[1]
    assert (new.id, new.source, new.loop) == ("cam77", "elsewhere/cam77.mp4", True)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--cameras", 0], "--cameras must be 1 to 50"),
        (["--cameras", 51], "got 51"),
        (["--seconds", -1], "--seconds"),
    ],
)
def test_impossible_numbers_are_refused(arguments: list[object], word: str) -> None:
    """One line that names the option, no traceback."""
    process = demo_run(*arguments)
    assert process.returncode == 1
    assert word in process.stderr
    assert "Traceback" not in process.stderr
