"""Everything the client asks of Triton, over one gRPC channel, with foreign errors translated once.

One instance per process (tritonclient is not meant to be opened many times). It knows the contract's tensor names;
it does not know how frames travel.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self, TypeVar

import grpc
import numpy as np
from tritonclient.grpc import InferInput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from clients.errors import (
    AccessRefused,
    ConfigError,
    InferenceError,
    ModelError,
    RequestRejected,
    RequestTimeout,
    ServerUnavailable,
)
from clients.inference.access import Access
from clients.types import Canvas, Detections, Geometry, Thresholds, Tier

MAX_DETECTIONS = 300
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.primary_user_agent", "yolo12-triton-fleet"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # the default waits up to two minutes for a server that is back
]
QUEUE_REFUSALS = ("request timeout expired", "exceeds maximum queue size")  # Triton reports both as UNAVAILABLE
_CONTROL_TIMEOUT_S = 5.0
_OPEN = Access()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """Σ over all `*_engine` models: requests inferred, executions (batches) they were inferred in, `busy_ns` of these.

    `queued` requests have waited `queue_ns` in all for an instance to take them.
    """

    inferences: int
    executions: int
    busy_ns: int = 0
    queued: int = 0
    queue_ns: int = 0

    def __add__(self, other: EngineCounts) -> EngineCounts:
        """Of two servers together."""
        return EngineCounts(
            self.inferences + other.inferences,
            self.executions + other.executions,
            self.busy_ns + other.busy_ns,
            self.queued + other.queued,
            self.queue_ns + other.queue_ns,
        )

    def mean_batch_since(self, earlier: EngineCounts) -> float | None:
        """Mean batch between two readings of the same server start; None when nothing ran."""
        executions = self.executions - earlier.executions
        inferences = self.inferences - earlier.inferences
        return inferences / executions if executions > 0 and inferences >= executions else None


class TritonLink:
    """One Triton server. Use as an async context manager."""

    def __init__(self, url: str, *, request_timeout_s: float | None = None, access: Access = _OPEN) -> None:
        self.url = url
        self._admin = access.headers
        self._queue_timeout_us = None if request_timeout_s is None else round(request_timeout_s * 1e6)
        self._client = InferenceServerClient(url, channel_args=_CHANNEL, creds=_credentials(access))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    @property
    def alive(self) -> int:
        """One server: that it is away is noticed by who asks it."""
        return 1

    async def is_ready(self, timeout_s: float = _CONTROL_TIMEOUT_S) -> bool:
        """Whether the server answers in time and every model it was started with is ready."""
        try:
            return bool(await self._ask(self._client.is_server_ready(client_timeout=timeout_s)))
        except InferenceError:
            return False

    async def ready_tiers(self, tiers: Sequence[Tier]) -> tuple[Tier, ...]:
        """Those of `tiers` whose ensemble is ready. Raises ServerUnavailable."""
        return tuple([tier for tier in tiers if await self._is_model_ready(tier.value)])

    async def check_canvas(self, tier: Tier, canvas: Canvas) -> None:
        """Raises ConfigError when the served model was exported for another canvas, ServerUnavailable, ModelError."""
        metadata = await self._ask(self._client.get_model_metadata(tier.value, client_timeout=_CONTROL_TIMEOUT_S))
        shapes = {tensor.name: tuple(tensor.shape) for tensor in metadata.inputs}
        served = shapes.get("frames", ())[-2:]
        if served != canvas.nv12_shape:
            raise ConfigError(
                f"model.canvas is {canvas}, which needs frames of {list(canvas.nv12_shape)}, but {tier} on {self.url} "
                f"takes {list(served)}; export with the same --canvas or change model.canvas"
            )

    async def parameters(self, model: str) -> Mapping[str, str]:
        """The `parameters` of a model's configuration. Raises ServerUnavailable, ModelError."""
        config = await self._config(model)
        return {key: value.string_value for key, value in config.parameters.items()}

    async def largest_batch(self, tier: Tier) -> int:
        """The most requests that the tier's engine takes at once. Raises ServerUnavailable, ModelError."""
        return int((await self._config(f"{tier}_engine")).max_batch_size)

    async def _config(self, model: str) -> Any:
        answer = await self._ask(
            self._client.get_model_config(model, headers=self._admin, client_timeout=_CONTROL_TIMEOUT_S)
        )
        return answer.config

    async def labels(self, tier: Tier) -> tuple[str, ...]:
        """Class names in the order of their ids; empty when the ensemble carries none."""
        names = json.loads((await self.parameters(tier.value)).get("labels", "[]"))
        return tuple(str(name) for name in names)

    async def precision(self, tier: Tier) -> str:
        """What the tier's engine computes in, as its ensemble states it."""
        return (await self.parameters(tier.value)).get("precision", "unknown")

    async def engine_counts(self) -> EngineCounts:
        """What all engines have inferred since the server started. Raises ServerUnavailable, ModelError."""
        answer = await self._ask(
            self._client.get_inference_statistics(headers=self._admin, client_timeout=_CONTROL_TIMEOUT_S)
        )
        engines = [model for model in answer.model_stats if model.name.endswith("_engine")]
        return EngineCounts(
            inferences=sum(int(model.inference_count) for model in engines),
            executions=sum(int(model.execution_count) for model in engines),
            busy_ns=sum(int(batch.compute_infer.ns) for model in engines for batch in model.batch_stats),
            queued=sum(int(model.inference_stats.queue.count) for model in engines),
            queue_ns=sum(int(model.inference_stats.queue.ns) for model in engines),
        )

    async def register(self, name: str, key: str, size_bytes: int) -> None:
        """Make a region of this host's shared memory known to the server. Raises ServerUnavailable, ModelError."""
        await self._ask(
            self._client.register_system_shared_memory(
                name, key, size_bytes, headers=self._admin, client_timeout=_CONTROL_TIMEOUT_S
            )
        )

    async def unregister(self, name: str) -> None:
        """Make the server forget a region. Raises ServerUnavailable, ModelError."""
        call = self._client.unregister_system_shared_memory(
            name, headers=self._admin, client_timeout=_CONTROL_TIMEOUT_S
        )
        await self._ask(call)

    async def registered(self) -> frozenset[str]:
        """Names of the regions that the server knows. Raises ServerUnavailable, ModelError."""
        answer = await self._ask(
            self._client.get_system_shared_memory_status(headers=self._admin, client_timeout=_CONTROL_TIMEOUT_S)
        )
        return frozenset(answer.regions)

    async def infer(self, model: str, inputs: list[InferInput]) -> Detections:
        """One request. Raises ServerUnavailable, RequestTimeout, RequestRejected, ModelError."""
        call = self._client.infer(model, inputs, timeout=self._queue_timeout_us)
        return _detections(await self._ask(call))

    async def _is_model_ready(self, model: str) -> bool:
        return bool(await self._ask(self._client.is_model_ready(model, client_timeout=_CONTROL_TIMEOUT_S)))

    async def _ask(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except InferenceServerException as error:
            raise translated(error, self.url) from error
        except asyncio.CancelledError:
            raise
        except Exception as error:  # grpc.aio raises bare UsageError and internal errors when a channel dies under it
            raise ServerUnavailable(f"{self.url}: {type(error).__name__}: {error}") from error


def _credentials(access: Access) -> Any:
    return grpc.ssl_channel_credentials(root_certificates=access.ca) if access.secure else None


def translated(error: InferenceServerException, url: str) -> InferenceError:
    """Triton's and gRPC's errors in the project's words, one line each."""
    status, text = str(error.status() or ""), " ".join(str(error.message()).split())
    lowered = text.lower()
    if any(refusal in lowered for refusal in QUEUE_REFUSALS):
        return RequestRejected(f"{url}: {text}")
    if "protocol is restricted" in lowered:
        return AccessRefused(f"{url}: it restricts what the fleet needs; name its key in triton.admin_key_env")
    if "DEADLINE_EXCEEDED" in status or "CANCELLED" in status:
        return RequestTimeout(f"{url}: {text}")
    if "UNAVAILABLE" in status or "shared memory region" in lowered:  # an unknown region: the server is a new one
        return ServerUnavailable(f"{url}: {text}")
    return ModelError(f"{url}: {text}")


def small_inputs(geometry: Geometry | None, thresholds: Thresholds) -> list[InferInput]:
    """The tensors that travel inside the request: `geometry` FP32 [1, 4] unless None, `thresholds` FP32 [1, 2]."""
    inputs = [_inline("thresholds", thresholds)]
    if geometry is not None:
        inputs.append(_inline("geometry", geometry))
    return inputs


@lru_cache(maxsize=512)  # the same for every frame of a camera, and never written again
def _inline(name: str, of: Geometry | Thresholds) -> InferInput:
    values = of.as_array()
    tensor = InferInput(name, [1, len(values)], "FP32")
    tensor.set_data_from_numpy(values[np.newaxis])
    return tensor


def _detections(answer: InferResult) -> Detections:
    rows: Any = answer.as_numpy("detections")
    count: Any = answer.as_numpy("count")
    if rows is None or rows.shape != (1, MAX_DETECTIONS, 6) or count is None or count.shape != (1, 1):
        shapes = [None if tensor is None else tensor.shape for tensor in (rows, count)]
        raise ModelError(
            f"expected detections (1, {MAX_DETECTIONS}, 6) and count (1, 1), got {shapes[0]} and {shapes[1]}; an empty "
            "tensor means that the server's Python has numpy 2"
        )
    found = rows[0, : int(count[0, 0])]
    if not np.isfinite(found).all():
        raise ModelError("the answer holds boxes or scores that are not finite numbers")
    return Detections.from_rows(found)
