"""The command line: `python -m export yolo12n yolo12m` and the commands beside it.

torch is imported only where weights are turned into ONNX, so `configs` runs without it.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clients.errors import FleetError
from clients.types import Canvas, Tier
from export import configs, measurements
from export.calibration import DEMO, calibration_canvases
from export.errors import ExportError, NoCard
from export.spec import MAX_BATCH, POSTPROCESS, Spec, engine_name, parse_max_batch
from export.to_engine import compute_capability
from export.versions import check_serving, library_version

_MODELS = "models"
_TEMPORARY = "what was exported before is as it was (temporary files lie where TMPDIR says, else in /tmp)"
_COMMANDS = (_MODELS, "configs", "verify", "build", "status", "evaluate", *measurements.COMMANDS)
_DEMO_CLIPS = Path("demo/clips")
_DEMO_WEIGHTS = Path("demo/weights/yolo12n.pt")
_PROFILES = Path(__file__).resolve().parent.parent / "loadtest" / "gpus"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. An error that the user can cause is one line on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] not in (*_COMMANDS, "-h", "--help"):
        words.insert(0, _MODELS)  # models and their options need no command's name
    arguments = _parser().parse_args(words)
    try:
        return _command(_spec(arguments), arguments)
    except NoCard as error:
        _say(str(error))
        return 3
    except (FleetError, ValueError) as error:
        _say(str(error))
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        _say(f"{error.filename or 'a file'} cannot be written: {error.strerror}; {_TEMPORARY}")
        return 1


def _command(spec: Spec, arguments: argparse.Namespace) -> int:
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
    return _models(spec, arguments)


def _spec(arguments: argparse.Namespace) -> Spec:
    canvas, largest = Canvas.parse(arguments.canvas), parse_max_batch(arguments.max_batch)
    return Spec(canvas, arguments.top_k, largest=largest)


def _configs(spec: Spec, *, check: bool, repository: Path) -> int:
    """Write the differing configs, or with `check` only name them and fail."""
    changed = configs.differing(spec, repository) if check else configs.write(spec, repository)
    for path in changed:
        sys.stderr.write(f"{'differs from the spec' if check else 'written'}: {path}\n")
    sys.stdout.write(json.dumps({"canvas": str(spec.canvas), "top_k": spec.top_k, "changed": len(changed)}) + "\n")
    return 1 if check and changed else 0


def _models(spec: Spec, arguments: argparse.Namespace) -> int:
    from export.to_onnx import Order, export_tier  # torch and ultralytics: seconds to import

    if arguments.precision is None:
        arguments.precision = "fp32" if arguments.runtime == "openvino" else "fp16"
    tiers = [Tier(name) for name in dict.fromkeys(arguments.models)]
    files = [_checkpoint(arguments.weights, tier, alone=len(tiers) == 1) for tier in tiers]
    calibration = _calibration(spec, arguments)
    reports = []
    for tier, file in zip(tiers, files, strict=True):
        gate = _gate(arguments, tier, file)
        order = Order(file, arguments.out, arguments.random, arguments.precision, calibration, gate, arguments.force)
        reports.append(export_tier(tier, spec, order))
    _follow(spec, arguments.out)
    report: dict[str, Any] = {"models": reports}
    if arguments.runtime == "tensorrt":
        plans = _Plans(arguments.out, configs.REPOSITORY / "tensorrt", _PROFILES, arguments.force)
        report["plans"] = _built(spec, tiers, plans, arguments.calibration or DEMO, None)
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


def _checkpoint(weights: Path | None, tier: Tier, *, alone: bool) -> Path | None:
    """The file of `--weights` for one tier: the file itself, or `yolo12n.pt` of a folder; None: the official one."""
    if weights is None:
        return None
    if weights.is_dir():
        return weights / f"{tier.value}.pt"
    if not alone:
        raise ExportError(f"--weights {weights}: expected a folder with {tier.value}.pt for several models, got a file")
    return weights


def _gate(arguments: argparse.Namespace, tier: Tier, weights: Path | None) -> Any:
    """What a converted engine is measured on: `--data`, the demo's clips for the demo's weights, or nothing, said."""
    if arguments.precision == "fp32" or arguments.random:
        return None
    from export.evaluate import parse_limits
    from export.gate import Gate
    from export.labelled import render_demo

    data = arguments.data
    if data is None and weights is not None and weights.resolve().parent == _DEMO_WEIGHTS.parent.resolve():
        data = _DEMO_CLIPS
        render_demo(data)
    if data is None:
        _say(f"{tier.value}: accuracy is not measured, for want of labelled pictures: name a COCO folder with --data")
        return None
    return Gate(data, arguments.pictures, parse_limits(arguments.max_drop))


def _calibration(spec: Spec, arguments: argparse.Namespace) -> NDArray[np.uint8] | None:
    """The canvases that the wished precision needs; ranges of INT8 are the user's pictures', never guessed."""
    if arguments.precision == "fp32":
        return None
    if arguments.precision == "int8" and arguments.calibration is None:
        raise ExportError(
            "--precision int8 needs --calibration: a folder of pictures, a video, a config.yaml or `demo`"
        )
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
    tiers = [Tier(name) for name in arguments.models]
    plans = _Plans(arguments.onnx, arguments.out, arguments.profiles, arguments.force)
    report = _built(spec, tiers, plans, arguments.pictures, arguments.serving_version)
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


class _Plans(NamedTuple):
    """Folders that plans are built from, written to, and measured into; whether what is up to date is built again."""

    onnx: Path
    out: Path
    profiles: Path
    force: bool


def _built(spec: Spec, tiers: list[Tier], plans: _Plans, pictures: str, serving: str | None) -> dict[str, Any]:
    from export.on_card import TheCard
    from export.plan import Job, build_plans  # onnx: not needed by the other commands

    machine = TheCard()
    check_serving(machine.tensorrt, serving or library_version())
    frames = None if pictures == "none" else calibration_canvases(pictures, spec.canvas, 8)
    job = Job(spec, plans.onnx, plans.out, plans.profiles, frames, plans.force)
    return build_plans(machine, [*(engine_name(tier) for tier in tiers), POSTPROCESS], job)


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
    weights, data = arguments.weights or (_DEMO_WEIGHTS if demo else None), arguments.data or _DEMO_CLIPS
    reference = evaluate.Reference(Tier(arguments.model), weights, data, arguments.pictures)
    variants = evaluate.parse_variants(arguments.variants)
    limits = evaluate.parse_limits(arguments.max_drop)
    with bars() as bar:
        task = bar.add_task("accuracy", total=None)
        scores = evaluate.evaluate(
            spec,
            reference,
            variants,
            arguments.calibration,
            lambda done, of: bar.update(task, completed=done, total=of),
        )
    report = evaluate.Report(scores, limits)
    sys.stderr.write(report.table())
    for failure in report.failures():
        _say(failure)
    sys.stdout.write(json.dumps(report.as_json() | {"model": arguments.model, "data": str(data)}) + "\n")
    return int(bool(report.failures()))


def _follow(spec: Spec, out: Path) -> None:
    """Make the repository's configs follow a new shape, or say what is left to do; names the tiers left behind."""
    if configs.rendered_for() not in (None, spec):
        shape = f"--canvas {spec.canvas} --top-k {spec.top_k} --max-batch {_written(spec.largest)}"
        if out.resolve() == configs.REPOSITORY / "openvino":
            changed = configs.write(spec)
            _say(f"the model repository was for another canvas, top-k or batch: {len(changed)} configs rendered again")
        else:
            mend = f"python -m export configs {shape}"
            _say(f"the model repository is for another canvas, top-k or batch; to serve this: {mend}")
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
    text = "largest batches, such as yolo12n=8,yolo12x=1 (default %(default)s)"
    shape.add_argument("--max-batch", metavar="MODEL=N,...", default=_written(MAX_BATCH.values()), help=text)

    text = "write every config.pbtxt of the model repository from the spec"
    rendered = commands.add_parser("configs", parents=[shape], help=text, description=text)
    rendered.add_argument("--check", action="store_true", help="write nothing; fail when a committed file differs")
    rendered.add_argument("--repository", type=Path, default=configs.REPOSITORY, help="default %(default)s")

    _add_verify(commands, shape)
    _add_build(commands, shape)
    _add_status(commands)
    _add_evaluate(commands, shape)
    measurements.add(commands, shape)
    _add_models(commands, shape)
    return parser


