"""A Triton that the system has, laid out as in NVIDIA's image, in place of the wheel's; and where it then listens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from conftest import moving_square

from deploy.errors import WheelMissing
from deploy.server import ENVIRONMENT, TritonServer
from deploy.wheel import find_wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files where NVIDIA's image has them: bin, lib, backends/python with its one stub, other backends."""
    wheel, root = find_wheel(ENVIRONMENT), tmp_path_factory.mktemp("opt") / "tritonserver"
    python = root / "backends" / "python"
    python.mkdir(parents=True)
    (root / "backends" / "tensorrt").mkdir()
    (root / "bin").mkdir()
    for file in (*wheel.backend.glob("*.so"), wheel.backend / "triton_python_backend_utils.py", wheel.stub):
        (python / file.name).symlink_to(file)
    (root / "bin" / "tritonserver").symlink_to(wheel.program)
    (root / "lib").symlink_to(wheel.libraries)
    return root


@pytest.fixture(scope="module")
def server(installed: Path, run_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    log = tmp_path_factory.mktemp("log") / "triton.log"
    with TritonServer(run_repository, installed=installed, listen="0.0.0.0", log=log) as running:
        yield running


def test_its_python_models_run(server: TritonServer) -> None:
    """The launcher finds program, backends and stub there, and the environment's packages for the stub."""
    jpeg = np.frombuffer(cv2.imencode(".jpg", moving_square(1)[0])[1].tobytes(), dtype=np.uint8)
    image = triton.InferInput("image", [1, len(jpeg)], "UINT8")
    image.set_data_from_numpy(jpeg[np.newaxis])
    thresholds = triton.InferInput("thresholds", [1, 2], "FP32")
    thresholds.set_data_from_numpy(np.array([[0.25, 0.7]], dtype=np.float32))
    with triton.InferenceServerClient(server.grpc_url) as client:
        answer = client.infer("yolo12n_jpeg", [image, thresholds])
    assert answer.as_numpy("detections").shape == (1, 300, 6)


def test_http_stays_on_the_loopback(server: TritonServer) -> None:
    """gRPC and metrics listen everywhere, HTTP, which knows no TLS, does not."""
    ports = {name: int(url.rpartition(":")[2]) for name, url in (("grpc", server.grpc_url), ("http", server.http_url))}
    ports["metrics"] = int(server.metrics_url.split(":")[2].split("/")[0])
    listening = {c.laddr.port: c.laddr.ip for c in psutil.Process(server.pid).net_connections() if c.status == "LISTEN"}
    assert listening[ports["grpc"]] in ("0.0.0.0", "::")
    assert listening[ports["metrics"]] == "0.0.0.0"
    assert listening[ports["http"]] == "127.0.0.1"


def test_other_backends_come_along(installed: Path, tmp_path: Path) -> None:
    """TensorRT's backend is beside Python's in the folder that Triton is given."""
    backends, _ = find_wheel(ENVIRONMENT, installed).assemble_backend(tmp_path)
    assert {entry.name for entry in backends.iterdir()} == {"python", "tensorrt"}


def test_a_folder_without_a_triton_is_one_clear_line(tmp_path: Path) -> None:
    """It names the file that is missing."""
    with pytest.raises(WheelMissing, match=r"bin/tritonserver: no such file; expected a Triton"):
        find_wheel(ENVIRONMENT, tmp_path)
