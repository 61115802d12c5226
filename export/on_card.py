"""The card: TensorRT and CUDA behind `Machine`. All that needs a GPU is here, and as little else as can be.

Imports TensorRT and the CUDA bindings (package `cuda-bindings`) only when asked to: neither is needed anywhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pynvml
from numpy.typing import NDArray

from export.errors import ExportError, NoCard
from export.machine import Card
from export.to_engine import Batches, Plan, build

# Words in the names or types of an inspected engine's layers that only a fused attention has.
_FUSED_WORDS = ("_gemm_mha", "fmha", "fused_mha", "kgen_mha")
_MB = 1_000_000


def tensorrt() -> Any:
    """The module `tensorrt`. Raises NoCard where it cannot be imported."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise NoCard(f"TensorRT cannot be imported; run this in the serving image, on the card ({error})") from error
    return tensorrt


def cuda_runtime() -> Any:
    """The module `cuda.bindings.runtime`. Raises NoCard where it cannot be imported."""
    try:
        from cuda.bindings import runtime
    except (ImportError, OSError) as error:
        raise NoCard(f"timing on the card needs CUDA's Python bindings: pip install cuda-bindings ({error})") from error
    return runtime


def the_card() -> Card:
    """The first GPU. Raises NoCard where there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoCard(f"no NVIDIA GPU here; a plan is built on the card that will serve it ({error})") from error
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(device)
        return Card(
            name=str(pynvml.nvmlDeviceGetName(device)),
            sm=(int(major), int(minor)),
            driver=str(pynvml.nvmlSystemGetDriverVersion()),
            memory_mb=int(pynvml.nvmlDeviceGetMemoryInfo(device).total) // _MB,
            sm_clock_max_mhz=_told(pynvml.nvmlDeviceGetMaxClockInfo, device),
        )
    except pynvml.NVMLError as error:
        raise NoCard(f"no usable NVIDIA GPU here ({error})") from error
    finally:
        pynvml.nvmlShutdown()


def fused_layers(inspected: str) -> int:
    """How many layers of an inspected engine (JSON) are fused attention; reported, never a reason to fail."""
    layers = json.loads(inspected).get("Layers", [])
    texts = (json.dumps(layer).lower() for layer in layers)
    return sum(any(word in text for word in _FUSED_WORDS) for text in texts)


class TheCard:
    """The first GPU with the TensorRT here. Raises NoCard where a GPU, TensorRT or the CUDA bindings are missing."""

    def __init__(self) -> None:
        self._trt = tensorrt()
        self.card = the_card()
        self._cuda = cuda_runtime()
        self.tensorrt = str(self._trt.__version__)

    def build(self, model: bytes, batches: Batches, timing_cache: Path) -> Plan:
        """See Machine."""
        return build(self._trt, model, batches, timing_cache=timing_cache)

    @contextmanager
    def run(self, plan: Plan) -> Iterator[Loaded]:
        """See Machine."""
        with ExitStack() as resources:
            yield Loaded(self._trt, self._cuda, plan, resources)

    def sm_clock_mhz(self) -> int | None:
        """See Machine."""
        pynvml.nvmlInit()
        try:
            return _told(pynvml.nvmlDeviceGetClockInfo, pynvml.nvmlDeviceGetHandleByIndex(0))
        finally:
            pynvml.nvmlShutdown()


class Loaded:
    """A plan on the card with buffers for its largest batch; `resources` frees them."""

    def __init__(self, trt: Any, cuda: Any, plan: Plan, resources: ExitStack) -> None:
        self._cuda = cuda
        free_before, _ = self._call(cuda.cudaMemGetInfo)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))  # must outlive the engine
        engine = self._runtime.deserialize_cuda_engine(plan.data)
        if engine is None:
            raise ExportError("TensorRT cannot load the plan that it has just built")
        self._engine = engine
        inspector = engine.create_engine_inspector()
        self.fused = fused_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
        self._context = engine.create_execution_context()
        if self._context is None:
            raise ExportError("TensorRT cannot run the plan that it has just built: not enough memory on the card?")
        (self._stream,) = self._call(cuda.cudaStreamCreate)
        resources.callback(cuda.cudaStreamDestroy, self._stream)
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._kinds = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}
        largest = {name: tuple(engine.get_tensor_profile_shape(name, 0)[2]) for name in self._inputs}
        self._set_batch(next(iter(largest.values()))[0])
        self._buffers = {name: self._buffer(name, resources) for name in names}
        self._events = [self._call(cuda.cudaEventCreate)[0] for _ in range(2)]
        for event in self._events:
            resources.callback(cuda.cudaEventDestroy, event)
        self._graphs: dict[int, Any] = {}
        self._resources = resources
        free_after, _ = self._call(cuda.cudaMemGetInfo)
        self.device_bytes: int | None = max(0, int(free_before) - int(free_after))
        self.cuda_graphs = True

    def outputs(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See Running. Raises ExportError when CUDA or TensorRT refuses."""
        cuda = self._cuda
        self._set_batch(len(next(iter(inputs.values()))))
        for name in self._inputs:
            values = np.ascontiguousarray(inputs[name], dtype=self._kinds[name])
            kind = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
            self._call(cuda.cudaMemcpy, self._buffers[name], values.ctypes.data, values.nbytes, kind)
        self._enqueue()
        self._call(cuda.cudaStreamSynchronize, self._stream)
        found = {}
        for name in self._buffers.keys() - set(self._inputs):
            values = np.empty(tuple(self._context.get_tensor_shape(name)), dtype=self._kinds[name])
            kind = cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
            self._call(cuda.cudaMemcpy, values.ctypes.data, self._buffers[name], values.nbytes, kind)
            found[name] = values
        return found

    def time_ms(self, batch: int) -> float:
        """See Running. The first call for a batch captures its graph. Raises ExportError as `outputs` does."""
        cuda = self._cuda
        if batch not in self._graphs:
            self._graphs[batch] = self._captured(batch)
        begin, end = self._events
        graph = self._graphs[batch]
        if graph is None:
            self._set_batch(batch)
        self._call(cuda.cudaEventRecord, begin, self._stream)
        if graph is None:
            self._enqueue()
        else:
            self._call(cuda.cudaGraphLaunch, graph, self._stream)
        self._call(cuda.cudaEventRecord, end, self._stream)
        self._call(cuda.cudaEventSynchronize, end)
        return float(self._call(cuda.cudaEventElapsedTime, begin, end)[0])

    def _captured(self, batch: int) -> Any:
        """This batch as a CUDA graph, as Triton replays it; None where it cannot be captured, which is reported."""
        cuda = self._cuda
        self._set_batch(batch)
        self._enqueue()  # TensorRT finishes what a new shape needs before a capture may begin
        self._call(cuda.cudaStreamSynchronize, self._stream)
        self._call(
            cuda.cudaStreamBeginCapture, self._stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        enqueued = self._context.execute_async_v3(int(self._stream))
        error, graph = cuda.cudaStreamEndCapture(self._stream)
        if not enqueued or error != cuda.cudaError_t.cudaSuccess:
            cuda.cudaGetLastError()  # it would be told of the next call
            self.cuda_graphs = False
            return None
        (replay,) = self._call(cuda.cudaGraphInstantiate, graph, 0)
        self._call(cuda.cudaGraphDestroy, graph)
        self._resources.callback(cuda.cudaGraphExecDestroy, replay)
        return replay

    def _set_batch(self, batch: int) -> None:
        for name in self._inputs:
            _, *rest = tuple(self._engine.get_tensor_shape(name))
            if not self._context.set_input_shape(name, (batch, *rest)):
                raise ExportError(f"TensorRT refuses a batch of {batch} for the input {name}")

    def _buffer(self, name: str, resources: ExitStack) -> int:
        size = int(np.prod(tuple(self._context.get_tensor_shape(name)))) * self._kinds[name].itemsize
        (pointer,) = self._call(self._cuda.cudaMalloc, size)
        resources.callback(self._cuda.cudaFree, pointer)
        self._call(self._cuda.cudaMemset, pointer, 0, size)
        self._context.set_tensor_address(name, int(pointer))
        return int(pointer)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise ExportError("TensorRT cannot run the plan that it has just built")

    def _call(self, function: Any, *arguments: Any) -> tuple[Any, ...]:
        error, *values = function(*arguments)
        if error != self._cuda.cudaError_t.cudaSuccess:
            raise ExportError(f"CUDA: {function.__name__}: {error.name}")
        return tuple(values)


def _told(function: Any, device: Any) -> int | None:
    """A clock that this card may not tell."""
    try:
        return int(function(device, pynvml.NVML_CLOCK_SM))
    except pynvml.NVMLError:
        return None
