"""What is asked of a card and its machine: cameras in groups that are alike. Values only."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from clients.errors import ConfigError
from clients.sources.placement import Load
from clients.types import Canvas, DecodeOn, Tier, parse_tier

# Bits per pixel of a camera that states no bitrate: 4 Mbit/s for 1080p25 H.264, H.265 at 60 % of it. Usual settings of
# cameras, assumed; a busy street at night takes more.
USUAL_BITS_PER_PIXEL: Mapping[str, float] = {"h264": 0.08, "hevc": 0.048}
HEVC_BITS = 0.6  # of what H.264 takes for the same picture; assumed
_OTHER_CODEC = 0.08
_CODECS = {"h264": "h264", "avc": "h264", "h265": "hevc", "hevc": "hevc", "av1": "av1", "vp9": "vp9", "mjpeg": "mjpeg"}
_SOURCE = re.compile(r"(\d+)x(\d+)@(\d+(?:\.\d+)?)/(\w+)")
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kMG]?)")
_FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True, slots=True)
class Source:
    """What a camera sends. `bitrate` in bits per second; None is a usual one for its pixels."""

    load: Load
    bitrate: float | None = None

    def __post_init__(self) -> None:
        if min(self.load.width, self.load.height) < 16:
            raise ValueError(f"a picture has at least 16x16 pixels, got {self.load.width}x{self.load.height}")
        if self.bitrate is not None and not 0 < self.bitrate < math.inf:
            raise ValueError(f"a bitrate must be positive, got {self.bitrate}")

    @property
    def fps(self) -> float:
        """Pictures per second; a stream that states none, or an absurd one, is planned as a usual camera."""
        return self.load.pixels_per_s / (self.load.width * self.load.height)

    @property
    def bits_per_s(self) -> float:
        """What crosses the network and enters the decoder."""
        usual = USUAL_BITS_PER_PIXEL.get(self.load.codec, _OTHER_CODEC)
        return self.load.pixels_per_s * usual if self.bitrate is None else self.bitrate

    def at(self, width: int, height: int) -> Source:
        """The same camera's stream of another size, its bitrate in proportion to the pixels."""
        pixels = width * height / (self.load.width * self.load.height)
        return Source(replace(self.load, width=width, height=height), self.bits_per_s * pixels)

    def as_hevc(self) -> Source:
        """The same pictures in H.265."""
        return Source(replace(self.load, codec="hevc"), self.bits_per_s * HEVC_BITS)

    def __str__(self) -> str:
        load = self.load
        return f"{load.width}x{load.height}@{self.fps:g}/{load.codec}, {self.bits_per_s / 1e6:.3g} Mbit/s"


@dataclass(frozen=True, slots=True)
class Cameras:
    """A number of cameras that are alike: what each sends, inferences per second of each, and by which tiers.

    `tiers` are shares that sum to 1. `decode`: `cuda` all on the card, `cpu` none, `auto` the card while it has room.
    `is_remote` says whether their streams cross the network.
    """

    count: int
    source: Source
    rate_fps: float
    tiers: Mapping[Tier, float]
    decode: DecodeOn = "cuda"
    is_remote: bool = True

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"cameras: expected at least 1, got {self.count}")
        if not 0 < self.rate_fps < math.inf:
            raise ValueError(f"rate: expected a positive number of inferences per second, got {self.rate_fps:g}")
        if (
            not self.tiers
            or min(self.tiers.values()) < 0
            or not math.isclose(sum(self.tiers.values()), 1, abs_tol=0.01)
        ):
            told = ", ".join(f"{tier.name.lower()}:{share:g}" for tier, share in self.tiers.items())
            raise ValueError(f"tiers: expected shares of at least 0 that sum to 1, got {told or 'none'}")

    @property
    def inferences_per_s(self) -> float:
        """Of all of them; a camera is inferred no more often than it sends."""
        return self.count * min(self.rate_fps, self.source.fps)


@dataclass(frozen=True, slots=True)
class Demand:
    """All groups, and the canvas on which they are inferred."""

    groups: tuple[Cameras, ...]
    canvas: Canvas = field(default_factory=Canvas)

    def __post_init__(self) -> None:
        if not self.groups:
            raise ValueError("expected at least one group of cameras, got none")

    @property
    def cameras(self) -> int:
        """How many there are."""
        return sum(group.count for group in self.groups)

    def rates(self) -> dict[Tier, float]:
        """Inferences per second of each tier that is used."""
        found: dict[Tier, float] = {}
        for group in self.groups:
            for tier, share in group.tiers.items():
                if share > 0:
                    found[tier] = found.get(tier, 0.0) + share * group.inferences_per_s
        return {tier: found[tier] for tier in Tier if tier in found}


@dataclass(frozen=True, slots=True)
class Host:
    """The machine around the cards: its cores, and what its network carries in one direction."""

    cores: float = 4
    network_mbit_per_s: float = 1000

    def __post_init__(self) -> None:
        if not (0 < self.cores < math.inf and 0 < self.network_mbit_per_s < math.inf):
            got = f"{self.cores:g} and {self.network_mbit_per_s:g}"
            raise ValueError(f"expected positive numbers of cores and of Mbit/s, got {got}")


def parse_source(text: str, bitrate: float | None = None) -> Source:
    """`1920x1080@25/h264`. Raises ConfigError that shows the form, or names the codecs."""
    match = _SOURCE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"a source is WIDTHxHEIGHT@FPS/CODEC, such as 1920x1080@25/h264, got {text!r}")
    codec = _CODECS.get(match[4].lower())
    if codec is None:
        raise ConfigError(f"expected one of the codecs {', '.join(_CODECS)}, got {match[4]!r}")
    fps = float(match[3])
    if not 0 < fps <= 240:
        raise ConfigError(f"a camera sends more than 0 and at most 240 pictures a second, got {match[3]}")
    try:
        return Source(Load(codec, int(match[1]), int(match[2]), fps), bitrate)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def parse_amount(text: str) -> float:
    """`4M` -> 4e6; k, M and G are powers of 1000. Raises ConfigError that shows the form."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or not float(match[1]) > 0:
        raise ConfigError(f"expected a positive number such as 800k, 4M or 1G, got {text!r}")
    return float(match[1]) * _FACTORS[match[2]]


def parse_tiers(text: str) -> dict[Tier, float]:
    """`n:0.8,m:0.15,x:0.05`; one tier alone is `n`. Raises ConfigError that shows the form."""
    parts = [part.partition(":") for part in text.split(",")]
    try:
        named = [(parse_tier(name), float(share) if colon else 1.0) for name, colon, share in parts]
    except ValueError as error:
        form = "tiers are shares that sum to 1, such as n:0.8,m:0.15,x:0.05"
        raise ConfigError(f"{form}, got {text!r}: {error}") from error
    if len(dict(named)) < len(named):
        raise ConfigError(f"a tier is given twice: {text!r}")
    return dict(named)
