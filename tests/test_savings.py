"""The article's table as an experiment: each row is what it says, and the comparison is at equal GPU time."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from synthetic_city import city, city_of_better_models

from clients.types import Tier
from demo.clips import Job
from demo.run import CLIP_S
from demo.scenes import camera_name
from loadtest.__main__ import main
from loadtest.policies import governors, routers
from loadtest.profile import read_profile
from loadtest.recordings import CAMERAS, CANVASES, KEPT, RECORDED_S, kept_detections
from loadtest.savings import Experiment, Row
from loadtest.savings_command import _frontier, _page, _write

PROFILE = read_profile(ROOT / "loadtest" / "gpus" / "t4.json")
COSTS = {"square": 30.0, "canvas": 15.0, "attention": 15.0, "batching": 15.0}


def quiet(_name: str, _share: float) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return Experiment(PROFILE, city(), cameras=6, seconds=12, fps=6.0, every=4)


@pytest.fixture(scope="module")
def rows(experiment: Experiment) -> list[Row]:
    return experiment.rows(quiet)


@pytest.fixture(scope="module")
def told(rows: list[Row]) -> dict[str, dict[str, Any]]:
    return {row.name: row.as_json(COSTS, rows[0], 6) for row in rows}


def test_the_table_starts_at_every_frame(told: dict[str, dict[str, Any]]) -> None:
    """Before: all frames, nothing saved; a smaller canvas and batches save what their costs say."""
    before = told["before"]
    assert before["inferences_per_camera_s"] == pytest.approx(20, rel=0.01)
    assert (before["saved_percent"], before["ap_retained_percent"]) == (0, 100)
    assert before["engine_ms_per_camera_s"] == pytest.approx(600, rel=0.01)
    assert before["added_latency_ms_p95"] < 8, "nothing waits"
    assert told["canvas"]["saved_percent"] == 50
    assert told["batching"]["t4_saved_percent"] > told["canvas"]["t4_saved_percent"]
    assert told["batching"]["memory_mb_per_stream"] < told["before"]["memory_mb_per_stream"] / 2


def test_each_technique_does_what_it_says(told: dict[str, dict[str, Any]]) -> None:
    """The gate saves on still cameras at no loss; an interval loses, a tracker wins most of it back."""
    assert 5 < told["gate"]["saved_percent"] < 60
    assert told["gate"]["ap_retained_percent"] > 97
    held, predicted = told["interval, boxes held"], told["interval + tracker"]
    assert held["saved_percent"] == predicted["saved_percent"] == pytest.approx(70, abs=1)
    assert predicted["streaming_ap"] > held["streaming_ap"]


def test_all_together_is_within_its_budget_and_added_latency_small(told: dict[str, dict[str, Any]]) -> None:
    """Six inferences per camera and second on average, of half the cost: 85 % saved."""
    ours = told["all together"]
    assert ours["inferences_per_camera_s"] == pytest.approx(6, rel=0.1)
    assert ours["saved_percent"] == pytest.approx(85, abs=2)
    assert 0 < ours["added_latency_ms_p95"] < 20


def test_the_uniform_rate_has_the_same_gpu_time_and_does_worse(
    rows: list[Row], told: dict[str, dict[str, Any]]
) -> None:
    """What need and gate win is not won by spending more."""
    ours, uniform = rows[-2].told, rows[-1].told
    assert uniform["gpu_ms_per_camera_s"] == pytest.approx(ours["gpu_ms_per_camera_s"], rel=0.03)
    assert told["all together"]["streaming_ap"] > told["uniform, equal GPU time"]["streaming_ap"] + 1


def test_the_page_holds_every_row_and_the_plot_is_written(
    experiment: Experiment, rows: list[Row], told: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Tables, the frontier with both curves, routers and governors."""
    frontier = _frontier(experiment, quiet, rows[0])
    assert [point["streaming_ap"] for point in frontier] == sorted(point["streaming_ap"] for point in frontier)
    routed = routers(PROFILE, city(), experiment.plain, 12.0, quiet)
    governed = governors(PROFILE, city(), experiment.plain, quiet)
    options = argparse.Namespace(cameras=6, seconds=12, rate=6.0, recordings=3)
    page = _page(list(told.values()), frontier, routed, governed, COSTS, options)
    _write(tmp_path, page, frontier)
    text = (tmp_path / "savings.md").read_text()
    for name in (*told, "fixed n", "fixed m", "fixed x", "article", "budget", "governor article", "governor ours"):
        assert f"| {name} |" in text
    assert "{" not in text
    assert (tmp_path / "savings-frontier.svg").read_text().count("<path") > 10


@pytest.mark.parametrize("ms", [4.0, 20.0])
def test_the_budget_finds_the_tier_that_pays(experiment: Experiment, ms: float) -> None:
    """Within the capacity; at a small budget and at a large one better than a single tier that is chosen blindly."""
    found = city_of_better_models()
    outcomes = {one.name: one.told for one in routers(PROFILE, found, experiment.plain, ms, quiet)}
    fixed = {name: outcomes[f"fixed {name}"]["streaming_ap"] for name in "nmx"}
    assert outcomes["fixed x"]["tier_share"] == {Tier.X.value: 1.0}
    assert outcomes["budget"]["gpu_ms_per_camera_s"] <= ms * 1.15
    assert outcomes["budget"]["streaming_ap"] > sum(fixed.values()) / 3 + 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["savings", "--gpu", "none"], "none.json: cannot be read"),
        (["savings", "--rate", "0"], "--rate must be positive, got 0.0"),
        (["simulate", "--gpu", "none"], "there is no data sheet of 'none'"),
        (["simulate", "--cameras", "0"], "must be positive, got 0"),
    ],
)
def test_what_cannot_be_run_is_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, nothing on stdout."""
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err.splitlines()[-1]


def test_the_kept_detections_are_those_of_the_present_city_and_weights() -> None:
    """A clone simulates without looking at 3 800 frames first; who changes city or weights looks again."""
    for index in CAMERAS:
        job = Job(index, 0, CLIP_S, Path("demo/clips"))
        for canvas in CANVASES:
            found = kept_detections(job, canvas)
            assert found is not None, f"copy {camera_name(index)}-{canvas}.npz from out/recordings to {KEPT.name}"
            assert len(found) == RECORDED_S * job.view.fps
    assert sum(path.stat().st_size for path in KEPT.iterdir()) < 6_000_000
