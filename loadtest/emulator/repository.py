"""The run repository of an emulated card: the T4's configurations, with a backend that waits in TensorRT's place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from clients.errors import ConfigError
from clients.types import Tier
from export.configs import REPOSITORY
from export.spec import POSTPROCESS, engine_name
from loadtest.emulator.camera_code import MOST
from loadtest.profile import GpuProfile

_HERE = Path(__file__).resolve().parent
_VERSION = "1"


def assemble_emulated(target: Path, profile: GpuProfile, tiers: Sequence[Tier], *, time_scale: float = 1.0) -> None:
    """Fill `target` (made here) with ensembles and engines of `tiers` that take the profile's time, times `time_scale`.

    Raises ConfigError: a tier that the profile does not have, a time scale that is not positive, no room to write.
    """
    if not time_scale > 0:
        raise ConfigError(f"the time scale must be positive, got {time_scale}")
    for tier in tiers:
        if tier.value not in profile.models:
            known = ", ".join(profile.models)
            raise ConfigError(f"the profile of {profile.gpu} has no {tier}; it has {known}")
    try:
        target.mkdir(parents=True, exist_ok=True)
        card = target / "card"
        card.write_bytes(bytes(16))
        models = target / "models"
        for tier in tiers:
            _engine(models, tier, _latencies(profile, tier, time_scale), card, time_scale)
            _ensemble(models, tier, profile)
        _python(models, POSTPROCESS, _scaled(_committed("tensorrt", POSTPROCESS), time_scale), "suppress.py")
    except OSError as error:
        raise ConfigError(f"{error.filename or target}: {error.strerror or error}") from error


def card_of(target: Path) -> Path:
    """The file in which the card's clock is: when it is free again, and how long it has worked."""
    return target / "card"


def models_of(target: Path) -> Path:
    """The folder that Triton is started on."""
    return target / "models"


def _latencies(profile: GpuProfile, tier: Tier, time_scale: float) -> dict[int, float]:
    return {batch: one.p50_ms * time_scale for batch, one in profile.models[tier.value].latency.items()}


def _engine(models: Path, tier: Tier, latencies: dict[int, float], card: Path, time_scale: float) -> None:
    name = engine_name(tier)
    config = _scaled(_committed("tensorrt", name), time_scale)
    config.parameters["latency_ms"].string_value = json.dumps(latencies)
    config.parameters["card"].string_value = str(card.resolve())
    _python(models, name, config, "engine.py", "camera_code.py")


def _scaled(config: Any, time_scale: float) -> Any:
    """On a slow card everybody waits longer: the batcher for company, a request for its turn before it is refused."""
    batching = config.dynamic_batching
    batching.max_queue_delay_microseconds = round(batching.max_queue_delay_microseconds * time_scale)
    policy = batching.default_queue_policy
    policy.default_timeout_microseconds = round(policy.default_timeout_microseconds * max(1.0, time_scale))
    return config


def _python(models: Path, name: str, config: Any, code: str, *beside: str) -> None:
    """A model of the Python backend: batches, queues and tensors stay the T4's, what only a GPU has goes."""
    config.backend = "python"
    config.ClearField("optimization")
    config.ClearField("model_warmup")  # it would take the card's time
    for group in config.instance_group:
        group.kind = pb.ModelInstanceGroup.KIND_CPU
    _write(models / name, config)
    shutil.copy(_HERE / code, models / name / _VERSION / "model.py")
    for other in beside:
        shutil.copy(_HERE / other, models / name / _VERSION)


def _ensemble(models: Path, tier: Tier, profile: GpuProfile) -> None:
    config = _committed("ensembles", tier.value)
    labels = json.dumps([f"camera {number}" for number in range(MOST + 1)])
    for key, value in (("labels", labels), ("canvas", profile.canvas), ("precision", f"emulated {profile.gpu}")):
        config.parameters[key].string_value = value
    _write(models / tier.value, config)


def _committed(group: str, name: str) -> Any:
    path = REPOSITORY / group / name / "config.pbtxt"
    return text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())


def _write(folder: Path, config: Any) -> None:
    (folder / _VERSION).mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")
