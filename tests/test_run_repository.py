"""The run repository: what is assembled from which exported models, and that the real Triton runs it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc.model_config_pb2 import ModelConfig

from clients.errors import ConfigError
from clients.types import Tier
from deploy.run_repository import REPOSITORY, assemble, cpu_int8, cpu_precision
from deploy.server import TritonServer
from deploy.triton import main

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "config.pbtxt"
SHARED = {"postprocess", "decode_jpeg"}


def graph(name: str, inputs: dict[str, tuple[int, list[int]]], answer: str, nodes: list[Any], **constants: Any) -> Any:
    """An ONNX model with a batch axis; the outputs are those of the contract for `answer`."""
    outputs = {
        "engine": {"candidates": (TensorProto.FLOAT, [768, 6])},
        "postprocess": {"detections": (TensorProto.FLOAT, [300, 6]), "count": (TensorProto.INT32, [1])},
    }[answer]

    def infos(tensors: dict[str, tuple[int, list[int]]]) -> list[Any]:
        return [helper.make_tensor_value_info(key, kind, ["batch", *dims]) for key, (kind, dims) in tensors.items()]

    initializers = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    made = helper.make_graph(nodes, name, infos(inputs), infos(outputs), initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def tiny_engine() -> Any:
    """Each candidate is the mean of the frame: a stand-in for a network that takes milliseconds to compile."""
    return graph(
        "engine",
        {"frames": (TensorProto.UINT8, [576, 640])},
        "engine",
        [
            helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=1),
            helper.make_node("Expand", ["mean", "shape"], ["candidates"]),
        ],
        axes=np.array([1, 2], dtype=np.int64),
        shape=np.array([1, 768, 6], dtype=np.int64),
    )


def tiny_postprocess() -> Any:
    """The first 300 candidates, and the score threshold as the count."""
    return graph(
        "postprocess",
        {
            "candidates": (TensorProto.FLOAT, [768, 6]),
            "geometry": (TensorProto.FLOAT, [4]),
            "thresholds": (TensorProto.FLOAT, [2]),
        },
        "postprocess",
        [
            helper.make_node("Slice", ["candidates", "zero", "rows", "one"], ["detections"]),
            helper.make_node("ReduceSum", ["geometry", "one"], ["ignored"], keepdims=1),
            helper.make_node("Mul", ["ignored", "nothing"], ["nil"]),
            helper.make_node("Slice", ["thresholds", "zero", "one", "one"], ["score"]),
            helper.make_node("Add", ["score", "nil"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["count"], to=TensorProto.INT32),
        ],
        zero=np.array([0], dtype=np.int64),
        one=np.array([1], dtype=np.int64),
        rows=np.array([300], dtype=np.int64),
        nothing=np.array(0, dtype=np.float32),
    )


def write_models(folder: Path, *tiers: Tier, labels: str = "person\ncar\n") -> Path:
    """What an export of these tiers leaves, with tiny graphs."""
    for tier in tiers:
        engine = folder / f"{tier.value}_engine"
        (engine / "1").mkdir(parents=True)
        onnx.save(tiny_engine(), engine / "1" / "model.onnx")
        (engine / "labels.txt").write_text(labels)
        (engine / "export.json").write_text(json.dumps({"canvas": "640x384", "top_k": 768, "precision": "f32"}))
    (folder / "postprocess" / "1").mkdir(parents=True)
    onnx.save(tiny_postprocess(), folder / "postprocess" / "1" / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiers n and x, exported."""
    return write_models(tmp_path_factory.mktemp("models"), Tier.N, Tier.X)


def read(file: Path) -> Any:
    """A configuration as Triton's own message."""
    return text_format.Parse(file.read_text(), ModelConfig())


def committed(name: str) -> Path:
    """Where the repository keeps a model's configuration."""
    found = [REPOSITORY / group / name / CONFIG for group in ("ensembles", "shared", "openvino")]
    return next(file for file in found if file.is_file())


def strings(config: Any) -> dict[str, str]:
    """A configuration's parameters."""
    return {key: value.string_value for key, value in config.parameters.items()}


def test_only_exported_tiers_are_assembled_and_the_others_named(models: Path, tmp_path: Path) -> None:
    """Each present tier brings engine and both ensembles, the shared models come once, missing tiers are told."""
    assembled = assemble(tmp_path / "run", list(Tier), models_dir=models)
    assert (assembled.present, assembled.missing) == ((Tier.N, Tier.X), (Tier.M,))
    names = {folder.name for folder in assembled.path.iterdir()}
    assert names == SHARED | {f"yolo12{t}{kind}" for t in "nx" for kind in ("", "_jpeg", "_engine")}
    assert all((folder / "1").is_dir() for folder in assembled.path.iterdir())


