"""A plan that Triton could not load is refused before it starts, with the command that mends it; the odd is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import MODELS, ROOT
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from clients.errors import ConfigError
from clients.types import Tier
from deploy.run_repository import REPOSITORY, Assembled, assemble
from export.machine import Card
from export.publish import sha256
from export.spec import POSTPROCESS
from export.status import Here

T4 = Here(Card("Tesla T4", (7, 5), "580.65"), "11.2.1")
NAME = "yolo12n_engine"


def plans(folder: Path, **changes: Any) -> Path:
    """What a build of tier n on the T4 leaves, plan.json of the engine changed as said."""
    for name, largest in ((NAME, 16), (POSTPROCESS, 32)):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.plan").write_bytes(b"plan")
        told = {
            "onnx_sha256": sha256((MODELS / name / "1" / "model.onnx").read_bytes()),
            "plan_sha256": sha256(b"plan"),
            "batches": {"largest": largest},
            "gpu": "Tesla T4",
            "sm": "7.5",
            "tensorrt": "11.2.1.2",
        }
        if name == NAME:
            told |= {"canvas": "640x384", "top_k": 768, "precision": "fp16"} | changes
        (folder / name / "plan.json").write_text(json.dumps(told))
    (folder / NAME / "labels.txt").write_text("person\ncar\n")
    return folder


def repository(folder: Path, onnx: Path | None = None) -> Path:
    """The committed configurations beside the exports in `onnx`, by default none."""
    for group in ("ensembles", "shared", "tensorrt"):
        folder.mkdir(exist_ok=True)
        (folder / group).symlink_to(REPOSITORY / group)
    if onnx is not None:
        (folder / "openvino").symlink_to(onnx)
    return folder


def assembled(folder: Path, machine: Here = T4, onnx: Path = MODELS, **changes: Any) -> Assembled:
    """The run repository of those plans."""
    models = plans(folder / "plans", **changes)
    return assemble(
        folder / "run",
        [Tier.N],
        repository=repository(folder / "repository", onnx),
        runtime="tensorrt",
        models_dir=models,
        machine=machine,
    )


def test_plans_that_fit_are_served(tmp_path: Path) -> None:
    """Nothing is said, and the ensemble states canvas, labels and precision out of plan.json and labels.txt."""
    assert assembled(tmp_path).warnings == ()
    config = text_format.Parse((tmp_path / "run" / "yolo12n" / "config.pbtxt").read_text(), ModelConfig())
    told = {key: value.string_value for key, value in config.parameters.items()}
    assert told == {"labels": '["person", "car"]', "canvas": "640x384", "precision": "fp16"}


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"sm": "8.9"}, "built for compute capability 8.9, here it is 7.5"),
        ({"tensorrt": "11.1.0.106"}, "built for TensorRT 11.1.0.106, here it is 11.2.1"),
        ({"canvas": "640x640"}, "built for canvas 640x640, here it is 640x384"),
        ({"batches": {"largest": 8}}, "built for batches up to 8, here it is 16"),
        ({"sm": "8.9", "top_k": 300}, "top-k 300, here it is 768; built for compute capability 8.9, here it is 7.5"),
    ],
)
def test_what_cannot_be_loaded_is_an_error_before_the_start(tmp_path: Path, changes: dict[str, Any], flaw: str) -> None:
    """One line: the plan, why, and what to run; no run repository is left half-made."""
    with pytest.raises(ConfigError) as caught:
        assembled(tmp_path, **changes)
    assert f"{tmp_path / 'plans' / NAME / '1' / 'model.plan'}: " in str(caught.value)
    assert f"{flaw}; run `python -m export build yolo12n`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"gpu": "NVIDIA T4G"}, "built for GPU NVIDIA T4G, here it is Tesla T4"),
        ({"plan_sha256": "0"}, "it is not the file that plan.json describes"),
        ({"batches": {"largest": 32}}, "built for batches up to 32, here it is 16"),
    ],
)
def test_what_can_be_loaded_is_only_said(tmp_path: Path, changes: dict[str, Any], flaw: str) -> None:
    """A plan of a sister card, or of another file, is served, and named with the command."""
    (warning,) = assembled(tmp_path, **changes).warnings
    assert warning.endswith(f"{NAME}/1/model.plan: {flaw}; `python -m export build yolo12n` mends it")


def test_a_plan_of_another_onnx_file_is_said(tmp_path: Path) -> None:
    """The ONNX file beside the plans was exported anew: the old plan still serves, and is called old."""
    new = tmp_path / "exports" / NAME / "1" / "model.onnx"
    new.parent.mkdir(parents=True)
    new.write_bytes(b"new")
    (warning,) = assembled(tmp_path, onnx=tmp_path / "exports").warnings
    assert "built from another ONNX file than " in warning
    assert warning.endswith("`python -m export build yolo12n` mends it")


def test_without_a_card_only_files_are_compared(tmp_path: Path) -> None:
    """A machine that cannot say what it has refuses nothing for it."""
    assert assembled(tmp_path, Here(None, None), sm="8.9", tensorrt="10.0").warnings == ()


def test_a_missing_tier_names_the_build(tmp_path: Path) -> None:
    """For the tensorrt runtime what is missing is a plan, not an export."""
    with pytest.raises(ConfigError, match="run `python -m export build yolo12m`"):
        assemble(tmp_path / "run", [Tier.M], runtime="tensorrt", models_dir=tmp_path, machine=T4)


def test_a_broken_plan_json_is_one_line(tmp_path: Path) -> None:
    """What cannot be read is named."""
    models = plans(tmp_path / "plans")
    (models / NAME / "plan.json").write_text("{")
    with pytest.raises(ConfigError, match=r"plan\.json: expected JSON"):
        assemble(tmp_path / "run", [Tier.N], runtime="tensorrt", models_dir=models, machine=T4)


def test_the_launcher_ends_at_once(tmp_path: Path) -> None:
    """`python -m deploy.triton` on a plan that fits nowhere: one line, exit code 2, no server and no wait."""
    models = plans(tmp_path / "plans", batches={"largest": 1})
    command = [sys.executable, "-m", "deploy.triton", "--runtime", "tensorrt", "--tiers", "n", "--models", str(models)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"TensorRT could not load {models / NAME / '1' / 'model.plan'}: built for batches up to 1,")
    assert line.endswith("run `python -m export build yolo12n`")


def test_a_start_up_loads_nothing_of_the_load_test() -> None:
    """What reads plans before a start brings neither loadtest nor ONNX with it."""
    loaded = "{name.split('.')[0] for name in sys.modules} & {'loadtest', 'onnx', 'torch', 'tensorrt'}"
    code = f"import deploy.triton, export.status, sys; print(*sorted({loaded}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
