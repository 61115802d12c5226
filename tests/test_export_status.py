"""`python -m export status`: what no longer fits is named, with the command that mends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import MODELS

from clients.types import Tier
from export import cli
from export.machine import Card
from export.publish import sha256
from export.spec import POSTPROCESS, Spec, engine_name
from export.status import Here, State, states

T4 = Here(Card("Tesla T4", (7, 5), "580.65"), "11.2.1.2")
NAME = engine_name(Tier.N)


def plan(folder: Path, **changes: Any) -> None:
    """A plan of the demo's engine as the T4 would have built it, its sidecar changed as said."""
    place = folder / NAME
    (place / "1").mkdir(parents=True)
    (place / "1" / "model.plan").write_bytes(b"plan")
    told = {
        "onnx_sha256": sha256((MODELS / NAME / "1" / "model.onnx").read_bytes()),
        "plan_sha256": sha256(b"plan"),
        "canvas": "640x384",
        "top_k": 768,
        "batches": {"largest": 16, "tuned": 16, "least": 1},
        "gpu": "Tesla T4",
        "sm": "7.5",
        "tensorrt": "11.2.1.2",
    }
    (place / "plan.json").write_text(json.dumps(told | changes))


def of_plan(folder: Path, machine: Here = T4) -> State:
    """The state of the plan that `plan` wrote."""
    found = states(Spec(), MODELS, folder, machine)
    return next(state for state in found if state.file.suffix == ".plan" and state.model == NAME)


def test_a_plan_that_fits_has_no_flaw(tmp_path: Path) -> None:
    """Nothing is said of a plan whose sidecar agrees with everything."""
    plan(tmp_path)
    assert of_plan(tmp_path).as_json()["state"] == "ok"


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"gpu": "NVIDIA L4"}, "built for GPU NVIDIA L4, here it is Tesla T4"),
        ({"sm": "8.9"}, "built for compute capability 8.9, here it is 7.5"),
        ({"tensorrt": "11.1.0.106"}, "built for TensorRT 11.1.0.106, here it is 11.2.1.2"),
        ({"canvas": "640x640"}, "built for canvas 640x640, here it is 640x384"),
        ({"top_k": 300}, "built for top-k 300, here it is 768"),
        ({"batches": {"largest": 1}}, "built for batches up to 1, here it is 16"),
        ({"plan_sha256": "0"}, "it is not the file that plan.json describes"),
        ({"onnx_sha256": "0"}, f"built from another ONNX file than {MODELS / NAME / '1' / 'model.onnx'}"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], flaw: str) -> None:
    """Each disagreement is one flaw, alone, with the command that mends it."""
    plan(tmp_path, **changes)
    state = of_plan(tmp_path)
    assert state.flaws == (flaw,)
    assert state.mend == "python -m export build yolo12n"


def test_without_a_card_only_files_are_compared(tmp_path: Path) -> None:
    """Another card's plan is not called wrong on a machine that has none."""
    plan(tmp_path, gpu="NVIDIA L4", tensorrt="11.1.0.106")
    assert of_plan(tmp_path, Here(None, None)).flaws == ()


def test_a_plan_of_unknown_origin_is_a_mismatch(tmp_path: Path) -> None:
    """A plan without its sidecar may be anything."""
    plan(tmp_path)
    (tmp_path / NAME / "plan.json").unlink()
    assert of_plan(tmp_path).flaws == ("plan.json is missing, so nothing says what built it",)


def test_absent_is_not_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clone with the demo's model and no plan ends with 0, and says what would make the rest."""
    assert cli.main(["status", "--onnx", str(MODELS), "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    found = {(m["model"], m["file"][-4:]): m["state"] for m in json.loads(out.splitlines()[-1])["models"]}
    assert found[NAME, "onnx"] == "ok"
    assert found[POSTPROCESS, "plan"] == found[NAME, "plan"] == found["yolo12x_engine", "onnx"] == "absent"
    assert "not there; `python -m export build yolo12m` makes it" in err


def test_a_changed_onnx_file_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An ONNX file that was exchanged by hand is not what its sidecar describes."""
    (tmp_path / NAME / "1").mkdir(parents=True)
    (tmp_path / NAME / "1" / "model.onnx").write_bytes(b"another")
    (tmp_path / NAME / "export.json").write_text((MODELS / NAME / "export.json").read_text())
    assert cli.main(["status", "--onnx", str(tmp_path), "--out", str(tmp_path / "none")]) == 1
    assert (
        "it is not the file that export.json describes; `python -m export yolo12n` mends it" in capsys.readouterr().err
    )


def test_a_broken_sidecar_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be read as JSON is named."""
    plan(tmp_path)
    (tmp_path / NAME / "plan.json").write_text("{")
    assert cli.main(["status", "--onnx", str(MODELS), "--out", str(tmp_path)]) == 1
    assert f"{tmp_path / NAME / 'plan.json'}: expected JSON" in capsys.readouterr().err
