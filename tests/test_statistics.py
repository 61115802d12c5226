"""The numbers of a run."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.statistics import CameraReport, Histogram, Summary
from clients.types import Tier, Verdict


@given(st.lists(st.floats(0.2, 90_000), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_exact_to_one_percent(values: list[float], share: float) -> None:
    """The histogram's quantile is NumPy's, to the width of a bin."""
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    expected = float(np.quantile(values, share, method="inverted_cdf"))
    assert histogram.quantile(share) == pytest.approx(expected, rel=0.011)
    assert len(histogram) == len(values)


def test_what_lies_outside_is_counted_at_the_end() -> None:
    """Nothing is lost, however small or large."""
    histogram = Histogram()
    for value in (-5.0, 0.0, 1e9):
        histogram.add(value)
    assert len(histogram) == 3
    assert histogram.quantile(1.0) == pytest.approx(100_000, rel=0.02)


def test_no_values_no_quantile() -> None:
    """An empty histogram says None, not zero."""
    assert Histogram().summary() == {"p50": None, "p95": None, "p99": None}


def report(name: str, inferred: int, ages: list[float]) -> CameraReport:
    """A camera that decoded 100 frames."""
    histogram = Histogram()
    for age in ages:
        histogram.add(age)
    verdicts = {Verdict.INFERRED: inferred, Verdict.SIMILAR: 90 - inferred, Verdict.STALE: 10}
    return CameraReport(name, "live", Tier.N, 100, verdicts, 3, histogram, 0.5)


def test_the_summary_adds_the_cameras_up() -> None:
    """Sums over cameras, rates per second, quantiles over all ages; valid JSON."""
    cameras = (report("a", 20, [10.0] * 20), report("b", 40, [100.0] * 40))
    summary = Summary(10.0, cameras, 3.456, "f32", "shm", 1.2, 0).as_json()
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["cameras"], summary["frames_decoded"], summary["inferences"]) == (2, 200, 60)
    assert summary["frames_skipped"]["similar"] == 120
    assert summary["frames_skipped"]["too_soon"] == 0
    assert summary["inferences_per_s"] == 6
    assert summary["mean_batch"] == 3.46
    assert summary["client_cpu_ms_per_inference"] == 20
    assert summary["result_age_ms"]["p50"] == pytest.approx(100, rel=0.02)
    assert summary["per_camera"]["a"]["result_age_ms"]["p99"] == pytest.approx(10, rel=0.02)


def test_a_run_without_inferences_has_no_averages() -> None:
    """No division by nothing: the averages are null."""
    summary = Summary(10.0, (report("a", 0, []),), None, "f32", "shm", 1.0, 1).as_json()
    assert summary["mean_batch"] is None
    assert summary["client_cpu_ms_per_inference"] is None
