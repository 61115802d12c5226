"""The data sheet of a running Triton: of the demo's engines on the CPU, and of an emulated card."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient import grpc

from clients.data_sheet import read_profile, sheet
from clients.errors import ModelError
from clients.types import Tier
from deploy.server import TritonServer
from loadtest.__main__ import main
from loadtest.emulator.repository import Emulation, assemble_emulated, models_of
from loadtest.server_profile import Engines


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_server_on_the_cpu_is_measured_and_can_be_planned_with(
    triton: TritonServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sheet is one that the planner reads: no card, engines that take the processor's own time."""
    path = tmp_path / "cpu.json"
    code, out, err = run(capsys, "profile", "--url", triton.grpc_url, "--rounds", "2", "--out", str(path))
    assert code == 0, err
    told = json.loads(out.splitlines()[-1])
    found = read_profile(path)
    assert (told["kind"], found.kind, found.canvas) == ("measured", "measured", "640x384")
    assert list(found.models) == ["yolo12n"]
    latency = found.models["yolo12n"].latency
    assert list(latency) == [1, 2, 4, 8, 16]
    assert latency[16].p50_ms > 2 * latency[1].p50_ms  # sixteen pictures are more work than one, on any processor
    assert found.models["yolo12n"].precision in ("f32", "bf16")

    asked = ["--gpu", str(path), "--cameras", "2", "--rate", "1", "--source", "640x360@25/h264"]
    code, out, err = run(capsys, "plan", *asked)
    assert code == 0, err
    limits = json.loads(out.splitlines()[-1])["limits"]
    assert limits["gpu"]["share"] > 0
    assert limits["nvdec"]["share"] == limits["vram"]["share"] == limits["pcie"]["share"] == 0


def test_an_emulated_card_measures_what_it_emulates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten times a T4's latencies, and the sheet says `emulated`; hardware and memory are those of the T4's sheet."""
    scale = 10.0
    assemble_emulated(tmp_path / "card", sheet("t4"), [Tier.N, Tier.X], Emulation(time_scale=scale))
    path = tmp_path / "sheet.json"
    with TritonServer(models_of(tmp_path / "card"), log=tmp_path / "triton.log") as server:
        code, out, err = run(capsys, "profile", "--url", server.grpc_url, "--rounds", "2", "--out", str(path))
        assert code == 0, err
        told = json.loads(out.splitlines()[-1])
        with others_on(server.grpc_url), Engines(server.grpc_url) as engines, pytest.raises(ModelError, match="others"):
            [engines.time_ms(Tier.X, (576, 640), 1) for _ in range(50)]
    assert (told["kind"], told["gpu"]) == ("emulated", "emulated Tesla T4")
    found, card = read_profile(path), sheet("t4")
    assert (found.hardware, found.memory_mb) == (card.hardware, card.memory_mb)
    for name in ("yolo12n", "yolo12x"):
        assert found.models[name].device_mb == card.models[name].device_mb
        for batch, latency in card.models[name].latency.items():
            expected = latency.p50_ms * scale
            assert expected <= found.models[name].latency[batch].p50_ms < expected * 2 + 50, (name, batch)


class others_on:  # noqa: N801 - reads as what it is
    """Somebody else who keeps the engine of x busy."""

    def __init__(self, url: str) -> None:
        self._url, self._stop = url, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with grpc.InferenceServerClient(self._url) as client:
            frames: Any = grpc.InferInput("frames", [1, 576, 640], "UINT8")
            frames.set_data_from_numpy(np.zeros((1, 576, 640), np.uint8))
            while not self._stop.is_set():
                client.infer("yolo12x_engine", [frames])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--url", "127.0.0.1:1"], "127.0.0.1:1"), (["--rounds", "0"], "--rounds must be at least 1")],
)
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody there, nothing to do: exit code 1, the complaint last, nothing on stdout."""
    code, out, err = run(capsys, "profile", *arguments)
    assert (code, out) == (1, "")
    assert complaint in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_place_that_cannot_be_written_is_told_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Before anything is measured: the server, which is not there, is not even asked."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "sheet.json"
    code, _, err = run(capsys, "profile", "--url", "127.0.0.1:1", "--out", str(path))
    assert code == 1
    assert "sheet.json: cannot be written" in err.splitlines()[-1]
