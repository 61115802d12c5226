"""yolo12n with random weights in which every part matters, for tests that need numbers and not objects."""

from __future__ import annotations

from typing import Any

import torch

from clients.types import Tier
from export import weights

_ROUNDS, _MOMENTUM = 6, 0.5  # enough for the normalisations to settle; fewer leave a chaotic network
_SCORE_SPREAD, _SCORE_BIAS, _BOX_GAIN = 1.5, -1.5, 20.0  # logits whose scores and boxes span what real ones do


def random_network() -> Any:
    """Untrained, but normalised on pictures, so that its answers differ from place to place and picture to picture."""
    network = weights.random(Tier.N, seed=3).network
    generator = torch.Generator().manual_seed(5)
    blobs = torch.rand(3, 3, 12, 20, generator=generator)
    pictures = torch.nn.functional.interpolate(blobs, size=(192, 320), mode="bilinear")
    pictures = (pictures + 0.3 * torch.rand(3, 3, 192, 320, generator=generator)).clamp(0, 1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = _MOMENTUM
    with torch.no_grad():
        head = network.model[-1]
        for branch in head.cv3:
            branch[-1].bias.fill_(_SCORE_BIAS)
        network.train()
        for _ in range(_ROUNDS):
            network(pictures)
        network.eval()
        logits = network(pictures)[1]["scores"]
        for boxes, scores in zip(head.cv2, head.cv3, strict=True):
            boxes[-1].weight.mul_(_BOX_GAIN)
            scores[-1].weight.mul_(_SCORE_SPREAD / float(logits.std(dim=(0, 2)).mean()))
    return network
