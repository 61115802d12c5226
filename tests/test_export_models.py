"""`python -m export yolo12n yolo12m ...`: several models, what is up to date, the accuracy gate, the plans behind."""

from __future__ import annotations

import fcntl
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MODELS, ROOT, has_card

from clients.types import Canvas, Tier
from demo.clips import render_clips
from export import cli
from export.calibration import video_canvases
from export.errors import ExportError
from export.gate import Gate
from export.publish import publish
from export.resume import fingerprint, kept
from export.spec import Spec
from export.to_onnx import Order, export_tier

SMALL = ("--random", "--canvas", "256x192")
DEMO_WEIGHTS = MODELS / "yolo12n.pt"


def export(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[dict[str, Any]], str]:
    """Run the command: exit code, one report per model, stderr."""
    code = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1])["models"] if out else [], err


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One camera of two seconds."""
    folder = tmp_path_factory.mktemp("clips")
    render_clips(1, 2, 0, folder, workers=1)
    return folder


def test_what_is_up_to_date_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second export repeats nothing; another canvas, a damaged file and --force each repeat it, and nothing else."""
    file = tmp_path / "yolo12n_engine" / "1" / "model.onnx"
    command = ("yolo12n", *SMALL, "--out", tmp_path)
    assert [one["repeated"] for one in export(capsys, *command)[1]] == [True]
    first, written = file.read_bytes(), file.stat().st_mtime_ns
    code, (report,), err = export(capsys, *command)
    assert (code, report["repeated"], report["canvas"]) == (0, False, "256x192")
    assert f"yolo12n: up to date in {tmp_path / 'yolo12n_engine'}; --force exports it again" in err
    assert file.stat().st_mtime_ns == written
    file.write_bytes(b"damaged")
    assert [one["repeated"] for one in export(capsys, *command)[1]] == [True]
    assert file.read_bytes() == first
    assert [one["repeated"] for one in export(capsys, *command, "--force")[1]] == [True]
    (report,) = export(capsys, "yolo12n", "--random", "--canvas", "320x192", "--out", tmp_path)[1]
    assert (report["repeated"], report["canvas"]) == (True, "320x192")


def test_several_models_in_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is exported once, in the order asked for; what is there already is not repeated."""
    export(capsys, "yolo12n", *SMALL, "--out", tmp_path)
    code, reports, _ = export(capsys, "yolo12m", "yolo12n", "yolo12m", *SMALL, "--out", tmp_path)
    assert code == 0
    assert [(one["tier"], one["repeated"]) for one in reports] == [("yolo12m", True), ("yolo12n", False)]
    assert (tmp_path / "yolo12m_engine" / "1" / "model.onnx").is_file()


def test_the_fingerprint_depends_on_every_input() -> None:
    """One input more, less or different is another fingerprint; the order in which they are named is not."""
    base = fingerprint(canvas="640x384", top_k=512)
    assert base == fingerprint(top_k=512, canvas="640x384")
    others = [fingerprint(canvas="640x384", top_k=256), fingerprint(canvas="640x384"), fingerprint(top_k=512)]
    assert len({base, *others}) == 4


@pytest.mark.parametrize("text", [None, "{", "[]", '{"inputs_sha256": "a", "sha256": {}}', '{"sha256": 3}'])
def test_a_sidecar_that_says_too_little_keeps_nothing(text: str | None, tmp_path: Path) -> None:
    """Missing, broken or of an older export: the step is repeated."""
    sidecar, model = tmp_path / "export.json", tmp_path / "model.onnx"
    model.write_bytes(b"model")
    if text is not None:
        sidecar.write_text(text)
    assert kept(sidecar, "a", model, model) is None


def test_weights_of_several_models_are_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file cannot be two tiers; a folder that lacks one is named with the file that was looked for."""
    code, _, err = export(capsys, "yolo12n", "yolo12m", "--weights", DEMO_WEIGHTS, "--out", tmp_path / "models")
    assert (code, err.splitlines()) == (
        1,
        [f"export: --weights {DEMO_WEIGHTS}: expected a folder with yolo12n.pt for several models, got a file"],
    )
    code, _, err = export(capsys, "yolo12m", "--weights", MODELS, "--out", tmp_path / "models")
    assert code == 1
    assert f"{MODELS / 'yolo12m.pt'}: no such file" in err
    assert not (tmp_path / "models").exists()


