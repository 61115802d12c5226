"""Checkpoints of YOLO12 as torch networks: the official ones, one's own, or random ones.

The only file of this folder that touches Ultralytics (AGPL-3.0). Its settings live below `out/`, and it sends nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clients.types import Tier
from export.errors import ExportError

OUT = Path(__file__).resolve().parent.parent / "out"
RANDOM_CLASSES = ("person", "car", "bus", "bicycle")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network in FP32 and evaluation mode, its classes by id, and the file it came from (None: random)."""

    network: Any
    classes: tuple[str, ...]
    path: Path | None


def official_path(tier: Tier) -> Path:
    """Where the official weights are kept and looked for."""
    return OUT / "weights" / f"{tier.value}.pt"


def load(tier: Tier, path: Path, *, trusted: bool = False) -> Checkpoint:
    """Read a checkpoint of this tier, without running code that it might carry unless it is trusted.

    Raises ExportError: not a checkpoint, another task, another architecture.
    """
    if not path.is_file():
        raise ExportError(f"{path}: no such file; expected a {tier.value} checkpoint (.pt)")
    network = _network_of(path, trusted=trusted)
    task = str(getattr(network, "task", None) or _task_of(network))
    if task != "detect":
        raise ExportError(f"{path}: expected weights for detect, got weights for {task}")
    names = network.names
    classes = tuple(str(names[i]) for i in range(len(names)))
    _check_architecture(network, tier, len(classes), path)
    return Checkpoint(network.float().eval(), classes, path)


def load_official(tier: Tier) -> Checkpoint:
    """The weights that Ultralytics ships for this tier, downloaded once by its own downloader."""
    path = official_path(tier)
    if not path.is_file():
        _download(tier, path)
    return load(tier, path, trusted=True)


def random(tier: Tier, seed: int = 0) -> Checkpoint:
    """The architecture with random weights and four classes: right for speed and structure, blind otherwise."""
    torch.manual_seed(seed)
    network = _architecture(tier, len(RANDOM_CLASSES))
    return Checkpoint(network.float().eval(), RANDOM_CLASSES, None)


def chosen(tier: Tier, path: Path | None, *, untrained: bool) -> Checkpoint:
    """What a command line asked for: random weights, a file, or neither, which means the official ones."""
    if untrained:
        return random(tier)
    return load_official(tier) if path is None else load(tier, path)


def ultralytics_block(name: str) -> Any:
    """A building block's class, such as AAttn."""
    return getattr(_ultralytics("nn.modules.block"), name)


def ultralytics_suppression() -> Any:
    """`non_max_suppression(predictions, score, iou, ...)`, which a reference is measured with."""
    return _ultralytics("utils.nms").non_max_suppression


def ultralytics_interface() -> Any:
    """The class `YOLO`, which Ultralytics' users export and predict with."""
    _ultralytics("utils")
    with contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module("ultralytics").YOLO


def ultralytics_torch_nms() -> Any:
    """`nms(boxes, scores, iou)` in torch alone."""
    return _ultralytics("utils.nms").TorchNMS.nms


def _ultralytics(module: str) -> Any:
    """Import a module of Ultralytics, with its configuration below `out/`, silent, sending nothing."""
    os.environ.setdefault("YOLO_CONFIG_DIR", str(OUT / "ultralytics"))
    os.environ.setdefault("YOLO_OFFLINE", "true")  # no probing of the network at import; downloads still work
    Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        utils = importlib.import_module("ultralytics.utils")
        utils.LOGGER.setLevel(logging.ERROR)
        if utils.SETTINGS["sync"]:
            utils.SETTINGS.update({"sync": False})
        return importlib.import_module(f"ultralytics.{module}")


def _architecture(tier: Tier, classes: int) -> Any:
    tasks = _ultralytics("nn.tasks")
    return tasks.DetectionModel(f"{tier.value}.yaml", nc=classes, verbose=False)


def _network_of(path: Path, *, trusted: bool) -> Any:
    tasks = _ultralytics("nn.tasks")
    try:
        contents, _ = tasks.torch_safe_load(str(path), safe_only=not trusted)
        network = contents.get("ema") or contents.get("model")
    except Exception as error:  # the loader raises whatever the damaged file provokes
        raise ExportError(f"{path}: not a checkpoint that Ultralytics can read ({type(error).__name__})") from error
    if not isinstance(network, nn.Module):
        raise ExportError(f"{path}: expected a checkpoint that holds a network, got none")
    return network


def _task_of(network: nn.Module) -> str:
    tasks = _ultralytics("nn.tasks")
    return str(tasks.guess_model_task(network))


def _check_architecture(network: nn.Module, tier: Tier, classes: int, path: Path) -> None:
    """Compare names and shapes of all weights with the tier's own architecture."""
    expected = {name: value.shape for name, value in _architecture(tier, classes).state_dict().items()}
    actual = {name: value.shape for name, value in network.state_dict().items()}
    if actual != expected:
        found = getattr(network, "yaml", {}) or {}
        name = Path(str(found.get("yaml_file", "an unknown architecture"))).stem
        count = sum(p.numel() for p in network.parameters()) / 1e6
        raise ExportError(f"{path}: expected weights of {tier.value}, got {name} with {count:.1f} million parameters")


def _download(tier: Tier, path: Path) -> None:
    downloads = _ultralytics("utils.downloads")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            downloads.attempt_download_asset(path)
    except Exception as error:  # its downloader raises many kinds, none of which helps
        raise _offline(tier, path) from error
    if not path.is_file():
        raise _offline(tier, path)


def _offline(tier: Tier, path: Path) -> ExportError:
    return ExportError(
        f"{tier.value}.pt: cannot be downloaded from github.com/ultralytics/assets; put the file at {path}, "
        "or name it with --weights"
    )
