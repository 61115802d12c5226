"""The demo's committed models belong together: weights, the ONNX exported from them, labels, and their size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export import configs, to_onnx

WEIGHTS = Path(__file__).resolve().parent.parent / "demo" / "weights"
ENGINE = WEIGHTS / "yolo12n_engine"
RE_EXPORT = "run: python -m export yolo12n --weights demo/weights/yolo12n.pt --out demo/weights"


def test_the_onnx_was_exported_from_the_weights_beside_it() -> None:
    """Training anew without exporting anew would serve the old network under the new one's score."""
    told = json.loads((ENGINE / "export.json").read_text())["sha256"]
    assert told["weights"] == to_onnx.sha256((WEIGHTS / "yolo12n.pt").read_bytes()), RE_EXPORT
    assert told["onnx"] == to_onnx.sha256((ENGINE / "1" / "model.onnx").read_bytes()), RE_EXPORT


def test_the_demo_fits_the_committed_repository() -> None:
    """Canvas, candidates and class names are what configs and demo expect."""
    told = json.loads((ENGINE / "export.json").read_text())
    rendered = configs.rendered_for()
    assert rendered is not None
    assert (told["canvas"], told["top_k"]) == (str(rendered.canvas), rendered.top_k)
    assert (ENGINE / "labels.txt").read_text().split() == ["person", "car", "bus", "bicycle"] == told["classes"]


def test_what_is_committed_for_the_demo_stays_small() -> None:
    """Weights and models of the demo are 12 MB at most: every clone carries them."""
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= 12_000_000


@pytest.mark.parametrize("model", ["yolo12n_engine", "postprocess"])
def test_the_demo_models_run(model: str) -> None:
    """Both files load in ONNX Runtime and answer for a batch of two."""
    session = onnxruntime.InferenceSession(
        str(WEIGHTS / model / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    feed = {i.name: np.ones((2, *i.shape[1:]), dtype=kinds[i.type]) for i in session.get_inputs()}
    assert {len(output) for output in session.run(None, feed)} == {2}
