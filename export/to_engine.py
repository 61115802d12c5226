"""ONNX -> a compiled engine, by whichever TensorRT it is handed.

`tensorrt` builds on the card that will serve; `tensorrt_rtx` has the same interface and compiles for a card that is not
there, which is how `verify.py` proves on any machine what a T4 will run. Knows nothing of YOLO12: it takes any graph
whose only open axis is the batch.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import ExportError
from export.publish import publish
from export.spec import TierSpec

# A quarter of what a T4 can give: three tiers and the postprocess model may build, and live, side by side.
WORKSPACE_BYTES = 4 << 30
OLDEST_SM = (7, 5)  # Turing: the first with a fused attention kernel, and the oldest that TensorRT 11 builds for


@dataclass(frozen=True, slots=True)
class Batches:
    """The batch sizes that an engine takes, and the one that it is tuned for."""

    largest: int
    tuned: int
    least: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.tuned <= self.largest:
            raise ValueError(f"expected 1 <= least <= tuned <= largest, got {self.least}, {self.tuned}, {self.largest}")

    @classmethod
    def of(cls, tier: TierSpec) -> Batches:
        """As Triton will batch this tier: tuned for its largest preferred size."""
        return cls(largest=tier.max_batch, tuned=max(tier.preferred))


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialized engine and what its builder said of it; None where this builder does not say it."""

    data: bytes
    activation_bytes: int | None
    weight_bytes: int | None
    build_s: float


def build(
    trt: Any,
    model: bytes,
    batches: Batches,
    *,
    sm: tuple[int, int] | None = None,
    workspace_bytes: int = WORKSPACE_BYTES,
    timing_cache: Path | None = None,
) -> Plan:
    """Compile an ONNX file with the TensorRT module `trt`, strongly typed, for the card here or for `sm`.

    `timing_cache` is read where it exists and written afterwards: a second build then measures only what is new.
    Raises ExportError: the graph cannot be parsed (naming its node) or compiled, or the compiler does not know `sm`.
    """
    started = time.monotonic()
    log = _recorder(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model) or network.num_outputs == 0:
        raise ExportError(_parser_error(parser))
    config = builder.create_builder_config()
    _configure(trt, config, sm, workspace_bytes)
    config.add_optimization_profile(_profile(builder, network, batches))
    cache = None if timing_cache is None else _attach_cache(config, timing_cache)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise ExportError(f"{_name(trt)} cannot compile this graph: {log.last_error()}")
    if cache is not None and timing_cache is not None:
        _keep_cache(cache, timing_cache)
    return Plan(bytes(built), log.bytes_of("Activation"), log.bytes_of("Weights"), time.monotonic() - started)


def compute_capability(text: str) -> tuple[int, int]:
    """`75` or `7.5` -> (7, 5). Raises ExportError for anything else, and for a card that is too old."""
    match = re.fullmatch(r"(\d{1,2})\.?(\d)", text)
    if match is None:
        raise ExportError(f"compute capability {text!r}: expected two digits such as 75, or 7.5")
    sm = int(match[1]), int(match[2])
    check_sm(sm)
    return sm


def check_sm(sm: tuple[int, int]) -> None:
    """Raises ExportError for a card that is too old."""
    if sm < OLDEST_SM:
        raise ExportError(
            f"compute capability {sm[0]}.{sm[1]}: expected 7.5 (T4) or later; older cards have no fused attention"
        )


def _configure(trt: Any, config: Any, sm: tuple[int, int] | None, workspace_bytes: int) -> None:
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector then names the fused kernels
    if sm is None:
        return
    check_sm(sm)
    known = getattr(trt, "ComputeCapability", None)
    if known is None:
        raise ExportError(f"{_name(trt)} builds only for the card that it runs on, not for {sm[0]}.{sm[1]}")
    target = getattr(known, f"SM{sm[0]}{sm[1]}", None)
    if target is None:
        names = ", ".join(f"{n[2:-1]}.{n[-1]}" for n in known.__members__ if n.startswith("SM"))
        raise ExportError(f"{_name(trt)} does not know compute capability {sm[0]}.{sm[1]}; it knows {names}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(target, 0)


def _strongly_typed(trt: Any) -> int:
    """The flag for create_network: from TensorRT 11 on every network is, so the flag may be missing."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _profile(builder: Any, network: Any, batches: Batches) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        batch, *rest = tuple(tensor.shape)
        if batch != -1 or -1 in rest:
            raise ExportError(f"input {tensor.name}: expected only the batch open, got {list(tensor.shape)}")
        profile.set_shape(tensor.name, *((size, *rest) for size in (batches.least, batches.tuned, batches.largest)))
    return profile


def _parser_error(parser: Any) -> str:
    """One line: the first error and the node it is about."""
    if parser.num_errors == 0:
        return "not an ONNX model: it holds no output"
    error = parser.get_error(0)
    node = error.node_name()
    where = f"node {node} ({error.node_operator()}): " if node else ""
    return f"cannot be parsed: {where}{_one_line(error.desc())}"


def _attach_cache(config: Any, path: Path) -> Any:
    """A timing cache for the build to fill, to be held until it is over; one of another card is begun anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tensorrt_rtx measures nothing and keeps nothing
        for known in (path.read_bytes() if path.is_file() else b"", b""):
            cache = config.create_timing_cache(known)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return cache
    return None


def _keep_cache(cache: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        publish({path: bytes(cache.serialize())})


def _recorder(trt: Any) -> Any:
    """A logger of this TensorRT that keeps what was said, and says nothing itself."""

    class Recorder(trt.ILogger):  # type: ignore[misc]  # its base is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.text: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            elif severity == trt.ILogger.INFO:
                self.text.append(message)

        def last_error(self) -> str:
            return _one_line(self.errors[-1]) if self.errors else "it says nothing more"

        def bytes_of(self, kind: str) -> int | None:
            found = [m for line in self.text if (m := re.match(rf"Total {kind} Memory: (\d+) bytes", line))]
            return max((int(match[1]) for match in found), default=None)

    return Recorder()


def _name(trt: Any) -> str:
    return f"{trt.__name__} {trt.__version__}"


def _one_line(text: Sequence[str] | str) -> str:
    return " ".join(str(text).split())
