"""The GPU as NVML sees it. A machine without one has no reading, and that is not an error."""

from __future__ import annotations

from dataclasses import dataclass

import pynvml


@dataclass(frozen=True, slots=True)
class GpuReading:
    """The first GPU at one moment: utilisation, memory and decoder in percent, SM clocks in MHz. Source: NVML."""

    name: str
    utilization_percent: float
    memory_percent: float
    sm_clock_mhz: int
    sm_clock_max_mhz: int
    decoder_percent: float


def read_gpu() -> GpuReading | None:
    """The first GPU's reading, or None where there is no driver or no GPU."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        memory = pynvml.nvmlDeviceGetMemoryInfo(device)
        return GpuReading(
            name=str(pynvml.nvmlDeviceGetName(device)),
            utilization_percent=float(pynvml.nvmlDeviceGetUtilizationRates(device).gpu),
            memory_percent=100.0 * memory.used / memory.total,
            sm_clock_mhz=int(pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM)),
            sm_clock_max_mhz=int(pynvml.nvmlDeviceGetMaxClockInfo(device, pynvml.NVML_CLOCK_SM)),
            decoder_percent=float(pynvml.nvmlDeviceGetDecoderUtilization(device)[0]),
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
