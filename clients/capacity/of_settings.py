"""The demand of a configuration file: its cameras with their rates and tiers, what they send as far as it is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from clients.capacity.demand import Cameras, Demand, Source
from clients.config import Settings
from clients.sources.address import Kind, address_of
from clients.sources.stream import StreamFacts
from clients.types import DecodeOn, StreamSpec, Tier

_NETWORK = (Kind.RTSP, Kind.HTTP, Kind.UDP)


def demand_of(settings: Settings, usual: Source, facts: Mapping[str, StreamFacts]) -> Demand:
    """Cameras that are alike become one group, in the order of the file.

    `facts` are those of cameras that have been looked at (check.py), by id; the others send what `usual` says. Rates
    are what the cameras may get at most (`max_fps`). Raises ConfigError as `Settings.streams` does.
    """
    counts = Counter(_group_key(spec, usual, facts.get(spec.stream_id)) for spec in settings.streams())
    groups = tuple(
        Cameras(count, source, rate, {tier: 1.0}, decode, is_remote)
        for (source, rate, tier, decode, is_remote), count in counts.items()
    )
    return Demand(groups, settings.canvas)


def _group_key(
    spec: StreamSpec, usual: Source, facts: StreamFacts | None
) -> tuple[Source, float, Tier, DecodeOn, bool]:
    source = usual if facts is None else Source(facts.load)
    return source, spec.max_fps, spec.tier, spec.decode, address_of(spec).kind in _NETWORK
