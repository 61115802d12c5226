"""The data sheets of GPUs under the name that load tests know them by; they are defined in clients/data_sheet.py."""

from clients.data_sheet import (
    GpuProfile,
    Hardware,
    Kind,
    Latency,
    ModelProfile,
    VideoDecoder,
    known_sheets,
    parse_profile,
    read_profile,
    sheet,
    slug,
)

__all__ = [
    "GpuProfile",
    "Hardware",
    "Kind",
    "Latency",
    "ModelProfile",
    "VideoDecoder",
    "known_sheets",
    "parse_profile",
    "read_profile",
    "sheet",
    "slug",
]
