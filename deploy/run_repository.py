"""Assembles the folder that Triton is started on, from the committed configurations and the exported models.

A run repository holds what has been exported of the wanted tiers and nothing else, because Triton refuses to start
when any model in its repository cannot be loaded. Configurations are parsed, so a typo is an error here, and changed
only where the caller's settings or the exported files demand it. Nothing is ever written into the sources.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from clients.errors import ConfigError
from clients.types import Canvas, Tier
from deploy.plans import check_plans
from export.spec import DECODE, MAX_BATCH, POSTPROCESS, Spec, engine_name, jpeg_name

if TYPE_CHECKING:
    from export.status import Here

REPOSITORY = Path(__file__).resolve().parents[1] / "model_repository"
RuntimeName = Literal["openvino", "tensorrt"]
MODEL_FILES: dict[RuntimeName, str] = {"openvino": "model.onnx", "tensorrt": "model.plan"}
PRECISIONS = ("f32", "bf16", "auto")
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
_INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Assembled:
    """A run repository at `path`: the tiers in it, those wanted but not exported, and what is odd about a plan."""

    present: tuple[Tier, ...]
    missing: tuple[Tier, ...]
    path: Path
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Changes:
    max_batch: int | None
    dynamic_batching: bool
    precision: str | None
    threads: int | None


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where things are read from: configurations in `repository`, exported models in `models`."""

    repository: Path
    runtime: RuntimeName
    models: Path

    def config(self, group: str, model: str) -> Path:
        return self.repository / group / model / "config.pbtxt"

    def command(self, tier: Tier) -> str:
        return export_command(tier, self.runtime)

    def model_file(self, model: str) -> Path:
        return self.models / model / _VERSION / MODEL_FILES[self.runtime]


def export_command(tier: Tier, runtime: RuntimeName = "openvino") -> str:
    """What to type to have a tier that is missing; a plan is built from an export, on the card."""
    return f"python -m export {'build ' if runtime == 'tensorrt' else ''}{tier.value}"


def exported_tiers(runtime: RuntimeName, models_dir: Path) -> tuple[Tier, ...]:
    """The tiers whose engine lies in a folder of exported models, smallest first."""
    file = MODEL_FILES[runtime]
    return tuple(tier for tier in Tier if (models_dir / engine_name(tier) / _VERSION / file).is_file())


def cpu_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """`bf16` where every core has instructions for it, else `f32`: what "auto" means, so that figures can say it."""
    return "bf16" if _every_core_has(_BF16_FLAGS, cpuinfo) else "f32"