def _add_models(commands: Any, shape: argparse.ArgumentParser) -> None:
    text = "export models, `python -m export yolo12n yolo12m` for short: engines and the shared postprocess, as ONNX"
    models = commands.add_parser(_MODELS, parents=[shape], help=text, description=text)
    models.add_argument("models", nargs="+", type=_tier, metavar="MODEL", help=", ".join(Tier))
    source = models.add_mutually_exclusive_group()
    text = "a checkpoint, or for several models a folder of yolo12n.pt ... (default: the official ones, downloaded)"
    source.add_argument("--weights", type=Path, help=text)
    source.add_argument("--random", action="store_true", help="random weights, 4 classes: speed only, no accuracy")
    text = (
        "what will run them: openvino (CPU), or tensorrt, which builds the plans too, on the card (default %(default)s)"
    )
    models.add_argument("--runtime", choices=("openvino", "tensorrt"), default="openvino", help=text)
    text = "of the engines (default: fp32 for openvino, fp16 for tensorrt)"
    models.add_argument("--precision", choices=("fp32", "fp16", "int8"), help=text)
    text = (
        "pictures to find the ranges of fp16 and int8 on: a folder, a video, the cameras of a config.yaml, "
        "or `demo` (default for fp16)"
    )
    models.add_argument("--calibration", metavar="SOURCE", help=text)
    folder = configs.REPOSITORY / "openvino"
    models.add_argument(
        "--out", type=Path, default=folder, help="models folder for the ONNX files (default %(default)s)"
    )
    models.add_argument("--force", action="store_true", help="export again what is up to date")
    _add_accuracy(models, "labelled pictures that fp16 and int8 must pass on (default: the demo's, for its weights)")


