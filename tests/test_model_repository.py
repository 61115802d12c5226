"""The committed configs are what the spec says, in Triton's own words; the Python backends refuse what they must."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from clients.types import Canvas, Tier
from export import cli, configs, serving
from export import spec as s

ROOT = Path(__file__).resolve().parent.parent
SPEC = s.Spec()
SERVED = [(runtime, tier) for runtime in s.RUNTIMES.values() for tier in (*Tier, None)]


def committed(path: str) -> Any:
    """A committed config as Triton's own message; a misspelt field or enum is an error."""
    text = (configs.REPOSITORY / path / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, pb.ModelConfig())


def tensors(fields: Any) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(t.name, pb.DataType.Name(t.data_type).removeprefix("TYPE_"), tuple(t.dims)) for t in fields]


def assert_is(config: Any, model: s.Model) -> None:
    assert (config.name, config.max_batch_size) == (model.name, model.max_batch)
    assert tensors(config.input) == [(t.name, t.dtype, t.dims) for t in model.inputs]
    assert tensors(config.output) == [(t.name, t.dtype, t.dims) for t in model.outputs]


def test_the_contract_is_what_clients_rely_on() -> None:
    """The tensors of every contract, spelt out once: a change of the spec must be meant."""
    assert tensors(committed("ensembles/yolo12n").input) == [
        ("frames", "UINT8", (576, 640)),
        ("geometry", "FP32", (4,)),
        ("thresholds", "FP32", (2,)),
    ]
    outputs = [("detections", "FP32", (300, 6)), ("count", "INT32", (1,))]
    assert tensors(committed("ensembles/yolo12n").output) == outputs
    assert tensors(committed("openvino/yolo12n_engine").output) == [("candidates", "FP32", (768, 6))]
    jpeg = committed("ensembles/yolo12n_jpeg")
    assert tensors(jpeg.input) == [("image", "UINT8", (-1,)), ("thresholds", "FP32", (2,))]
    assert tensors(jpeg.output) == outputs
    sizes = {tier: committed(f"tensorrt/{s.engine_name(tier)}").max_batch_size for tier in Tier}
    assert sizes == {Tier.N: 16, Tier.M: 4, Tier.X: 2}


@pytest.mark.parametrize(("runtime", "tier"), SERVED, ids=lambda value: getattr(value, "name", str(value)))
def test_served_models_follow_the_spec(runtime: s.Runtime, tier: Tier | None) -> None:
    """Engines and postprocess: tensors, backend, instances, queue, warm-up, as the spec has them per runtime."""
    model = s.postprocess(SPEC) if tier is None else s.engine(SPEC, tier)
    queue = s.postprocess_queue(runtime) if tier is None else s.engine_queue(SPEC, runtime, tier)
    config = committed(f"{runtime.name}/{model.name}")
    assert_is(config, model)
    assert config.backend == runtime.backend
    (group,) = config.instance_group
    assert (pb.ModelInstanceGroup.Kind.Name(group.kind), group.count) == (runtime.kind, runtime.instances)
    batching = config.dynamic_batching
    assert tuple(batching.preferred_batch_size) == queue.preferred
    assert batching.max_queue_delay_microseconds == queue.delay_us
    policy = batching.default_queue_policy
    assert policy.timeout_action == pb.ModelQueuePolicy.REJECT
    assert policy.allow_timeout_override
    assert (policy.default_timeout_microseconds, policy.max_queue_size) == (queue.timeout_us, queue.max_size)
    warmed = [w.batch_size for w in config.model_warmup]
    graphs = [graph.batch_size for graph in config.optimization.cuda.graph_spec]
    assert warmed == (graphs if runtime.cuda else [1, model.max_batch])
    assert set(queue.preferred) <= set(warmed) or not runtime.cuda
    assert {k: v.string_value for k, v in config.parameters.items()} == dict(runtime.parameters)


@pytest.mark.parametrize("tier", Tier)
def test_the_t4_replays_graphs_for_every_batch_size(tier: Tier) -> None:
    """Each batch size from 1 to the largest falls into exactly one CUDA graph; a CPU's config has none."""
    model = s.engine(SPEC, tier)
    cuda = committed(f"tensorrt/{model.name}").optimization.cuda
    covered = [
        size
        for graph in cuda.graph_spec
        for size in range(graph.graph_lower_bound.batch_size or graph.batch_size, graph.batch_size + 1)
    ]
    assert sorted(covered) == list(range(1, model.max_batch + 1))
    assert cuda.graphs
    assert cuda.output_copy_stream
    optimization = committed(f"tensorrt/{model.name}").optimization
    assert optimization.input_pinned_memory.enable
    assert optimization.output_pinned_memory.enable
    assert not committed(f"openvino/{model.name}").HasField("optimization")


