"""The shapes of stages.py as Locust wants them: it asks once a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from locust import LoadTestShape

from loadtest.load.stages import length_s, users_at

_AT_ONCE = 1e4


class FleetShape(LoadTestShape):  # type: ignore[misc] # Locust is not typed for mypy here
    """One of the shapes. `options` are Locust's; `broken` says whether the objective does not hold any more."""

    abstract = True  # not to be found by Locust, which would then always use it
    use_common_options = True

    def __init__(self, options: Any, broken: Callable[[float], bool]) -> None:
        super().__init__()
        self._options, self._broken = options, broken
        self.finished = False

    def reset_time(self) -> None:
        """A test begins."""
        super().reset_time()
        self.finished = False

    def tick(self) -> tuple[int, float] | None:
        """Users and spawn rate; None at the end."""
        options, elapsed_s = self._options, self.get_run_time()
        length = length_s(options.shape, options.run_time)
        if elapsed_s >= length or (options.shape == "ramp" and self._broken(options.step_s)):
            self.finished = True
            return None
        users = users_at(options.shape, elapsed_s, options.num_users or 1, length, options.step_s)
        return users, _AT_ONCE if options.shape == "flash" else options.spawn_rate or 1
