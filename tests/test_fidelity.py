"""The simulator beside a live run on the stand-in engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, moving_square, write_clip

from loadtest.fidelity import Twin, compare
from loadtest.profile import read_profile


@pytest.mark.parametrize("gate", [True, False])
def test_a_live_run_infers_as_often_as_the_simulator_says(gate: bool, tmp_path: Path) -> None:
    """Six cameras, two of them still, on a slow card: counts within 10 %, as does the mean batch."""
    moving = write_clip(tmp_path / "moving.mp4", moving_square(50))
    still = write_clip(tmp_path / "still.mp4", [np.ascontiguousarray(moving_square(1)[0])] * 50)
    profile = read_profile(ROOT / "loadtest" / "gpus" / "t4.json")
    twin = Twin([moving, still, moving, still, moving, moving], 8.0, 12.0, time_scale=15.0, gate=gate)
    told = compare(twin, profile, tmp_path / "triton.log")
    assert told["live"]["errors"] == 0
    assert told["live"]["inferences_per_s"] > 15
    assert 0.9 < told["inferences_ratio"] < 1.1, told
    assert told["simulated"]["mean_batch"] == pytest.approx(told["live"]["mean_batch"], rel=0.25), told
    assert bool(told["live"]["skipped"]["similar"]) == gate
