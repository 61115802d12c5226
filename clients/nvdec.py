"""The plan of NVDEC for a configuration and this machine."""

from __future__ import annotations

import logging

from clients.config import Settings
from clients.errors import ConfigError
from clients.sources.cuda import cuda_problem
from clients.sources.placement import NvdecPlan, cpu_only

_MEGA = 1e6
log = logging.getLogger(__name__)


def nvdec_plan(settings: Settings) -> NvdecPlan:
    """What is configured; the device is looked for, once, only where a camera may be decoded on it.

    Raises ConfigError, a line for each camera that insists on CUDA, where there is no device.
    """
    sources = settings.sources
    wishes = {camera.id: camera.decode or sources.decode for camera in settings.cameras}
    if sources.decode == "cpu" and all(wish == "cpu" for wish in wishes.values()):
        return cpu_only()
    problem = cuda_problem()
    if problem is not None:
        insisting = [name for name, wish in wishes.items() if wish == "cuda"]
        if insisting:
            raise ConfigError(
                "\n".join(f"camera {name}: decode: cuda is asked for, but {problem}" for name in insisting)
            )
        log.info("cameras are decoded on the CPU: %s", problem)
    capacity = {"h264": sources.nvdec_h264_mpixels_per_s * _MEGA, "hevc": sources.nvdec_hevc_mpixels_per_s * _MEGA}
    return NvdecPlan(capacity, limit=sources.nvdec_limit, problem=problem)
