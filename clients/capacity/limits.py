"""The shares of decoders, memory, bus, kernels, processor and network that cameras would take. Pure.

Each limit has the share that is asked for, the share that may be planned (the rest is headroom, and why), and where its
figures come from. What is planned beyond that works on a good day. Costs of the processor were measured on one core of
an AMD EPYC (docs/benchmarks); other processors differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clients.capacity.batching import DELAY_MS, Batches, batches
from clients.capacity.demand import Cameras, Demand, Host, Source
from clients.data_sheet import GpuProfile, Hardware
from clients.errors import ConfigError
from clients.sources.letterbox import letterbox
from clients.types import Canvas

_FULL_HD = 1920 * 1080  # the picture of which `session_mb` speaks

# Milliseconds of one core. Decoding and scaling: fitted to 640x360, 1280x720 and 1920x1080 (0.4, 1.0, 1.8 and 0.3, 1.0,
# 1.9 ms) and, for bits, to two 1080p clips of 1.6 and 3.9 Mbit/s (1.9 and 4.4 ms): measured. The gate and an inference
# without decoding and scaling: measured on an AMD EPYC, as docs/benchmarks/client.md does it. Triton: two Python models
# and shared memory, measured; on a card its models are none, so it is an upper bound. A picture from the card: assumed.
_DECODE_MS, _DECODE_MS_PER_PIXEL, _DECODE_MS_PER_BIT = 0.225, 0.76e-6, 27e-6
_PLAIN_BITS_PER_PIXEL = 0.031  # what those clips had at which only pixels were counted
_SCALE_MS, _SCALE_MS_PER_PIXEL = 0.1, 0.87e-6
_GATE_MS, _INFERENCE_MS, _TRITON_MS, _FROM_CARD_MS = 0.08, 0.72, 0.72, 0.15

_ALLOWED: Mapping[str, tuple[float, str]] = {
    "nvdec": (0.8, "80 %, as sources.nvdec_limit: decoders that are full answer late for all"),
    "vram": (0.8, "80 %: a model that is loaded anew lies there twice meanwhile"),
    "pcie": (0.6, "60 %: copies come in bursts"),
    "gpu": (0.8, "80 %, as monitoring.gpu_utilization_threshold: clocks sag, scenes fill"),
    "cpu": (0.7, "70 %: a decoder that waits for a core makes results old"),
    "network": (0.7, "70 %: key frames come together"),
}


@dataclass(frozen=True, slots=True)
class Limit:
    """`share` of what there is, 1 being all; `allowed` is what may be planned, `rule` why; `use` says what takes it."""

    name: str
    share: float
    allowed: float
    use: str
    source: str
    rule: str

    @property
    def load(self) -> float:
        """The share of what is allowed: above 1 it does not fit."""
        return self.share / self.allowed

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "share": round(self.share, 4),
            "allowed": self.allowed,
            "fits": self.load <= 1,
            "use": self.use,
            "source": self.source,
            "headroom": self.rule,
        }


@dataclass(frozen=True, slots=True)
class Placed:
    """A group, and how many of its cameras the card decodes."""

    group: Cameras
    on_card: int

    @property
    def on_cpu(self) -> int:
        """The others."""
        return self.group.count - self.on_card


def all_kept(found: Iterable[Limit]) -> bool:
    """Whether none of the limits is broken, its headroom counted."""
    return all(limit.load <= 1 for limit in found)


def limits(demand: Demand, card: GpuProfile, host: Host, cards: int) -> tuple[Limit, ...]:
    """All six, in a fixed order.

    Raises ConfigError: the sheet lacks a number that is needed, is for another canvas, or the card cannot do a codec.
    """
    hardware = _hardware(card)
    if str(demand.canvas) != card.canvas:
        raise ConfigError(f"the data sheet of {card.gpu} is for a canvas of {card.canvas}, asked for {demand.canvas}")
    placed = place(demand, card, hardware, cards)
    found = on_one_card(demand, card, cards)
    return (
        _nvdec(placed, hardware, card, cards),
        _vram(placed, demand, hardware, card, cards),
        _pcie(placed, demand, hardware, card, cards),
        _gpu(found, demand, card, cards),
        _cpu(placed, demand, host, hardware, found.share),
        _network(demand, host),
    )


def on_one_card(demand: Demand, card: GpuProfile, cards: int) -> Batches:
    """Batches and busy share of each of the cards. Raises ConfigError for a tier without times."""
    rates = {tier: rate / cards for tier, rate in demand.rates().items()}
    missing = [tier.value for tier in rates if tier.value not in card.models]
    if missing:
        raise ConfigError(f"the data sheet of {card.gpu} has no times of {', '.join(missing)}")
    models = {tier: card.models[tier.value] for tier in rates}
    return batches(rates, models, DELAY_MS[_hardware(card).on])


def place(demand: Demand, card: GpuProfile, hardware: Hardware, cards: int) -> list[Placed]:
    """Which cameras the card decodes: as asked for, and for `auto` in their order while there is room for the pixels.

    The rule is that of sources/placement.py. Raises ConfigError where a codec is insisted on that the card cannot do.
    """
    used, found = 0.0, []
    for group in demand.groups:
        codec = group.source.load.codec
        decoder = hardware.decoders.get(codec)
        if group.decode == "cpu" or not hardware.decoders or (decoder is None and group.decode == "auto"):
            found.append(Placed(group, 0))
            continue
        if decoder is None:
            known = ", ".join(hardware.decoders)
            raise ConfigError(
                f"{card.gpu} does not decode {codec}, it decodes {known}; let the CPU do it (--decode cpu)"
            )
        need = group.source.load.pixels_per_s / (decoder.mpixels_per_s * 1e6 * cards)
        room = max(0, int((_ALLOWED["nvdec"][0] - used) / need + 1e-9))
        on_card = group.count if group.decode == "cuda" else min(group.count, room)
        used += on_card * need
        found.append(Placed(group, on_card))
    return found


def _limit(name: str, share: float, use: str, source: str) -> Limit:
    allowed, rule = _ALLOWED[name]
    return Limit(name, share, allowed, use, source, rule)


def _hardware(card: GpuProfile) -> Hardware:
    if card.hardware is None:
        raise ConfigError(f"the data sheet of {card.gpu} has no `hardware`: decoders, memory and bus are not known")
    return card.hardware


def _nvdec(placed: list[Placed], hardware: Hardware, card: GpuProfile, cards: int) -> Limit:
    """Pixels and bits go through one decoder one after the other: the slower of the two decides, camera by camera."""
    share = 0.0
    for one in placed:
        if one.on_card:
            decoder, source = hardware.decoders[one.group.source.load.codec], one.group.source
            pixels = source.load.pixels_per_s / (decoder.mpixels_per_s * 1e6)
            share += one.on_card * max(pixels, source.bits_per_s / (decoder.mbit_per_s * 1e6)) / cards
    on_card = sum(one.on_card for one in placed)
    source_text = card.sources.get(f"hardware.decoders.{placed[0].group.source.load.codec}.mpixels_per_s", "")
    return _limit("nvdec", share, f"{on_card} of {sum(p.group.count for p in placed)} cameras", source_text)


def _vram(placed: list[Placed], demand: Demand, hardware: Hardware, card: GpuProfile, cards: int) -> Limit:
    """Contexts and engines on each card, decode sessions divided among the cards."""
    if hardware.on == "cpu":
        return _limit("vram", 0.0, "no card", "")
    if card.memory_mb is None:
        raise ConfigError(f"the data sheet of {card.gpu} has no memory_mb")
    engines_mb = 0.0
    for tier in demand.rates():
        size_mb = card.models[tier.value].device_mb
        if size_mb is None:
            raise ConfigError(f"the data sheet of {card.gpu} has no models.{tier.value}.device_mb")
        engines_mb += size_mb
    sessions_mb = (
        sum(one.on_card * hardware.session_mb * _pixels(one.group.source) / _FULL_HD for one in placed) / cards
    )
    used_mb = hardware.context_mb + engines_mb + sessions_mb
    parts = f"contexts {hardware.context_mb:.0f}, engines {engines_mb:.0f}, decoding {sessions_mb:.0f}"
    use = f"{parts} of {card.memory_mb} MB"
    return _limit("vram", used_mb / card.memory_mb, use, card.sources.get("hardware.session_mb", ""))


def _pcie(placed: list[Placed], demand: Demand, hardware: Hardware, card: GpuProfile, cards: int) -> Limit:
    """To the card: packets and canvases; from it: the pictures it decodes, on the canvas. The fuller way counts."""
    if hardware.on == "cpu":
        return _limit("pcie", 0.0, "no card", "")
    if hardware.pcie_mb_per_s is None:
        raise ConfigError(f"the data sheet of {card.gpu} has no hardware.pcie_mb_per_s")
    rows, columns = demand.canvas.nv12_shape
    inferences = sum(group.inferences_per_s for group in demand.groups)
    up = inferences * rows * columns + sum(one.on_card * one.group.source.bits_per_s / 8 for one in placed)
    down = sum(one.on_card * one.group.source.fps * _scaled_bytes(one.group.source, demand.canvas) for one in placed)
    use = f"{up / 1e6:.0f} MB/s to the card, {down / 1e6:.0f} from it"
    share = max(up, down) / 1e6 / (hardware.pcie_mb_per_s * cards)
    return _limit("pcie", share, use, card.sources.get("hardware.pcie_mb_per_s", ""))


def _gpu(found: Batches, demand: Demand, card: GpuProfile, cards: int) -> Limit:
    sizes = ", ".join(f"{tier.name.lower()} {size:.1f}" for tier, size in found.mean_batch.items())
    use = f"{sum(demand.rates().values()) / cards:.1f} inferences/s a card, mean batch {sizes}"
    return _limit("gpu", found.share, use, f"{card.kind}: {card.sources.get('models', card.command)}")


def _cpu(placed: list[Placed], demand: Demand, host: Host, hardware: Hardware, engines: float) -> Limit:
    """Decoding and scaling on the CPU, what the card hands over, the gate, each inference; a CPU's engines too."""
    decode_ms = sum(one.on_cpu * one.group.source.fps * decode_ms_per_picture(one.group.source) for one in placed)
    frames = sum(one.group.count * one.group.source.fps for one in placed)
    from_card = sum(one.on_card * one.group.source.fps for one in placed)
    scaled_ms = sum(
        one.on_cpu / one.group.count * one.group.inferences_per_s * _scale_ms(one.group.source) for one in placed
    )
    inferences = sum(demand.rates().values())
    rest_ms = frames * _GATE_MS + from_card * _FROM_CARD_MS + scaled_ms + inferences * (_INFERENCE_MS + _TRITON_MS)
    share = (decode_ms + rest_ms) / 1000 / host.cores + (engines if hardware.on == "cpu" else 0.0)
    use = f"decoding {decode_ms / 1000:.2f}, the rest {rest_ms / 1000:.2f} of {host.cores:g} cores"
    return _limit("cpu", share, use, "measured on an AMD EPYC; docs/benchmarks/decode.md and client.md measure yours")


def _network(demand: Demand, host: Host) -> Limit:
    bits = sum(group.count * group.source.bits_per_s for group in demand.groups if group.is_remote)
    use = f"{bits / 1e6:.0f} of {host.network_mbit_per_s:.0f} Mbit/s"
    return _limit("network", bits / 1e6 / host.network_mbit_per_s, use, "the cameras' bitrates")


def decode_ms_per_picture(source: Source) -> float:
    """Milliseconds of one core for one picture of this source."""
    pixels = _pixels(source)
    more_bits = max(0.0, source.bits_per_s / source.fps - _PLAIN_BITS_PER_PIXEL * pixels)
    return _DECODE_MS + _DECODE_MS_PER_PIXEL * pixels + _DECODE_MS_PER_BIT * more_bits


def _scale_ms(source: Source) -> float:
    return _SCALE_MS + _SCALE_MS_PER_PIXEL * _pixels(source)


def _scaled_bytes(source: Source, canvas: Canvas) -> float:
    """One NV12 picture as the card's decoder scales it."""
    fit = letterbox(source.load.width, source.load.height, canvas)
    return fit.width * fit.height * 1.5


def _pixels(source: Source) -> int:
    return source.load.width * source.load.height
