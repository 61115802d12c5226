"""The launcher of a local Triton, on the real server with tiny models: what it starts, says, and leaves behind."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton

from deploy.claim import SHARED_MEMORY, claim, remove, remove_stale, scratch
from deploy.errors import (
    EnvironmentMissing,
    LauncherError,
    LibpythonMissing,
    ModelLoadFailed,
    NotReady,
    NumpyUnusable,
    PortTaken,
    ServerExited,
    StubMissing,
    WheelMissing,
)
from deploy.server import ENVIRONMENT, TritonServer
from deploy.server_log import StartupLog
from deploy.wheel import find_wheel

ROOT = Path(__file__).resolve().parent.parent
Packages = tuple[Path, ...]

CONFIG = """
name: "%s"
backend: "python"
input [{name: "given" data_type: TYPE_FP32 dims: [-1]}]
output [{name: "doubled" data_type: TYPE_FP32 dims: [-1]}]
instance_group [{kind: KIND_CPU count: 1}]
"""
DOUBLE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        %s

    def execute(self, requests):
        given = [pb_utils.get_input_tensor_by_name(request, "given").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("doubled", 2 * array)]) for array in given]
"""


def write_model(repository: Path, name: str = "double", initialize: str = "pass") -> Path:
    """A model that doubles a vector; `initialize` is a statement that runs when it is loaded."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(CONFIG % name)
    (version / "model.py").write_text(DOUBLE % initialize)
    return repository


def doubled(server: TritonServer, values: list[float]) -> list[float]:
    """What the server makes of a vector."""
    client = triton.InferenceServerClient(server.grpc_url)
    try:
        given = triton.InferInput("given", [len(values)], "FP32")
        given.set_data_from_numpy(np.array(values, dtype=np.float32))
        answer = client.infer("double", [given], client_timeout=20)
        return [float(value) for value in answer.as_numpy("doubled")]
    finally:
        client.close()


def claim_of(pid: int) -> str:
    """The name that a running server's files and shared memory carry."""
    found = re.search(r"y12triton-\d+-\w+", " ".join(psutil.Process(pid).cmdline()))
    assert found
    return found[0]


def left_of(mark: str) -> list[str]:
    """What exists of a server: processes, shared memory regions, folders."""
    processes = [
        f"{process.pid} {process.info['name']}"
        for process in psutil.process_iter(["cmdline", "name"])
        if any(mark in word for word in process.info["cmdline"] or ())
    ]
    files = [*SHARED_MEMORY.glob(f"*{mark}*"), *Path(tempfile.gettempdir()).glob(f"*{mark}*")]
    return processes + [str(file) for file in files]


