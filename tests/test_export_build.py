"""Building on the card, rehearsed: real compiler, real numbers, made-up times."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorrt_rtx
from conftest import MODELS, ROOT, has_card
from numpy.typing import NDArray

from clients.types import Canvas
from export import cli
from export.calibration import calibration_canvases
from export.choice import Trial, keep, summary
from export.data_sheet import data_sheet
from export.errors import ExportError
from export.machine import Card
from export.on_card import TheCard
from export.parity import FP16, Difference
from export.plan import Job, build_plans
from export.rehearsal import Rehearsal
from export.sidecar import reasons_to_build
from export.spec import POSTPROCESS, Spec
from export.versions import check_serving, library_version, same_version
from loadtest.profile import Latency, read_profile

T4 = Card("Tesla T4", (7, 5), "580.65.06", 16_106, 1590)
NAME = "yolo12n_engine"
PROFILES = ROOT / "loadtest" / "gpus"


def faster_fused(fused: int, batch: int) -> float:
    """A card on which fusion pays: 1 ms and 0.1 more per picture, twice that without fused attention."""
    return (1 + 0.1 * batch) * (1 if fused else 2)


def slower_fused(fused: int, batch: int) -> float:
    """A card on which it does not."""
    return (1 + 0.1 * batch) * (3 if fused else 2)


def same(_: int, values: NDArray[Any]) -> NDArray[Any]:
    """Answers as they are computed."""
    return values


def shifted(only_fused: bool) -> Callable[[int, NDArray[Any]], NDArray[Any]]:
    """Boxes a pixel to the right, from every plan or only from one with fused attention."""
    return lambda fused, values: values + np.float32(1) * bool(fused or not only_fused)


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """One canvas with objects."""
    return calibration_canvases("demo", Canvas(), 1)


def a_job(folder: Path, frames: NDArray[np.uint8] | None, **changes: Any) -> Job:
    """The demo's engine into `folder`, timed briefly."""
    settings = {"spec": Spec(), "onnx_folder": MODELS, "out": folder / "plans", "profiles": folder / "gpus"}
    return Job(**{**settings, "frames": frames, "warm": 1, "rounds": 3, **changes})


def plan_json(folder: Path, name: str = NAME) -> dict[str, Any]:
    """What lies beside a plan."""
    told: dict[str, Any] = json.loads((folder / "plans" / name / "plan.json").read_text())
    return told


# --- the whole step --------------------------------------------------------------------------------------------