def test_exported_tiers_that_nobody_wants_stay_out(models: Path, tmp_path: Path) -> None:
    """A tier that is exported but not asked for is neither assembled nor called missing."""
    assembled = assemble(tmp_path, [Tier.X], models_dir=models)
    assert (assembled.present, assembled.missing) == ((Tier.X,), ())
    assert not (tmp_path / "yolo12n_engine").exists()


def test_configurations_are_the_committed_ones(models: Path, tmp_path: Path) -> None:
    """With no settings nothing is changed but the parameters that the ensembles carry, and what this CPU can."""
    assemble(tmp_path, [Tier.N], models_dir=models)
    for folder in tmp_path.iterdir():
        expected, got = read(committed(folder.name)), read(folder / CONFIG)
        if folder.name in ("yolo12n", "yolo12n_jpeg"):
            assert json.loads(strings(got)["labels"]) == ["person", "car"]
            assert (strings(got)["canvas"], strings(got)["precision"]) == ("640x384", "f32")
            got.ClearField("parameters")
        if folder.name in ("yolo12n_engine", "postprocess"):
            assert got.parameters.pop("int8").string_value == cpu_int8()
        assert got == expected


def test_model_files_are_linked_and_sources_copied(models: Path, tmp_path: Path) -> None:
    """Big files are links into the models' folder; Python sources are copies, so the clone is never written to."""
    assemble(tmp_path, [Tier.N], models_dir=models)
    for name in ("yolo12n_engine", "postprocess"):
        link = tmp_path / name / "1" / "model.onnx"
        assert link.is_symlink()
        assert link.resolve() == (models / name / "1" / "model.onnx").resolve()
        source = tmp_path / name / "1" / "model.py"
        assert not source.is_symlink()
        assert source.read_text() == (REPOSITORY / "openvino" / "model.py").read_text()
    decode = tmp_path / "decode_jpeg" / "1" / "model.py"
    assert decode.read_text() == (REPOSITORY / "shared" / "decode_jpeg" / "1" / "model.py").read_text()


def test_settings_reach_the_configurations(models: Path, tmp_path: Path) -> None:
    """Precision and threads go to the engine and postprocess, and the ensembles state the precision that runs."""
    assemble(tmp_path, [Tier.N], models_dir=models, precision="bf16", threads=3)
    for name in ("yolo12n_engine", "postprocess"):
        assert strings(read(tmp_path / name / CONFIG)) == {"precision": "bf16", "threads": "3", "int8": cpu_int8()}
    for name in ("yolo12n", "yolo12n_jpeg"):
        assert strings(read(tmp_path / name / CONFIG))["precision"] == "bf16"


def test_a_batch_cap_lowers_all_that_exceeds_it(models: Path, tmp_path: Path) -> None:
    """No model, preferred batch or warm-up is larger than max_batch; a model that is smaller already stays."""
    assemble(tmp_path, [Tier.N, Tier.X], models_dir=models, max_batch=8)
    for folder in tmp_path.iterdir():
        config, before = read(folder / CONFIG), read(committed(folder.name))
        assert config.max_batch_size == min(8, before.max_batch_size)
        sizes = [*config.dynamic_batching.preferred_batch_size, *(w.batch_size for w in config.model_warmup)]
        assert max(sizes, default=1) <= config.max_batch_size
    assert list(read(tmp_path / "yolo12n_engine" / CONFIG).dynamic_batching.preferred_batch_size) == [8]


def test_dynamic_batching_can_be_switched_off(models: Path, tmp_path: Path) -> None:
    """Without it no configuration has a dynamic batcher; with it the committed ones do."""
    assemble(tmp_path / "with", [Tier.N], models_dir=models)
    assemble(tmp_path / "without", [Tier.N], models_dir=models, dynamic_batching=False)
    assert read(tmp_path / "with" / "yolo12n_engine" / CONFIG).HasField("dynamic_batching")
    for folder in (tmp_path / "without").iterdir():
        assert not read(folder / CONFIG).HasField("dynamic_batching")


