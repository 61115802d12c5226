"""Which of several fleets runs a camera: weighted rendezvous hashing. Pure.

Every shard reads the same configuration and keeps the cameras that fall to it; nobody has to talk to anybody. A camera
draws one number per shard, out of its id and the shard's, and the highest wins. One shard more therefore takes cameras
from the others, about 1/n of all, and no camera changes between two shards that were there before. Weights are shares
of the cameras; a shard whose weight grows only takes, one whose weight shrinks only gives.

After Schindelhauer and Schomaker, "Weighted Distributed Hash Tables" (2005), the logarithmic method. Knows no camera's
price: a shard with few costly cameras sheds load as any fleet does, by its governor.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from clients.errors import ConfigError

MOST_SHARDS = 1000


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several fleets that share a configuration: its number, from 0, and the weight of each of them."""

    index: int
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ValueError."""
        count = len(self.weights)
        if not 0 < count <= MOST_SHARDS:
            raise ValueError(f"expected 1 to {MOST_SHARDS} shards, got {count}")
        if not 0 <= self.index < count:
            raise ValueError(f"expected a shard from 0 to {count - 1} of {count}, got {self.index}")
        for weight in self.weights:
            if not 0 < weight < math.inf:
                raise ValueError(f"expected weights that are positive numbers, got {weight:g}")

    def __str__(self) -> str:
        return f"{self.index}/{len(self.weights)}"

    def owns(self, stream_id: str) -> bool:
        """Whether the camera is this shard's."""
        return shard_of(stream_id, self.weights) == self.index


def shard_of(stream_id: str, weights: Sequence[float]) -> int:
    """The shard of a camera, 0 to len(weights) - 1. The same on every machine and in every version."""
    return max(range(len(weights)), key=lambda index: _score(stream_id, index, weights[index]))


def parse_shard(text: str, weights: str | None = None) -> Shard:
    """`I/N`, and as many weights as there are shards, such as `2,1,1`; all alike without them. Raises ConfigError."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and len(index) < 5 and len(count) < 5):
        raise ConfigError(f"--shard {text}: expected I/N, such as 0/2, which is the first of two")
    try:
        if weights is None:
            return Shard(int(index), (1.0,) * int(count))
        return Shard(int(index), _shares(weights, int(count)))
    except ValueError as error:
        told = f"--shard {text}" if weights is None else f"--shard {text} --shard-weights {weights}"
        raise ConfigError(f"{told}: {error}") from None


def _shares(text: str, count: int) -> tuple[float, ...]:
    shares = tuple(float(one) for one in text.split(","))
    if len(shares) != count:
        raise ValueError(f"expected a weight for each of {count} shards, got {len(shares)}")
    return shares


def _score(stream_id: str, index: int, weight: float) -> float:
    """-w / ln(u), u in (0, 1) out of both names: the largest of such numbers falls to a shard w times as often."""
    digest = hashlib.blake2b(f"{index}\0{stream_id}".encode(), digest_size=8).digest()
    drawn = (int.from_bytes(digest, "big") >> 11) + 0.5  # 53 bits: neither 0 nor 1 after the division
    return -weight / math.log(drawn / 2**53)