def test_the_faster_form_is_kept_and_both_are_told(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    """Plans, sidecars, labels and the data sheet; then nothing is done twice, until something changes."""
    machine = Rehearsal(T4, faster_fused)
    report = build_plans(machine, [NAME, POSTPROCESS], a_job(tmp_path, frames))
    told = plan_json(tmp_path)
    assert told == report["models"][0]
    assert (told["attention"], told["fused"], told["precision"]) == ("canonical", 8, "fp16")
    assert {form: value["fused"] for form, value in told["forms"].items()} == {"canonical": 8, "stock": 0}
    for form, twice in (("canonical", 1), ("stock", 2)):
        value = told["forms"][form]
        assert list(value["latency_ms"]) == ["1", "2", "4", "8", "16"]
        assert value["latency_ms"]["16"]["p50_ms"] == pytest.approx(2.6 * twice)
        assert value["parity"]["passes"]
        assert value["parity"]["objects"] > 30
    assert plan_json(tmp_path, POSTPROCESS)["forms"]["none"]["parity"] is None
    assert (tmp_path / "plans" / NAME / "labels.txt").read_text() == (MODELS / NAME / "labels.txt").read_text()

    sheet = read_profile(tmp_path / "gpus" / "tesla-t4.json")
    assert str(tmp_path / "gpus" / "tesla-t4.json") == report["profile"]
    assert (sheet.kind, sheet.gpu, sheet.sm, sheet.driver) == ("measured", "Tesla T4", "7.5", "580.65.06")
    assert (sheet.tensorrt, sheet.canvas, sheet.sm_clock_max_mhz) == (machine.tensorrt, "640x384", 1590)
    assert list(sheet.models) == ["yolo12n", POSTPROCESS]
    assert sheet.models["yolo12n"].latency[16] == Latency(2.6, 2.6)
    assert list(sheet.models[POSTPROCESS].latency) == [1, 2, 4, 8, 16, 32]
    assert sheet.command == "python -m export build yolo12n --canvas 640x384 --force"
    assert sheet.hardware == read_profile(PROFILES / "t4.json").hardware  # what cannot be timed is known of the card
    assert sheet.sources
    assert all(place.startswith("hardware") for place in sheet.sources)

    plan = tmp_path / "plans" / NAME / "1" / "model.plan"
    written = plan.stat().st_mtime_ns
    again = build_plans(machine, [NAME, POSTPROCESS], a_job(tmp_path, frames))
    assert [model["skipped"] for model in again["models"]] == [True, True]
    assert plan.stat().st_mtime_ns == written
    assert read_profile(tmp_path / "gpus" / "tesla-t4.json") == sheet


def test_a_stock_plan_that_is_faster_is_kept(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    """Where fusion does not pay, the plan without it is what is served, and the data sheet says so."""
    build_plans(Rehearsal(T4, slower_fused), [NAME], a_job(tmp_path, frames))
    told = plan_json(tmp_path)
    assert (told["attention"], told["fused"]) == ("stock", 0)
    assert read_profile(tmp_path / "gpus" / "tesla-t4.json").models["yolo12n"].attention == "stock"


def test_a_plan_that_computes_something_else_is_not_kept(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    """The faster plan is a pixel off: the slower is kept. Both are: nothing is written, and both are named."""
    build_plans(Rehearsal(T4, faster_fused, shifted(only_fused=True)), [NAME], a_job(tmp_path, frames))
    told = plan_json(tmp_path)
    assert told["attention"] == "stock"
    assert not told["forms"]["canonical"]["parity"]["passes"]
    with pytest.raises(ExportError, match=rf"{NAME}: no plan computes what FP32 computes: canonical .*; stock differs"):
        build_plans(Rehearsal(T4, faster_fused, shifted(only_fused=False)), [NAME], a_job(tmp_path / "b", frames))
    assert not list((tmp_path / "b").rglob("plan.json"))


def test_pictures_without_objects_prove_nothing(tmp_path: Path) -> None:
    """A grey picture has nothing to compare; to build unchecked must be asked for, and is told."""
    grey = np.full((1, 576, 640), 128, dtype=np.uint8)
    with pytest.raises(ExportError, match="no object in the pictures"):
        build_plans(Rehearsal(T4, faster_fused), [NAME], a_job(tmp_path, grey))
    build_plans(Rehearsal(T4, faster_fused), [NAME], a_job(tmp_path, None))
    assert plan_json(tmp_path)["forms"]["canonical"]["parity"] is None


def test_an_onnx_file_for_another_canvas_is_refused(tmp_path: Path) -> None:
    """The message gives the options that fit the file."""
    job = a_job(tmp_path, None, spec=Spec(canvas=Canvas(320, 192), top_k=300))
    with pytest.raises(ExportError, match=r"exported for canvas 640x384 and top-k 768.*give --canvas 640x384"):
        build_plans(Rehearsal(T4, faster_fused), [NAME], job)


def test_a_changed_onnx_file_is_refused(tmp_path: Path) -> None:
    """One that is not what its export.json describes is not built."""
    shutil.copytree(MODELS / NAME, tmp_path / NAME)
    shutil.copy(MODELS / POSTPROCESS / "1" / "model.onnx", tmp_path / NAME / "1")
    with pytest.raises(ExportError, match="not the file that"):
        build_plans(Rehearsal(T4, faster_fused), [NAME], a_job(tmp_path, None, onnx_folder=tmp_path))


# --- decisions -------------------------------------------------------------------------------------------------

OFF, FINE = Difference(0.2, 0.001, 5), Difference(0.01, 0.001, 5)


def trial(form: Any, ms: float, parity: Difference | None = FINE) -> Trial:
    """A plan that takes so long at batch 16."""
    return Trial(form, 8 if form == "canonical" else 0, parity, {16: Latency(ms, 2 * ms)}, None, True)


def test_the_fastest_that_passes_is_kept() -> None:
    """Speed decides among those that pass; of equals the first; what was not compared is not held against it."""
    assert keep([trial("canonical", 2), trial("stock", 1)], FP16, 16).form == "stock"
    assert keep([trial("canonical", 1), trial("stock", 1)], FP16, 16).form == "canonical"
    assert keep([trial("canonical", 2), trial("stock", 1, OFF)], FP16, 16).form == "canonical"
    assert keep([trial("none", 2, None)], FP16, 16).form == "none"
    with pytest.raises(ExportError, match=r"canonical differs by 0\.200 px .* expected at most 0\.05 and 0\.01"):
        keep([trial("canonical", 2, OFF)], FP16, 16)


def test_both_timings_are_said_in_one_line() -> None:
    """What is read on stderr after minutes of building."""
    trials = [trial("canonical", 2), trial("stock", 1, OFF)]
    assert summary(trials, trials[0], FP16, 16) == (
        "batch 16: canonical 2.00 ms (8 fused), stock 1.00 ms (0 fused, fails parity); kept: canonical"
    )


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        ({"onnx_sha256": "b"}, ["the ONNX file changed"]),
        ({"tensorrt": "11.2.1.3"}, ["TensorRT changed"]),
        ({"gpu": "NVIDIA L4", "sm": "8.9"}, ["GPU changed", "compute capability changed"]),
        ({"batches": {"largest": 8}}, ["batches changed"]),
        ({"driver": "590.1"}, ["driver changed"]),
        ({"plan_sha256": None}, ["the plan's file changed"]),
    ],
)
def test_only_a_changed_input_is_a_reason_to_build(changes: dict[str, Any], reasons: list[str]) -> None:
    """Each input alone; a plan from before plans were timed is built again too."""
    told = {"onnx_sha256": "a", "plan_sha256": "p", "batches": {"largest": 16}, "tensorrt": "11.2.1.2"}
    told |= {"gpu": "Tesla T4", "sm": "7.5", "driver": "580.65"}
    assert reasons_to_build(told | {"forms": {}}, told | changes) == reasons
    assert reasons_to_build(told, told | changes) == [*reasons, "it was never timed"]


def test_a_data_sheet_holds_only_what_this_card_measured(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    """A plan of another card, driver or canvas does not get in; without any there is no sheet."""
    machine = Rehearsal(T4, faster_fused)
    build_plans(machine, [POSTPROCESS], a_job(tmp_path, frames))
    plans = tmp_path / "plans"
    assert data_sheet(T4, machine.tensorrt, "640x384", plans) is not None
    for other in (Card("NVIDIA L4", (8, 9), T4.driver), Card(T4.name, (7, 5), "590.1")):
        assert data_sheet(other, machine.tensorrt, "640x384", plans) is None
    assert data_sheet(T4, "11.0", "640x384", plans) is None


# --- versions --------------------------------------------------------------------------------------------------


def test_versions_are_compared_as_far_as_they_are_told() -> None:
    """A library's file has three numbers, Python's module has four."""
    assert same_version("11.2.1.2", "11.2.1")
    assert not same_version("11.2.1.2", "11.2.0")
    assert not same_version("11.2.1", "11.20.1")
    check_serving("11.2.1.2", None)
    check_serving("11.2.1.2", "11.2.1")
    with pytest.raises(ExportError, match=r"TensorRT here is 11\.1\.0\.106, the server's is 11\.2\.1, and it refuses"):
        check_serving("11.1.0.106", "11.2.1")
    with pytest.raises(ExportError, match="TensorRT version 'new': expected digits and dots"):
        check_serving("11.1.0.106", "new")


def test_the_servers_library_is_read_from_its_files_name(tmp_path: Path) -> None:
    """What the loader would take is a link to a file that bears the whole version; nothing is loaded."""
    (tmp_path / "libnvinfer.so.11.2.1").touch()
    (tmp_path / "libnvinfer.so.11").symlink_to("libnvinfer.so.11.2.1")
    listing = (
        "2 libs found in cache `/etc/ld.so.cache'\n"
        f"\tlibnvinfer_plugin.so.11 (libc6,x86-64) => {tmp_path}/libnvinfer_plugin.so.11\n"
        f"\tlibnvinfer.so.11 (libc6,x86-64) => {tmp_path}/libnvinfer.so.11\n"
    )
    assert library_version(listing) == "11.2.1"
    assert library_version("") is None
    library_version()  # asks the loader here, whatever it answers


# --- the card --------------------------------------------------------------------------------------------------


def test_every_call_of_the_card_exists() -> None:
    """Nothing of `on_card.py` can run here, but each name that it calls is in NVIDIA's modules."""
    from cuda.bindings import runtime

    text = (Path(cli.__file__).parent / "on_card.py").read_text()
    calls = set(re.findall(r"\bcuda\.(cuda\w+(?:\.cuda\w+)?)", text))
    assert len(calls) > 15
    for call in calls:
        assert functools.reduce(getattr, call.split("."), runtime) is not None
    for kind, names in {
        "Runtime": ("deserialize_cuda_engine",),
        "ICudaEngine": ("create_engine_inspector", "create_execution_context", "get_tensor_name", "num_io_tensors"),
        "IExecutionContext": ("execute_async_v3", "set_input_shape", "set_tensor_address", "get_tensor_shape"),
        "EngineInspector": ("get_engine_information",),
    }.items():
        assert all(hasattr(getattr(tensorrt_rtx, kind), name) for name in names)


@pytest.mark.gpu
@pytest.mark.skipif(not has_card(), reason="needs an NVIDIA GPU and TensorRT")
def test_the_card_times_both_forms(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    """On the card: a plan that passes parity, real times that grow with the batch, and its data sheet."""
    report = build_plans(TheCard(), [NAME, POSTPROCESS], a_job(tmp_path, frames, warm=20, rounds=50))
    told = plan_json(tmp_path)
    assert told["forms"].keys() == {"canonical", "stock"}
    assert told["forms"][told["attention"]]["parity"]["passes"]
    latency = read_profile(Path(report["profile"])).models["yolo12n"].latency
    assert 0 < latency[1].p50_ms < latency[16].p50_ms < 16 * latency[1].p50_ms


@pytest.mark.gpu
@pytest.mark.skipif(not has_card(), reason="needs an NVIDIA GPU and TensorRT")
def test_the_command_skips_what_it_has_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the card: the second `build` of the same files does nothing, `--force` does it again."""
    command = ["build", "yolo12n", "--onnx", str(MODELS), "--out", str(tmp_path), "--profiles", str(tmp_path / "gpus")]
    skipped = []
    for extra in ([], [], ["--force"]):
        assert cli.main([*command, *extra]) == 0
        report = json.loads(capsys.readouterr().out.splitlines()[-1])
        skipped.append([model.get("skipped", False) for model in report["models"]])
    assert skipped == [[False] * 2, [True] * 2, [False] * 2]
