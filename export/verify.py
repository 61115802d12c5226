"""Proof, without a GPU, that every attention of YOLO12 runs as one fused kernel on the card that will serve it.

NVIDIA's compiler TensorRT-RTX builds for a T4 (SM 7.5) on any machine. The engine that it writes holds one parameter
structure per fused attention; their number must be that of the network's AAttn modules. What it cannot know: whether
TensorRT on the card chooses the same kernels, and how fast they are; only the card's own build says that.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from clients.types import Tier
from export.attention_pattern import Attention, attentions
from export.errors import ExportError
from export.graph import computes_in_half, is_quantised, read_onnx
from export.spec import RUNTIMES, Spec, TierSpec, engine_name, postprocess
from export.to_engine import Batches, Plan, build, check_sm
from export.to_half import to_half

# Each fused attention brings its own copy of this declaration into the engine (seen in tensorrt_rtx 1.7.1).
FUSED_MARK = b"struct _gemm_mha_v2_params_t"
T4_MB = 15_100  # of 16 GB, what a program can have
CONTEXT_MB = 1_000  # assumed: CUDA context, TensorRT's libraries and Triton's pools
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Source:
    """Where the graphs come from; all empty: the official weights.

    `weights` and `onnx` are a file, for one model, or a folder: of `yolo12n.pt` …, or a models folder.
    """

    random: bool = False
    weights: Path | None = None
    onnx: Path | None = None
    stock_attention: bool = False

    def __post_init__(self) -> None:
        if sum((self.random, self.weights is not None, self.onnx is not None)) > 1:
            raise ValueError("--random, --weights and --onnx exclude each other")
        if self.stock_attention and self.onnx is not None:
            raise ValueError("--stock-attention exports anew, so it cannot be combined with --onnx")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found for one model; `activation_mb` by largest batch."""

    tier: Tier
    attention_blocks: int
    fused: int
    expected: int
    canonical: int
    flaw: str
    activation_mb: dict[int, float | None]
    weights_mb: float | None
    precision: str
    converted: bool
    seconds: float

    @property
    def failure(self) -> str:
        """One line, empty where all is as it should be."""
        if self.fused == self.expected:
            return ""
        if self.expected == 0:
            return f"{self.tier.value}: {self.fused} attention blocks of the stock form are fused, expected none"
        reason = f"; {self.flaw}" if self.flaw else ""
        return f"{self.tier.value}: {self.fused} of {self.attention_blocks} attention blocks are fused{reason}"

    def as_json(self) -> dict[str, Any]:
        """For the command line's last line."""
        return {
            "model": self.tier.value,
            "attention_blocks": self.attention_blocks,
            "fused": self.fused,
            "canonical": self.canonical,
            "precision": self.precision,
            "converted_from_fp32": self.converted,
            "activation_mb": {str(batch): size for batch, size in self.activation_mb.items()},
            "weights_mb": self.weights_mb,
            "seconds": round(self.seconds, 1),
        }


def verify(tiers: Sequence[Tier], spec: Spec, source: Source, sm: tuple[int, int]) -> Iterator[Verdict]:
    """Export or read each model's engine, compile it for `sm`, count. Raises ExportError."""
    check_sm(sm)
    for path in (source.weights, source.onnx):
        if len(tiers) > 1 and path is not None and path.is_file():
            raise ExportError(f"{path} is one file: name one model with it, or give a folder")
    trt = compiler()
    for tier in tiers:
        try:
            yield _verdict(trt, tier, spec, source, sm)
        except ExportError as error:
            raise ExportError(f"{tier.value}: {error}") from error


def memory(verdicts: Sequence[Verdict], spec: Spec, sm: tuple[int, int]) -> dict[str, Any]:
    """What the models need side by side on one card, with the postprocess model that they share."""
    from export.to_onnx import postprocess_onnx

    batch = postprocess(spec).max_batch
    post = build(compiler(), postprocess_onnx(spec), Batches(batch, batch), sm=sm)
    sizes: list[float | None] = [_mb(post.activation_bytes), _mb(post.weight_bytes)]
    for verdict in verdicts:
        sizes += [verdict.activation_mb[spec.tier(verdict.tier).max_batch], verdict.weights_mb]
    known = [size for size in sizes if size is not None]
    total = sum(known) * RUNTIMES["tensorrt"].instances + CONTEXT_MB
    return {
        "memory_mb": round(total, 1),
        "postprocess_mb": round(sum(size for size in sizes[:2] if size is not None), 1),
        "assumed_context_mb": CONTEXT_MB,
        "t4_mb": T4_MB,
        "fits_t4": len(known) == len(sizes) and total <= T4_MB,
    }


def compiler() -> Any:
    """The module `tensorrt_rtx`. Raises ExportError where it is not installed."""
    try:
        import tensorrt_rtx
    except ImportError as error:
        raise ExportError(
            f"the proof needs NVIDIA's compiler tensorrt_rtx: pip install --group export ({error})"
        ) from error
    return tensorrt_rtx


