"""The postprocess model as a torch module: overlapping boxes of one class suppressed, in source pixels.

ONNX's NonMaxSuppression takes one threshold for a whole batch and answers with an unknown number of rows, which
breaks both the contract (thresholds travel with the request) and CUDA graphs. Here every shape is fixed: a box falls
when a better box of its class, itself standing, overlaps it. Repeating that from "all stand" reaches the greedy
result after as many steps as the longest chain of such decisions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.spec import Spec

STEPS = 64
_FINITE = 1e9  # a coordinate beyond this is no coordinate; NaN fails the comparison too


class Postprocess(nn.Module):
    """candidates [B, K, 6], geometry [B, 4], thresholds [B, 2] -> detections [B, 300, 6], count INT32 [B, 1].

    Candidates are sorted by score. A request with a NaN threshold, a negative IoU, a scale that is not positive or a
    negative padding gets no detections; a candidate that is NaN or has no score is none.
    """

    canvas: Tensor
    rank: Tensor
    better: Tensor

    def __init__(self, spec: Spec, steps: int = STEPS) -> None:
        super().__init__()
        self.steps = steps
        self.limit = spec.max_detections
        self.register_buffer("canvas", torch.tensor([spec.canvas.width, spec.canvas.height] * 2).float())
        order = torch.arange(spec.top_k, dtype=torch.float32)
        self.register_buffer("rank", spec.top_k - order)  # K for the best, 1 for the last
        self.register_buffer("better", (order[None, :] < order[:, None])[None])  # [1, row, column]: column is better
        self.register_buffer("position", torch.arange(spec.max_detections, dtype=torch.float32))

    def forward(self, candidates: Tensor, geometry: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        valid = self._valid(candidates, geometry, thresholds)
        standing = self._standing(candidates, valid, thresholds[:, 1])
        key, best = (standing * self.rank).topk(self.limit, dim=1, largest=True, sorted=True)
        rows = candidates.gather(1, torch.stack([best] * 6, dim=2))
        boxes = self._in_source(rows[:, :, :4], geometry)
        detections = torch.cat((boxes, rows[:, :, 4:]), dim=2)
        present = key > 0.5
        detections = torch.where(present.unsqueeze(-1), detections, torch.zeros(()))
        count = present.float().sum(dim=1, keepdim=True)
        return detections, count.to(torch.int32)

    def _valid(self, candidates: Tensor, geometry: Tensor, thresholds: Tensor) -> Tensor:
        """BOOL [B, K]: what may be a detection at all."""
        score = candidates[:, :, 4]
        wanted = (score >= thresholds[:, :1]) & (score > 0)
        finite = candidates.abs().sum(dim=2) < _FINITE  # a sum carries NaN on every runtime, a maximum does not
        mapped = (geometry[:, 0:1] > 0) & (geometry[:, 1:2] > 0) & (geometry[:, 2:3] >= 0) & (geometry[:, 3:4] >= 0)
        return wanted & finite & mapped & (thresholds[:, 1:] >= 0)

    def _standing(self, candidates: Tensor, valid: Tensor, iou: Tensor) -> Tensor:
        """FP32 [B, K], 1 where a box survives."""
        start = valid.half().unsqueeze(-1)
        beats = self._beats(candidates, iou)
        standing = start
        for _ in range(self.steps):
            standing = (start - beats @ standing).relu()  # both are whole numbers, so this is 0 or 1
        return standing.squeeze(-1).float()

    def _beats(self, candidates: Tensor, iou: Tensor) -> Tensor:
        """FP32 [B, K, K], 1 where the column's box is better, of the row's class, and overlaps it by more than IoU."""
        x1, y1, x2, y2, _, kind = candidates.unbind(dim=2)  # [B, K] each: planes are what CPUs and GPUs broadcast fast
        width = _shared(x1, x2)
        height = _shared(y1, y2)
        shared = width * height
        area = (x2 - x1) * (y2 - y1)
        union = area.unsqueeze(2) + area.unsqueeze(1) - shared
        overlapping = shared > iou.reshape(-1, 1, 1) * union
        return (overlapping & (kind.unsqueeze(2) == kind.unsqueeze(1)) & self.better).half()

    def _in_source(self, boxes: Tensor, geometry: Tensor) -> Tensor:
        """Canvas pixels to source pixels, clipped to the source, whose size follows from the even padding."""
        scale = torch.cat([geometry[:, :2]] * 2, dim=1).unsqueeze(1)
        pad = torch.cat([geometry[:, 2:]] * 2, dim=1).unsqueeze(1)
        largest = (self.canvas - 2 * pad) / scale
        return torch.minimum(((boxes - pad) / scale).clamp(min=0), largest)


def _shared(low: Tensor, high: Tensor) -> Tensor:
    """[B, K] interval ends -> [B, K, K] lengths that each two intervals have in common."""
    last_start = torch.maximum(low.unsqueeze(2), low.unsqueeze(1))
    first_end = torch.minimum(high.unsqueeze(2), high.unsqueeze(1))
    return (first_end - last_start).relu()
