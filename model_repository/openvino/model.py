"""Serves the `model.onnx` beside it with OpenVINO on a CPU: any model, its tensors are read from config.pbtxt.

The model is compiled for one item, and the items of a batch run one after the other: OpenVINO knows every shape then,
and is faster than with an open batch, however full. A request that cannot be used or computed gets its own error; the
others are answered. Parameters of the configuration:

- `precision`: `f32` (default), `bf16`, or `auto` (OpenVINO's choice: bf16 where the CPU has it, silently).
- `threads`: how many CPU threads one run may use; 0 is all cores.
- `int8`: `integer` (default): Q/DQ pairs become integer arithmetic; `float`: they round, and all is computed in floats,
  no faster, but right on a CPU without VNNI, where OpenVINO's sums of integers overflow.

Knows nothing of detection.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import triton_python_backend_utils as pb_utils

_PRECISIONS = ("f32", "bf16", "auto")
_INT8 = ("integer", "float")


class TritonPythonModel:
    """One compiled model; Triton calls initialize, then execute for every batch, then finalize."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compile the model. Raises TritonModelException: numpy 2, no model file, bad parameter or bad model."""
        require_numpy_1(np.__version__)
        self.config: dict[str, Any] = json.loads(args["model_config"])
        self.inputs = {entry["name"]: _expected(entry) for entry in self.config["input"]}
        self.outputs = [entry["name"] for entry in self.config["output"]]
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.request = self._compiled(path).create_infer_request()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order: its outputs, or the reason why there are none."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Release the compiled model."""
        self.request = None

    def _compiled(self, path: Path) -> ov.CompiledModel:
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path}: no such file; export the model first")
        core = ov.Core()
        try:
            model = core.read_model(path)
            model.reshape({name: ov.PartialShape([1, *dims]) for name, (_, dims) in self.inputs.items()})
            return core.compile_model(model, "CPU", self._options())
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise pb_utils.TritonModelException(f"{path}: OpenVINO cannot compile it: {reason}") from error

    def _options(self) -> dict[str, Any]:
        precision = self._chosen("precision", _PRECISIONS)
        threads = self._parameter("threads", "0")
        if not threads.isdigit():
            raise pb_utils.TritonModelException(f"parameter threads: expected 0 or a count, got {threads!r}")
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        if precision != "auto":
            options["INFERENCE_PRECISION_HINT"] = precision
        if int(threads):
            options["INFERENCE_NUM_THREADS"] = int(threads)
        if self._chosen("int8", _INT8) == "float":
            options["LP_TRANSFORMS_MODE"] = "NO"
        return options

    def _chosen(self, name: str, words: tuple[str, ...]) -> str:
        """A parameter's word, by default the first."""
        chosen = self._parameter(name, words[0])
        if chosen not in words:
            raise pb_utils.TritonModelException(f"parameter {name}: expected one of {', '.join(words)}, got {chosen!r}")
        return chosen

    def _parameter(self, name: str, default: str) -> str:
        return str(self.config.get("parameters", {}).get(name, {}).get("string_value", default))

    def _arrays(self, request: Any) -> list[np.ndarray]:
        """The request's inputs in the model's order, each [batch, dims]. Raises ValueError: missing or misshapen."""
        arrays = []
        for name, (dtype, dims) in self.inputs.items():
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                raise ValueError(f"input {name} is missing")
            array = tensor.as_numpy()
            if array.dtype != dtype or array.shape[1:] != dims:
                expected = f"{dtype} [batch, {', '.join(map(str, dims))}]"
                raise ValueError(f"input {name}: expected {expected}, got {array.dtype} {list(array.shape)}")
            arrays.append(array)
        if len({len(array) for array in arrays}) != 1:
            raise ValueError(f"inputs differ in their batch: {[len(array) for array in arrays]}")
        return arrays

    def _answer(self, request: Any) -> Any:
        """The request's outputs, or the reason why there are none."""
        try:
            arrays = self._arrays(request)
        except ValueError as error:
            return _refusal(str(error), pb_utils.TritonError.INVALID_ARG)
        try:
            rows = [self._run([array[row : row + 1] for array in arrays]) for row in range(len(arrays[0]))]
        except RuntimeError as error:
            return _refusal(f"OpenVINO: {error}", pb_utils.TritonError.INTERNAL)
        tensors = [pb_utils.Tensor(name, np.concatenate([row[name] for row in rows])) for name in self.outputs]
        return pb_utils.InferenceResponse(tensors)

    def _run(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of one item by name, copied: OpenVINO's own memory is overwritten by the next run."""
        for name, array in zip(self.inputs, arrays, strict=True):
            self.request.set_tensor(name, ov.Tensor(np.ascontiguousarray(array), shared_memory=True))
        self.request.infer()
        return {name: self.request.get_tensor(name).data.copy() for name in self.outputs}


def require_numpy_1(version: str) -> None:
    """Refuse numpy 2: with it this Python backend answers with empty tensors, silently."""
    if int(version.split(".")[0]) >= 2:
        raise pb_utils.TritonModelException(
            f"the Python backend needs numpy < 2 (numpy 2 gives empty outputs), found numpy {version}"
        )


def _expected(entry: dict[str, Any]) -> tuple[np.dtype, tuple[int, ...]]:
    dtype = np.dtype(pb_utils.triton_string_to_numpy(entry["data_type"]))
    return dtype, tuple(int(dim) for dim in entry["dims"])


def _refusal(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
