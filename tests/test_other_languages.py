"""docs/clients.md as it stands: curl and Node get from a real Triton what our own client gets."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, demo_frame
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

from deploy.server import TritonServer

PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
BINARY, PLAIN = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
(NODE,) = re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG of the demo with objects in it."""
    path = tmp_path_factory.mktemp("pictures") / "a picture.jpg"
    assert cv2.imwrite(str(path), demo_frame().to_ndarray(format="bgr24"))
    return path


@pytest.fixture(scope="module")
def truth(triton: TritonServer, picture: Path) -> NDArray[np.float32]:
    """What gRPC says of it, FP32 (n, 6)."""
    data = np.frombuffer(picture.read_bytes(), np.uint8)[np.newaxis]
    image, thresholds = InferInput("image", data.shape, "UINT8"), InferInput("thresholds", [1, 2], "FP32")
    image.set_data_from_numpy(data)
    thresholds.set_data_from_numpy(np.array([[0.25, 0.7]], np.float32))
    with InferenceServerClient(triton.grpc_url) as client:
        answer = client.infer("yolo12n_jpeg", [image, thresholds])
    found: NDArray[np.float32] = answer.as_numpy("detections")[0, : answer.as_numpy("count")[0, 0]]
    assert len(found) >= 3
    return found


def run(command: list[str], triton: TritonServer) -> subprocess.CompletedProcess[str]:
    """With the address that the page's code reads."""
    environment = os.environ | {"TRITON": triton.http_url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)


@pytest.mark.parametrize("code", [BINARY, PLAIN], ids=["binary", "json"])
def test_curl_gets_what_we_get(triton: TritonServer, picture: Path, truth: NDArray[np.float32], code: str) -> None:
    """Both ways of sending the picture, in a plain shell."""
    done = run(["sh", "-euc", code, "sh", str(picture)], triton)
    assert done.returncode == 0, done.stderr + done.stdout
    outputs = {output["name"]: output for output in json.loads(done.stdout)["outputs"]}
    (count,) = outputs["count"]["data"]
    rows = np.array(outputs["detections"]["data"], np.float32).reshape(300, 6)
    assert count == len(truth)
    assert rows[:count] == pytest.approx(truth, abs=1e-3)


def test_node_gets_what_we_get(triton: TritonServer, picture: Path, truth: NDArray[np.float32], tmp_path: Path) -> None:
    """Every tensor binary, two pictures one after another."""
    node = shutil.which("node")
    assert node, "apt-get install nodejs"
    script = tmp_path / "detect.mjs"
    script.write_text(NODE)
    done = run([node, str(script), str(picture), str(picture)], triton)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        found = json.loads(line)
        rows = np.array([[*one["xyxy"], one["confidence"], one["classId"]] for one in found], np.float32)
        assert rows == pytest.approx(truth, abs=1e-3)
    assert len(done.stdout.splitlines()) == 2


def test_what_goes_wrong_is_said(triton: TritonServer, picture: Path, tmp_path: Path) -> None:
    """The answers that the page lists: what is no picture, what is no model, what is no such tensor."""
    nonsense = tmp_path / "nonsense.jpg"
    nonsense.write_bytes(b"no picture at all")
    cases = [
        (BINARY, nonsense, "expected a JPEG or PNG"),
        (BINARY.replace("yolo12n_jpeg", "yolo12z_jpeg"), picture, "unknown model"),
        (BINARY.replace('"shape": [1, 2], "data": [0.25, 0.7]', '"shape": [1, 1], "data": [0.25]'), picture, "shape"),
    ]
    for code, path, expected in cases:
        done = run(["sh", "-euc", code, "sh", str(path)], triton)
        assert done.returncode == 22, done.stdout
        assert expected in done.stdout
    script = tmp_path / "detect.mjs"
    script.write_text(NODE)
    done = run([str(shutil.which("node")), str(script), str(nonsense)], triton)
    assert done.returncode == 1
    assert "expected a JPEG or PNG" in done.stderr
