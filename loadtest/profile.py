"""The data sheet of a GPU: how long each model takes per batch. `export build` writes it, whoever plans reads it.

A leaf: it imports nothing of this project but errors, so that the export, which measures, and the planner, which
reads, share one definition without importing each other. It says what was found, not what it means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from clients.errors import ConfigError

Kind = Literal["measured", "emulated", "modelled", "projected"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds on the GPU for one batch, from its first kernel to its last; copies not counted."""

    p50_ms: float
    p95_ms: float

    def __post_init__(self) -> None:
        if not 0 < self.p50_ms <= self.p95_ms:
            raise ValueError(f"expected 0 < p50_ms <= p95_ms, got {self.p50_ms} and {self.p95_ms}")


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """One model: `latency` by batch size, ascending. `attention` is the form of the plan that is served.

    `device_mb` is what the loaded plan with its buffers takes of the GPU's memory, `sm_clock_mhz` the median while
    it was timed, and `cuda_graphs` whether each batch was replayed as one; None where that is not known.
    """

    precision: str
    attention: str
    latency: Mapping[int, Latency]
    device_mb: float | None
    sm_clock_mhz: int | None
    cuda_graphs: bool
    plan_sha256: str | None

    def __post_init__(self) -> None:
        sizes = list(self.latency)
        if not sizes or sizes != sorted(sizes) or sizes[0] < 1:
            raise ValueError(f"latency: expected batch sizes from 1 up, ascending, got {sizes}")


@dataclass(frozen=True, slots=True)
class GpuProfile:
    """A GPU and the models that were timed on it, by name: `yolo12n` ..., `postprocess`.

    `sm` is the compute capability such as "7.5", `canvas` is WIDTHxHEIGHT, `command` repeats the measurement.
    """

    kind: Kind
    gpu: str
    sm: str
    driver: str
    tensorrt: str
    memory_mb: int | None
    sm_clock_max_mhz: int | None
    canvas: str
    command: str
    models: Mapping[str, ModelProfile]

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind: expected one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if not self.models:
            raise ValueError("models: expected at least one, got none")

    def as_json(self) -> str:
        """The file's text."""
        plain = asdict(self)
        for model in plain["models"].values():
            model["latency"] = {str(batch): latency for batch, latency in model["latency"].items()}
        return json.dumps(plain, indent=2) + "\n"

    @property
    def slug(self) -> str:
        """The file's name without suffix: `tesla-t4`."""
        return slug(self.gpu)


def slug(gpu: str) -> str:
    """`NVIDIA H100 80GB HBM3` -> `nvidia-h100-80gb-hbm3`."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def parse_profile(text: str) -> GpuProfile:
    """The profile that `as_json` wrote. Raises ValueError: not JSON, a key missing or unknown, or a bad value."""
    told = _checked(json.loads(text), GpuProfile, "profile")
    models = {name: _model(value, name) for name, value in _mapping(told["models"], "models").items()}
    return GpuProfile(**told | {"models": models})


def read_profile(path: Path) -> GpuProfile:
    """A profile's file. Raises ConfigError, one line: it cannot be read, or is not a profile."""
    try:
        return parse_profile(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a GPU profile: {error}") from error


def _model(told: Any, name: str) -> ModelProfile:
    plain = _checked(told, ModelProfile, f"models.{name}")
    by_batch = _mapping(plain["latency"], f"models.{name}.latency")
    where = f"models.{name}.latency"
    latency = {int(batch): Latency(**_checked(value, Latency, where)) for batch, value in by_batch.items()}
    return ModelProfile(**plain | {"latency": latency})


def _checked(told: Any, kind: type[Any], where: str) -> dict[str, Any]:
    """The mapping itself, when it has exactly the fields of `kind`."""
    names = {field.name for field in fields(kind)}
    given = _mapping(told, where)
    if given.keys() != names:
        missing, unknown = sorted(names - given.keys()), sorted(given.keys() - names)
        raise ValueError(f"{where}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
    return given


def _mapping(told: Any, where: str) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise ValueError(f"{where}: expected an object, got {type(told).__name__}")  # noqa: TRY004 - bad text, not a bad call
    return told
