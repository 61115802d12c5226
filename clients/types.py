"""The values that travel between the stages of the pipeline. Frozen, slotted, checked where they are made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from clients.zones.layout import Layout

DecodeOn = Literal["auto", "cpu", "cuda"]
_CANVAS_TEXT = re.compile(r"(\d+)x(\d+)")
_CANVAS_STEP_PX = 32  # YOLO12's largest stride
_STREAM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Tier(StrEnum):
    """A size of YOLO12. The values are what a user writes and what Triton's ensembles are called."""

    N = "yolo12n"
    M = "yolo12m"
    X = "yolo12x"


class Verdict(Enum):
    """What became of a decoded frame. The values are the metric labels; each frame gets exactly one."""

    INFERRED = "inferred"
    SIMILAR = "similar"  # looks like the last inferred frame
    TOO_SOON = "too_soon"  # the camera's rate limit has not passed yet
    STALE = "stale"  # older than the camera's maximum age when its turn came
    SUPERSEDED = "superseded"  # a newer frame took its place while it waited for a turn
    FAILED = "failed"  # sent to the server, no usable answer
    ENDED = "ended"  # the run was over while it waited


@dataclass(frozen=True, slots=True)
class Canvas:
    """The size in pixels of what is inferred: one setting shared by export, repository and client."""

    width: int = 640
    height: int = 384

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("height", self.height)):
            if value < _CANVAS_STEP_PX or value % _CANVAS_STEP_PX:
                raise ValueError(f"canvas {name} must be a positive multiple of {_CANVAS_STEP_PX} px, got {value}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """`"640x384"` -> Canvas(640, 384). Raises ValueError that shows the expected form."""
        match = _CANVAS_TEXT.fullmatch(text.strip().lower())
        if match is None:
            raise ValueError(f"a canvas is WIDTHxHEIGHT in pixels, such as 640x384, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    @property
    def nv12_shape(self) -> tuple[int, int]:
        """(rows, columns) of the NV12 array: luma above, interleaved half-height chroma below."""
        return self.height * 3 // 2, self.width

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a picture of the coded source size lies on the canvas.

    `canvas_px = source_px * scale + pad`, per axis, so `source_px = (canvas_px - pad) / scale`.
    The padding is the same on both sides of an axis, so the source's size is `(canvas - 2 * pad) / scale`.
    """

    scale_x: float
    scale_y: float
    pad_x: float
    pad_y: float

    def __post_init__(self) -> None:
        if self.scale_x <= 0 or self.scale_y <= 0:
            raise ValueError(f"scales must be positive, got {self.scale_x} and {self.scale_y}")
        if self.pad_x < 0 or self.pad_y < 0:
            raise ValueError(f"paddings must not be negative, got {self.pad_x} and {self.pad_y}")

    def as_array(self) -> NDArray[np.float32]:
        """FP32 (4,): scale_x, scale_y, pad_x, pad_y, the order of the `geometry` tensor."""
        return np.array([self.scale_x, self.scale_y, self.pad_x, self.pad_y], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Objects in one picture: `xyxy` FP32 (n, 4) in source pixels, `confidence` FP32 (n,), `class_id` INT32 (n,)."""

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int32]

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        for name, array, shape in (
            ("xyxy", self.xyxy, (n, 4)),
            ("confidence", self.confidence, (n,)),
            ("class_id", self.class_id, (n,)),
        ):
            if array.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {array.shape}")

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def empty(cls) -> Self:
        """No objects."""
        return cls.from_rows(np.zeros((0, 6), dtype=np.float32))

    @classmethod
    def from_rows(cls, rows: NDArray[np.float32]) -> Self:
        """From FP32 (n, 6) rows of x1, y1, x2, y2, score, class, the layout of the `detections` tensor."""
        if rows.ndim != 2 or rows.shape[1] != 6:
            raise ValueError(f"rows must have shape (n, 6), got {rows.shape}")
        return cls(rows[:, :4].copy(), rows[:, 4].copy(), rows[:, 5].astype(np.int32))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a request asks of the postprocess model: least score and largest overlap (IoU) of one class, 0..1."""

    score: float = 0.25
    iou: float = 0.7

    def __post_init__(self) -> None:
        for name, value in (("score", self.score), ("iou", self.iou)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"the {name} threshold must lie in 0..1, got {value}")

    def as_array(self) -> NDArray[np.float32]:
        """FP32 (2,): score, IoU, the order of the `thresholds` tensor."""
        return np.array([self.score, self.iou], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Whether a camera's certificate is verified, and the PEM file of those who vouch for it; None is the system's."""

    verify: bool = True
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live camera is opened and read.

    RTSP's transport, how long to wait for an answer and for the next packet, whose certificates are trusted, and how
    many pictures a second are taken from it at most.
    """

    transport: Literal["tcp", "udp"] = "tcp"
    open_timeout_s: float = 10.0
    read_timeout_s: float = 10.0
    tls: TlsOptions = TlsOptions()
    most_fps: float = 120.0


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One camera as the pipeline needs it; the defaults come from the configuration.

    `source` is what was written, `${NAME}` and passwords included, so it is never printed. `max_fps` bounds how often
    it is inferred, `min_fps` is kept before others get more than theirs, `weight` is its share when there is too little
    for all, `max_age_ms` how old a frame may be when its turn comes. `skip_not_needed` lets pictures that no other
    picture needs go undecoded while the camera is inferred rarely, `decode` says where the others are decoded.
    `layout` are its zones and lines.
    """

    stream_id: str
    source: str = field(repr=False)
    max_fps: float = 25.0
    min_fps: float = 0.0
    weight: float = 1.0
    max_age_ms: float = 500.0
    tier: Tier = Tier.N
    thresholds: Thresholds = Thresholds()
    loop: bool = False
    live: LiveOptions = LiveOptions()
    skip_not_needed: bool = True
    decode: DecodeOn = "auto"
    layout: Layout = field(default_factory=Layout)

    def __post_init__(self) -> None:
        if _STREAM_ID.fullmatch(self.stream_id) is None:
            raise ValueError(
                f"a camera id is 1 to 64 of A-Z a-z 0-9 . _ - and starts with a letter or digit, got {self.stream_id!r}"
            )
        for name, value in (
            ("max_fps", self.max_fps),
            ("weight", self.weight),
            ("max_age_ms", self.max_age_ms),
            ("open_timeout_s", self.live.open_timeout_s),
            ("read_timeout_s", self.live.read_timeout_s),
        ):
            if not value > 0:
                raise ValueError(f"{self.stream_id}: {name} must be positive, got {value}")
        if not 0 <= self.min_fps <= self.max_fps:
            raise ValueError(
                f"{self.stream_id}: min_fps must lie in 0..max_fps ({self.max_fps:g}), got {self.min_fps:g}"
            )


def parse_tier(name: str) -> Tier:
    """`yolo12m`, `yolo12m.pt` or `m` -> Tier.M. Raises ValueError that lists the tiers."""
    stem = name.strip().lower().removesuffix(".pt")
    for tier in Tier:
        if stem in (tier.value, tier.name.lower()):
            return tier
    raise ValueError(f"expected one of {', '.join(Tier)}, got {name!r}")
