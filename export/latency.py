"""How engines are timed against each other: warm, in turns, and summed up by percentiles. Pure: who runs is given.

In turns, because a card's clocks sag while it works: what is timed second would look slower than it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from clients.data_sheet import Latency

WARM, ROUNDS = 20, 200

TimeOnce = Callable[[int], float]  # batch size -> milliseconds on the GPU


def batch_sizes(largest: int) -> tuple[int, ...]:
    """1, 2, 4 ... and the largest."""
    if largest < 1:
        raise ValueError(f"expected a largest batch of at least 1, got {largest}")
    powers = [1 << power for power in range(largest.bit_length())]
    return tuple(sorted({*powers, largest}))


def interleaved(
    runs: Mapping[str, TimeOnce],
    batches: Sequence[int],
    *,
    rounds: int = ROUNDS,
    warm: int = WARM,
    between: Callable[[], None] | None = None,
) -> dict[str, dict[int, list[float]]]:
    """Samples in ms by name and batch. In each round every batch of every run once; who begins takes turns.

    `between` is called after each counted round. The first `warm` rounds are not counted.
    """
    samples: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in batches} for name in runs}
    names = list(runs)
    for number in range(warm + rounds):
        order = names if number % 2 == 0 else names[::-1]
        for batch in batches:
            for name in order:
                taken = runs[name](batch)
                if number >= warm:
                    samples[name][batch].append(taken)
        if between is not None and number >= warm:
            between()
    return samples


def summed_up(samples: Mapping[int, Sequence[float]]) -> dict[int, Latency]:
    """Median and 95th percentile by batch, ascending, rounded to a microsecond."""
    return {
        batch: Latency(round(percentile(samples[batch], 50), 3), round(percentile(samples[batch], 95), 3))
        for batch in sorted(samples)
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was seen. Raises ValueError for no values."""
    if not values:
        raise ValueError("expected at least one value, got none")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]
