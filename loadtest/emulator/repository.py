"""The run repository of an emulated card: the T4's configurations, with a backend that waits in TensorRT's place."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from clients.data_sheet import GpuProfile
from clients.errors import ConfigError
from clients.types import Tier
from export.configs import REPOSITORY
from export.spec import DECODE, POSTPROCESS, engine_name, jpeg_name
from loadtest.emulator.camera_code import MOST
from loadtest.emulator.card_clock import CardState, write_card

_HERE = Path(__file__).resolve().parent
_VERSION = "1"


TOLD_SHEET, TOLD_SCALE = "data_sheet", "time_scale"  # parameters of an emulated ensemble
SAGGED_MHZ = 900  # of a T4 under sustained load; report: mlcommons/inference_results_v0.5#20
SAG_S = 60.0  # the time constant of its way there: assumed


@dataclass(frozen=True, slots=True)
class Emulation:
    """How the card differs from its data sheet.

    `time_scale`: everything takes so many times as long, and everybody knows, so that a small machine can feed the
    card. `slower`: the card alone takes so many times as long, and nobody is told. `sag`: its clock falls while hot.
    """

    time_scale: float = 1.0
    slower: float = 1.0
    sag: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.time_scale < math.inf:
            raise ConfigError(f"the time scale must be positive, got {self.time_scale:g}")
        if not 0 < self.slower < math.inf:
            raise ConfigError(f"how many times slower the card is must be positive, got {self.slower:g}")

    def card(self, profile: GpuProfile) -> CardState:
        """A cold, idle card. Raises ConfigError: the clock is to sag, and the data sheet has no highest clock."""
        highest_mhz = profile.sm_clock_max_mhz
        if not self.sag:
            return CardState(slowness=self.slower)
        if not highest_mhz:
            raise ConfigError(
                f"the data sheet of {profile.gpu} has no sm_clock_max_mhz, from which the clock could sag"
            )
        return CardState(slowness=self.slower, floor=min(1.0, SAGGED_MHZ / highest_mhz), heat_s=SAG_S * self.time_scale)


def assemble_emulated(
    target: Path, profile: GpuProfile, tiers: Sequence[Tier], how: Emulation = Emulation(), *, jpeg: bool = False
) -> None:
    """Fill `target` (made here) with ensembles and engines of `tiers` that take the profile's time; `jpeg`: both kinds.

    Raises ConfigError: a tier that the profile does not have, nothing to sag from, no room to write.
    """
    for tier in tiers:
        if tier.value not in profile.models:
            known = ", ".join(profile.models)
            raise ConfigError(f"the profile of {profile.gpu} has no {tier}; it has {known}")
    try:
        target.mkdir(parents=True, exist_ok=True)
        card = card_of(target)
        write_card(card, how.card(profile))
        models = models_of(target)
        for tier in tiers:
            _engine(models, tier, _latencies(profile, tier, how.time_scale), card, how.time_scale)
            for name in (tier.value, jpeg_name(tier)) if jpeg else (tier.value,):
                _ensemble(models, name, profile, how.time_scale)
        suppression = _scaled(_committed("tensorrt", POSTPROCESS), how.time_scale)
        _python(models, POSTPROCESS, suppression, _HERE / "suppress.py")
        if jpeg:  # the same on every host, so not slowed down either
            code = REPOSITORY / "shared" / DECODE / _VERSION / "model.py"
            _python(models, DECODE, _committed("shared", DECODE), code)
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
    _python(models, name, config, *(_HERE / code for code in ("engine.py", "camera_code.py", "card_clock.py")))


def _scaled(config: Any, time_scale: float) -> Any:
    """On a slow card everybody waits longer: the batcher for company, a request for its turn before it is refused."""
    batching = config.dynamic_batching
    batching.max_queue_delay_microseconds = round(batching.max_queue_delay_microseconds * time_scale)
    policy = batching.default_queue_policy
    policy.default_timeout_microseconds = round(policy.default_timeout_microseconds * max(1.0, time_scale))
    return config


def _python(models: Path, name: str, config: Any, code: Path, *beside: Path) -> None:
    """A model of the Python backend: batches, queues and tensors stay the T4's, what only a GPU has goes."""
    config.backend = "python"
    config.ClearField("optimization")
    config.ClearField("model_warmup")  # it would take the card's time
    for group in config.instance_group:
        group.kind = pb.ModelInstanceGroup.KIND_CPU
    _write(models / name, config)
    shutil.copy(code, models / name / _VERSION / "model.py")
    for other in beside:
        shutil.copy(other, models / name / _VERSION)


def _ensemble(models: Path, name: str, profile: GpuProfile, time_scale: float) -> None:
    """What a client may ask: the class names, the canvas, and that this is no card, slowed down by so much."""
    config = _committed("ensembles", name)
    told = {
        "labels": json.dumps([f"camera {number}" for number in range(MOST + 1)]),
        "canvas": profile.canvas,
        "precision": f"emulated {profile.gpu}",
        TOLD_SHEET: profile.as_json(),
        TOLD_SCALE: f"{time_scale:g}",
    }
    for key, value in told.items():
        config.parameters[key].string_value = value
    _write(models / name, config)


def _committed(group: str, name: str) -> Any:
    path = REPOSITORY / group / name / "config.pbtxt"
    return text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())


def _write(folder: Path, config: Any) -> None:
    (folder / _VERSION).mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")