def read_engine(path: Path, spec: Spec) -> onnx.ModelProto:
    """An engine's ONNX file. Raises ExportError as `read_onnx` does, and for another model's file."""
    model = read_onnx(path)
    inputs = {value.name: value.type.tensor_type for value in model.graph.input}
    frames = inputs.get(spec.frames.name)
    if frames is None or frames.elem_type != TensorProto.UINT8 or len(frames.shape.dim) != 3:
        names = ", ".join(inputs) or "none"
        raise ExportError(f"{path}: expected an engine with the input frames UINT8 [batch, rows, width], got {names}")
    return model


def _verdict(trt: Any, tier: Tier, spec: Spec, source: Source, sm: tuple[int, int]) -> Verdict:
    started = time.monotonic()
    model, blocks = _graph(tier, spec, source)
    converted = not computes_in_half(model)
    if converted:
        _say(f"{tier.value}: converted to half precision, boxes and scores FP32")
        model = to_half(model)
    found = attentions(model)
    _say(f"{tier.value}: compiling for SM {sm[0]}.{sm[1]}")
    plans = _plans(trt, spec.tier(tier), model.SerializeToString(), sm)
    largest = plans[spec.tier(tier).max_batch]
    fused = largest.data.count(FUSED_MARK)
    seconds = time.monotonic() - started
    _say(f"{tier.value}: {fused} of {blocks} attention blocks fused for SM {sm[0]}.{sm[1]}, {seconds:.0f} s")
    return Verdict(
        tier=tier,
        attention_blocks=blocks,
        fused=fused,
        expected=0 if source.stock_attention else blocks,
        canonical=sum(not attention.flaw for attention in found),
        flaw=_flaw(found),
        activation_mb={batch: _mb(plan.activation_bytes) for batch, plan in sorted(plans.items())},
        weights_mb=_mb(largest.weight_bytes),
        precision="int8" if is_quantised(model) else "fp16",
        converted=converted,
        seconds=seconds,
    )


def _plans(trt: Any, tier: TierSpec, model: bytes, sm: tuple[int, int]) -> dict[int, Plan]:
    """The engine that is served, and what it would be with smaller largest batches: by largest batch."""
    batches = Batches.of(tier)
    sizes = {1, *tier.preferred} - {batches.largest}
    return {b.largest: build(trt, model, b, sm=sm) for b in (batches, *(Batches(size, size) for size in sizes))}


def _graph(tier: Tier, spec: Spec, source: Source) -> tuple[onnx.ModelProto, int]:
    """The engine's graph, and how many attention blocks its network has."""
    from export import to_onnx, weights  # torch and ultralytics: seconds to import
    from export.attention import count_attention
    from export.engine import prepare

    if source.onnx is not None:
        file = _within(source.onnx, f"{engine_name(tier)}/1/model.onnx")
        model = read_engine(file, spec)
        blocks, parameters = _architecture(tier)
        _check_size(file, model, tier, parameters)
        return model, blocks
    checkpoint = None if source.weights is None else _within(source.weights, f"{tier.value}.pt")
    network = prepare(weights.chosen(tier, checkpoint, untrained=source.random).network)
    _say(f"{tier.value}: exporting with {'stock' if source.stock_attention else 'canonical'} attention")
    data = to_onnx.engine_onnx(network, spec, stock_attention=source.stock_attention)
    return onnx.load_from_string(data), count_attention(network)


@functools.cache
def _architecture(tier: Tier) -> tuple[int, int]:
    """How many attention blocks and weights a tier has: what a file without its checkpoint is held against."""
    from export import weights
    from export.attention import count_attention

    network = weights.random(tier).network
    return count_attention(network), sum(parameter.numel() for parameter in network.parameters())


def _within(path: Path, name: str) -> Path:
    return path / name if path.is_dir() else path


def _check_size(path: Path, model: onnx.ModelProto, tier: Tier, expected: int) -> None:
    """n and m have as many attention blocks as each other, so a file of another tier must not pass for this one."""
    actual = sum(math.prod(weight.dims) for weight in model.graph.initializer)
    if not 0.8 < actual / expected < 1.25:
        raise ExportError(
            f"{path}: expected the {expected / 1e6:.1f} million weights of {tier.value}, got {actual / 1e6:.1f} million"
        )


def _flaw(found: Sequence[Attention]) -> str:
    flawed = [attention for attention in found if attention.flaw]
    return f"{flawed[0].softmax}: {flawed[0].flaw}" if flawed else ""


def _mb(size: int | None) -> float | None:
    return None if size is None else round(size / _MB, 1)


def _say(line: str) -> None:
    sys.stderr.write(f"export: {line}\n")