def test_the_tensorrt_repository_is_assembled_from_plans(models: Path, tmp_path: Path) -> None:
    """For tensorrt the engines are model.plan files, nothing Python runs but the decoder, CUDA graphs obey the cap."""
    for name in ("yolo12n_engine", "postprocess"):
        shutil.copytree(models / name, tmp_path / "models" / name)
        (tmp_path / "models" / name / "1" / "model.onnx").rename(tmp_path / "models" / name / "1" / "model.plan")
    run = tmp_path / "run"
    found = assemble(run, [Tier.N], runtime="tensorrt", models_dir=tmp_path / "models", max_batch=4, precision="bf16")
    engine = read(run / "yolo12n_engine" / CONFIG)
    assert (engine.backend, engine.max_batch_size) == ("tensorrt", 4)
    assert [graph.batch_size for graph in engine.optimization.cuda.graph_spec] == [1, 2, 4]
    assert strings(engine) == {}
    assert strings(read(run / "yolo12n" / CONFIG))["precision"] == "f32"  # what the export says it built
    assert all("plan.json is missing" in warning for warning in found.warnings)
    assert len(found.warnings) == 2
    assert sorted(path.name for path in (run / "postprocess" / "1").iterdir()) == ["model.plan"]
    assert (run / "decode_jpeg" / "1" / "model.py").is_file()


def test_no_exported_tier_is_one_clear_line(tmp_path: Path) -> None:
    """When nothing wanted is exported the error names the folder, the models and the commands."""
    with pytest.raises(ConfigError) as caught:
        assemble(tmp_path / "run", [Tier.M, Tier.X], models_dir=tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: none of the wanted models (yolo12m, yolo12x) is exported; "
        "run `python -m export yolo12m` or `python -m export yolo12x`"
    )


def _no_postprocess(models: Path) -> None:
    (models / "postprocess" / "1" / "model.onnx").unlink()


def _no_labels(models: Path) -> None:
    (models / "yolo12n_engine" / "labels.txt").unlink()


def _empty_labels(models: Path) -> None:
    (models / "yolo12n_engine" / "labels.txt").write_text("\n \n")


def _other_canvas(models: Path) -> None:
    (models / "yolo12n_engine" / "export.json").write_text('{"canvas": "960x544"}')


def _other_top_k(models: Path) -> None:
    (models / "yolo12n_engine" / "export.json").write_text('{"top_k": 300}')


def _broken_sidecar(models: Path) -> None:
    (models / "yolo12n_engine" / "export.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_no_postprocess, r"postprocess/1/model\.onnx: no such file, and every tier needs it; run `python -m export"),
        (
            _no_labels,
            r"labels\.txt: the class names cannot be read \(No such file or directory\); run `python -m export",
        ),
        (_empty_labels, r"labels\.txt: expected one class name per line, found none"),
        (
            _other_canvas,
            r"yolo12n_engine: exported with canvas 960x544, the model repository expects 640x384; export it",
        ),
        (_other_top_k, r"yolo12n_engine: exported with top_k 300, the model repository expects 768; export it"),
        (_broken_sidecar, r"export\.json: cannot be read as JSON"),
    ],
)
def test_broken_exports_are_told(models: Path, tmp_path: Path, spoil: Callable[[Path], None], complaint: str) -> None:
    """Each way in which an export can be incomplete or foreign is one line that names the file."""
    shutil.copytree(models, tmp_path / "models")
    spoil(tmp_path / "models")
    with pytest.raises(ConfigError, match=complaint) as caught:
        assemble(tmp_path / "run", [Tier.N], models_dir=tmp_path / "models")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"tiers": []}, "no tier was asked for; expected at least one of yolo12n, yolo12m, yolo12x"),
        ({"runtime": "onnx"}, "runtime must be one of openvino, tensorrt, got 'onnx'"),
        ({"max_batch": 0}, "max_batch must be at least 1, got 0"),
        ({"precision": "fp16"}, "precision must be one of f32, bf16, auto, got 'fp16'"),
        ({"threads": -1}, r"threads must be 0 \(all cores\) or a count, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(
    models: Path, tmp_path: Path, settings: dict[str, Any], complaint: str
) -> None:
    """A wrong setting is named with what was expected and what came."""
    with pytest.raises(ConfigError, match=complaint):
        assemble(tmp_path, **{"tiers": [Tier.N], "models_dir": models, **settings})


