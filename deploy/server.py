"""A real Triton on this machine, out of a wheel: started, watched until ready, and gone when its launcher is."""

from __future__ import annotations

import contextlib
import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.access import ServerAccess
from deploy.claim import Claim, claim, remove, remove_stale
from deploy.errors import LauncherError, ModelLoadFailed, NotReady, NumpyUnusable, PortTaken, ServerExited
from deploy.guarded_process import GuardedProcess
from deploy.ports import choose, choose_again, is_free
from deploy.server_log import StartupLog
from deploy.wheel import MEND, find_wheel

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = REPOSITORY / ".venv-triton"

_EXIT_TIMEOUT_S = 5
_GRACE_S = _EXIT_TIMEOUT_S + 5.0
_LOOK_S = 0.05
_ANSWER_S = 2.0
_MORE_FAILURES_S = 1.0  # once a model has failed, this long for Triton to end by itself and name the others
_OPEN = ServerAccess()
_ATTEMPTS = 3  # with other free ports, when somebody was faster

LogSink = Callable[[str], None] | Path | None


class TritonServer:
    """One tritonserver on a run repository; a context manager. Every method blocks: use asyncio.to_thread there.

    Ports left out are free ones, chosen once: `restart` keeps them. `log` is a file (appended to) or a function
    that gets each line, in another thread, and must be quick; lines are dropped when it fails. `listen` is the
    address of gRPC and metrics where it is another than `host`; HTTP, which knows no TLS, stays on `host`.
    `installed` is a Triton that the system has, such as /opt/tritonserver, in place of the environment's.
    After the server has died by itself, `is_running` says so and `start` or `restart` brings it back.
    """

    def __init__(
        self,
        run_repository: Path,
        *,
        environment: Path = ENVIRONMENT,
        host: str = "127.0.0.1",
        grpc_port: int | None = None,
        http_port: int | None = None,
        metrics_port: int | None = None,
        ready_timeout_s: float = 60,
        log: LogSink = None,
        extra_repositories: Sequence[Path] = (),
        extra_args: Sequence[str] = (),
        access: ServerAccess = _OPEN,
        listen: str | None = None,
        installed: Path | None = None,
    ) -> None:
        self._repositories = (run_repository, *extra_repositories)
        self._environment = environment
        self._host = host
        self._ready_timeout_s = ready_timeout_s
        self._log = log
        self._extra_args = (*access.arguments(), *extra_args)
        self._listen = listen or host
        self._installed = installed
        self._ports = choose(host, grpc=grpc_port, http=http_port, metrics=metrics_port)
        self._process: GuardedProcess | None = None
        self._startup = StartupLog()
        self._has_been_ready = False
        self._turn = threading.Lock()
        self._stop_asked = threading.Event()

    @property
    def grpc_url(self) -> str:
        """host:port, as tritonclient.grpc wants it."""
        return f"{self._host}:{self._ports.grpc}"

    @property
    def http_url(self) -> str:
        """http://host:port."""
        return f"http://{self._host}:{self._ports.http}"

    @property
    def metrics_url(self) -> str:
        """http://host:port/metrics, in Prometheus' format."""
        return f"http://{self._host}:{self._ports.metrics}/metrics"

    @property
    def pid(self) -> int:
        """Process id of the tritonserver. Raises LauncherError when it has not been started."""
        if self._process is None:
            raise LauncherError("the server has not been started")
        return self._process.pid

    @property
    def log_tail(self) -> tuple[str, ...]:
        """The last lines of this start's log."""
        return tuple(self._startup.tail)

    def is_running(self) -> bool:
        """Whether the server's process lives."""
        process = self._process
        return process is not None and process.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """What the server's process ended with (128 + signal), None while it runs or where there is none."""
        return None if self._process is None else self._process.exit_code

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for the server's process to end; whether it has. True where there is none."""
        process = self._process
        return process is None or process.wait(timeout_s)

    def start(self) -> None:
        """Start and return when every model is ready; does nothing when it runs already.

        Raises EnvironmentUnusable (and its kinds), PortTaken, ModelLoadFailed, ServerExited, NotReady, LauncherError.
        Nothing is left running then.
        """
        with self._turn:
            self._stop_asked.clear()
            self._start()

    def stop(self, *, at_once: bool = False) -> None:
        """Ask the server to unload and exit, which takes it seconds, and end it if it does not; `at_once` only ends it.

        Does nothing when there is none. A start that is under way in another thread gives up.
        """
        self._stop_asked.set()
        with self._turn:
            self._stop(at_once=at_once)

    def restart(self) -> None:
        """Stop, if it runs, and start again on the same ports. Raises as `start` does."""
        with self._turn:  # in one piece: a stop from another thread comes before or aborts it, never in between
            self._stop_asked.clear()
            self._stop(at_once=False)
            self._start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _start(self) -> None:
        if self.is_running():
            return
        self._stop(at_once=True)  # what is left of one that died
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start_once()
            except PortTaken as error:
                if attempt == _ATTEMPTS or self._has_been_ready or error.service in self._ports.given:
                    raise
                self._ports = choose_again(self._host, self._ports)
            else:
                self._has_been_ready = True
                return

    def _start_once(self) -> None:
        for name, port in self._ports.items():
            if not is_free(self._host, port):
                raise PortTaken(name, self._host, port)
        self._startup = StartupLog()
        try:
            self._process = self._spawn()
            self._wait_until_ready(self._process)
        except BaseException:
            self._stop(at_once=True)
            raise

    def _stop(self, *, at_once: bool) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.stop(at_once=at_once)

    def _spawn(self) -> GuardedProcess:
        wheel = find_wheel(self._environment, self._installed)
        with _claimed() as mine, contextlib.ExitStack() as on_error:
            on_error.callback(remove, mine.name)
            backends, libraries = wheel.assemble_backend(mine.folder)
            command = [str(wheel.program), *self._arguments(backends, mine.prefix), *self._extra_args]
            variables = wheel.process_environment(os.environ, libraries)
            sink = _opened(self._log)
            startup = self._startup

            def on_line(line: str) -> None:
                startup.feed(line)
                with contextlib.suppress(Exception):  # a broken sink must not fill the server's pipe
                    sink(line)

            process = GuardedProcess(command, variables, mine, grace_s=_GRACE_S, on_line=on_line)
            on_error.pop_all()
        return process

    def _arguments(self, backends: Path, shared_memory_prefix: str) -> Iterator[str]:
        for repository in self._repositories:
            yield f"--model-repository={repository.absolute()}"
        yield f"--backend-directory={backends}"
        yield f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}"
        yield from ("--model-control-mode=none", "--disable-auto-complete-config", "--exit-on-error=true")
        yield "--strict-readiness=true"
        yield f"--exit-timeout-secs={_EXIT_TIMEOUT_S}"
        yield from ("--allow-metrics=true", "--metrics-interval-ms=1000")
        for service, port in self._ports.items():
            address = self._host if service == "http" else self._listen
            yield from (f"--{service}-address={address}", f"--{service}-port={port}")

    def _wait_until_ready(self, process: GuardedProcess) -> None:
        deadline = time.monotonic() + self._ready_timeout_s
        while not process.wait(_LOOK_S):
            if self._stop_asked.is_set():
                raise LauncherError("the server was stopped before it was ready")
            if self._startup.reasons or self._startup.numpy_complaint:
                process.wait(_MORE_FAILURES_S)
                break
            if self._is_ready():
                return
            if time.monotonic() > deadline:
                said = self._startup.last_complaint()
                raise NotReady(f"Triton was not ready within {self._ready_timeout_s:g} s; it last said: {said}")
        process.stop(at_once=True)  # all of its log has been read now
        raise self._failure(process.exit_code)

    def _failure(self, exit_code: int | None) -> LauncherError:
        startup = self._startup
        if startup.numpy_complaint:
            return NumpyUnusable(f"{self._environment}: {startup.numpy_complaint}; {MEND}")
        if startup.reasons:
            return ModelLoadFailed(startup.reasons)
        for name, port in self._ports.items():
            if port == startup.taken_port:
                return PortTaken(name, self._host, port)
        return ServerExited(f"Triton ended with code {exit_code} before it was ready: {startup.last_complaint()}")

    def _is_ready(self) -> bool:
        """Triton opens gRPC first, HTTP next, metrics last: a port taken at the last moment ends it in between."""
        return _answers(self._host, self._ports.http, "/v2/health/ready") and _answers(
            self._host, self._ports.metrics, "/metrics"
        )


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def _claimed() -> Iterator[Claim]:
    """A claim whose locks this process holds only until the guardian has inherited them."""
    remove_stale()
    mine = claim()
    try:
        yield mine
    finally:
        mine.close()


def _opened(log: LogSink) -> Callable[[str], None]:
    if log is None:
        return lambda _line: None
    if not isinstance(log, Path):
        return log
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    except OSError as error:
        raise LauncherError(f"{log}: the server's log cannot be written: {error.strerror}") from error

    def append(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    return append
