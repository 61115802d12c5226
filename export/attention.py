"""YOLO12's area attention in the form that TensorRT recognises and runs as one fused kernel.

Ultralytics computes `v @ softmax(q.T @ k).T` on [B, heads, dim, tokens]; the fused kernel of a T4 (SM 7.5) is found
only for `softmax((q * scale) @ k.T) @ v` on [B, heads, tokens, dim]. The numbers are the same, so the network is
rewritten while it is exported and `attention_difference` shows that nothing else changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from export.weights import ultralytics_block


@contextmanager
def canonical_attention() -> Iterator[None]:
    """While it lasts, every AAttn of every network computes the canonical form."""
    attention = ultralytics_block("AAttn")
    stock = attention.forward
    attention.forward = _forward
    try:
        yield
    finally:
        attention.forward = stock


def count_attention(network: nn.Module) -> int:
    """How many attention blocks a network holds: as many fused kernels a T4's engine must show."""
    return sum(type(module).__name__ == "AAttn" for module in network.modules())


def attention_difference(network: nn.Module, picture: Tensor) -> float:
    """Largest absolute difference between stock and canonical form in the whole network's output."""
    with torch.no_grad():
        stock = _first(network(picture))
        with canonical_attention():
            canonical = _first(network(picture))
    return float((stock - canonical).abs().max())


def _first(output: Any) -> Tensor:
    """A head answers (predictions, raw maps), or the predictions alone in its export mode."""
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


def _forward(self: Any, x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, H, W]. Only the batch is left open, so the graph holds no arithmetic on shapes."""
    channels, height, width = self.all_head_dim, int(x.shape[2]), int(x.shape[3])
    tokens = height * width // self.area
    qkv = self.qkv(x).reshape(-1, 3 * channels, height * width).transpose(1, 2)
    qkv = qkv.reshape(-1, tokens, self.num_heads, 3 * self.head_dim)
    q, k, v = qkv.permute(0, 2, 1, 3).split([self.head_dim] * 3, dim=3)  # each [B * area, heads, tokens, dim]
    attended = ((q * self.head_dim**-0.5) @ k.transpose(-2, -1)).softmax(dim=-1) @ v

    def as_map(heads: Tensor) -> Tensor:
        return heads.permute(0, 2, 1, 3).reshape(-1, height, width, channels).permute(0, 3, 1, 2).contiguous()

    result: Tensor = self.proj(as_map(attended) + self.pe(as_map(v)))
    return result