def test_broken_configurations_are_told(models: Path, tmp_path: Path) -> None:
    """A typo in a config.pbtxt, another model's name in it, and a missing one are errors that name the file."""
    repository = tmp_path / "repository"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("*.onnx"))
    file = repository / "openvino" / "yolo12n_engine" / CONFIG
    text = file.read_text()
    spoiled = {
        text.replace("max_batch_size", "max_batchsize"): r"config\.pbtxt: not a valid model configuration: .*batchsize",
        text.replace(
            '"yolo12n_engine"', '"other"'
        ): r"expected the configuration of yolo12n_engine, got that of 'other'",
    }
    for number, (content, complaint) in enumerate(spoiled.items()):
        file.write_text(content)
        with pytest.raises(ConfigError, match=complaint):
            assemble(tmp_path / f"run{number}", [Tier.N], models_dir=models, repository=repository)
    file.unlink()
    with pytest.raises(ConfigError, match=r"config\.pbtxt: No such file or directory; the clone is incomplete"):
        assemble(tmp_path / "run", [Tier.N], models_dir=models, repository=repository)


def test_a_folder_in_use_is_refused(models: Path, tmp_path: Path) -> None:
    """Nothing is assembled into a folder that holds something: Triton would load that too."""
    (tmp_path / "stranger").mkdir()
    with pytest.raises(ConfigError, match="must be an empty folder"):
        assemble(tmp_path, [Tier.N], models_dir=models)


