"""What Triton is told about every model, as plain data: names, tensors, batches, queues, per runtime.

Everything else in this project that needs one of these numbers reads it here: the configurations that Triton
loads (configs.py), the exported graphs, the launcher. Knows no torch, no ONNX and no Triton.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from clients.types import Canvas, Tier, parse_tier

DType = Literal["UINT8", "INT32", "FP32"]
RuntimeName = Literal["openvino", "tensorrt"]

POSTPROCESS = "postprocess"
DECODE = "decode_jpeg"

# Pixels that one encoded picture may hold: 64 million is beyond any camera and 192 MB once decoded.
MAX_PICTURE_PIXELS = 64_000_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output; `dims` without the batch axis, -1 where the length is free."""

    name: str
    dtype: DType
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """How the dynamic batcher of one model waits, and when it refuses.

    `preferred` are batch sizes that leave at once; anything smaller waits `delay_us` for company. A request that
    has waited `timeout_us` (a request may bring its own) or meets `max_size` others is rejected.
    """

    delay_us: int
    timeout_us: int
    preferred: tuple[int, ...] = ()
    max_size: int = 128


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs the exported models: its Triton backend, the kind of its instances, and how it is tuned."""

    name: RuntimeName
    backend: str
    kind: Literal["KIND_GPU", "KIND_CPU"]
    instances: int
    cuda: bool
    engine_delay_us: int
    timeout_us: int
    parameters: tuple[tuple[str, str], ...] = ()


RUNTIMES: dict[RuntimeName, Runtime] = {
    "tensorrt": Runtime(
        name="tensorrt",
        backend="tensorrt",
        kind="KIND_GPU",
        instances=1,
        cuda=True,
        engine_delay_us=2_000,
        timeout_us=500_000,
    ),
    # A CPU takes tens of milliseconds per frame: waiting longer for company costs little, refusing early costs all.
    "openvino": Runtime(
        name="openvino",
        backend="python",
        kind="KIND_CPU",
        instances=1,
        cuda=False,
        engine_delay_us=5_000,
        timeout_us=2_000_000,
        parameters=(("precision", "f32"), ("threads", "0")),
    ),
}


@dataclass(frozen=True, slots=True)
class TierSpec:
    """How one tier is batched."""

    tier: Tier
    max_batch: int

    @property
    def graphs(self) -> tuple[int, ...]:
        """Sizes with a CUDA graph of their own: powers of two and the largest. One between runs in the next larger."""
        powers = (1 << power for power in range(self.max_batch.bit_length()))
        return (*(size for size in powers if size < self.max_batch), self.max_batch)

    @property
    def preferred(self) -> tuple[int, ...]:
        """Sizes that leave at once: the graphs from 8 up, or the largest alone."""
        return tuple(size for size in self.graphs if size >= _WORTH_LEAVING) or (self.max_batch,)


# n gains from 16 (6 % of a T4's peak at batch 1), m little beyond 4, x nothing: a big batch of x would hold the GPU.
MAX_BATCH: dict[Tier, int] = {Tier.N: 16, Tier.M: 4, Tier.X: 2}
_WORTH_LEAVING = 8
_POSTPROCESS_BATCH = 32  # no ensemble may take more than one of its steps does


@dataclass(frozen=True, slots=True)
class Model:
    """One model that Triton loads: its name, tensors and largest batch."""

    name: str
    max_batch: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Spec:
    """The choices that shape tensors. `top_k` candidates leave an engine, `max_detections` leave postprocess.

    `largest` are the tiers' largest batches, in the order of Tier.

    `python -m export suppression` measures which `top_k` keeps the boxes of a crowd (docs/decisions/0041).
    """

    canvas: Canvas = field(default_factory=Canvas)
    top_k: int = 768
    max_detections: int = 300
    largest: tuple[int, ...] = tuple(MAX_BATCH.values())

    def __post_init__(self) -> None:
        for tier in Tier:
            if not 1 <= self.tier(tier).max_batch <= _POSTPROCESS_BATCH:
                got = self.tier(tier).max_batch
                raise ValueError(f"the largest batch of {tier} must lie in 1..{_POSTPROCESS_BATCH}, got {got}")
        if not self.max_detections <= self.top_k <= 3840:  # 3840 is the most that TensorRT's TopK takes
            raise ValueError(f"top_k must lie in {self.max_detections}..3840, got {self.top_k}")
        if self.top_k > self.anchors:
            raise ValueError(
                f"a canvas of {self.canvas} has {self.anchors} boxes, fewer than top_k {self.top_k}: use a larger one"
            )

    def tier(self, tier: Tier) -> TierSpec:
        """How a tier is batched."""
        return TierSpec(tier, self.largest[list(Tier).index(tier)])

    @property
    def anchors(self) -> int:
        """Boxes that YOLO12 predicts on this canvas, over its strides 8, 16 and 32."""
        return sum((self.canvas.width // s) * (self.canvas.height // s) for s in (8, 16, 32))

    @property
    def frames(self) -> Tensor:
        """NV12, BT.601 limited range, letterboxed on the canvas."""
        return Tensor("frames", "UINT8", self.canvas.nv12_shape)

    @property
    def image(self) -> Tensor:
        """One encoded picture, JPEG or PNG."""
        return Tensor("image", "UINT8", (-1,))

    @property
    def candidates(self) -> Tensor:
        """x1, y1, x2, y2 in canvas pixels, score, class; sorted by score."""
        return Tensor("candidates", "FP32", (self.top_k, 6))

    @property
    def geometry(self) -> Tensor:
        """scale_x, scale_y, pad_x, pad_y: canvas = source * scale + pad."""
        return Tensor("geometry", "FP32", (4,))

    @property
    def thresholds(self) -> Tensor:
        """Least score, largest IoU."""
        return Tensor("thresholds", "FP32", (2,))

    @property
    def detections(self) -> Tensor:
        """x1, y1, x2, y2 in source pixels, score, class; sorted by score, zero rows after `count`."""
        return Tensor("detections", "FP32", (self.max_detections, 6))

    @property
    def count(self) -> Tensor:
        """How many rows of `detections` are objects."""
        return Tensor("count", "INT32", (1,))


def engine_name(tier: Tier) -> str:
    """`yolo12n_engine` for Tier.N."""
    return f"{tier.value}_engine"


def jpeg_name(tier: Tier) -> str:
    """`yolo12n_jpeg` for Tier.N: the ensemble that takes encoded pictures."""
    return f"{tier.value}_jpeg"


def engine(spec: Spec, tier: Tier) -> Model:
    """The network of a tier: canvas in, sorted candidates out."""
    return Model(engine_name(tier), spec.tier(tier).max_batch, (spec.frames,), (spec.candidates,))


def postprocess(spec: Spec) -> Model:
    """Suppression of overlapping boxes, shared by the tiers: a batch may hold requests of all of them."""
    inputs = (spec.candidates, spec.geometry, spec.thresholds)
    return Model(POSTPROCESS, _POSTPROCESS_BATCH, inputs, (spec.detections, spec.count))


def decode(spec: Spec) -> Model:
    """Encoded pictures to canvases."""
    return Model(DECODE, max(spec.largest), (spec.image,), (spec.frames, spec.geometry))


def ensemble(spec: Spec, tier: Tier) -> Model:
    """engine -> postprocess."""
    inputs = (spec.frames, spec.geometry, spec.thresholds)
    return Model(tier.value, spec.tier(tier).max_batch, inputs, (spec.detections, spec.count))


def jpeg_ensemble(spec: Spec, tier: Tier) -> Model:
    """decode_jpeg -> engine -> postprocess."""
    inputs = (spec.image, spec.thresholds)
    return Model(jpeg_name(tier), spec.tier(tier).max_batch, inputs, (spec.detections, spec.count))


def parse_max_batch(text: str) -> tuple[int, ...]:
    """`yolo12n=8,x=1` -> the largest batch of each tier, what is not named keeping its own.

    Raises ValueError that shows what was expected.
    """
    batches = dict(MAX_BATCH)
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        if not number.strip().isdecimal():
            raise ValueError(f"--max-batch: expected such as yolo12n=16,yolo12x=1, got {part!r}")
        batches[parse_tier(name.strip())] = int(number)
    return tuple(batches.values())


def engine_queue(spec: Spec, runtime: Runtime, tier: Tier) -> Queue:
    """How a tier's engine collects a batch."""
    return Queue(runtime.engine_delay_us, runtime.timeout_us, spec.tier(tier).preferred)


def postprocess_queue(runtime: Runtime) -> Queue:
    """An engine's batch arrives together, so a short wait is enough to keep it together."""
    return Queue(delay_us=500, timeout_us=runtime.timeout_us, max_size=256)


# Decoding gains nothing from a batch: what waits is taken at once.
DECODE_QUEUE = Queue(delay_us=0, timeout_us=2_000_000)
DECODE_INSTANCES = 2