def test_an_unknown_word_names_models_and_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a model nor a command: exit code 2 and what was expected."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["yolo11n"])
    assert ended.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    commands = "configs, verify, build, status, evaluate, suppression, speed"
    assert f"expected yolo12n, yolo12m, yolo12x, or a command ({commands})" in told
    assert "got 'yolo11n'" in told


def test_a_conversion_that_passes_states_its_accuracy(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sidecar holds the scores of PyTorch and of the variant, and where they were measured."""
    words = ("--weights", DEMO_WEIGHTS, "--precision", "fp16", "--calibration", clips / "cam01.mp4")
    limit = ("--data", clips, "--pictures", 4, "--max-drop", 100)
    code, (report,), _ = export(capsys, "yolo12n", *words, *limit, "--out", tmp_path)
    assert code == 0
    accuracy = json.loads((tmp_path / "yolo12n_engine" / "export.json").read_text())["accuracy"]
    assert accuracy == report["accuracy"]
    assert set(accuracy["scores"]) == {"pytorch", "fp16"}
    assert accuracy["scores"]["fp16"]["map50"] > 30
    assert accuracy["data"] == str(clips)


def test_a_conversion_that_loses_too_much_keeps_the_old_model(clips: Path, tmp_path: Path) -> None:
    """What stands in the folder is served on, and the line names drop and limit."""
    gate = Gate(clips, 2, {"fp32": 0.3, "fp16": 0.3, "int8": -100.0})
    frames = np.stack([frames for _, frames, _ in _few(clips)])
    export_tier(Tier.N, Spec(), Order(DEMO_WEIGHTS, tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ExportError, match=r"yolo12n at int8 loses .* at most -100.0 are allowed; nothing was written"):
        export_tier(Tier.N, Spec(), Order(DEMO_WEIGHTS, tmp_path, precision="int8", calibration=frames, gate=gate))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def _few(clips: Path) -> list[Any]:
    return list(video_canvases(clips / "cam01.mp4", Canvas(), {0, 10}))


@pytest.mark.skipif(has_card(), reason="there is a GPU here, so the plan would be built")
def test_tensorrt_without_a_card_leaves_the_onnx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--runtime tensorrt` exports, then says in one line that the plan needs the card: exit code 3."""
    words = ("yolo12n", "--random", "--precision", "fp32", "--runtime", "tensorrt", "--out", tmp_path)
    code, _, err = export(capsys, *words)
    assert code == 3
    assert "run this in the serving image, on the card" in err.splitlines()[-1]
    assert (tmp_path / "yolo12n_engine" / "1" / "model.onnx").is_file()


def test_a_full_disk_is_one_line_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The temporary file of the tracer has no room: exit code 1, no traceback, and no model folder begun."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # refuses a write as a full disk does
    try:
        assert cli.main(["yolo12n", "--random", "--canvas", "256x192", "--out", str(tmp_path / "models")]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written: File too large; what was exported before is as it was" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_full_disk_leaves_the_published_files(tmp_path: Path) -> None:
    """The second of two files has no room: both stay what they were, nothing is left beside them."""
    files = {tmp_path / "model.onnx": b"old", tmp_path / "export.json": b"old"}
    publish(files)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ExportError, match=r"cannot write the exported model: .*File too large"):
            publish({tmp_path / "model.onnx": b"new", tmp_path / "export.json": bytes(2000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


KILLED = """
import sys
from pathlib import Path
from export.publish import publish

folder = Path(sys.argv[1])
publish({folder / "model.onnx": bytes(300_000_000), folder / "export.json": b"new"})
"""


def test_a_killed_writer_leaves_no_half_written_model(tmp_path: Path) -> None:
    """SIGKILL while the model is being written: the old one is whole, and the next writer removes what was left."""
    files = {tmp_path / "model.onnx": b"old", tmp_path / "export.json": b"old"}
    publish(files)
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT) as process:
        while not list(tmp_path.glob(".*.tmp")):
            assert process.poll() is None
        process.kill()
    assert list(tmp_path.glob(".*.tmp")), "it was killed too late to show anything"
    assert {path: path.read_bytes() for path in files} == files
    publish(dict.fromkeys(files, b"newer"))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(files, b"newer")


def test_what_another_writer_is_writing_stays(tmp_path: Path) -> None:
    """Only what nobody holds any more is removed."""
    path, others = tmp_path / "model.onnx", tmp_path / ".model.onnx.1.tmp"
    with others.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        publish({path: b"mine"})
        assert others.exists()
    publish({path: b"mine too"})
    assert list(tmp_path.iterdir()) == [path]
