"""How many cameras there are when. Pure, and knows no Locust, whose import patches the whole process.

`constant` is Locust's own: so many users, spawned at so many a second, until the time is over.

- `ramp`: begins with the users asked for and adds a fifth of them every `step_s`, until the objective breaks.
- `step`: a quarter, a half, three quarters, all of them, for a quarter of the time each.
- `soak`: all of them for an hour, or as long as `-t` says; the objective must hold in every minute.
- `flash`: a fifth of them; in the middle third of the time all of them, at once.
"""

from __future__ import annotations

import math

from loadtest.load.wanted import Shape

SOAK_S = 3600.0
SHORT_S = 120.0  # of a shape with an end, where -t is not given


def length_s(shape: Shape, run_time_s: float | None) -> float:
    """How long the test takes at most; endless where nothing says so."""
    if run_time_s:
        return run_time_s
    return {"soak": SOAK_S, "step": SHORT_S, "flash": SHORT_S}.get(shape, math.inf)


def users_at(shape: Shape, elapsed_s: float, users: int, length: float, step_s: float) -> int:
    """How many cameras there are after so long; never none."""
    match shape:
        case "ramp":
            return users + math.floor(elapsed_s / step_s) * max(1, users // 5)
        case "step":
            return max(1, math.ceil(users * (math.floor(4 * elapsed_s / length) + 1) / 4))
        case "flash":
            return users if length / 3 <= elapsed_s < 2 * length / 3 else max(1, users // 5)
        case _:
            return users
