"""The command line: `python -m export configs` and `python -m export yolo12n`.

torch is imported only where weights are turned into ONNX, so `configs` runs without it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import FleetError
from clients.types import Canvas, Tier
from export import configs, measurements
from export.calibration import DEMO, calibration_canvases
from export.errors import ExportError, NoCard
from export.spec import POSTPROCESS, Spec, engine_name
from export.to_engine import compute_capability

_DEMO_CLIPS = Path("demo/clips")
_DEMO_WEIGHTS = Path("demo/weights/yolo12n.pt")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. An error that the user can cause is one line on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        spec = Spec(canvas=Canvas.parse(arguments.canvas), top_k=arguments.top_k)
        if arguments.command == "configs":
            return _configs(spec, check=arguments.check, repository=arguments.repository)
        if arguments.command == "verify":
            return _verify(spec, arguments)
        if arguments.command == "build":
            return _build(spec, arguments)
        if arguments.command == "status":
            return _status(spec, arguments)
        if arguments.command == "evaluate":
            return _evaluate(spec, arguments)
        if arguments.command in measurements.COMMANDS:
            return measurements.run(spec, arguments)
        return _model(spec, arguments)
    except NoCard as error:
        _say(str(error))
        return 3
    except (FleetError, ValueError) as error:
        _say(str(error))
        return 1


def _configs(spec: Spec, *, check: bool, repository: Path) -> int:
    """Write the differing configs, or with `check` only name them and fail."""
    changed = configs.differing(spec, repository) if check else configs.write(spec, repository)
    for path in changed:
        sys.stderr.write(f"{'differs from the spec' if check else 'written'}: {path}\n")
    sys.stdout.write(json.dumps({"canvas": str(spec.canvas), "top_k": spec.top_k, "changed": len(changed)}) + "\n")
    return 1 if check and changed else 0


def _model(spec: Spec, arguments: argparse.Namespace) -> int:
    from export.to_onnx import export_tier  # torch and ultralytics: seconds to import

    report = export_tier(
        Tier(arguments.command),
        spec,
        weights_path=arguments.weights,
        out=arguments.out,
        random=arguments.random,
        precision=arguments.precision,
        calibration=_calibration(spec, arguments),
    )
    _follow(spec, arguments.out)
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


def _calibration(spec: Spec, arguments: argparse.Namespace) -> NDArray[np.uint8] | None:
    """The canvases that the wished precision needs; ranges of INT8 are the user's pictures', never guessed."""
    if arguments.precision == "fp32":
        return None
    if arguments.precision == "int8" and arguments.calibration is None:
        raise ExportError("--precision int8 needs --calibration: a folder of pictures, a video, or `demo`")
    return calibration_canvases(arguments.calibration or DEMO, spec.canvas)


def _verify(spec: Spec, arguments: argparse.Namespace) -> int:
    from export.verify import Source, memory, verify  # onnx: not needed by the other commands

    sm = compute_capability(arguments.sm)
    source = Source(arguments.random, arguments.weights, arguments.onnx, arguments.stock_attention)
    verdicts = list(verify([Tier(name) for name in arguments.models], spec, source, sm))
    for failure in filter(None, (verdict.failure for verdict in verdicts)):
        _say(failure)
    report = {
        "models": [verdict.as_json() for verdict in verdicts],
        "sm": arguments.sm,
        "attention": "stock" if source.stock_attention else "canonical",
        **memory(verdicts, spec, sm),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return int(any(verdict.failure for verdict in verdicts))


def _build(spec: Spec, arguments: argparse.Namespace) -> int:
    from export.plan import build_plans  # onnx: not needed by the other commands

    names = [*(engine_name(Tier(name)) for name in arguments.models), POSTPROCESS]
    report = build_plans(names, spec, arguments.onnx, arguments.out)
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


def _status(spec: Spec, arguments: argparse.Namespace) -> int:
    from export.status import here, states

    machine = here()
    found = list(states(spec, arguments.onnx, arguments.out, machine))
    for state in found:
        if not state.present:
            _say(f"{state.file}: not there; `{state.mend}` makes it")
        for flaw in state.flaws:
            _say(f"{state.file}: {flaw}; `{state.mend}` mends it")
    if machine.card is None:
        _say("no usable NVIDIA GPU here: plans were not compared with a card")
    if machine.tensorrt is None:
        _say("TensorRT cannot be imported here: plans were not compared with a version; ask in the serving image")
    report = {
        "models": [state.as_json() for state in found],
        "gpu": machine.card.name if machine.card else None,
        "tensorrt": machine.tensorrt,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return int(any(state.flaws for state in found))


def _evaluate(spec: Spec, arguments: argparse.Namespace) -> int:
    from demo.progress import bars
    from export import evaluate  # torch, ultralytics, pycocotools: seconds to import
    from export.labelled import render_demo

    demo = arguments.data is None
    if demo:
        render_demo(_DEMO_CLIPS)
    request = evaluate.Request(
        Tier(arguments.model),
        arguments.weights or (_DEMO_WEIGHTS if demo else None),
        arguments.data or _DEMO_CLIPS,
        evaluate.parse_variants(arguments.variants),
        arguments.calibration,
        arguments.pictures,
    )
    limits = evaluate.parse_limits(arguments.max_drop)
    with bars() as bar:
        task = bar.add_task("accuracy", total=None)
        scores = evaluate.evaluate(spec, request, lambda done, of: bar.update(task, completed=done, total=of))
    report = evaluate.Report(scores, limits)
    sys.stderr.write(report.table())
    for failure in report.failures():
        _say(failure)
    sys.stdout.write(json.dumps(report.as_json() | {"model": arguments.model, "data": str(request.data)}) + "\n")
    return int(bool(report.failures()))


def _follow(spec: Spec, out: Path) -> None:
    """Make the repository's configs follow a new canvas, or say what is left to do; names the tiers left behind."""
    wanted = (spec.canvas, spec.top_k)
    if configs.rendered_for() not in (None, wanted):
        shape = f"--canvas {spec.canvas} --top-k {spec.top_k}"
        if out.resolve() == configs.REPOSITORY / "openvino":
            changed = configs.write(spec)
            _say(f"the model repository was for another canvas or top-k: {len(changed)} configs rendered again")
        else:
            _say(
                f"the model repository is for another canvas or top-k; to serve this: python -m export configs {shape}"
            )
    for tier in Tier:
        sidecar = out / engine_name(tier) / "export.json"
        if sidecar.is_file() and (found := json.loads(sidecar.read_text())):
            has = (found["canvas"], found["top_k"])
            if has != (str(spec.canvas), spec.top_k):
                _say(f"{engine_name(tier)} is still for canvas {has[0]}, top-k {has[1]}: export it again")


