"""What a run in virtual time has shown, as one JSON object."""

from __future__ import annotations

from collections import Counter
from typing import Any

from clients.audit import merged
from clients.types import Tier, Verdict
from loadtest.fairness import jain
from loadtest.simulation.run import Simulation


def report(simulation: Simulation) -> dict[str, Any]:
    """Plain values, rounded, so that two equal runs print equal bytes."""
    told, pool = simulation.scenario, simulation.pool
    cameras = list(simulation.cameras.values())
    streaming, plain = simulation.judge.scores()
    camera_s = told.cameras * told.seconds
    verdicts: Counter[Verdict] = Counter()
    frames = 0
    for one in cameras:
        decoded, counted = one.camera.counts()
        frames += decoded
        verdicts += counted
    audit = merged([one.audit.report() for one in cameras])
    inferences = sum(simulation.answered.values())
    shares = pool.busy_shares(told.seconds)
    fairness = jain(len(one.inferred_at) for one in cameras)
    return {
        "streaming_ap": round(streaming.map50_95, 3),
        "streaming_ap50": round(streaming.map50, 3),
        "ap": round(plain.map50_95, 3),
        "ap50": round(plain.map50, 3),
        "gpu_ms_per_camera_s": round(pool.busy_ms / camera_s, 4),
        "inferences_per_camera_s": round(inferences / camera_s, 4),
        "mean_batch": None if pool.mean_batch is None else round(pool.mean_batch, 3),
        "in_time_per_camera_s": round(simulation.in_time / camera_s, 4),
        "in_time_share": round(simulation.in_time / inferences, 4) if inferences else None,
        "age_ms": simulation.ages.summary(),
        "jain": round(1.0 if fairness is None else fairness, 4),
        "tier_share": {
            tier.value: round(simulation.answered[tier] / inferences, 4) if inferences else 0.0
            for tier in Tier
            if tier in simulation.tiers
        },
        "skip_share": round(1 - inferences / frames, 4) if frames else None,
        "skipped": {verdict.value: verdicts[verdict] for verdict in Verdict if verdict is not Verdict.INFERRED},
        "miss_rate": audit.as_json()["miss_rate"],
        "audit": audit.as_json(),
        "cards": told.cards,
        "busy_share_min": round(min(shares), 4),
        "busy_share_max": round(max(shares), 4),
    }
