"""The engine as a torch module: NV12 canvas in, the best candidates out, exactly the contract of `*_engine`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from export.spec import Spec

# BT.601 limited range: luma spans 219 steps above 16, chroma 224 steps about 128 (ITU-R BT.601-7, 2.5.2).
_LUMA_ZERO, _LUMA_SPAN = 16.0, 219.0
_CHROMA_ZERO, _CHROMA_SPAN = 128.0, 224.0
_RGB_OF_UV = ((0.0, 1.402), (-0.344136, -0.714136), (1.772, 0.0))


class Nv12ToRgb(nn.Module):
    """UINT8 [B, H * 3 / 2, W] NV12, BT.601 limited -> FP32 [B, 3, H, W] RGB in 0..1; chroma by nearest."""

    matrix: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.height, self.width = spec.canvas.height, spec.canvas.width
        matrix = torch.tensor(_RGB_OF_UV).reshape(3, 2, 1, 1) / _CHROMA_SPAN
        self.register_buffer("matrix", matrix)

    def forward(self, frames: Tensor) -> Tensor:
        """The cast comes first: TensorRT takes nothing else on a UINT8 input."""
        values = frames.float()
        luma = (values[:, : self.height].unsqueeze(1) - _LUMA_ZERO) / _LUMA_SPAN
        chroma = values[:, self.height :].reshape(-1, self.height // 2, self.width // 2, 2).permute(0, 3, 1, 2)
        colour = nn.functional.conv2d(chroma - _CHROMA_ZERO, self.matrix)
        rgb = luma + nn.functional.interpolate(colour, scale_factor=2.0, mode="nearest")
        return rgb.clamp(0.0, 1.0)


class Engine(nn.Module):
    """frames UINT8 [B, H * 3 / 2, W] -> candidates FP32 [B, K, 6], sorted by score."""

    def __init__(self, network: Any, spec: Spec) -> None:
        super().__init__()
        self.front = Nv12ToRgb(spec)
        self.network = network
        self.top_k = spec.top_k
        head = network.model[-1]
        head.export, head.xyxy = True, True  # predictions alone, as corners instead of centres

    def forward(self, frames: Tensor) -> Tensor:
        """x1, y1, x2, y2 in canvas pixels, the best class's score, that class."""
        predictions = self.network(self.front(frames))  # [B, 4 + classes, boxes]
        scores, classes = predictions[:, 4:].max(dim=1, keepdim=True)
        rows = torch.cat((predictions[:, :4], scores, classes.float()), dim=1).transpose(1, 2)
        _, best = scores.squeeze(1).topk(self.top_k, dim=1, largest=True, sorted=True)
        return rows.gather(1, torch.stack([best] * 6, dim=2))


def prepare(network: Any) -> Any:
    """Fold batch normalisation into the convolutions, and round all weights to half precision.

    The file stores half precision, so what is compared with it must hold the same values. Changes the network.
    """
    network.fuse(verbose=False)
    for parameter in network.parameters():
        parameter.requires_grad_(requires_grad=False)
        parameter.copy_(parameter.half().float())
    return network


@contextmanager
def open_batch(head: Any) -> Iterator[None]:
    """While it lasts, a detection head joins its maps without computing with the batch's size."""
    kind = type(head)
    stock = kind.forward_head
    kind.forward_head = _forward_head
    try:
        yield
    finally:
        kind.forward_head = stock


def _forward_head(_: Any, x: list[Tensor], box_head: Any = None, cls_head: Any = None) -> dict[str, Any]:
    sizes = [int(level.shape[2]) * int(level.shape[3]) for level in x]

    def joined(branch: Any) -> Tensor:
        maps = [convolve(level) for convolve, level in zip(branch, x, strict=True)]
        return torch.cat([m.reshape(-1, int(m.shape[1]), size) for m, size in zip(maps, sizes, strict=True)], dim=2)

    return {"boxes": joined(box_head), "scores": joined(cls_head), "feats": x}
