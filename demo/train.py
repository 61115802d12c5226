"""Small yolo12n weights that know the rendered street: pictures, two rounds of training, a held-out score.

Round one sees square cuts at serving scale, with mosaics; round two sees whole canvases as they are served. Everything
is written below `demo/runs/`; only the finished weights and their record go to `demo/weights/`. Ultralytics (AGPL-3.0)
and torch are imported by this file only, and only when a command needs them.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import sys
import types
from pathlib import Path
from typing import Any

from rich.progress import Progress

from clients.errors import FleetError
from clients.types import Canvas
from demo.clips import source_hash
from demo.keeper import Keeper
from demo.pictures import write_dataset_file, write_pictures
from demo.plan import Plan
from demo.progress import bars

HERE = Path(__file__).resolve().parent
RUNS, WEIGHTS = HERE / "runs", HERE / "weights"
_SETTINGS: dict[str, Any] = {  # of both rounds
    "batch": 8,
    "nbs": 8,  # a step after each batch: there are few
    "workers": 1,
    "cache": "ram",
    "deterministic": False,
    "optimizer": "AdamW",
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "cos_lr": True,
    "lrf": 0.05,
    "warmup_bias_lr": 0.0,
    "hsv_h": 0.01,
    "hsv_s": 0.4,
    "hsv_v": 0.3,
    "translate": 0.1,
    "amp": False,  # asks the network for a reference model; see `_make_quick`
    "val": False,  # its own validation is square; `evaluate` is not
    "patience": 0,
    "plots": False,
    "verbose": False,
    "exist_ok": True,
}


class TrainingError(FleetError):
    """Training cannot start or go on."""


def train(plan: Plan, runs: Path = RUNS, weights: Path = WEIGHTS) -> dict[str, Any]:
    """Run the plan; returns the record that is also written beside the weights. Raises TrainingError, OSError."""
    runs = runs.resolve()  # Ultralytics puts what is relative elsewhere
    ultralytics = _ultralytics(runs)
    _device(plan.device)  # fail before minutes of rendering
    data = prepare(plan, runs / f"pictures-{plan.pictures}-{plan.seed}")
    folder = runs / plan.name
    keeper = Keeper(plan, data, folder, weights)
    start = _keep_start(plan, folder)
    if start is not None:
        keeper.start(start)
    if plan.epochs:
        start = _round(ultralytics, plan, folder / "cuts", data / "cuts.yaml", start, _on_cuts(plan), keeper)
    if plan.polish_epochs:
        _round(ultralytics, plan, folder / "canvases", data / "canvases.yaml", start, _on_canvases(plan), keeper)
    return keeper.record or {"kept": "the weights it started from", "map50_95": keeper.best}


def prepare(plan: Plan, folder: Path) -> Path:
    """Render the pictures of the plan, or find them rendered. Returns their folder."""
    done = folder / "complete.json"
    wanted = {"train": plan.pictures if plan.epochs else 0, "polish": plan.polish_pictures, "val": plan.held_out}
    key = {"seed": plan.seed, "source": source_hash("pictures.py")}
    if done.is_file() and json.loads(done.read_text(encoding="utf-8")) == wanted | key:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    with bars() as bar:
        for split in ("val", "train", "polish"):
            task = bar.add_task(f"pictures: {split}", total=wanted[split])
            seed = 0 if split == "val" else plan.seed  # so that all trainings are measured on the same streets
            write_pictures(folder, split, seed, wanted[split], progress=functools.partial(bar.advance, task))
    write_dataset_file(folder, "cuts", "train")
    write_dataset_file(folder, "canvases", "polish")
    done.write_text(json.dumps(wanted | key), encoding="utf-8")
    return folder


def _keep_start(plan: Plan, folder: Path) -> Path | None:
    """A copy of the weights to start from: the result may take the place of the file itself."""
    if plan.start is None:
        return None
    kept = folder / "start" / "weights" / "start.pt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(plan.start, kept)
    return kept


def _round(
    ultralytics: Any, plan: Plan, folder: Path, data: Path, start: Path | None, settings: dict[str, Any], keeper: Keeper
) -> Path:
    """One round of training, from `start` or from the architecture alone; returns its weights."""
    last = folder / "weights" / "last.pt"
    resume = plan.resume and last.is_file()
    if resume and _finished(last):
        return last
    model = ultralytics.YOLO(str(last if resume else start or "yolo12n.yaml"), task="detect")
    device = _device(plan.device)
    with bars() as bar:
        _show_progress(model, bar, f"training: {folder.name}")
        model.add_callback("on_model_save", functools.partial(_considered, keeper, folder.name))
        if device == "cpu":
            model.add_callback("on_train_start", _make_quick)
        with contextlib.redirect_stdout(sys.stderr):
            model.train(
                **_SETTINGS,
                **settings,
                data=str(data),
                project=str(folder.parent),
                name=folder.name,
                device=device,
                seed=plan.seed,
                resume=resume,
            )
    return last


def _on_cuts(plan: Plan) -> dict[str, Any]:
    """Round one: everything is learnt here, from mosaics of four cuts; the last quarter sees the cuts alone.

    Weights that know streets already get the cuts alone, which cost less.
    """
    lr0 = 0.0008 if plan.start else 0.0015
    mosaics = {"mosaic": 0.0 if plan.start else 1.0, "close_mosaic": max(1, plan.epochs // 4)}
    sizes = {"imgsz": plan.imgsz, "epochs": plan.epochs, "scale": 0.4}
    return sizes | mosaics | {"lr0": lr0, "warmup_epochs": 0.4 if plan.start else 1.0, "freeze": plan.freeze or None}


def _on_canvases(plan: Plan) -> dict[str, Any]:
    """Round two: small steps on whole canvases, at the size and shape that is served."""
    sizes = {"imgsz": Canvas().width, "rect": True, "epochs": plan.polish_epochs, "scale": 0.15}
    return sizes | {"lr0": 0.0004, "warmup_epochs": 0.3, "mosaic": 0.0, "freeze": plan.freeze or None}


def _device(wanted: str) -> str:
    """Ultralytics' name of a device. Raises TrainingError for a GPU that is not there."""
    import torch

    if wanted == "auto":
        return "0" if torch.cuda.is_available() else "cpu"
    if wanted != "cpu" and int(wanted) >= torch.cuda.device_count():
        raise TrainingError(f"device {wanted}: no such GPU, torch sees {torch.cuda.device_count()}")
    return wanted


