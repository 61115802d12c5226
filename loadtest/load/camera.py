"""One camera of a load test: paced by its own clock whatever the server does, one frame in flight, the newest wins."""

from __future__ import annotations

import random
import time

import gevent

from clients.errors import InferenceError
from loadtest.load.camera_clock import CameraClock, phase_of
from loadtest.load.camera_link import CameraLink
from loadtest.load.payloads import code_of
from loadtest.load.session import Session
from loadtest.load.tally import CROSS_TALK, Fate

_TIMEOUT_DEADLINES = 10  # a request is given up after so many deadlines
_LEAST_TIMEOUT_S = 2.0


class DeadlineMissed(Exception):
    """An answer came too late."""


class Camera:
    """Joins the test of `session`. Its requests are made before its clock starts."""

    def __init__(self, session: Session, number: int) -> None:
        plan = session.plan
        assert plan is not None
        self._session, self._number, self._plan = session, number, plan
        self.name = f"cam{number:03d}"
        self._tier = session.tier_of(number)
        self._requests = session.requests_of(number)
        self._chance = random.Random(number)
        scale, wanted = plan.scale, plan.wanted
        epoch_s = time.monotonic() - time.time()  # bursts meet in the processes of one test
        self._clock = CameraClock(plan.fps / scale, phase_of(number), epoch_s, wanted.burst_s * scale)
        timeout_s = max(_LEAST_TIMEOUT_S, wanted.deadline_ms / 1000 * scale * _TIMEOUT_DEADLINES)
        self._link = CameraLink(session.address, timeout_s)
        self._in_flight_s: float | None = None  # when the frame in flight came due
        self._seen = 0

    def run(self) -> None:
        """Send frames until the greenlet is killed; every frame that came due until then is counted."""
        self._seen = self._clock.newest(time.monotonic())
        try:
            while True:
                newest = self._clock.newest(time.monotonic())
                if newest == self._seen:
                    gevent.sleep(max(0.0, self._clock.time_of(newest + 1) - time.monotonic()))
                    continue
                self._supersede(newest - 1)
                self._seen = newest
                self._send(newest)
        finally:
            self._leave()

    def close(self) -> None:
        """Close the channel; what is in flight is given up."""
        self._link.close()

    def _supersede(self, last: int) -> None:
        """Frames came due while another was in flight: only the newest of them is sent."""
        if last > self._seen:
            self._session.recent.count(self.name, Fate.SUPERSEDED, last - self._seen)

    def _send(self, index: int) -> None:
        wanted = self._plan.wanted
        if wanted.stale and self._chance.random() < wanted.stale:
            self._session.recent.count(self.name, Fate.STALE)
            return
        due_s = self._in_flight_s = self._clock.time_of(index)
        request = self._requests[index % len(self._requests)]
        try:
            rows = self._link.infer(request)
        except InferenceError as error:
            self._in_flight_s = None
            self._fail(error, due_s, len(request))
            return
        self._in_flight_s = None
        recent, age_ms = self._session.recent, self._age_ms(due_s)
        if self._plan.emulated and [row[5] for row in rows] != [code_of(self._number)]:
            recent.problems[CROSS_TALK] += 1
        fate = recent.answered(self.name, age_ms, wanted.deadline_ms)
        late = DeadlineMissed(f"later than {wanted.deadline_ms:g} ms") if fate is Fate.LATE else None
        self._tell(age_ms, len(request), late)

    def _fail(self, error: InferenceError, due_s: float, length: int) -> None:
        recent = self._session.recent
        recent.count(self.name, Fate.FAILED)
        recent.problems[type(error).__name__] += 1
        self._tell(self._age_ms(due_s), length, error)

    def _leave(self) -> None:
        """The test is over. Frames in flight, and waiting behind it, count when they have missed their deadline."""
        newest = self._clock.newest(time.monotonic())
        self._supersede(newest - 1)
        open_s = [] if self._in_flight_s is None else [self._in_flight_s]
        if newest > self._seen:
            open_s.append(self._clock.time_of(newest))
        late = sum(self._age_ms(due_s) > self._plan.wanted.deadline_ms for due_s in open_s)
        if late:
            self._session.recent.count(self.name, Fate.LATE, late)

    def _age_ms(self, due_s: float) -> float:
        """Milliseconds of the card since the frame came due."""
        return (time.monotonic() - due_s) * 1000 / self._plan.scale

    def _tell(self, age_ms: float, length: int, problem: Exception | None) -> None:
        """Locust's own table: response times there are ages, in milliseconds of the card."""
        self._session.environment.events.request.fire(
            request_type=self._plan.wanted.path,
            name=self._tier.value,
            response_time=age_ms,
            response_length=length,
            exception=problem,
            context={},
        )