def wait_for_end(pid: int, timeout_s: float = 20) -> None:
    """Return when a process that need not be our child has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], timeout_s)[0], f"process {pid} did not end"
    finally:
        os.close(handle)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the one model `double`."""
    return write_model(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def log_lines() -> list[str]:
    """What the shared server has logged."""
    return []


@pytest.fixture(scope="module")
def server(repository: Path, log_lines: list[str]) -> Iterator[TritonServer]:
    """A running server, started by a thread that has ended since."""
    running = TritonServer(repository, log=log_lines.append)
    starter = threading.Thread(target=running.start)
    starter.start()
    starter.join()
    yield running
    running.stop(at_once=True)


def test_a_started_server_answers_on_loopback(server: TritonServer) -> None:
    """When start returns, the model answers, on every service, at addresses of this host only."""
    assert doubled(server, [1.0, 2.5]) == [2.0, 5.0]
    for url in (f"{server.http_url}/v2/health/ready", server.metrics_url):
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
    listening = [c.laddr for c in psutil.Process(server.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_start_again_keeps_the_running_server(server: TritonServer) -> None:
    """A second start of a running server does nothing."""
    before = server.pid
    server.start()
    assert server.pid == before


def test_the_log_is_passed_through(server: TritonServer, log_lines: list[str]) -> None:
    """Every line of Triton's log reaches the function that the caller gave."""
    assert any("successfully loaded 'double'" in line for line in log_lines)
    assert server.log_tail
    assert set(server.log_tail) <= set(log_lines)


def test_a_server_that_died_is_seen_and_comes_back_on_its_ports(server: TritonServer) -> None:
    """After the server was killed is_running is false, nothing of it is left, and restart uses the same ports."""
    urls = (server.grpc_url, server.http_url, server.metrics_url)
    died, name = server.pid, claim_of(server.pid)
    assert len(left_of(name)) >= 5  # server, stub, region, lock, folder: the check can see them
    os.kill(died, signal.SIGKILL)
    assert server.wait(10)
    assert not server.is_running()
    assert server.exit_code == 128 + signal.SIGKILL
    assert left_of(name) == []
    server.restart()
    assert (server.grpc_url, server.http_url, server.metrics_url) == urls
    assert server.pid != died
    assert doubled(server, [3.0]) == [6.0]


def test_stop_is_graceful_final_and_idempotent(repository: Path) -> None:
    """After stop the server has unloaded its models, nothing of it is left, and a second stop does nothing."""
    lines: list[str] = []
    with TritonServer(repository, log=lines.append) as running:
        name = claim_of(running.pid)
        running.stop()
        assert any("successfully unloaded 'double'" in line for line in lines)
        assert not running.is_running()
        running.stop()
    assert left_of(name) == []


def test_a_failing_log_function_does_not_stop_the_server(repository: Path) -> None:
    """Lines that the caller's function cannot take are dropped; the server starts all the same."""

    def refuse(line: str) -> None:
        raise RuntimeError(line)

    running = TritonServer(repository, log=refuse)
    try:
        running.start()
        assert doubled(running, [4.0]) == [8.0]
    finally:
        running.stop(at_once=True)


def test_a_taken_port_is_named(repository: Path) -> None:
    """A port on which somebody listens is refused before anything is started, with its number and its service."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = TritonServer(repository, http_port=port)
        with pytest.raises(PortTaken, match=rf"^port {port} \(http\) on 127\.0\.0\.1 is taken"):
            refused.start()
    assert refused.log_tail == ()


@pytest.mark.parametrize(
    ("ports", "complaint"),
    [
        ({"grpc_port": 9000, "http_port": 9000}, "ports must differ, got grpc 9000, http 9000"),
        ({"metrics_port": 70000}, r"metrics port must lie in 1\.\.65535, got 70000"),
        ({"host": "192.0.2.1"}, r"192\.0\.2\.1: a server cannot listen there: Cannot assign"),
    ],
)
def test_impossible_addresses_are_refused(repository: Path, ports: dict[str, object], complaint: str) -> None:
    """Equal ports, ports out of range and foreign addresses are errors that name them."""
    with pytest.raises(LauncherError, match=complaint):
        TritonServer(repository, **ports)  # type: ignore[arg-type]


def test_free_ports_lie_outside_the_range_of_outgoing_connections(repository: Path) -> None:
    """No port is chosen that the kernel could give to a client calling it (which would then call itself)."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chosen = [int(TritonServer(repository).grpc_url.rpartition(":")[2]) for _ in range(20)]
    assert max(chosen) < first


def test_a_model_that_fails_to_load_is_named_with_its_reason(tmp_path: Path) -> None:
    """The error carries the model's name and Triton's own reason on one line, and nothing is left running."""
    write_model(write_model(tmp_path), "broken", "raise ValueError('the weights are\\nrotten')")
    running = TritonServer(tmp_path)
    with pytest.raises(ModelLoadFailed) as caught:
        running.start()
    assert str(caught.value) == "Triton could not load broken: Internal: ValueError: the weights are rotten"
    assert set(caught.value.reasons) == {"broken"}
    assert not running.is_running()


def test_a_model_without_its_file_fails_at_once(tmp_path: Path) -> None:
    """This Triton waits for ever for a Python model whose file is missing; the launcher sees it in the log."""
    (write_model(tmp_path) / "double" / "1" / "model.py").unlink()
    with pytest.raises(ModelLoadFailed, match=r"double: Python model file not found in .*/double/1/model\.py"):
        TritonServer(tmp_path, ready_timeout_s=120).start()


def test_a_typo_in_a_configuration_is_told(tmp_path: Path) -> None:
    """An unknown field of config.pbtxt is reported with the model and the field."""
    (write_model(tmp_path) / "double" / "config.pbtxt").write_text('backend: "python" max_batchsize: 3')
    with pytest.raises(ModelLoadFailed, match=r'double: failed to read text proto .* no field named "max_batchsize"'):
        TritonServer(tmp_path).start()


def test_a_repository_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Where Triton ends without naming a model, its last complaint is the reason."""
    with pytest.raises(ServerExited, match=r"code 1 before it was ready: .*failed to stat file .*absent"):
        TritonServer(tmp_path / "absent").start()


def test_a_server_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    """After ready_timeout_s the start fails and says what Triton said last; the server is gone; the log is kept."""
    write_model(tmp_path / "repository", initialize="import threading; threading.Event().wait()")
    log = tmp_path / "logs" / "triton.log"
    running = TritonServer(tmp_path / "repository", ready_timeout_s=1.5, log=log)
    with pytest.raises(NotReady, match=r"not ready within 1\.5 s; it last said: .+"):
        running.start()
    assert not running.is_running()
    assert "loading: double:1" in log.read_text()


def test_stop_ends_a_start_that_is_under_way(tmp_path: Path) -> None:
    """A stop from another thread does not wait for the start: the start gives up, and nothing is left."""
    write_model(tmp_path, initialize="import threading; threading.Event().wait()")
    loading = threading.Event()
    running = TritonServer(tmp_path, log=lambda line: loading.set() if "loading: double:1" in line else None)
    complaints: list[LauncherError] = []

    def start() -> None:
        try:
            running.start()
        except LauncherError as error:
            complaints.append(error)

    starter = threading.Thread(target=start)
    starter.start()
    assert loading.wait(30)
    running.stop()
    starter.join(20)
    assert not starter.is_alive()
    assert [str(error) for error in complaints] == ["the server was stopped before it was ready"]
    assert not running.is_running()


# The launcher as a process of its own: the server is started by a thread that ends; a forked child keeps every open
# file of the launcher alive, the guardian's included.
LAUNCHER = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, {root!r})
from deploy.server import TritonServer
server = TritonServer(Path({repository!r}))
starter = threading.Thread(target=server.start)
starter.start(); starter.join()
child = os.fork() if {fork} else 0
if {fork} and child == 0:
    sys.stdin.read()
    os._exit(0)
print(server.pid, child, flush=True)
sys.stdin.read()
"""


def start_launcher(repository: Path, *, fork: bool) -> tuple[subprocess.Popen[str], int]:
    """A launcher that waits until its stdin ends; returns it and the process id of its server."""
    script = LAUNCHER.format(root=str(ROOT), repository=str(repository), fork=fork)
    launcher = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    return launcher, int(launcher.stdout.readline().split()[0])


@pytest.mark.parametrize("fork", [False, True], ids=["alone", "with a forked child"])
def test_nothing_outlives_a_killed_launcher(repository: Path, fork: bool) -> None:
    """After SIGKILL of the launcher its server, stubs, shared memory and folder are gone."""
    launcher, server_pid = start_launcher(repository, fork=fork)
    with launcher:
        name = claim_of(server_pid)
        guardian = psutil.Process(server_pid).ppid()
        assert len(left_of(name)) >= 5
        (SHARED_MEMORY / f"{name}_of_a_stub_that_crashed").touch()  # nobody but the guardian would remove this one
        launcher.kill()
        wait_for_end(guardian)
        assert left_of(name) == []


def test_a_process_that_a_model_started_is_ended_too(tmp_path: Path) -> None:
    """Even a process in a session of its own does not outlive the server from which it came."""
    note = tmp_path / "pid"
    spawn = "import subprocess; child = subprocess.Popen(['sleep', '600'], start_new_session=True); "
    write_model(tmp_path / "repository", initialize=spawn + f"open({str(note)!r}, 'w').write(str(child.pid))")
    with TritonServer(tmp_path / "repository") as running:
        stray = int(note.read_text())
        assert psutil.pid_exists(stray)
        running.stop(at_once=True)
        assert not psutil.pid_exists(stray)


def test_nothing_outlives_a_killed_guardian(repository: Path) -> None:
    """When the guardian itself is killed the server dies with it, and stop removes the rest."""
    running = TritonServer(repository)
    running.start()
    pid, name = running.pid, claim_of(running.pid)
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    wait_for_end(pid)
    assert running.wait(5)
    running.stop()
    assert left_of(name) == []


def test_the_next_start_removes_what_a_dead_launcher_left(repository: Path, server: TritonServer) -> None:
    """Files whose owners are all dead are removed, those of a living server are kept."""
    abandoned = claim()
    region = SHARED_MEMORY / f"{abandoned.prefix}region"
    region.write_bytes(b"left")
    kept = left_of(claim_of(server.pid))
    try:
        assert abandoned.name not in remove_stale()
        assert region.exists()
        abandoned.close()  # what the kernel does when a process dies
        assert abandoned.name in remove_stale()
        assert left_of(abandoned.name) == []
    finally:
        remove(abandoned.name)
    assert left_of(claim_of(server.pid)) == kept


def test_an_unusable_temporary_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no files can be made the error names the place, and no lock is left in shared memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(LauncherError, match=r"/absent/y12triton-.*: no place for the server's files: No such file"):
        claim()
    assert not list(SHARED_MEMORY.glob(f".y12triton-{os.getpid()}-*"))


def test_a_scratch_folder_goes_with_its_owner() -> None:
    """It is removed at the end of its block, and after SIGKILL of its owner at somebody's next start."""
    with scratch() as folder:
        (folder / "file").touch()
        assert folder.parent.name not in remove_stale()
    assert not folder.parent.exists()
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from deploy.claim import scratch
with scratch() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        abandoned = Path(owner.stdout.readline().strip())
        assert abandoned.is_dir()
        owner.kill()
    assert abandoned.parent.name in remove_stale()
    assert not abandoned.parent.exists()


# Environments made of the real one's parts.


def write_environment(folder: Path, *packages: Path, sitecustomize: str = "") -> Path:
    """A virtual environment of the same Python as Triton's whose only packages are links to the given folders."""
    real = find_wheel(ENVIRONMENT)
    site_packages = folder / "lib" / f"python{real.python}" / "site-packages"
    site_packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to((ENVIRONMENT / "bin" / "python3").resolve())
    (folder / "pyvenv.cfg").write_text((ENVIRONMENT / "pyvenv.cfg").read_text())
    for package in packages:
        (site_packages / package.name).symlink_to(package)
    (site_packages / "sitecustomize.py").write_text(sitecustomize)
    return folder


@pytest.fixture(scope="module")
def wheel_parts() -> Packages:
    """The packages that Triton needs, numpy excepted."""
    packages = find_wheel(ENVIRONMENT).libraries.parent
    return packages / "pytriton", packages / "nvidia_pytriton.libs"


@pytest.fixture(scope="module")
def numpy_1() -> Packages:
    """The numpy of Triton's environment."""
    packages = find_wheel(ENVIRONMENT).libraries.parent
    return packages / "numpy", packages / "numpy.libs"


@pytest.fixture(scope="module")
def numpy_2() -> Packages:
    """The numpy of this environment, for the same Python."""
    assert int(np.__version__.split(".")[0]) >= 2
    packages = Path(np.__file__).parents[1]
    return packages / "numpy", packages / "numpy.libs"


def test_a_missing_environment_is_told(tmp_path: Path) -> None:
    """No virtual environment, or one whose Python does not run: one line with the command that mends it."""
    with pytest.raises(EnvironmentMissing, match=r"absent: no virtual environment .*run `make setup`"):
        find_wheel(tmp_path / "absent")
    (tmp_path / "bin").mkdir()
    with pytest.raises(EnvironmentMissing, match=r"has no bin/python3 that runs.*`make setup`"):
        find_wheel(tmp_path)
    python = tmp_path / "bin" / "python3"
    python.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(EnvironmentMissing, match=r"bin/python3: does not run: it is broken; remove"):
        find_wheel(tmp_path)


def test_a_missing_wheel_is_told(tmp_path: Path) -> None:
    """An environment without tritonserver is an error that names the package and the command."""
    with pytest.raises(WheelMissing, match=r"no tritonserver in it \(package nvidia-pytriton\); run `make setup`"):
        find_wheel(write_environment(tmp_path))


def test_a_missing_stub_is_told(tmp_path: Path, wheel_parts: Packages, numpy_1: Packages) -> None:
    """A wheel without a stub for the environment's Python is an error that lists the versions it has."""
    real = wheel_parts[0] / "tritonserver"
    copy = tmp_path / "parts" / "pytriton" / "tritonserver"
    (copy / "python_backend_stubs").mkdir(parents=True)
    (copy / "bin").symlink_to(real / "bin")
    (copy / "python_backend_stubs" / "3.9").symlink_to(real / "python_backend_stubs" / "3.9")
    environment = write_environment(tmp_path / "environment", copy.parent, wheel_parts[1], *numpy_1)
    with pytest.raises(StubMissing, match=r"no Python backend for Python 3\.\d+, only for 3\.9; make"):
        find_wheel(environment)


def test_a_missing_libpython_is_told(tmp_path: Path, wheel_parts: Packages, numpy_1: Packages) -> None:
    """A Python built without a shared library is an error that names the file and where it was looked for."""
    static = f"import sys, sysconfig; sys.base_prefix = {str(tmp_path)!r}; sysconfig.get_config_vars().update(" + (
        f"LIBDIR={str(tmp_path)!r}, LIBPL={str(tmp_path)!r})"
    )
    environment = write_environment(tmp_path / "environment", *wheel_parts, *numpy_1, sitecustomize=static)
    with pytest.raises(LibpythonMissing, match=r"libpython3\.\d+\.so\.1\.0 not found in .*--enable-shared"):
        find_wheel(environment)


def test_numpy_2_is_refused_before_the_start(
    tmp_path: Path, repository: Path, wheel_parts: Packages, numpy_2: Packages
) -> None:
    """With numpy 2 in its environment no server is started, for its models would answer with empty tensors."""
    environment = write_environment(tmp_path, *wheel_parts, *numpy_2)
    with pytest.raises(NumpyUnusable, match=r"needs numpy < 2 .*, found 2\.\d.* in .*; run `make setup`"):
        TritonServer(repository, environment=environment).start()


def test_a_missing_numpy_is_told(tmp_path: Path, wheel_parts: Packages) -> None:
    """An environment without numpy is an error with Python's own reason."""
    with pytest.raises(NumpyUnusable, match=r"numpy cannot be imported: ModuleNotFoundError: No module named 'numpy'"):
        find_wheel(write_environment(tmp_path, *wheel_parts))


def test_numpy_2_is_refused_inside_the_stub(
    tmp_path: Path,
    repository: Path,
    wheel_parts: Packages,
    numpy_1: Packages,
    numpy_2: Packages,
) -> None:
    """What counts is the numpy that the stub imports: 2 there is seen although the environment's Python finds 1."""
    only_in_stub = "import os, sys\nif 'stub' in os.readlink('/proc/self/exe'):\n    sys.path.insert(0, {!r})\n"
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for part in numpy_2:
        (hidden / part.name).symlink_to(part)
    environment = write_environment(
        tmp_path / "environment", *wheel_parts, *numpy_1, sitecustomize=only_in_stub.format(str(hidden))
    )
    find_wheel(environment)
    with pytest.raises(NumpyUnusable, match=r"Python backend needs numpy < 2 .*, found 2\.\d"):
        TritonServer(repository, environment=environment, ready_timeout_s=120).start()


def test_variables_that_mislead_python_are_not_inherited(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PYTHONHOME and PYTHONPATH of the launcher reach neither the check nor the stub."""
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    wheel = find_wheel(ENVIRONMENT)
    variables = wheel.process_environment(os.environ, tmp_path)
    assert not {"PYTHONHOME", "PYTHONPATH"} & set(variables)
    assert variables["PATH"].split(os.pathsep)[0] == str(ENVIRONMENT / "bin")


# What Triton 2.51 writes, copied from its log.


@pytest.mark.parametrize(
    ("line", "reasons"),
    [
        (
            'E1123 23:14:16.5 9204 model_repository_manager.cc:703] "Invalid argument: ensemble ens contains models '
            'that are not available or ambiguous: absent"',
            {"ens": "ensemble ens contains models that are not available or ambiguous: absent"},
        ),
        (
            "E1123 23:14:21.8 9377 model_repository_manager.cc:724] \"failed to load model 'ev': at least one version "
            "must be available under the version policy of model 'ev'\"",
            {"ev": "at least one version must be available under the version policy of model 'ev'"},
        ),
        (
            "E1123 23:02:19.6 7022 model_lifecycle.cc:642] \"failed to load 'nb' version 1: Invalid argument: unable "
            "to find backend library for backend 'tensorrt', try specifying runtime on the model configuration.\"",
            {
                "nb": "Invalid argument: unable to find backend library for backend 'tensorrt', try specifying runtime "
                "on the model configuration."
            },
        ),
        ("I1123 23:01:56.0 6850 model_lifecycle.cc:777] \"failed to load 'bad'\"", {}),
        ('E1123 23:14:18.9 9260 ensemble_scheduler.cc:1468] "unable to create stream for ens: CUDA driver"', {}),
    ],
)
def test_reasons_are_read_from_the_log(line: str, reasons: dict[str, str]) -> None:
    """Each way in which Triton says that a model failed gives the model's name and the reason; nothing else does."""
    startup = StartupLog()
    startup.feed(line)
    assert startup.reasons == reasons


def test_a_port_taken_at_the_last_moment_is_read_from_the_log() -> None:
    """A socket that Triton itself could not bind is known by its port."""
    startup = StartupLog()
    startup.feed(
        "E1123 23:12:47.2 8276 main.cc:245] \"failed to start GRPC service: Unavailable - Socket '127.0.0.1:18001' "
        'already in use "'
    )
    assert startup.taken_port == 18001
    assert "already in use" in startup.last_complaint()


def test_the_tail_of_the_log_is_bounded() -> None:
    """However much a server writes, only the last lines are kept."""
    startup = StartupLog()
    for number in range(10_000):
        startup.feed(f"line {number}")
    assert len(startup.tail) < 1000
    assert startup.tail[-1] == "line 9999"
    assert startup.last_complaint() == "line 9999"