def _considered(keeper: Keeper, round_name: str, trainer: Any) -> None:
    losses = {key.split("/")[-1]: round(float(value), 4) for key, value in trainer.tloss.items()}
    keeper.consider(trainer.last, trainer.ema.ema, round_name, trainer.epoch + 1, losses)
    sys.stderr.write(f"{round_name} {trainer.epoch + 1}: {losses}, best mAP50-95 {keeper.best:.4f}\n")


def _finished(checkpoint: Path) -> bool:
    """A finished round's file has lost its optimizer."""
    import torch

    return torch.load(checkpoint, map_location="cpu", weights_only=False).get("optimizer") is None


def _ultralytics(runs: Path) -> Any:
    """Ultralytics with its files below `runs`, silent, offline, without torchvision."""
    os.environ["YOLO_CONFIG_DIR"] = str(runs / "settings")
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin cost a busy machine most of its time
    (runs / "settings").mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import ultralytics

            _stand_in_for_torchvision()
    except ImportError as error:
        raise TrainingError(f"training needs {error.name}, in the dependency group export; see `make test`") from error
    with contextlib.redirect_stdout(io.StringIO()):
        ultralytics.utils.LOGGER.setLevel("ERROR")
        ultralytics.utils.SETTINGS.update({"sync": False, "runs_dir": str(runs), "weights_dir": str(runs)})
    return ultralytics


def _stand_in_for_torchvision() -> None:
    """The validator imports torchvision for its `ops.nms` alone; its wheel does not fit a CPU build of torch."""
    from ultralytics.utils.nms import TorchNMS

    stand_in, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    ops.nms = TorchNMS.nms  # type: ignore[attr-defined]
    stand_in.ops = ops  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": stand_in, "torchvision.ops": ops}


def _make_quick(trainer: Any) -> None:
    """Run the forward pass in bfloat16 and channels last, far faster on a processor, and on all cores."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)  # Ultralytics leaves one processor idle: half of a small machine
    trainer.model.to(memory_format=torch.channels_last)
    forward = trainer.model.forward

    def in_bfloat16(batch: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(batch, dict):
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return forward(batch, *arguments, **options)

    trainer.model.forward = in_bfloat16


def _show_progress(model: Any, bar: Progress, text: str) -> None:
    task = bar.add_task(text, total=None)

    def started(trainer: Any) -> None:
        batches = len(trainer.train_loader)
        bar.update(task, total=batches * trainer.epochs, completed=batches * trainer.start_epoch)

    def advanced(trainer: Any) -> None:
        losses = " ".join(f"{k.split('/')[-1]} {float(v):.2f}" for k, v in trainer.tloss.items())
        bar.update(task, advance=1, description=f"{text} ({losses})")

    model.add_callback("on_train_start", started)
    model.add_callback("on_train_batch_end", advanced)
