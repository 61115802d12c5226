"""The committed repository in a real Triton: the CPU's models against ONNX Runtime, the T4's files without a T4."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.grpc as triton
from google.protobuf import text_format
from numpy.typing import NDArray
from onnx import TensorProto, helper
from random_network import random_network
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from clients.types import Tier
from deploy.errors import ModelLoadFailed
from deploy.run_repository import assemble
from deploy.triton import TritonServer
from export import configs, engine, to_onnx
from export import spec as s

SPEC = s.Spec()
DTYPES = {"UINT8": np.uint8, "FP32": np.float32, "INT32": np.int32}
IMAGE = s.Tensor("image", "UINT8", (-1,))


@dataclass
class Reference:
    """The exported files run by ONNX Runtime, one after the other, no Triton."""

    engine: onnxruntime.InferenceSession
    postprocess: onnxruntime.InferenceSession

    def __call__(self, frames: Any, geometry: Any, thresholds: Any) -> list[NDArray[np.float32]]:
        (candidates,) = self.engine.run(["candidates"], {"frames": frames})
        feed = {"candidates": candidates, "geometry": geometry, "thresholds": thresholds}
        detections, count = self.postprocess.run(["detections", "count"], feed)
        return [rows[:n] for rows, n in zip(detections, count[:, 0], strict=True)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of yolo12n, untrained: random boxes test numbers as well as objects do."""
    folder = tmp_path_factory.mktemp("models")
    for name, data in (
        ("yolo12n_engine", to_onnx.engine_onnx(engine.prepare(random_network()), SPEC)),
        ("postprocess", to_onnx.postprocess_onnx(SPEC)),
    ):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.onnx").write_bytes(data)
    (folder / "yolo12n_engine" / "labels.txt").write_text("person\ncar\nbus\nbicycle\n")
    return folder


@pytest.fixture(scope="module")
def reference(models: Path) -> Reference:
    def session(name: str) -> onnxruntime.InferenceSession:
        path = models / name / "1" / "model.onnx"
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    return Reference(session("yolo12n_engine"), session("postprocess"))


