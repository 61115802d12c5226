"""Serves the `model.onnx` beside it with OpenVINO on a CPU: any model, its tensors are read from config.pbtxt.

The requests of one batch are joined along the batch axis, run once and split again. A request that cannot be used
gets its own error; the others are answered. Parameters of the configuration:

- `precision`: `f32` (default), `bf16`, or `auto` (OpenVINO's choice: bf16 where the CPU has it, silently).
- `threads`: how many CPU threads one run may use; 0 is all cores.

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
        responses: list[Any] = [None] * len(requests)
        usable: list[tuple[int, list[np.ndarray]]] = []
        for index, request in enumerate(requests):
            try:
                usable.append((index, self._arrays(request)))
            except ValueError as error:
                responses[index] = _refusal(str(error), pb_utils.TritonError.INVALID_ARG)
        for index, response in self._answers(usable):
            responses[index] = response
        return responses

    def finalize(self) -> None:
        """Release the compiled model."""
        self.request = None

    def _compiled(self, path: Path) -> ov.CompiledModel:
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path}: no such file; export the model first")
        try:
            return ov.Core().compile_model(path, "CPU", self._options())
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise pb_utils.TritonModelException(f"{path}: OpenVINO cannot compile it: {reason}") from error

    def _options(self) -> dict[str, Any]:
        precision = self._parameter("precision", "f32")
        if precision not in _PRECISIONS:
            raise pb_utils.TritonModelException(
                f"parameter precision: expected one of {', '.join(_PRECISIONS)}, got {precision!r}"
            )
        threads = self._parameter("threads", "0")
        if not threads.isdigit():
            raise pb_utils.TritonModelException(f"parameter threads: expected 0 or a count, got {threads!r}")
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        if precision != "auto":
            options["INFERENCE_PRECISION_HINT"] = precision
        if int(threads):
            options["INFERENCE_NUM_THREADS"] = int(threads)
        return options

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

    def _answers(self, usable: list[tuple[int, list[np.ndarray]]]) -> list[tuple[int, Any]]:
        """(index, response) of each request: one run for all, or one each where that run fails."""
        if not usable:
            return []
        columns = list(zip(*(arrays for _, arrays in usable), strict=True))
        joined = [column[0] if len(column) == 1 else np.concatenate(column) for column in columns]
        try:
            outputs = self._run(joined)
        except RuntimeError as error:
            if len(usable) == 1:
                return [(usable[0][0], _refusal(f"OpenVINO: {error}", pb_utils.TritonError.INTERNAL))]
            return [answer for one in usable for answer in self._answers([one])]
        bounds = np.cumsum([len(arrays[0]) for _, arrays in usable])[:-1]
        split = {name: np.split(array, bounds) for name, array in outputs.items()}
        return [(index, _response(split, position)) for position, (index, _) in enumerate(usable)]

    def _run(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, copied: OpenVINO's own memory is overwritten by the next run of this same batch."""
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


def _response(split: dict[str, list[np.ndarray]], position: int) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, parts[position]) for name, parts in split.items()])


def _refusal(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
