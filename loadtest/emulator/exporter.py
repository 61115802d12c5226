"""What Prometheus sees of the emulated card, under the names that Triton and NVIDIA's DCGM exporter use for a real one.

So a dashboard or an alert can be tried without a card. Power, temperature and errors are not emulated, so they are not
here. Every metric's name, unit and labels stand in this file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from clients.data_sheet import GpuProfile
from clients.errors import ConfigError
from clients.types import Tier
from loadtest.emulator.card_clock import Card, CardState

UUID = "GPU-emulated-0"
_LOOK_S = 1.0
_MB = 1e6
_MIB = 2**20
_SESSION_MPIXELS = 1920 * 1080 / 1e6


class Utilisation:
    """The share of the time between the last two looks that the card has worked."""

    def __init__(self, state: CardState, now_ns: int) -> None:
        self.share = 0.0
        self._at_ns, self._done_ns = now_ns, state.done_ns(now_ns)

    def look(self, state: CardState, now_ns: int) -> None:
        """Once a second."""
        done_ns = state.done_ns(now_ns)
        if now_ns > self._at_ns:
            self.share = min(1.0, max(0.0, (done_ns - self._done_ns) / (now_ns - self._at_ns)))
        self._at_ns, self._done_ns = now_ns, done_ns


class CardCollector(Collector):
    """The card, read when somebody asks. `decoded_mpixels_per_s` is what its decoders are taken to do, of H.264."""

    def __init__(self, card: Card, profile: GpuProfile, tiers: Sequence[Tier], decoded_mpixels_per_s: float) -> None:
        """Raises ConfigError: pictures to decode, and a data sheet without a decoder."""
        self._card, self._profile = card, profile
        self._utilisation = Utilisation(card.read(), time.monotonic_ns())
        self._decoders = decoder_share(profile, decoded_mpixels_per_s)
        self._used_bytes = _used_mb(profile, tiers, decoded_mpixels_per_s) * _MB
        self._total_bytes = (profile.memory_mb or 0) * _MB

    def look(self) -> None:
        """Once a second: what utilisation is measured between."""
        self._utilisation.look(self._card.read(), time.monotonic_ns())

    def collect(self) -> Iterator[Metric]:
        """Everything at this moment."""
        yield from self._triton()
        yield from self._dcgm()

    def _triton(self) -> Iterator[Metric]:
        """As Triton's own metrics page has it of a card that it runs on."""
        for name, text, value in (
            ("nv_gpu_utilization", "GPU utilization rate [0.0 - 1.0)", self._utilisation.share),
            ("nv_gpu_memory_total_bytes", "GPU total memory, in bytes", self._total_bytes),
            ("nv_gpu_memory_used_bytes", "GPU used memory, in bytes", self._used_bytes),
        ):
            yield _gauge(name, text, value, {"gpu_uuid": UUID})

    def _dcgm(self) -> Iterator[Metric]:
        """As NVIDIA's dcgm-exporter has it."""
        labels = {"gpu": "0", "UUID": UUID, "device": "nvidia0", "modelName": self._profile.gpu}
        percent = round(self._utilisation.share * 100)
        yield _gauge("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", percent, labels)
        if self._profile.sm_clock_max_mhz:
            clock_mhz = self._profile.sm_clock_max_mhz * self._card.read().clock_share(time.monotonic_ns())
            yield _gauge("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", round(clock_mhz), labels)
        used, total = self._used_bytes / _MIB, self._total_bytes / _MIB
        yield _gauge("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", round(used), labels)
        yield _gauge("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", round(max(0, total - used)), labels)
        yield _gauge("DCGM_FI_DEV_DEC_UTIL", "Decoder utilization (in %).", round(self._decoders * 100), labels)


def _gauge(name: str, text: str, value: float, labels: dict[str, str]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def decoder_share(profile: GpuProfile, mpixels_per_s: float) -> float:
    """0..1: what decoding so many pixels of H.264 takes of the card's decoders. Raises ConfigError: it has none."""
    if not mpixels_per_s:
        return 0.0
    decoder = profile.hardware.decoders.get("h264") if profile.hardware else None
    if decoder is None:
        raise ConfigError(f"the data sheet of {profile.gpu} has no decoder of H.264, so it cannot decode anything")
    return min(1.0, mpixels_per_s / decoder.mpixels_per_s)


def _used_mb(profile: GpuProfile, tiers: Sequence[Tier], mpixels_per_s: float) -> float:
    """Engines, contexts, and decode sessions of 1080p at 25 fps; what the data sheet does not know counts nothing."""
    engines = sum(profile.models[tier.value].device_mb or 0 for tier in tiers)
    if profile.hardware is None:
        return engines
    sessions = mpixels_per_s / (_SESSION_MPIXELS * 25)
    return engines + profile.hardware.context_mb + sessions * profile.hardware.session_mb


@contextmanager
def served_card(collector: CardCollector, host: str, port: int) -> Iterator[str]:
    """Serve /metrics while open; yields its URL. Port 0 is a free one. Raises ConfigError when it cannot be had."""
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(f"port {port} on {host} cannot be used: {error.strerror or error}") from error
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            collector.look()

    watcher = threading.Thread(target=watch, name="card")
    watcher.start()
    try:
        yield f"http://{host}:{server.server_address[1]}/metrics"
    finally:
        done.set()
        server.shutdown()
        server.server_close()
        watcher.join()
        thread.join()
