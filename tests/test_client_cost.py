"""What the client costs: uncoded clips show the same pictures, and a short run is judged by parts."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import moving_square, write_clip

from clients.errors import FleetError
from loadtest import __main__ as loadtest
from loadtest.client_cost import ClientCost
from loadtest.raw_clips import raw_clip


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]


def test_an_uncoded_clip_shows_the_same_pictures(tmp_path: Path) -> None:
    """Bit for bit, at the same rate; it is written once, and never by halves."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(10))
    raw = raw_clip(clip, tmp_path / "made" / "clip.nut")
    assert all(np.array_equal(a, b) for a, b in zip(pictures(clip), pictures(raw), strict=True))
    with av.open(str(clip)) as coded, av.open(str(raw)) as uncoded:
        assert uncoded.streams.video[0].average_rate == coded.streams.video[0].average_rate
        assert uncoded.streams.video[0].codec.name == "rawvideo"
    written = raw.stat().st_mtime_ns
    raw_clip(clip, raw)
    assert raw.stat().st_mtime_ns == written
    with pytest.raises(FleetError, match=r"none.nut: cannot be written from .*none.mp4"):
        raw_clip(tmp_path / "none.mp4", tmp_path / "none.nut")
    assert list(tmp_path.glob("*.part")) == []


def test_a_short_run_tells_the_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two cameras: their inferences, and the processor time of each part of the client for one."""
    arguments = ["client", "--cameras", "2", "--seconds", "5", "--rounds", "1", "--out", str(tmp_path)]
    code = loadtest.main(arguments)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == bool(told["errors"]), "a request that a busy machine lets expire is told by the exit code"
    two = told["cameras"]["2"]
    assert told["kind"] == "measured"
    assert two["inferences_per_s"] > 2
    parts = two["cpu_ms_per_inference"]
    assert {"loop", "scale", "decode"} <= parts.keys()
    assert two["beside_reading"] == pytest.approx(sum(parts.values()) - parts["decode"], abs=0.01)
    assert told["tracker_ms_30_objects"] > 0
    assert told["client_cpu_ms_per_gated_frame"] > 0


def test_runs_of_nothing_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 1."""
    with pytest.raises(ValueError, match=r"must be positive, got \[0\]"):
        ClientCost(cameras=(0,))
    assert loadtest.main(["client", "--rounds", "0"]) == 1
    assert "rounds must be positive" in capsys.readouterr().err