def test_the_command_serves_until_it_is_interrupted(models: Path, tmp_path: Path) -> None:
    """`python -m deploy.triton` names the tiers, says where it listens, answers both ensembles, and ends with 0."""
    log = tmp_path / "triton.log"
    command = [sys.executable, "-m", "deploy.triton", "--models", str(models), "--tiers", "n,m", "--log", str(log)]
    ports = _free_ports()
    with subprocess.Popen(
        [*command, *ports], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        try:
            assert launcher.stdout is not None
            line = launcher.stdout.readline()
            assert line, launcher.communicate()[1]
            told = json.loads(line)
            assert (told["tiers"], told["missing"], told["grpc"]) == (["yolo12n"], ["yolo12m"], f"127.0.0.1:{ports[1]}")
            assert _ask(told["grpc"]) == (300, 90.0, 3)
            launcher.send_signal(signal.SIGTERM)
            rest, complaints = launcher.communicate(timeout=30)
        finally:
            launcher.kill()
    assert (launcher.returncode, rest) == (0, "")
    assert complaints.splitlines() == [
        "running: yolo12n",
        "missing: yolo12m is not exported; run `python -m export yolo12m`",
    ]
    assert "successfully unloaded 'yolo12n'" in log.read_text()
    assert not Path(f"/proc/{told['pid']}").exists()


def _free_ports() -> list[str]:
    urls = TritonServer(ROOT).grpc_url, TritonServer(ROOT).grpc_url, TritonServer(ROOT).grpc_url
    ports = [url.rpartition(":")[2] for url in urls]
    return ["--grpc-port", ports[0], "--http-port", ports[1], "--metrics-port", ports[2]]


def _ask(url: str) -> tuple[int, float, int]:
    """Rows, first value and count: from a grey canvas of 90, and the same rows from a grey JPEG."""
    answers = []
    client = triton.InferenceServerClient(url)
    try:
        frames = np.full((1, 576, 640), 90, dtype=np.uint8)
        geometry = np.array([[1, 1, 0, 0]], dtype=np.float32)
        picture = cv2.imencode(".jpg", np.full((384, 640, 3), 90, dtype=np.uint8))[1].reshape(1, -1)
        thresholds = np.array([[3, 0.5]], dtype=np.float32)
        for name, tensors in (
            ("yolo12n", {"frames": frames, "geometry": geometry, "thresholds": thresholds}),
            ("yolo12n_jpeg", {"image": picture, "thresholds": thresholds}),
        ):
            inputs = []
            for key, array in tensors.items():
                kind = "UINT8" if array.dtype == np.uint8 else "FP32"
                inputs.append(triton.InferInput(key, array.shape, kind))
                inputs[-1].set_data_from_numpy(array)
            result = client.infer(name, inputs, client_timeout=30)
            answers.append((result.as_numpy("detections"), result.as_numpy("count")))
    finally:
        client.close()
    (rows, count), (rows_of_jpeg, count_of_jpeg) = answers
    assert rows.shape == rows_of_jpeg.shape == (1, 300, 6)
    assert np.array_equal(count, count_of_jpeg)
    assert 80 < rows_of_jpeg[0, 0, 0] < 125  # luma of grey 90 in limited range, chroma 128
    return rows.shape[1], float(rows[0, 0, 0]), int(count[0, 0])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--models", "/nowhere"], "/nowhere: none of the wanted models"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml: no such configuration file"),
    ],
)
def test_the_command_refuses_unusable_files_in_one_line(arguments: list[str], complaint: str) -> None:
    """What cannot be used ends with code 2 and one line that says it, without a traceback."""
    command = [sys.executable, "-m", "deploy.triton", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert [complaint in line for line in done.stderr.splitlines()] == [True]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tiers", "yolo99"], "expected one of yolo12n, yolo12m, yolo12x, got 'yolo99'"),
        (["--grpc-port", "0"], "expected a port in 1..65535, got '0'"),
        (["--ready-timeout", "soon"], "expected a positive number of seconds, got 'soon'"),
    ],
)
def test_the_command_refuses_malformed_options(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A malformed option is named with what was expected and what came."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]


def test_the_command_takes_its_choices_from_a_configuration(models: Path, tmp_path: Path) -> None:
    """--config gives tiers and models, an option goes before it; a missing environment is then one line and code 1."""
    config = tmp_path / "config.yaml"
    config.write_text(
        f"model: {{default: yolo12x, fallback: yolo12x, high_precision: yolo12m}}\ntriton: {{models: {models}}}\n"
    )
    environment = tmp_path / "environment"
    command = [sys.executable, "-m", "deploy.triton", "--config", str(config), "--environment", str(environment)]

    def outcome(*arguments: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            [*command, *_free_ports(), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stderr.splitlines()

    code, lines = outcome()
    assert (code, lines[:2]) == (
        1,
        ["running: yolo12x", "missing: yolo12m is not exported; run `python -m export yolo12m`"],
    )
    assert lines[-1].startswith(f"{environment}: no virtual environment for Triton there")
    config.write_text(config.read_text().replace(str(models), str(environment)))
    code, lines = outcome("--tiers", "n")
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"{environment}: none of the wanted models (yolo12n) is exported")


@pytest.mark.parametrize(
    ("asked", "text", "expected"),
    [
        (cpu_precision, "flags : fpu avx512_bf16\nflags : fpu avx512_bf16\n", "bf16"),
        (cpu_precision, "flags : fpu amx_bf16\n", "bf16"),
        (cpu_precision, "flags : fpu avx512_bf16\nflags : fpu avx2\n", "f32"),
        (cpu_precision, "processor : 0\n", "f32"),
        (cpu_precision, None, "f32"),
        (cpu_int8, "flags : fpu avx512_vnni\nflags : fpu avx_vnni\n", "integer"),
        (cpu_int8, "flags : fpu amx_int8\n", "integer"),
        (cpu_int8, "flags : fpu avx512_vnni\nflags : fpu avx512bw\n", "float"),
        (cpu_int8, "processor : 0\n", "float"),
        (cpu_int8, None, "float"),
    ],
)
def test_the_arithmetic_follows_the_cpu(
    tmp_path: Path, asked: Callable[[Path], str], text: str | None, expected: str
) -> None:
    """bf16, and integers for INT8, only where every core has instructions for it; not where nothing is known."""
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)
    assert asked(cpuinfo) == expected


def test_auto_is_never_what_a_figure_says(tmp_path: Path) -> None:
    """The run repository names the arithmetic, not how it was chosen."""
    models = tmp_path / "models"
    shutil.copytree(REPOSITORY.parent / "demo" / "weights", models)
    assembled = assemble(tmp_path / "run", [Tier.N], models_dir=models, precision="auto")
    config = (assembled.path / "yolo12n_engine" / "config.pbtxt").read_text()
    assert f'string_value: "{cpu_precision()}"' in config
    assert "auto" not in config


def test_a_quantised_export_is_called_so(tmp_path: Path) -> None:
    """An INT8 graph is INT8 whatever arithmetic the runtime uses for the rest of it."""
    models = tmp_path / "models"
    shutil.copytree(REPOSITORY.parent / "demo" / "weights", models)
    sidecar = models / "yolo12n_engine" / "export.json"
    for exported, expected in (("f32", "bf16"), ("int8", "int8")):
        sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"precision": exported}))
        assembled = assemble(tmp_path / exported, [Tier.N], models_dir=models, precision="bf16")
        config = text_format.Parse((assembled.path / "yolo12n" / "config.pbtxt").read_text(), ModelConfig())
        assert config.parameters["precision"].string_value == expected
