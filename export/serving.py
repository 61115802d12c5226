"""OpenVINO with the shapes and options that the server compiles with: what is measured here is what is served.

The server itself (model_repository/openvino/model.py) runs in an environment of its own and cannot be imported here; a
test compares the two.
"""

from __future__ import annotations

from typing import Any

from deploy.run_repository import cpu_int8
from export.spec import RUNTIMES


def options(precision: str | None = None) -> dict[str, Any]:
    """`precision`: f32, bf16, or None for what the repository's configurations say."""
    chosen = precision or dict(RUNTIMES["openvino"].parameters)["precision"]
    unfused = {} if cpu_int8() == "integer" else {"LP_TRANSFORMS_MODE": "NO"}
    return {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": chosen, **unfused}


def compiled(model: bytes, precision: str | None = None) -> Any:
    """An ONNX file on this CPU, for a batch of one: a callable from inputs by name to outputs by name."""
    import openvino as ov

    core = ov.Core()
    read = core.read_model(model)
    read.reshape({one.any_name: ov.PartialShape([1, *list(one.partial_shape)[1:]]) for one in read.inputs})
    return core.compile_model(read, "CPU", options(precision))
