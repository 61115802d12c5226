"""The GPU: driver, architecture, memory, clocks and power, decoders. Reading it is one function, judging it others.

Judging is pure, so that every line of it is tested where there is no GPU. Only the first GPU is looked at, as
clients do.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pynvml

from deploy.doctor.findings import Finding, judged, ok, problem, warning

LEAST_DRIVER, LEAST_SM = 580, (7, 5)
NVCUVID = "libnvcuvid.so.1"
_MIB = 1 << 20
# NVML's bits of nvmlDeviceGetCurrentClocksEventReasons that mean less than the card could do
_SLOWED = {0x4: "the power cap", 0x8: "hardware slowdown", 0x20: "heat", 0x40: "heat", 0x80: "the power brake"}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """The first GPU. Memory in MB (2^20), clocks of the multiprocessors in MHz, power in W; None: it does not say.

    `event_reasons` are NVML's bits for why the clocks are what they are.
    """

    name: str
    driver: str
    sm: tuple[int, int]
    memory_mb: int
    free_mb: int
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    power_limit_w: float | None = None
    power_default_w: float | None = None
    event_reasons: int | None = None


def read_card() -> CardFacts | str:
    """What the driver tells, or why it tells nothing."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return str(error)
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        memory = pynvml.nvmlDeviceGetMemoryInfo(device)
        return CardFacts(
            name=str(pynvml.nvmlDeviceGetName(device)),
            driver=str(pynvml.nvmlSystemGetDriverVersion()),
            sm=tuple(pynvml.nvmlDeviceGetCudaComputeCapability(device)),
            memory_mb=int(memory.total) // _MIB,
            free_mb=int(memory.free) // _MIB,
            sm_clock_mhz=_told(lambda: int(pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM))),
            sm_clock_max_mhz=_told(lambda: int(pynvml.nvmlDeviceGetMaxClockInfo(device, pynvml.NVML_CLOCK_SM))),
            power_limit_w=_told(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(device) / 1000),
            power_default_w=_told(lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(device) / 1000),
            event_reasons=_told(lambda: int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(device))),
        )
    except pynvml.NVMLError as error:
        return str(error)
    finally:
        pynvml.nvmlShutdown()


def nvcuvid_problem(name: str = NVCUVID) -> str | None:
    """Why the driver's video decoder cannot be loaded; None when it can."""
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return str(error)
    return None


def judge_card(card: CardFacts | str, nvcuvid: str | None, *, needs_decoder: bool, is_container: bool) -> list[Finding]:
    """Every line about the card; `needs_decoder`: some camera insists on it."""
    if isinstance(card, str):
        mend = (
            "reserve a GPU for this container and install the NVIDIA Container Toolkit on the host"
            if is_container
            else f"install NVIDIA's driver {LEAST_DRIVER} or later; where there is no GPU: --no-gpu"
        )
        return [problem("gpu", f"no NVIDIA GPU can be used: {card}", mend)]
    return [*_architecture(card), *_clocks(card), _decoder(nvcuvid, needs_decoder=needs_decoder)]


def judge_memory(card: CardFacts, need_mb: float, what: str, *, is_before: bool) -> Finding:
    """Free memory against what the planner says; `is_before`: nothing of ours runs on the card yet."""
    facts = {"memory_mb": card.memory_mb, "free_mb": card.free_mb, "need_mb": round(need_mb)}
    there_mb = card.free_mb if is_before else card.memory_mb
    kind = "free" if is_before else "in all"
    return judged(
        need_mb <= there_mb,
        "gpu memory",
        f"{there_mb} MB {kind}, {need_mb:.0f} needed ({what}; projected)",
        "end what else holds memory (nvidia-smi), configure fewer tiers, or decode on the CPU (sources.decode)",
        **facts,
    )


def _architecture(card: CardFacts) -> Iterator[Finding]:
    major = int(card.driver.split(".")[0]) if card.driver.split(".")[0].isdigit() else 0
    mend = f"install driver {LEAST_DRIVER} or later: Triton's image and its TensorRT ask for it"
    yield judged(major >= LEAST_DRIVER, "driver", f"{card.driver}, at least {LEAST_DRIVER}", mend, driver=card.driver)
    sm = f"{card.sm[0]}.{card.sm[1]}"
    mend = "use a T4 or later: older cards have no fused attention and no TensorRT 11"
    yield judged(card.sm >= LEAST_SM, "gpu", f"{card.name}, compute capability {sm}, at least 7.5", mend, sm=sm)


def _clocks(card: CardFacts) -> Iterator[Finding]:
    if card.sm_clock_mhz is not None and card.sm_clock_max_mhz is not None:
        reasons = sorted({text for bit, text in _SLOWED.items() if (card.event_reasons or 0) & bit})
        told = f"{card.sm_clock_mhz} of {card.sm_clock_max_mhz} MHz"
        facts = {"sm_clock_mhz": card.sm_clock_mhz, "sm_clock_max_mhz": card.sm_clock_max_mhz}
        if reasons:
            mend = "cool the card, or raise its cap (nvidia-smi -pl); a T4 sags from 1590 to about 900 MHz when hot"
            yield warning("gpu clocks", f"{told}, held down by {', '.join(reasons)}", mend, **facts)
        else:
            yield ok("gpu clocks", told, **facts)
    if card.power_limit_w is not None and card.power_default_w is not None:
        told = f"{card.power_limit_w:.0f} W, {card.power_default_w:.0f} by default"
        facts_w = {"power_limit_w": card.power_limit_w, "power_default_w": card.power_default_w}
        if card.power_limit_w < card.power_default_w:
            yield warning(
                "gpu power cap",
                told,
                f"lift it unless it is meant: nvidia-smi -pl {card.power_default_w:.0f}",
                **facts_w,
            )
        else:
            yield ok("gpu power cap", told, **facts_w)


def _decoder(nvcuvid: str | None, *, needs_decoder: bool) -> Finding:
    if nvcuvid is None:
        return ok("video decoder", f"{NVCUVID} loads")
    mend = "in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility,video; on a host: the driver's decode library"
    if needs_decoder:
        return problem("video decoder", f"a camera asks for decode: cuda, and {nvcuvid}", mend)
    return warning("video decoder", f"{nvcuvid}; the CPU decodes every camera", mend)


def _told(ask: Callable[[], float | int]) -> int | None:
    """What NVML says, None where this card or driver does not support the question."""
    try:
        return round(ask())
    except pynvml.NVMLError:
        return None
