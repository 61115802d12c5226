"""The commands that do harm: faults cost no camera, hostile requests no server, and what grows in a soak is named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from hypothesis import given, settings

from deploy.server import TritonServer
from loadtest import __main__ as loadtest
from loadtest.faults import FAULTS
from loadtest.fuzz import Fuzzer
from loadtest.hostile import Hostile, requests
from loadtest.soak import Look, judged, look_at_tree

ROOT = Path(__file__).resolve().parent.parent


def test_faults_cost_no_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stopped server, a full /dev/shm when it comes back, a wall clock that jumps: every camera is back after each,
    no answer was another camera's, every frame is accounted for, and SIGTERM ends the run."""
    faults = ["server-stopped", "shm-full", "clock-jumps"]
    asked = [word for fault in faults for word in ("--only", fault)]
    assert loadtest.main(["reliability", "--cameras", "2", "--out", str(tmp_path), *asked]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(one["fault"], one["lost"]) for one in report["faults"]] == [(fault, 0) for fault in faults]
    assert report["faults"][0]["silence_s"] > 1, "the server was really stopped"
    assert report["cross_talk"] == report["frames_unaccounted"] == report["lost_before_sigterm"] == 0


def test_every_fault_has_its_line_in_the_report() -> None:
    """docs/benchmarks/reliability.md has a row for each injected fault, and the tests that it names exist."""
    told = (ROOT / "docs" / "benchmarks" / "reliability.md").read_text(encoding="utf-8")
    assert [name for name in (*FAULTS, "everything-killed") if f"| {name} |" not in told] == []
    file, named = "", re.findall(r"`(test_\w+\.py)?::(test_\w+)`", told)
    assert len(named) > 15
    for stated, test in named:
        file = stated or file  # `::test_x` is of the file before it
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words", [["reliability", "--only", "rain"], ["fuzz", "--inputs", "3"], ["soak", "--cameras", "1"]]
)
def test_what_cannot_be_asked_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What was expected, and what came."""
    assert loadtest.main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected" in line
    assert words[-1] in line


def test_hostile_requests_cost_no_server(triton: TritonServer) -> None:
    """Some of what `make fuzz` sends: each gets an answer or a typed error, good ones what they always got."""
    report = Fuzzer(triton, settle_s=0.1).run(160)
    assert report["inputs"] >= 160
    assert report["server_alive"]
    assert (report["unanswered"], report["untyped"]) == ([], {})
    assert report["outcomes"]["INVALID_ARGUMENT"] > 50


@settings(max_examples=30)
@given(requests())
def test_a_hostile_request_can_be_read(one: Hostile) -> None:
    """What failed is shown in a line, however long what was sent is."""
    assert one.kind in repr(one)
    assert len(repr(one)) < 400
    assert one.message is not None or one.port in ("grpc", "http")


def test_what_grows_in_a_soak_is_an_error() -> None:
    """Memory by a megabyte a minute, files by more than a few, or a camera that is lost; noise is not."""
    cameras = {"cam000": {"state": "live"}, "flaps": {"state": "backing_off", "states": {"connecting": 9}}}
    told = {"seconds": 600, "cameras": 2, "inferences": 1, "inferences_per_s": 1, "result_age_ms": {}}

    def errors(mb_per_min: float = 0.0, files: float = 0.0, state: str = "live", peak_mb: float = 0.0) -> int:
        looks = [
            Look(s, 200 + s / 60 * mb_per_min + s % 3 + peak_mb * (s == 500), 50 + int(s * files) + s % 2, 9)
            for s in range(600)
        ]
        summary = told | {"per_camera": cameras | {"cam000": {"state": state}}}
        return int(judged({"fleet": looks}, summary)["errors"])

    assert errors() == errors(mb_per_min=0.9) == errors(peak_mb=30) == 0
    assert errors(mb_per_min=1.1) == errors(files=0.1) == errors(state="failed") == 1
    assert errors(mb_per_min=2, state="stalled") == 2


def test_shared_memory_counts_apart() -> None:
    """Pages of a region of shared memory that are touched are none of the process's own."""
    code = (
        "import mmap, os, sys\n"
        "shared, own = mmap.mmap(-1, 40_000_000), bytearray()\n"
        "print('ready', flush=True)\n"
        "for word in sys.stdin:\n"
        "    if 'own' in word: own = bytearray(os.urandom(1)) * 60_000_000\n"
        "    else: shared[:] = bytes(1) * 40_000_000\n"
        "    print('done', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        looks = []
        for word in ("", "own\n", "shared\n"):
            process.stdin.write(word)
            process.stdin.flush()
            process.stdout.readline()
            looks.append(look_at_tree(process.pid, 0.0))
        process.stdin.close()
    before, own, shared = looks
    assert own.memory_mb - before.memory_mb == pytest.approx(60, abs=3)
    assert own.shared_mb == before.shared_mb
    assert shared.shared_mb - own.shared_mb == pytest.approx(40, abs=1)
    assert shared.memory_mb == pytest.approx(own.memory_mb, abs=5)