@pytest.mark.parametrize("tier", Tier)
def test_ensembles_route_every_tensor_by_its_own_name(tier: Tier) -> None:
    """The steps of an ensemble are decode, engine, postprocess, and each tensor keeps its name between them."""
    steps = [s.engine(SPEC, tier), s.postprocess(SPEC)]
    expected = {
        s.ensemble(SPEC, tier): steps,
        s.jpeg_ensemble(SPEC, tier): [s.decode(SPEC), *steps],
    }
    for model, members in expected.items():
        config = committed(f"ensembles/{model.name}")
        assert_is(config, model)
        assert config.platform == "ensemble"
        for step, member in zip(config.ensemble_scheduling.step, members, strict=True):
            assert step.model_name == member.name
            assert dict(step.input_map) == {t.name: t.name for t in member.inputs}
            assert dict(step.output_map) == {t.name: t.name for t in member.outputs}


def test_pictures_of_different_lengths_share_a_batch() -> None:
    """decode_jpeg takes ragged batches, on the CPU, and knows how large a picture may be."""
    config = committed("shared/decode_jpeg")
    assert_is(config, s.decode(SPEC))
    assert config.input[0].allow_ragged_batch
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU
    assert config.parameters["max_pixels"].string_value == str(s.MAX_PICTURE_PIXELS)


def test_no_member_of_an_ensemble_is_smaller_than_the_ensemble() -> None:
    """A request that an ensemble takes never exceeds the largest batch of a model it is sent to."""
    for tier in Tier:
        assert s.ensemble(SPEC, tier).max_batch <= min(s.engine(SPEC, tier).max_batch, s.postprocess(SPEC).max_batch)
        assert s.jpeg_ensemble(SPEC, tier).max_batch <= s.decode(SPEC).max_batch