def _say(line: str) -> None:
    sys.stderr.write(f"export: {line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export", description="Weights -> ONNX -> model repository. A command's own --help says more."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shape = argparse.ArgumentParser(add_help=False)
    shape.add_argument("--canvas", default=str(Canvas()), help="WIDTHxHEIGHT that is inferred (default %(default)s)")
    shape.add_argument("--top-k", type=int, default=Spec().top_k, help="candidates per picture (default %(default)s)")

    text = "write every config.pbtxt of the model repository from the spec"
    rendered = commands.add_parser("configs", parents=[shape], help=text, description=text)
    rendered.add_argument("--check", action="store_true", help="write nothing; fail when a committed file differs")
    rendered.add_argument("--repository", type=Path, default=configs.REPOSITORY, help="default %(default)s")

    _add_verify(commands, shape)
    _add_build(commands, shape)
    _add_status(commands)
    _add_evaluate(commands, shape)
    measurements.add(commands, shape)
    for tier in Tier:
        text = f"export {tier.value}: its engine and the shared postprocess, as ONNX for every runtime"
        model = commands.add_parser(tier.value, parents=[shape], help=text, description=text)
        source = model.add_mutually_exclusive_group()
        source.add_argument("--weights", type=Path, help=f"a checkpoint of {tier.value} (default: the official one)")
        source.add_argument("--random", action="store_true", help="random weights, 4 classes: speed only, no accuracy")
        model.add_argument(
            "--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="of the engine (default %(default)s)"
        )
        text = "pictures to find the ranges of fp16 and int8 on: a folder, a video, or `demo` (default for fp16)"
        model.add_argument("--calibration", metavar="SOURCE", help=text)
        model.add_argument(
            "--out", type=Path, default=configs.REPOSITORY / "openvino", help="models folder (default %(default)s)"
        )
    return parser


def _add_verify(commands: Any, shape: argparse.ArgumentParser) -> None:
    text = "compile each model for a card that need not be here, and count its fused attention blocks"
    proof = commands.add_parser("verify", parents=[shape], help=text, description=text)
    proof.add_argument("models", nargs="+", choices=[tier.value for tier in Tier], metavar="MODEL")
    proof.add_argument("--sm", default="75", help="compute capability of the card: 75 is a T4 (default %(default)s)")
    proof.add_argument("--random", action="store_true", help="random weights: the structure is all that is proved")
    proof.add_argument("--weights", type=Path, help="a checkpoint, or a folder of yolo12n.pt ... (default: official)")
    proof.add_argument("--onnx", type=Path, help="an exported engine instead, or a models folder")
    proof.add_argument("--stock-attention", action="store_true", help="the control: Ultralytics' form, none fused")


def _add_build(commands: Any, shape: argparse.ArgumentParser) -> None:
    text = "build the TensorRT engines from exported ONNX files, on the card and in the image that will serve them"
    plans = commands.add_parser("build", parents=[shape], help=text, description=text)
    plans.add_argument("models", nargs="+", choices=[tier.value for tier in Tier], metavar="MODEL")
    _add_folders(plans, "written to")


def _add_status(commands: Any) -> None:
    text = "say what is exported and built, and what no longer fits the repository, this card or this TensorRT"
    status = commands.add_parser("status", help=text, description=f"{text}; ends with 1 when something does not fit")
    canvas, top_k = configs.rendered_for() or (Canvas(), Spec().top_k)
    status.set_defaults(canvas=str(canvas), top_k=top_k)
    _add_folders(status, "looked at")


def _add_folders(command: argparse.ArgumentParser, out: str) -> None:
    for name, runtime, what in (("--onnx", "openvino", "read from"), ("--out", "tensorrt", out)):
        folder = configs.REPOSITORY / runtime
        command.add_argument(name, type=Path, default=folder, help=f"models folder, {what} (default %(default)s)")


def _add_evaluate(commands: Any, shape: argparse.ArgumentParser) -> None:
    text = "measure each precision's accuracy beside PyTorch's; fail when one loses more than it may"
    gate = commands.add_parser("evaluate", parents=[shape], help=text, description=text)
    models = [tier.value for tier in Tier]
    gate.add_argument(
        "model", nargs="?", default=models[0], choices=models, metavar="MODEL", help="default %(default)s"
    )
    gate.add_argument("--weights", type=Path, help="a checkpoint (default: the demo's on its clips, else the official)")
    gate.add_argument("--data", type=Path, help="a folder in COCO format, or of rendered clips (default: the demo's)")
    gate.add_argument("--variants", default="fp32,fp16,int8", help="what to measure (default %(default)s)")
    gate.add_argument("--calibration", default=DEMO, metavar="SOURCE", help="as for an export (default %(default)s)")
    gate.add_argument("--pictures", type=int, default=96, help="at most about so many (default %(default)s)")
    text = "points of mAP50-95, one number for all or such as fp16=0.3,int8=1 (default fp32=0.3,fp16=0.3,int8=1)"
    gate.add_argument("--max-drop", default="", help=text)
