"""Timing in turns, percentiles, and the data sheet of a GPU that comes out of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from clients.errors import ConfigError
from export.latency import batch_sizes, interleaved, percentile, summed_up
from loadtest.profile import (
    GpuProfile,
    Latency,
    ModelProfile,
    known_sheets,
    parse_profile,
    read_profile,
    sheet,
    slug,
)

MODEL = ModelProfile("fp16", "canonical", {1: Latency(1.5, 1.75), 16: Latency(9.0, 11.0)}, 150.5, 1350, True, "ab")
SHEET = GpuProfile(
    "measured", "Tesla T4", "7.5", "580.65", "11.2.1.2", 16_106, 1590, "640x384", "command", {"yolo12n": MODEL}
)


def test_runs_take_turns() -> None:
    """Every round asks all of each batch, beginning with another each time; warm rounds are run and not counted."""
    asked: list[tuple[str, int]] = []
    rounds: list[int] = []

    def run(name: str) -> Any:
        return lambda batch: asked.append((name, batch)) or float(len(asked))

    found = interleaved(
        {"a": run("a"), "b": run("b")}, (1, 2), rounds=2, warm=1, between=lambda: rounds.append(len(asked))
    )
    even = [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    odd = [("b", 1), ("a", 1), ("b", 2), ("a", 2)]
    assert asked == even + odd + even
    assert rounds == [8, 12]
    assert found == {"a": {1: [6.0, 9.0], 2: [8.0, 11.0]}, "b": {1: [5.0, 10.0], 2: [7.0, 12.0]}}


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (4, (1, 2, 4)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))]
)
def test_batches_double_up_to_the_largest(largest: int, sizes: tuple[int, ...]) -> None:
    """1, 2, 4 ... and the largest itself."""
    assert batch_sizes(largest) == sizes


@given(st.lists(st.floats(0.001, 1e4), min_size=1), st.floats(0, 100))
def test_a_percentile_is_a_value_that_was_seen(values: list[float], percent: float) -> None:
    """At least so many percent of the values are no larger, and it is the smallest such."""
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values)
    assert sum(value < found for value in values) <= percent / 100 * len(values)


def test_samples_are_summed_up_by_batch() -> None:
    """Median and 95th percentile, batches ascending, whatever order they came in."""
    assert summed_up({2: [4.0], 1: [float(n) for n in range(1, 101)]}) == {1: Latency(50, 95), 2: Latency(4, 4)}
    assert list(summed_up({2: [4.0], 1: [1.0]})) == [1, 2]
    with pytest.raises(ValueError, match="at least one value"):
        percentile([], 50)


def test_a_data_sheet_survives_its_file(tmp_path: Path) -> None:
    """Written and read again it is the same, keys of batches included."""
    (tmp_path / "tesla-t4.json").write_text(SHEET.as_json())
    assert read_profile(tmp_path / f"{SHEET.slug}.json") == SHEET


def test_a_name_becomes_a_file_name() -> None:
    """Lower case, dashes between."""
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert slug("NVIDIA GeForce RTX 2080 Ti") == "nvidia-geforce-rtx-2080-ti"


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("kind",), "guessed", "kind: expected one of measured, emulated, modelled, projected, got 'guessed'"),
        (("models",), {}, "models: expected at least one"),
        (("models", "yolo12n", "latency"), {}, "latency: expected batch sizes from 1 up"),
        (("models", "yolo12n", "latency", "1"), {"p50_ms": 2, "p95_ms": 1}, "expected 0 < p50_ms <= p95_ms"),
        (("models", "yolo12n", "latency", "1"), 2, "models.yolo12n.latency: expected an object, got int"),
        (("models", "yolo12n", "lately"), 1, r"models.yolo12n: missing nothing, unknown \['lately'\]"),
    ],
)
def test_what_is_no_data_sheet_is_refused_by_name(
    tmp_path: Path, path: tuple[str, ...], value: Any, complaint: str
) -> None:
    """One wrong value, one line that names file, place and what was expected."""
    plain = json.loads(SHEET.as_json())
    place = plain
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "sheet.json").write_text(json.dumps(plain))
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_profile(tmp_path / "sheet.json")
    assert str(tmp_path / "sheet.json") in str(caught.value)


def test_a_missing_key_or_file_is_told(tmp_path: Path) -> None:
    """A key that is left out, text that is no JSON, no file."""
    plain = json.loads(SHEET.as_json())
    del plain["canvas"]
    with pytest.raises(ValueError, match=r"profile: missing \['canvas'\], unknown nothing"):
        parse_profile(json.dumps(plain))
    (tmp_path / "text.json").write_text("{")
    for name in ("text.json", "absent.json"):
        with pytest.raises(ConfigError, match=name):
            read_profile(tmp_path / name)
    with pytest.raises(ValueError, match="kind"):
        replace(SHEET, kind="guessed")  # type: ignore[arg-type]


@pytest.mark.parametrize("gpu", ["t4", "l4"])
def test_every_number_that_was_not_measured_names_its_source(gpu: str) -> None:
    """Each figure of latency, memory, clock and hardware lies under a place that `sources` has; no source is idle."""
    plain = json.loads((ROOT / "loadtest" / "gpus" / f"{gpu}.json").read_text())
    sources = plain.pop("sources")
    used = {
        place: max((key for key in sources if f"{place}.".startswith(f"{key}.")), default="") for place in places(plain)
    }
    assert not [place for place, source in used.items() if not source]
    assert set(used.values()) == set(sources)


def places(plain: Any, where: str = "") -> list[str]:
    """The places of all numbers in a JSON value."""
    if isinstance(plain, dict):
        return [place for key, one in plain.items() for place in places(one, f"{where}.{key}".lstrip("."))]
    return [where] if isinstance(plain, int | float) and not isinstance(plain, bool) else []


def test_the_sheets_are_what_the_batch_model_says() -> None:
    """docs/decisions/0053: t(b) = first + more (b - 1), from the published latencies and the cards' data sheets."""
    pixels, peak = 0.6, 0.3 * 65.0  # of a 640x640 picture; TFLOPS, so GFLOP per millisecond
    published = {
        "yolo12n": (1.64, 2.3, 6.5, 0.5),
        "yolo12m": (4.86, 7.5, 67.5, 2.6),
        "yolo12x": (11.79, 21.4, 199, 6.9),
    }
    for name, (authors, reproduced, gflop, more) in published.items():
        forms = {
            "pessimistic": (reproduced * pixels, reproduced * pixels, 320 / 300),
            "central": (authors * pixels, more, 1590 / 2040),
            "optimistic": (authors * pixels, gflop * pixels / peak, 65 / 121),
        }
        for variant, (first, each, on_l4) in forms.items():
            for gpu, factor in (("t4", 1.0), ("l4", on_l4)):
                for batch, latency in sheet(gpu, variant).models[name].latency.items():
                    expected = (first + each * (batch - 1)) * factor
                    assert latency.p50_ms == pytest.approx(expected, abs=0.001), (gpu, variant, name, batch)