def cpu_int8(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the openvino runtime does with Q/DQ pairs: `integer` where every core can, else `float`.

    Without VNNI, OpenVINO adds pairs of products of eight bits in sixteen, which overflow: scores are off by a fifth.
    """
    return "integer" if _every_core_has(_INT8_FLAGS, cpuinfo) else "float"


def _every_core_has(flags: set[str], cpuinfo: Path) -> bool:
    """Any of these, of the CPU of this machine."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    cores = [set(line.split()) for line in lines if line.startswith("flags")]
    return bool(cores) and all(core & flags for core in cores)


def assemble(
    target: Path,
    tiers: Sequence[Tier],
    *,
    repository: Path = REPOSITORY,
    runtime: RuntimeName = "openvino",
    models_dir: Path | None = None,
    max_batch: int | None = None,
    dynamic_batching: bool = True,
    precision: str | None = None,
    threads: int | None = None,
    machine: Here | None = None,
) -> Assembled:
    """Fill `target` (made here, else empty) with the tiers that have been exported, their ensembles and helpers.

    `max_batch` caps every model's batch; `precision` and `threads` (0: all cores) are for the openvino runtime, None
    keeps what is committed, precision "auto" is what this CPU does best. The ensembles carry the parameters `labels`
    (JSON list), `canvas` and `precision`. For the tensorrt runtime, plans are compared with `machine` (None: this
    one) and their ONNX files, and what is odd but can be loaded is told in `warnings`.

    Raises ConfigError: no tier exported, a value out of range, a broken configuration, labels missing, an engine
    exported for another canvas, a plan that cannot be loaded here, a target that is not empty or cannot be written.
    """
    _check(tiers, runtime, max_batch, precision, threads)
    precision = cpu_precision() if precision == "auto" else precision
    sources = _Sources(repository, runtime, models_dir or repository / runtime)
    wanted = tuple(tier for tier in Tier if tier in tiers)
    present = tuple(tier for tier in wanted if tier in exported_tiers(runtime, sources.models))
    _check_exported(sources, wanted, present)
    warnings = _check_plans(sources, present, machine) if runtime == "tensorrt" else ()
    try:
        target.mkdir(parents=True, exist_ok=True)
        if next(target.iterdir(), None) is not None:
            raise ConfigError(f"{target}: must be an empty folder to assemble a run repository in")
        _fill(target, sources, present, _Changes(max_batch, dynamic_batching, precision, threads))
    except OSError as error:
        raise ConfigError(f"{error.filename or target}: {error.strerror or error}") from error
    return Assembled(present, tuple(tier for tier in wanted if tier not in present), target, warnings)


def _check(
    tiers: Sequence[Tier], runtime: str, max_batch: int | None, precision: str | None, threads: int | None
) -> None:
    if not tiers:
        raise ConfigError(f"no tier was asked for; expected at least one of {', '.join(Tier)}")
    if runtime not in MODEL_FILES:
        raise ConfigError(f"runtime must be one of {', '.join(MODEL_FILES)}, got {runtime!r}")
    if max_batch is not None and max_batch < 1:
        raise ConfigError(f"max_batch must be at least 1, got {max_batch}")
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if threads is not None and threads < 0:
        raise ConfigError(f"threads must be 0 (all cores) or a count, got {threads}")


def _check_exported(sources: _Sources, wanted: Iterable[Tier], present: Sequence[Tier]) -> None:
    commands = " or ".join(f"`{sources.command(tier)}`" for tier in (present or wanted))
    if not present:
        names = ", ".join(tier.value for tier in wanted)
        raise ConfigError(f"{sources.models}: none of the wanted models ({names}) is exported; run {commands}")
    if not (file := sources.model_file(POSTPROCESS)).is_file():
        raise ConfigError(f"{file}: no such file, and every tier needs it; run {commands}")


def _check_plans(sources: _Sources, present: Sequence[Tier], machine: Here | None) -> tuple[str, ...]:
    names = {tier: engine_name(tier) for tier in present}
    engines = {tier: _read(sources.config(sources.runtime, name), name) for tier, name in names.items()}
    canvas, top_k = _shape(engines[present[0]])
    batches = MAX_BATCH | {tier: engine.max_batch_size for tier, engine in engines.items()}
    spec = Spec(canvas, top_k, largest=tuple(batches.values()))
    return check_plans(present, spec, sources.repository / "openvino", sources.models, machine)


def _fill(target: Path, sources: _Sources, present: Sequence[Tier], changes: _Changes) -> None:
    for tier in present:
        engine = _place_exported(target, sources, engine_name(tier), changes)
        facts = _ensemble_parameters(sources, tier, engine)
        for name in (tier.value, jpeg_name(tier)):
            config = _read(sources.config("ensembles", name), name)
            for key, value in facts.items():
                config.parameters[key].string_value = value
            _write(target / name, config, changes)
    _place_exported(target, sources, POSTPROCESS, changes)
    _write(target / DECODE, _read(sources.config("shared", DECODE), DECODE), changes)
    shutil.copy(sources.repository / "shared" / DECODE / _VERSION / "model.py", target / DECODE / _VERSION)


def _place_exported(target: Path, sources: _Sources, name: str, changes: _Changes) -> Any:
    """Place the engine or postprocess; returns its configuration as written."""
    config = _read(sources.config(sources.runtime, name), name)
    if sources.runtime == "openvino":
        if changes.precision is not None:
            config.parameters["precision"].string_value = changes.precision
        if changes.threads is not None:
            config.parameters["threads"].string_value = str(changes.threads)
        config.parameters["int8"].string_value = cpu_int8()
    _write(target / name, config, changes)
    version = target / name / _VERSION
    if sources.runtime == "openvino":
        shutil.copy(sources.repository / "openvino" / "model.py", version)
    _link(sources.model_file(name), version)
    return config


def _ensemble_parameters(sources: _Sources, tier: Tier, engine: Any) -> dict[str, str]:
    folder = sources.models / engine_name(tier)
    canvas, top_k = _shape(engine)
    sidecar = _sidecar(folder / "export.json") | _sidecar(folder / "plan.json")  # a plan has no export.json of its own
    for name, expected in (("canvas", str(canvas)), ("top_k", top_k)):
        if (exported := sidecar.get(name, expected)) != expected:
            raise ConfigError(
                f"{folder}: exported with {name} {exported}, the model repository expects {expected}; "
                f"export it again with `{export_command(tier)}`"
            )
    return {
        "labels": json.dumps(_labels(folder / "labels.txt", sources.command(tier))),
        "canvas": str(canvas),
        "precision": _precision(engine, str(sidecar.get("precision", "unknown"))),
    }


def _precision(engine: Any, exported: str) -> str:
    """What the engine computes in: the runtime's arithmetic, unless the exported graph itself is of fewer bits."""
    arithmetic = engine.parameters["precision"].string_value if "precision" in engine.parameters else ""
    return exported if exported in ("int8", "fp16") or not arithmetic else arithmetic


def _shape(engine: Any) -> tuple[Canvas, int]:
    """The canvas and top-k that an engine's configuration is for."""
    rows, columns = engine.input[0].dims
    return Canvas(columns, rows * 2 // 3), int(engine.output[0].dims[0])


def _labels(file: Path, command: str) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{file}: the class names cannot be read ({reason}); run `{command}`") from error
    labels = [line.strip() for line in text.splitlines() if line.strip()]
    if not labels:
        raise ConfigError(f"{file}: expected one class name per line, found none; run `{command}`")
    return labels


def _sidecar(file: Path) -> dict[str, Any]:
    """What the export wrote about itself; empty where a model was put there by hand."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected a JSON object, got a {type(content).__name__}")
    return content


def _read(file: Path, name: str) -> Any:
    """A parsed config.pbtxt. Raises ConfigError: missing, a typo in it, another model's."""
    try:
        config = text_format.Parse(file.read_text(encoding="utf-8"), ModelConfig())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; the clone is incomplete") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not a valid model configuration: {' '.join(str(error).split())}") from error
    if config.name != name:
        raise ConfigError(f"{file}: expected the configuration of {name}, got that of {config.name!r}")
    return config


def _write(folder: Path, config: Any, changes: _Changes) -> None:
    """The configuration with the batching that was asked for, and the version folder, which must exist."""
    if changes.max_batch is not None:
        _cap_batch(config, changes.max_batch)
    if not changes.dynamic_batching:
        config.ClearField("dynamic_batching")
    (folder / _VERSION).mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")


def _cap_batch(config: Any, cap: int) -> None:
    """Lower the largest batch, and with it whatever in the configuration names a larger one."""
    if config.max_batch_size <= cap:
        return
    config.max_batch_size = cap
    if config.HasField("dynamic_batching"):
        _keep(config.dynamic_batching.preferred_batch_size, lambda size: size <= cap)
    _keep(config.model_warmup, lambda warmup: warmup.batch_size <= cap)
    if config.optimization.HasField("cuda"):
        _keep(config.optimization.cuda.graph_spec, lambda graph: graph.batch_size <= cap)


def _keep(field: Any, wanted: Any) -> None:
    kept = [entry for entry in field if wanted(entry)]
    del field[:]
    field.extend(kept)


def _link(source: Path, folder: Path) -> None:
    """Link a model file into a version folder, or copy it where links cannot be made."""
    place = folder / source.name
    try:
        place.symlink_to(source.resolve())
    except OSError:
        shutil.copy(source, place)