def test_every_version_folder_is_in_a_clone() -> None:
    """Triton refuses an ensemble without its version folder, and git keeps no empty ones."""
    kept = subprocess.run(
        ["git", "ls-files", "model_repository"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for path in configs.render(SPEC):
        folder = f"model_repository/{Path(path).parent}"
        assert f"{folder}/config.pbtxt" in kept
        assert {f"{folder}/1/.gitkeep", f"{folder}/1/model.py"} & set(kept), f"{folder}/1 would be missing"


def test_check_passes_on_the_committed_files(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m export configs --check` is quiet about what is committed."""
    assert cli.main(["configs", "--check"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == 0


def test_check_names_the_file_that_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One changed number in one file fails the check, which names the file and repairs nothing."""
    copy = tmp_path / "repository"
    shutil.copytree(configs.REPOSITORY, copy, ignore=shutil.ignore_patterns("*.onnx"))
    victim = copy / "tensorrt/yolo12m_engine/config.pbtxt"
    victim.write_text(victim.read_text().replace("max_batch_size: 4", "max_batch_size: 5"))
    before = victim.read_text()
    assert cli.main(["configs", "--check", "--repository", str(copy)]) == 1
    assert str(victim) in capsys.readouterr().err
    assert victim.read_text() == before
    assert cli.main(["configs", "--repository", str(copy)]) == 0
    assert configs.differing(SPEC, copy) == []


def test_another_canvas_changes_every_shape(tmp_path: Path) -> None:
    """Rendered for 960x544, engines, decoder and ensembles all take 816 rows of 960."""
    spec = s.Spec(canvas=Canvas(960, 544), top_k=600, largest=(12, 4, 1))
    configs.write(spec, tmp_path)
    assert configs.rendered_for(tmp_path) == spec
    for path in ("shared/decode_jpeg", "openvino/yolo12x_engine", "tensorrt/yolo12n_engine", "ensembles/yolo12m"):
        assert "dims: [816, 960]" in (tmp_path / path / "config.pbtxt").read_text()
    assert list((tmp_path / "ensembles/yolo12m/1").iterdir())


@pytest.mark.parametrize(
    ("canvas", "top_k", "complaint"),
    [
        (Canvas(), 299, "top_k must lie in 300..3840"),
        (Canvas(), 4000, "top_k must lie in 300..3840"),
        (Canvas(96, 96), 768, "has 189 boxes, fewer than top_k 768"),
    ],
)
def test_impossible_specs_are_refused(canvas: Canvas, top_k: int, complaint: str) -> None:
    """A spec that no exporter or TensorRT can serve is refused where it is made."""
    with pytest.raises(ValueError, match=complaint):
        s.Spec(canvas=canvas, top_k=top_k)


@pytest.mark.parametrize(
    ("text", "largest"),
    [("", (16, 4, 2)), ("yolo12n=12", (12, 4, 2)), ("n=8,yolo12x.pt=1,m=6", (8, 6, 1))],
)
def test_largest_batches_are_chosen_by_tier(text: str, largest: tuple[int, ...]) -> None:
    """What is named is changed, and the decoder takes the largest of all."""
    spec = s.Spec(largest=s.parse_max_batch(text))
    assert spec.largest == largest
    assert s.decode(spec).max_batch == max(largest)
    for tier, size in zip(Tier, largest, strict=True):
        assert s.engine(spec, tier).max_batch == s.ensemble(spec, tier).max_batch == size == spec.tier(tier).graphs[-1]


def test_preferred_sizes_and_graphs_follow_the_largest_batch() -> None:
    """Powers of two and the largest have a CUDA graph; those from 8 up leave at once, or the largest alone."""
    spec = s.Spec(largest=(12, 4, 1))
    assert [spec.tier(tier).graphs for tier in Tier] == [(1, 2, 4, 8, 12), (1, 2, 4), (1,)]
    assert [spec.tier(tier).preferred for tier in Tier] == [(8, 12), (4,), (1,)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("yolo12n", "--max-batch: expected such as yolo12n=16,yolo12x=1, got 'yolo12n'"),
        ("yolo12n=-1", "--max-batch: expected such as yolo12n=16,yolo12x=1, got 'yolo12n=-1'"),
        ("yolo12q=2", "expected one of yolo12n, yolo12m, yolo12x, got 'yolo12q'"),
        ("x=33", "the largest batch of yolo12x must lie in 1..32, got 33"),
    ],
)
def test_impossible_batches_are_one_line(text: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line names what was expected and what came."""
    assert cli.main(["configs", "--check", "--max-batch", text]) == 1
    assert capsys.readouterr().err == f"export: {complaint}\n"


def test_configs_need_no_torch() -> None:
    """Rendering runs where neither torch nor ultralytics is installed."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'ultralytics', 'onnx', 'numpy.distutils')));"
        "from export import cli; sys.exit(cli.main(['configs', '--check']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Refused(Exception):
    """Stands for pb_utils.TritonModelException."""


@pytest.fixture
def triton_utils(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Triton's module exists inside its own process only; this one has what is imported and raised."""
    module = ModuleType("triton_python_backend_utils")
    module.TritonModelException = Refused  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)
    monkeypatch.setitem(sys.modules, "openvino", ModuleType("openvino"))  # not installed beside numpy 2
    return module


@pytest.mark.parametrize("path", ["openvino/model.py", "shared/decode_jpeg/1/model.py"])
@pytest.mark.usefixtures("triton_utils")
def test_numpy_2_is_refused_at_load(path: str) -> None:
    """Under this environment's numpy 2 every Python backend refuses to load, in one line that says why."""
    location = importlib.util.spec_from_file_location("backend_model", configs.REPOSITORY / path)
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    with pytest.raises(Refused, match=r"needs numpy < 2 .*found numpy 2\."):
        module.TritonPythonModel().initialize({"model_config": "{}"})


@pytest.mark.usefixtures("triton_utils")
@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("int8", ["integer", "float"])
def test_measurements_compile_as_the_server_does(precision: str, int8: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export.serving` repeats the options of model.py, which cannot be imported outside the server."""
    location = importlib.util.spec_from_file_location("backend_model", configs.REPOSITORY / "openvino/model.py")
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    model = module.TritonPythonModel()
    given = {"precision": precision, "threads": "0", "int8": int8}
    model.config = {"parameters": {name: {"string_value": word} for name, word in given.items()}}
    monkeypatch.setattr(serving, "cpu_int8", lambda: int8)
    assert model._options() == serving.options(precision)
