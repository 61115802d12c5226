"""One process of a load test: what it prepares, counts, samples and says. Locust's events call it; see locustfile.py.

A `local` or `master` process starts or checks the server, plans, reads metrics and judges; a `worker` only counts and
sends its counts, which Locust carries to the master every few seconds.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
from gevent.lock import RLock
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from clients.errors import FleetError
from clients.types import Tier
from loadtest.load.payloads import city_pictures, requests_of
from loadtest.load.report import write_report
from loadtest.load.server import Embedded, Target, address_of, metrics_urls, target_of
from loadtest.load.server_metrics import CardFigures, Reading, read_metrics
from loadtest.load.tally import Fate, Tally
from loadtest.load.verdict import Sample, Seen, held, judged
from loadtest.load.wanted import Plan, Wanted, plan, tier_of

SAMPLE_S = 1.0
_SETTLED_S = 1.5  # a test that ended so long before its time was interrupted
_TALLY, _STOP, _LAST = "y12_tally", "y12_stop", "y12_last"
_LAST_COUNTS_S = 15.0
log = logging.getLogger("locust.fleet")


class Session:
    """The state of this process, from its start to its end; a test in the web interface begins anew in it."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.options: Any = environment.parsed_options
        self.is_worker = isinstance(environment.runner, WorkerRunner)
        self.is_master = isinstance(environment.runner, MasterRunner)
        self.plan: Plan | None = None
        self.target: Target | None = None
        self._embedded: Embedded | None = None
        self._pictures: Any = None
        self._ending = RLock()
        self._begin()

    def _begin(self) -> None:
        """A test begins: nothing has been counted, and nothing said."""
        self.report: dict[str, Any] | None = None
        self.tally = Tally()  # of the whole test
        self.recent = Tally()  # since the last report to the master, or the last sample
        self.samples: list[Sample] = []
        self.problems: list[str] = []
        self.started_s, self._cpu_s = time.monotonic(), time.process_time()
        self.most_cameras = 0
        self.held_cameras: set[int] = set()
        self.broke_cameras: int | None = None
        self._before: Reading | None = None
        self._last: Reading | None = None
        self._card = CardFigures()
        self._requests: dict[int, list[bytes]] = {}  # the path and the tiers may be others than before
        self._numbers = self._workers = 0
        self._told_last: set[str] = set()
        self.running = False
        self._stopped_s: float | None = None

    def connect(self) -> None:
        """Worker and master: counts travel with Locust's reports, the last ones by a message that is waited for."""
        events, runner = self.environment.events, self.environment.runner
        if self.is_worker:
            events.report_to_master.add_listener(lambda data, **_: self.to_master(data))
            runner.register_message(_STOP, lambda **_: self._send_last())
        if self.is_master:
            events.worker_report.add_listener(lambda data, **_: self.from_worker(data))
            runner.register_message(_LAST, lambda msg, **_: self._from_last(msg.node_id, msg.data))

    # --- before a test

    def prepare(self) -> None:
        """Pictures, where there are cameras; the server, and whether the test can begin. Raises FleetError.

        In the web interface everything can still be changed, and is looked at again when a test begins.
        """
        if not self.is_master:
            self._pictures = city_pictures()
        if self.is_worker:
            return
        wanted = Wanted.of(self.options)
        try:
            self.find(wanted)
            self.set_plan(wanted)
        except FleetError as error:
            if self.options.headless:
                raise
            log.warning("no test can begin yet: %s", error)

    def find(self, wanted: Wanted) -> None:
        """The server at --host, or one of our own. Raises FleetError."""
        options = self.options
        gpu = options.gpu
        if not self.environment.host:
            if self._embedded is None:
                log.info("no --host: starting a Triton with an emulated card")
                self._embedded = Embedded(options)
            self.environment.host = self._embedded.told["grpc"]
        address, told = address_of(self.environment.host), options.metrics_url
        if self._embedded is not None and address == self._embedded.told["grpc"]:
            gpu = ""  # it tells its data sheet itself, in the variant that was asked for
            told = told or ",".join(self._embedded.told[page] for page in ("metrics", "gpu_metrics"))
        metrics = metrics_urls(told, address)
        self.target = target_of(address, metrics, wanted, gpu, options.variant)
        read_metrics(metrics)

    def set_plan(self, wanted: Wanted) -> None:
        """How often each camera sends. Raises ConfigError."""
        target = self.target
        assert target is not None
        cameras = self.options.num_users or 1
        planned = plan(wanted, cameras, target.profile, target.scale, emulated=target.emulated)
        self.plan = replace(planned, canvas=target.canvas)
        vars(self.options).update(self.plan.as_options())
        capacity = self.plan.capacity_per_s
        share = "" if capacity is None else f", {self.plan.fps * cameras / capacity:.0%} of {capacity:.0f}/s"
        log.info("%d cameras of %.2f frames/s of card time%s", cameras, self.plan.fps, share)

    def begin(self) -> None:
        """A test starts, in every process; requests are made before any camera is there."""
        self.end()  # of a test before, which may be waiting for its workers' last counts
        self._begin()
        try:
            if self.is_worker:
                self.plan = Plan.of(self.options)
            else:
                wanted = Wanted.of(self.options)  # the web interface may have changed everything
                self.find(wanted)
                self.set_plan(wanted)
                assert self.target is not None
                self._before = self._last = read_metrics(self.target.metrics)
            if not self.is_master:
                self._prepare_requests()
        except FleetError as error:
            self.fail(str(error))
            return
        self.started_s, self._cpu_s = time.monotonic(), time.process_time()
        self._workers = self.environment.runner.worker_count if self.is_master else 0
        self.running = True
        if not self.is_worker:
            gevent.spawn(self._sample)

    def fail(self, problem: str) -> None:
        """The test cannot go on, or cannot be believed: say why in one line, and end it."""
        self.problems.append(problem)
        log.error("%s", problem)
        runner = self.environment.runner
        gevent.spawn(runner.quit if self.options.headless else runner.stop)

    def _prepare_requests(self) -> None:
        share = max(1, getattr(self.options, "expect_workers", 1)) if self.is_worker else 1
        for local in range(-(-(self.options.num_users or 1) // share)):
            self.requests_of(self._number(local))

    # --- cameras

    def join(self) -> int:
        """A camera joins; its number, which no other camera of the test has."""
        number, self._numbers = self._number(self._numbers), self._numbers + 1
        return number

    def _number(self, local: int) -> int:
        runner = self.environment.runner
        if not isinstance(runner, WorkerRunner):
            return local
        return local * max(1, int(self.options.expect_workers)) + max(0, int(runner.worker_index))

    def tier_of(self, number: int) -> Tier:
        """Which tier the camera asks for."""
        assert self.plan is not None
        return tier_of(number, self.plan.wanted.mix)

    def requests_of(self, number: int) -> list[bytes]:
        """What the camera sends in turn."""
        if number not in self._requests:
            assert self.plan is not None
            path, canvas = self.plan.wanted.path, self.plan.canvas
            self._requests[number] = requests_of(number, self.tier_of(number), path, self._pictures, canvas)
        return self._requests[number]

    # --- during a test

    def to_master(self, data: dict[str, Any]) -> None:
        """What a worker has counted since its last report."""
        data[_TALLY] = self.recent.as_message()
        self.tally.merge(self.recent)
        self.recent = Tally()

    def from_worker(self, data: dict[str, Any]) -> None:
        """Count what a worker has counted. Its numbers are checked: a worker of another version fails the test."""
        try:
            self.recent.merge(Tally.of_message(data[_TALLY]))
        except (KeyError, TypeError, ValueError) as error:
            self.fail(f"a worker's counts cannot be read: {error!r}")

    def _send_last(self) -> None:
        """The test is over: stop the cameras of this worker, then send what they have counted."""
        self.environment.runner.stop()
        data: dict[str, Any] = {}
        self.to_master(data)
        self.environment.runner.send_message(_LAST, data)

    def _from_last(self, worker: str, data: dict[str, Any]) -> None:
        self.from_worker(data)
        self._told_last.add(worker)

    def _collect(self) -> None:
        """Have the workers stop, and wait for what they have counted; one that does not answer is a problem."""
        self.environment.runner.send_message(_STOP)
        with gevent.Timeout(_LAST_COUNTS_S, False):
            while len(self._told_last) < self._workers:
                gevent.sleep(0.02)
        if lost := self._workers - len(self._told_last):
            self.problems.append(f"{lost} of {self._workers} workers did not tell what they have counted")

    def _sample(self) -> None:
        """Once a second: what has happened, what the metrics say."""
        started_s = self.started_s
        while self.running and self.started_s == started_s:
            gevent.sleep(SAMPLE_S)
            with contextlib.suppress(FleetError):  # one page that is late is not the end; at the end it must be there
                self.sample()

    def sample(self) -> None:
        """Count what is new. Raises MetricsUnreachable, when everything has been counted."""
        recent, self.recent = self.recent, Tally()
        self.tally.merge(recent)
        runner, target = self.environment.runner, self.target
        cameras = runner.user_count
        self.most_cameras = max(self.most_cameras, cameras)
        at_s = time.monotonic() - self.started_s
        reading = before = None
        try:
            assert target is not None
            reading, before = read_metrics(target.metrics), self._last
            self._last = reading
            self._card.readings.append(reading)
        finally:
            batch = reading.mean_batch_since(before) if reading and before else None
            used = reading.utilisation if reading else None
            self.samples.append(Sample(at_s, cameras, recent.total(Fate.GOOD), recent.asked, recent.ages, batch, used))

    def broken(self, window_s: float) -> bool:
        """Whether the objective broke at this step of a ramp, once the step has lasted; remembers how many held."""
        assert self.plan is not None
        if not self.samples or self.samples[-1].at_s < window_s * 0.9:
            return False
        now_s = self.samples[-1].at_s
        step = [one for one in self.samples if now_s - window_s / 2 < one.at_s]
        if held(self.plan.wanted.objective, step):
            self.held_cameras.add(min(one.cameras for one in step))
            return False
        self.broke_cameras = max(one.cameras for one in step)
        self.held_cameras = {cameras for cameras in self.held_cameras if cameras < self.broke_cameras}
        return True

    # --- after a test

    def stopped(self) -> None:
        """The cameras have been told to stop; what they, or the workers, still count belongs to the test."""
        if self._stopped_s is not None:
            return
        self._stopped_s = time.monotonic()
        if self.is_master and self.running:
            self._collect()

    def end(self) -> None:
        """All has been counted, on a local or master process: judge the test. Does nothing when none runs."""
        with self._ending:  # reading metrics lets other greenlets run, one of which may be the end of the process
            if self.is_worker or not self.running or self.plan is None:
                return
            self.stopped()
            assert self._stopped_s is not None
            seconds = self._stopped_s - self.started_s
            try:
                self.sample()
            except FleetError as error:
                self.problems.append(str(error))
            self.report = judged(self._seen(seconds))
            self.running = False
            if self.options.report:
                self._write_report(Path(self.options.report), self.report)

    def so_far(self) -> dict[str, Any]:
        """The report of the test that runs, else of the last one."""
        if not self.running or self.plan is None:
            return self.report or {"passed": False, "problems": self.problems}
        return judged(self._seen(time.monotonic() - self.started_s))

    def _seen(self, seconds: float) -> Seen:
        assert self.plan is not None
        return Seen(
            plan=self.plan,
            tally=self.tally,
            seconds=seconds,
            cameras=self.most_cameras,
            before=self._before,
            after=self._last,
            card=self._card,
            samples=self.samples,
            problems=[*self.problems, *self._told_by_locust()],
            held_cameras=max(self.held_cameras, default=None),
            broke_cameras=self.broke_cameras,
            client_cpu_s=None if self.is_master else time.process_time() - self._cpu_s,  # cameras are elsewhere
        )

    def interrupted(self, seconds_wanted: float) -> None:
        """The test was ended from outside before its time: what it shows is not what was asked for."""
        if self.running and time.monotonic() - self.started_s < seconds_wanted - _SETTLED_S:
            self.problems.append(f"interrupted after {time.monotonic() - self.started_s:.1f} s")

    def _told_by_locust(self) -> list[str]:
        runner = self.environment.runner
        return [f"an exception in a camera: {one['msg']}" for one in runner.exceptions.values()]

    def _write_report(self, path: Path, report: dict[str, Any]) -> None:
        try:
            write_report(path, report, self.samples)
        except OSError as error:
            report["problems"].append(f"{error.filename}: the report cannot be written: {error.strerror}")
            report["passed"] = False

    def close(self) -> None:
        """Say the verdict, one line of JSON, the last; end what was started."""
        if self.report is not None:
            for problem in self.report["problems"]:
                print(f"locust: {problem}", file=sys.stderr, flush=True)
            print(json.dumps(self.report), flush=True)
        if self._embedded is not None:
            self._embedded.stop()
            self._embedded = None

    @property
    def address(self) -> str:
        """host:port of Triton's gRPC. Raises ConfigError."""
        return address_of(self.environment.host or "")

    @property
    def has_stopped(self) -> bool:
        """Whether the cameras have been told to stop."""
        return self._stopped_s is not None

    @property
    def exit_code(self) -> int:
        """0: the last test passed, or there was none. A worker leaves the verdict to its master."""
        if self.is_worker:
            return 0
        if self.report is None:
            return int(self.running or bool(self.problems))
        return int(not self.report["passed"])
