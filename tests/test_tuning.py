"""Knobs turned one at a time: each changes what it says it changes, and the page holds every one."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT
from synthetic_city import city

from clients.config import Settings
from clients.data_sheet import sheet
from clients.types import Tier
from loadtest.__main__ import main
from loadtest.simulate import tier_timings
from loadtest.tuning import KNOBS, Row, _write, measured, page

TIERS = tier_timings(sheet("t4"), "fixed", Tier.N)


@pytest.fixture(scope="module")
def rows() -> dict[str, list[Row]]:
    """The first and last value of each knob."""
    found = city()
    return {
        knob.key: [measured(knob, value, found, TIERS) for value in (knob.values[0], knob.values[-1])] for knob in KNOBS
    }


def test_each_knob_turns_what_it_says(rows: dict[str, list[Row]]) -> None:
    """From its first value to its last."""

    def change(key: str, name: str) -> float:
        first, last = rows[key]
        return last[name] - first[name]

    assert change("optimization.max_skip_s", "inferences") < 0
    assert change("cameras[].max_fps", "inferences") > 0
    assert change("monitoring.gpu_utilization_threshold", "gpu_ms") > 1
    assert change("monitoring.gpu_utilization_threshold", "streaming_ap") > 0


def test_the_defaults_are_those_of_the_configuration() -> None:
    """A page that says another default than the code has is wrong."""
    known = Settings()
    for knob in KNOBS:
        section, _, name = knob.key.partition(".")
        assert knob.default is None or knob.default in knob.values, knob.key
        if section in ("optimization", "monitoring"):
            assert getattr(getattr(known, section), name) == knob.default, knob.key


def test_the_page_holds_every_knob(rows: dict[str, list[Row]], tmp_path: Path) -> None:
    """With its table and its curve; the committed page too, written by the same command."""
    _write(tmp_path, rows, "the command")
    text = (tmp_path / "tuning.md").read_text()
    committed = (ROOT / "docs" / "tuning.md").read_text()
    assert text == page(rows, "the command")
    for knob in KNOBS:
        assert f"## `{knob.key}`" in text
        assert f"## `{knob.key}`" in committed
    pictures = sorted(path.name for path in (tmp_path / "images").glob("tuning-*.svg"))
    assert len(pictures) == len(KNOBS)
    assert all((ROOT / "docs" / "images" / name).is_file() for name in pictures)


def test_an_unknown_knob_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With the known ones."""
    assert main(["tuning", "--only", "volume"]) == 1
    assert "volume is no knob; there are optimization.similarity_threshold" in capsys.readouterr().err
