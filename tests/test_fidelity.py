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
    """Six cameras, two of them still, on a slow card: counts agree, and about the mean batch."""
    moving = write_clip(tmp_path / "moving.mp4", moving_square(50))
    still = write_clip(tmp_path / "still.mp4", [np.ascontiguousarray(moving_square(1)[0])] * 50)
    profile = read_profile(ROOT / "loadtest" / "gpus" / "t4.json")
    twin = Twin([moving, still, moving, still, moving, moving], 10.0, 6.0, time_scale=10.0, gate=gate)
    told = compare(twin, profile, tmp_path / "triton.log")
    assert told["live"]["errors"] == 0
    assert told["live"]["inferences_per_s"] > 10
    assert 0.85 < told["inferences_ratio"] < 1.15, told  # 10 % on a quiet machine; a busy one starts late
    assert 1 / 3 < told["simulated"]["mean_batch"] / told["live"]["mean_batch"] < 3, told
    assert bool(told["live"]["skipped"]["similar"]) == gate