def _tier(text: str) -> str:
    if text not in list(Tier):
        commands = ", ".join(_COMMANDS[1:])
        raise argparse.ArgumentTypeError(f"expected {', '.join(Tier)}, or a command ({commands}), got {text!r}")
    return text


def _add_accuracy(command: argparse.ArgumentParser, data: str) -> None:
    command.add_argument("--data", type=Path, metavar="FOLDER", help=f"in COCO format, or of rendered clips: {data}")
    command.add_argument("--pictures", type=int, default=96, help="at most about so many (default %(default)s)")
    text = "points of mAP50-95, one number for all or such as fp16=0.3,int8=1 (default fp32=0.3,fp16=0.3,int8=1)"
    command.add_argument("--max-drop", default="", help=text)


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
    plans.add_argument("--profiles", type=Path, default=_PROFILES, help="for data sheets (default %(default)s)")
    text = "to compare plans with FP32 on: a folder, a video, a config.yaml, `demo`, or `none` (default %(default)s)"
    plans.add_argument("--pictures", default=DEMO, metavar="SOURCE", help=text)
    plans.add_argument("--force", action="store_true", help="build what has not changed too")
    text = "TensorRT of the server, checked before building (default: the libnvinfer that is installed here)"
    plans.add_argument("--serving-version", metavar="X.Y.Z", help=text)


def _add_status(commands: Any) -> None:
    text = "say what is exported and built, and what no longer fits the repository, this card or this TensorRT"
    status = commands.add_parser("status", help=text, description=f"{text}; ends with 1 when something does not fit")
    rendered = configs.rendered_for() or Spec()
    largest = _written(rendered.largest)
    status.set_defaults(canvas=str(rendered.canvas), top_k=rendered.top_k, max_batch=largest)
    _add_folders(status, "looked at")


def _written(largest: Iterable[int]) -> str:
    """As --max-batch takes it."""
    return ",".join(f"{tier}={size}" for tier, size in zip(Tier, largest, strict=True))


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
    gate.add_argument("--variants", default="fp32,fp16,int8", help="what to measure (default %(default)s)")
    gate.add_argument("--calibration", default=DEMO, metavar="SOURCE", help="as for an export (default %(default)s)")
    _add_accuracy(gate, "what is measured on (default: the demo's)")
