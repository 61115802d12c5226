"""HOTA, IDF1 and MOTA by TrackEval. A script of its own, run by the environment that has it.

    <environment>/bin/python demo/tracking/judge.py SEQUENCES.npz

SEQUENCES holds, per sequence k from 0, `k/frames` (), `k/truth` and `k/tracks` (n, 6): frame from 0, id, x1, y1, x2,
y2. The last line of stdout is JSON: the three in percent over all sequences, and id switches.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trackeval.metrics import CLEAR, HOTA, Identity

Rows = NDArray[np.float64]


def overlap(a: Rows, b: Rows) -> Rows:
    """IoU of boxes (n, 4) and (m, 4)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    share: Rows = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)
    return share


def sequence(frames: int, truth: Rows, tracks: Rows) -> dict[str, Any]:
    """TrackEval's own form; its ids count from 0."""
    rows = {name: [some[some[:, 0] == t] for t in range(frames)] for name, some in (("gt", truth), ("tracker", tracks))}
    data: dict[str, Any] = {"num_timesteps": frames}
    for name, some in (("gt", truth), ("tracker", tracks)):
        known, _ = np.unique(some[:, 1], return_inverse=True)
        data |= {f"num_{name}_ids": len(known), f"num_{name}_dets": len(some)}
        data[f"{name}_ids"] = [np.searchsorted(known, one[:, 1]) for one in rows[name]]
    data["similarity_scores"] = [overlap(g[:, 2:], t[:, 2:]) for g, t in zip(rows["gt"], rows["tracker"], strict=True)]
    return data


def main(path: str) -> None:
    """Judge all sequences together: counts are added, so every box weighs the same."""
    metrics = {"hota": HOTA(), "clear": CLEAR({"PRINT_CONFIG": False}), "identity": Identity({"PRINT_CONFIG": False})}
    results: dict[str, dict[int, Any]] = {name: {} for name in metrics}
    k = 0
    with np.load(path) as file:
        while f"{k}/truth" in file:
            data = sequence(int(file[f"{k}/frames"]), file[f"{k}/truth"], file[f"{k}/tracks"])
            for name, metric in metrics.items():
                results[name][k] = metric.eval_sequence(data)
            k += 1
    whole = {name: metric.combine_sequences(results[name]) for name, metric in metrics.items()}
    scores = {
        "hota": float(np.mean(whole["hota"]["HOTA"])) * 100,
        "assa": float(np.mean(whole["hota"]["AssA"])) * 100,
        "deta": float(np.mean(whole["hota"]["DetA"])) * 100,
        "idf1": float(whole["identity"]["IDF1"]) * 100,
        "mota": float(whole["clear"]["MOTA"]) * 100,
    }
    rounded = {name: round(value, 2) for name, value in scores.items()}
    print(json.dumps(rounded | {"id_switches": int(whole["clear"]["IDSW"])}))


if __name__ == "__main__":
    main(sys.argv[1])
