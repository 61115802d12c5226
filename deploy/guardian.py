"""The small process between a launcher and its tritonserver: whatever happens to the launcher, nothing is left.

Run by path with nothing but the standard library: `python -I -S guardian.py FD`, FD being one end of a socket pair.
It reads one JSON line (what to start), answers one (the server's process id, or why it did not start), and from then
on anything it reads, the end of the stream included, means stop: the launcher asked (`now`: without a grace), or it
died. It also looks whether its parent is still there, for a forked child of the launcher may keep the other end open.

Every process that the server started becomes a child of this one when it loses its parent (subreaper), so it can
be ended even if it left the server's process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.2


def main(control_fd: int) -> int:
    """Start the server, watch, clean up. Exit code: the server's, or 128 + the signal that ended it."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    asked, asking = socket.socketpair()
    asking.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(asking.fileno(), warn_on_full_buffer=False)
    with socket.socket(fileno=control_fd) as control, asked, asking:
        order = _read_order(control)
        if order is None:
            return 1
        try:
            server = _spawn(order, libc)
            _tell(control, {"pid": server.pid})
            _watch(server, (control, asked), parent)
            _end(server, 0 if _must_be_quick(control) else order["grace_s"])
        except OSError as error:
            _tell(control, {"error": f"{error.strerror}: {error.filename}"})
            return 1
        finally:
            _clean(order)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def _read_order(control: socket.socket) -> dict[str, Any] | None:
    with control.makefile("rb") as stream:
        line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    order: dict[str, Any] = json.loads(line)
    return order


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        control.sendall(json.dumps(message).encode() + b"\n")


def _spawn(order: dict[str, Any], libc: ctypes.CDLL) -> subprocess.Popen[bytes]:
    guardian = os.getpid()

    def tie_to_guardian() -> None:  # this process has one thread, and PDEATHSIG follows the thread that forked
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guardian:
            os._exit(1)

    return subprocess.Popen(
        order["command"],
        env=order["env"],
        stdin=subprocess.DEVNULL,
        pass_fds=order["locks"],
        start_new_session=True,
        preexec_fn=tie_to_guardian,  # noqa: PLW1509 - there is no other thread here
    )


def _watch(server: subprocess.Popen[bytes], ends: tuple[socket.socket, ...], parent: int) -> None:
    """Return when the server has exited, when somebody asks to stop, or when the launcher is gone."""
    while server.poll() is None and os.getppid() == parent:
        readable, _, _ = select.select(ends, (), (), _LOOK_S)
        if readable:
            return


def _must_be_quick(control: socket.socket) -> bool:
    control.setblocking(False)
    try:
        return control.recv(16) == b"now"
    except OSError:  # nothing to read: the server ended by itself, or a signal came
        return False


def _end(server: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM, `grace_s` to unload, SIGKILL; then everything that is left of it."""
    if server.poll() is None:
        server.terminate() if grace_s else server.kill()
        try:
            server.wait(grace_s)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)
    for child in iter(_next_child, None):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def _next_child() -> int | None:
    """Process id of a child of this process, dead or alive."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    try:
        listed = children.read_text().split()
    except OSError:  # a kernel without this list: the process group has been ended all the same
        return None
    return int(listed[0]) if listed else None


def _clean(order: dict[str, Any]) -> None:
    for region in Path(order["shared_memory"]).glob(f"{order['prefix']}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(order["folder"], ignore_errors=True)
    Path(order["lock_file"]).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
