"""One camera's gRPC channel to Triton, for greenlets: takes serialised requests, checks what is answered.

gRPC must have been told of gevent before the first channel is made (locustfile.py does); a plain channel never answers
under gevent. Errors are translated once, here.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from clients.errors import InferenceError, ModelError, RequestRejected, RequestTimeout, ServerUnavailable
from clients.inference.server import MAX_DETECTIONS, QUEUE_REFUSALS

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.primary_user_agent", "yolo12-triton-fleet-locust"),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, as a camera has
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class CameraLink:
    """A connection of its own. Close it, or the process does not end."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._channel = grpc.insecure_channel(address, options=_CHANNEL)
        self._infer = self._channel.unary_unary(
            _INFER, request_serializer=None, response_deserializer=service_pb2.ModelInferResponse.FromString
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def infer(self, request: bytes) -> np.ndarray:
        """FP32 (n, 6): the detections in the answer. Raises as `clients.inference` does."""
        try:
            answer = self._infer(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise translated(error, self._address) from error
        return detections(answer)

    def close(self) -> None:
        """Give up what is in flight; may be called again."""
        self._channel.close()


def translated(error: Any, address: str) -> InferenceError:
    """gRPC's error in the project's words, one line."""
    code, text = error.code(), " ".join(str(error.details()).split())
    lowered = text.lower()
    if any(refusal in lowered for refusal in QUEUE_REFUSALS):
        return RequestRejected(f"{address}: {text}")
    if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return RequestTimeout(f"{address}: {text}")
    if code is grpc.StatusCode.UNAVAILABLE:
        return ServerUnavailable(f"{address}: {text}")
    return ModelError(f"{address}: {text}")


def detections(answer: Any) -> np.ndarray:
    """FP32 (n, 6) out of a ModelInferResponse of one frame. Raises ModelError where it is not the contract's."""
    raw = {tensor.name: data for tensor, data in zip(answer.outputs, answer.raw_output_contents, strict=False)}
    rows, count = raw.get("detections", b""), raw.get("count", b"")
    if len(rows) != MAX_DETECTIONS * 6 * 4 or len(count) != 4:
        raise ModelError(
            f"expected {MAX_DETECTIONS * 6 * 4} bytes of detections and 4 of count, got {len(rows)} and {len(count)}"
        )
    found = int(np.frombuffer(count, np.int32)[0])
    if not 0 <= found <= MAX_DETECTIONS:
        raise ModelError(f"expected a count of 0..{MAX_DETECTIONS}, got {found}")
    return np.frombuffer(rows, np.float32).reshape(MAX_DETECTIONS, 6)[:found]