@pytest.fixture(scope="module")
def client(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton.InferenceServerClient]:
    """The repository as committed, in a real Triton."""
    folder = tmp_path_factory.mktemp("run")
    assembled = assemble(folder / "repository", [Tier.N], models_dir=models)
    with (
        TritonServer(assembled.path, log=folder / "triton.log") as server,
        triton.InferenceServerClient(server.grpc_url) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def decoder() -> ModuleType:
    """decode_jpeg's own module, to know which canvas the server must have seen."""
    sys.modules.setdefault("triton_python_backend_utils", ModuleType("triton_python_backend_utils"))
    path = configs.REPOSITORY / "shared/decode_jpeg/1/model.py"
    location = importlib.util.spec_from_file_location("decode_jpeg_in_triton", path)
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


def photo() -> NDArray[np.uint8]:
    """A street with a bus and people: BGR (1080, 810, 3), shipped with Ultralytics."""
    package = importlib.util.find_spec("ultralytics")
    assert package is not None
    assert package.origin is not None
    picture = cv2.imread(str(Path(package.origin).parent / "assets" / "bus.jpg"))
    assert picture is not None
    return np.asarray(picture, dtype=np.uint8)


def crops(count: int) -> list[bytes]:
    """Different parts and sizes of the photo, as JPEG and PNG in turn: no two have the same length."""
    picture, out = photo(), []
    for index in range(count):
        part = picture[index * 20 : 500 + index * 25, index * 10 : 600 + index * 7]
        out.append(cv2.imencode((".jpg", ".png")[index % 2], part)[1].tobytes())
    return out


def ask(client: triton.InferenceServerClient, model: str, **arrays: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Detections of each item, without the rows that are none."""
    types = {np.dtype(v): k for k, v in DTYPES.items()}
    inputs = []
    for name, array in arrays.items():
        tensor = triton.InferInput(name, list(array.shape), types[array.dtype])
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    answer = client.infer(model, inputs)
    detections, count = answer.as_numpy("detections"), answer.as_numpy("count")
    assert detections.shape == (len(count), 300, 6)
    return [rows[:n] for rows, n in zip(detections, count[:, 0], strict=True)]


def as_image(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)[None]


def assert_close(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """The same objects within rounding: scores by rank, boxes by their nearest counterpart."""
    assert len(expected) > 5
    assert abs(len(actual) - len(expected)) <= 1  # a box on the very threshold may fall either way
    n = min(len(actual), len(expected))
    np.testing.assert_allclose(actual[:n, 4], expected[:n, 4], atol=2e-3)
    distance = np.abs(actual[:, None, :4] - expected[None, :, :4]).max(axis=2)
    distance[actual[:, None, 5] != expected[None, :, 5]] = np.inf
    assert np.mean(distance.min(axis=1) < 0.5) > 0.95  # pixels of the source


LIMITS = np.float32([[0.3, 0.6]])


def test_a_canvas_gets_the_reference_detections(
    client: triton.InferenceServerClient, reference: Reference, decoder: ModuleType
) -> None:
    """The ensemble in Triton answers what ONNX Runtime computes from the same files, for a real picture."""
    frame, geometry = decoder.canvas_of(crops(1)[0], 640, 384, 64_000_000)
    arrays = {"frames": frame[None], "geometry": geometry[None], "thresholds": LIMITS}
    assert_close(ask(client, "yolo12n", **arrays)[0], reference(**arrays)[0])


def test_jpegs_of_many_cameras_are_merged_and_told_apart(
    client: triton.InferenceServerClient, reference: Reference, decoder: ModuleType
) -> None:
    """Twelve encoded pictures sent at once run in fewer batches, and each gets the detections of its own pixels."""
    data = crops(12)
    before = merged(client)
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda one: ask(client, "yolo12n_jpeg", image=as_image(one), thresholds=LIMITS)[0], data)
        )
    inferences, executions = (after - was for after, was in zip(merged(client), before, strict=True))
    assert inferences == 12
    assert executions <= 6
    expected = []
    for one in data:
        frame, geometry = decoder.canvas_of(one, 640, 384, 64_000_000)
        expected.append(reference(frame[None], geometry[None], LIMITS)[0])
    for actual, own in zip(answers, expected, strict=True):
        assert_close(actual, own)
    tops = [rows[0].tolist() for rows in expected]
    assert len({tuple(np.round(top, 3)) for top in tops}) == 12  # the pictures can be told apart at all


def merged(client: triton.InferenceServerClient) -> tuple[int, int]:
    """Inferences and executions of the engine so far."""
    stats = client.get_inference_statistics("yolo12n_engine").model_stats[0]
    return stats.inference_count, stats.execution_count


def test_a_request_may_be_a_batch_itself(
    client: triton.InferenceServerClient, reference: Reference, decoder: ModuleType
) -> None:
    """Three canvases in one request, each with its own geometry and thresholds, beside single ones."""
    canvases = [decoder.canvas_of(one, 640, 384, 64_000_000) for one in crops(3)]
    frames, geometry = (np.stack(part) for part in zip(*canvases, strict=True))
    limits = np.float32([[0.3, 0.6], [0.5, 0.3], [0.4, 0.9]])
    expected = reference(frames, geometry, limits)
    with ThreadPoolExecutor(3) as pool:
        three = pool.submit(ask, client, "yolo12n", frames=frames, geometry=geometry, thresholds=limits)
        ones = [
            pool.submit(ask, client, "yolo12n", frames=frames[i : i + 1], geometry=geometry[i : i + 1], thresholds=t)
            for i, t in ((0, limits[:1]), (1, limits[1:2]))
        ]
        answers = [*three.result(), *(one.result()[0] for one in ones)]
    for actual, own in zip(answers, (*expected, *expected[:2]), strict=True):
        assert_close(actual, own)


def test_a_bad_picture_fails_alone(client: triton.InferenceServerClient) -> None:
    """Among pictures that are decoded together, text and a cut file get an error each, typed; the others an answer."""
    good = crops(6)
    mixed = [b"no picture at all", *good[:3], good[4][:2000], *good[3:]]

    def outcome(data: bytes) -> str:
        try:
            ask(client, "yolo12n_jpeg", image=as_image(data), thresholds=LIMITS)
        except InferenceServerException as error:
            return f"{error.status()}: {error.message()}"
        return "answered"

    with ThreadPoolExecutor(len(mixed)) as pool:
        outcomes = list(pool.map(outcome, mixed))
    assert outcomes.count("answered") == 6
    assert "INVALID_ARGUMENT" in outcomes[0]
    assert "expected a JPEG or PNG" in outcomes[0]
    assert "INVALID_ARGUMENT" in outcomes[4]
    assert "cut short" in outcomes[4]


def test_the_wrong_shape_is_refused_by_name(client: triton.InferenceServerClient) -> None:
    """A frame of another canvas never reaches the model; the answer names the input."""
    frames = np.zeros((1, 540, 640), dtype=np.uint8)
    with pytest.raises(InferenceServerException, match=r"frames.*yolo12n"):
        ask(client, "yolo12n", frames=frames, geometry=np.float32([[1, 1, 0, 0]]), thresholds=LIMITS)


# --- the openvino backend, whatever it serves -------------------------------------------------------------------

PICKY = """
name: "picky" backend: "python" max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [4] }
output { name: "y" data_type: TYPE_FP32 dims: [1] }
instance_group { kind: KIND_CPU }
dynamic_batching { max_queue_delay_microseconds: 200000 }
"""


def picky_model() -> bytes:
    """y is x's first value; a batch whose largest value does not divide its size cannot be computed at all."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])]
    constants = {"rest": [-1], "zero": [0], "one": [1], "flat": [1]}
    nodes = [
        *(helper.make_node("Constant", [], [name], value_ints=value) for name, value in constants.items()),
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["rows"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["rows", "flat"], ["rows1"]),
        helper.make_node("Concat", ["rows1", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["folded"]),
        helper.make_node("ReduceMax", ["folded"], ["again"], keepdims=0),
        helper.make_node("Sub", ["again", "largest"], ["nothing"]),
        helper.make_node("Slice", ["x", "zero", "one", "one"], ["first"]),
        helper.make_node("Add", ["first", "nothing"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "picky", inputs, outputs)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(data, full_check=True)
    return bytes(data.SerializeToString())


def picky_repository(folder: Path, **parameters: str) -> Path:
    version = folder / "picky" / "1"
    version.mkdir(parents=True)
    given = [f'parameters {{ key: "{key}" value {{ string_value: "{word}" }} }}\n' for key, word in parameters.items()]
    (folder / "picky" / "config.pbtxt").write_text(PICKY + "".join(given))
    shutil.copy(configs.REPOSITORY / "openvino" / "model.py", version)
    (version / "model.onnx").write_bytes(picky_model())
    return folder


def test_one_request_that_cannot_be_computed_fails_alone(tmp_path: Path) -> None:
    """Of four requests that came as one batch, three are answered and the fourth gets the reason."""

    def outcome(value: float) -> object:
        tensor = triton.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.full((1, 4), value, dtype=np.float32))
        try:
            return float(client.infer("picky", [tensor]).as_numpy("y")[0, 0])
        except InferenceServerException as error:
            return error.message()

    with (
        TritonServer(picky_repository(tmp_path / "repository"), log=tmp_path / "triton.log") as server,
        triton.InferenceServerClient(server.grpc_url) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        *good, bad = pool.map(outcome, (1.0, 2.0, 4.0, 1000.0))
        stats = client.get_inference_statistics("picky").model_stats[0]
    assert good == [1.0, 2.0, 4.0]
    assert isinstance(bad, str)
    assert "OpenVINO" in bad
    assert max(entry.batch_size for entry in stats.batch_stats) > 1  # they were joined


@pytest.mark.parametrize(("name", "words"), [("precision", "f32, bf16, auto"), ("int8", "integer, float")])
def test_an_unknown_parameter_keeps_the_model_from_loading(tmp_path: Path, name: str, words: str) -> None:
    """A precision that OpenVINO does not have is named when the server starts, not silently replaced."""
    repository = picky_repository(tmp_path / "repository", **{name: "f8"})
    server = TritonServer(repository, log=tmp_path / "triton.log")
    with pytest.raises(ModelLoadFailed, match=f"parameter {name}: expected one of {words}, got 'f8'"):
        server.start()


# --- the T4's files --------------------------------------------------------------------------------------------


def constant_model(model: s.Model) -> bytes:
    """An ONNX file with a model's tensors that answers zeros for each item of the batch: what TensorRT would be."""
    kinds = {"UINT8": TensorProto.UINT8, "FP32": TensorProto.FLOAT, "INT32": TensorProto.INT32}
    first = model.inputs[0].name
    nodes = [
        helper.make_node("Shape", [first], ["batch"], start=0, end=1),
        *(
            node
            for t in model.outputs
            for node in (
                helper.make_node("Constant", [], [f"{t.name}.dims"], value_ints=list(t.dims)),
                helper.make_node("Concat", ["batch", f"{t.name}.dims"], [f"{t.name}.shape"], axis=0),
                helper.make_node(
                    "ConstantOfShape",
                    [f"{t.name}.shape"],
                    [t.name],
                    value=helper.make_tensor("zero", kinds[t.dtype], [1], [0]),
                ),
            )
        ),
    ]
    inputs = [helper.make_tensor_value_info(t.name, kinds[t.dtype], ["batch", *t.dims]) for t in model.inputs]
    outputs = [helper.make_tensor_value_info(t.name, kinds[t.dtype], ["batch", *t.dims]) for t in model.outputs]
    graph = helper.make_graph(nodes, "constant", inputs, outputs)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(data, full_check=True)
    return bytes(data.SerializeToString())


@pytest.fixture(scope="module")
def t4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton.InferenceServerClient]:
    """The T4's repository as committed, ensembles included; only backend and instances are the CPU's."""
    folder = tmp_path_factory.mktemp("t4")
    swapped, stubs = folder / "swapped", folder / "models"
    served = [*(s.engine(SPEC, tier) for tier in Tier), s.postprocess(SPEC)]
    shutil.copytree(configs.REPOSITORY, swapped, ignore=shutil.ignore_patterns("*.onnx", "__pycache__"))
    for model in served:
        config = text_format.Parse(
            (configs.REPOSITORY / "tensorrt" / model.name / "config.pbtxt").read_text(), pb.ModelConfig()
        )
        config.backend = "python"
        for group in config.instance_group:
            group.kind = pb.ModelInstanceGroup.KIND_CPU
        (swapped / "openvino" / model.name / "config.pbtxt").write_text(text_format.MessageToString(config))
        (stubs / model.name / "1").mkdir(parents=True)
        (stubs / model.name / "1" / "model.onnx").write_bytes(constant_model(model))
        (stubs / model.name / "labels.txt").write_text("thing\n")
    assembled = assemble(folder / "repository", list(Tier), repository=swapped, models_dir=stubs)
    assert assembled.missing == ()
    with (
        TritonServer(assembled.path, log=folder / "triton.log") as server,
        triton.InferenceServerClient(server.grpc_url) as client,
    ):
        yield client


def everything() -> list[s.Model]:
    per_tier = (s.engine, s.ensemble, s.jpeg_ensemble)
    return [*(make(SPEC, tier) for tier in Tier for make in per_tier), s.postprocess(SPEC), s.decode(SPEC)]


@pytest.mark.parametrize("model", everything(), ids=lambda model: model.name)
def test_the_t4s_files_load_with_the_contracts_metadata(t4: triton.InferenceServerClient, model: s.Model) -> None:
    """Triton itself loads every model of the T4's repository and tells the spec's tensors, batch axis first."""
    metadata = t4.get_model_metadata(model.name)
    for told, specified in ((metadata.inputs, model.inputs), (metadata.outputs, model.outputs)):
        assert [(t.name, t.datatype, tuple(t.shape)) for t in told] == [
            (t.name, t.dtype, (-1, *t.dims)) for t in specified
        ]
    assert t4.get_model_config(model.name).config.max_batch_size == model.max_batch


@pytest.mark.parametrize("tier", Tier)
def test_triton_keeps_the_t4s_queue(t4: triton.InferenceServerClient, tier: Tier) -> None:
    """Batching and queue policy of the T4's engines reach Triton's scheduler unchanged."""
    batching = t4.get_model_config(s.engine_name(tier)).config.dynamic_batching
    queue = s.engine_queue(SPEC, s.RUNTIMES["tensorrt"], tier)
    assert tuple(batching.preferred_batch_size) == queue.preferred
    assert batching.max_queue_delay_microseconds == queue.delay_us
    policy = batching.default_queue_policy
    assert (policy.default_timeout_microseconds, policy.max_queue_size) == (queue.timeout_us, queue.max_size)


@pytest.mark.parametrize("tier", Tier)
def test_triton_keeps_the_t4s_optimisation(t4: triton.InferenceServerClient, tier: Tier) -> None:
    """CUDA graphs, copy stream, pinned memory and warm-up of each graph's size are what Triton itself has parsed."""
    config = t4.get_model_config(s.engine_name(tier)).config
    assert [graph.batch_size for graph in config.optimization.cuda.graph_spec] == list(SPEC.tier(tier).graphs)
    assert [warmup.batch_size for warmup in config.model_warmup] == list(SPEC.tier(tier).graphs)
    assert config.optimization.cuda.graphs
    assert config.optimization.cuda.output_copy_stream
    assert config.optimization.input_pinned_memory.enable
    assert config.optimization.output_pinned_memory.enable


@pytest.mark.parametrize("tier", Tier)
def test_a_tier_takes_its_largest_batch_and_no_larger(t4: triton.InferenceServerClient, tier: Tier) -> None:
    """The largest batch of a tier passes through its ensemble; one more is refused."""
    largest = SPEC.tier(tier).max_batch

    def send(batch: int) -> int:
        frames = np.zeros((batch, *SPEC.frames.dims), dtype=np.uint8)
        geometry, thresholds = np.ones((batch, 4), dtype=np.float32), np.ones((batch, 2), dtype=np.float32)
        return len(ask(t4, tier.value, frames=frames, geometry=geometry, thresholds=thresholds))

    assert send(largest) == largest
    with pytest.raises(InferenceServerException, match="batch-size must be <="):
        send(largest + 1)