def test_variants_and_hardware_survive_their_file(tmp_path: Path) -> None:
    """What is written is what is read, and a variant differs from the sheet in its latencies alone."""
    t4 = sheet("t4")
    (tmp_path / "t4.json").write_text(t4.as_json())
    assert sheet(str(tmp_path / "t4.json")) == t4
    slow = t4.variant("pessimistic")
    assert slow.models["yolo12n"].latency == t4.variants["pessimistic"]["yolo12n"]
    assert replace(slow, models=t4.models) == t4
    assert t4.variant("central") is t4


def test_what_a_sheet_does_not_have_is_named() -> None:
    """An unknown GPU, with those that are known; an unknown variant, with those that the sheet has."""
    with pytest.raises(ConfigError, match=r"no data sheet of 'a100'; there are .*l4.*t4"):
        sheet("a100")
    with pytest.raises(ConfigError, match="no variant 'hopeful'; it has central, pessimistic, optimistic"):
        sheet("t4", "hopeful")
    assert {"t4", "l4"} <= set(known_sheets())


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("hardware", "on"), "moon", "hardware.on: expected card or cpu, got 'moon'"),
        (("hardware", "pcie_mb_per_s"), 0, "pcie_mb_per_s: expected a positive number"),
        (("hardware", "decoders", "h264"), {"mpixels_per_s": 1}, r"decoders.h264: missing \['mbit_per_s'\]"),
        (("hardware", "decoders", "h264", "mbit_per_s"), -1, "expected positive figures"),
        (("variants", "pessimistic"), {}, "each with all models, got pessimistic with"),
    ],
)
def test_what_is_no_hardware_or_variant_is_refused(path: tuple[str, ...], value: Any, complaint: str) -> None:
    """One wrong value in the T4's sheet, one complaint that names its place."""
    plain = json.loads(sheet("t4").as_json())
    place = plain
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=complaint):
        parse_profile(json.dumps(plain))


def test_reading_a_data_sheet_loads_nothing_else() -> None:
    """The schema is a leaf: with it come neither the export nor anything heavy."""
    loaded = "{name.split('.')[0] for name in sys.modules} & {'export', 'onnx', 'numpy', 'locust'}"
    code = f"import loadtest.profile, sys; print(*sorted({loaded}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
