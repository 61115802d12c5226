"""A process with a guardian: its output read line by line, its end certain even if this process is killed."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy.claim import SHARED_MEMORY, Claim, remove
from deploy.errors import LauncherError

_GUARDIAN = Path(__file__).with_name("guardian.py")
_SPARE_S = 10.0  # what the guardian may take beyond the server's own grace


class GuardedProcess:
    """Runs from construction to `stop`. `on_line` gets every line of its output, in a thread of its own.

    Takes over `claim`: its folder and its shared memory are gone when the process is.
    Raises LauncherError when the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        claim: Claim,
        *,
        grace_s: float,
        on_line: Callable[[str], None],
    ) -> None:
        self._claim = claim
        self._grace_s = grace_s
        self._control, theirs = socket.socketpair()
        try:
            with theirs:
                self._guardian = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_GUARDIAN), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(), *claim.locks),
                    start_new_session=True,
                )
        except OSError as error:
            self._control.close()
            raise LauncherError(f"the guardian of the server cannot be started: {error}") from error
        self._reader = threading.Thread(target=self._read, args=(on_line,), name="triton-log", daemon=True)
        self._reader.start()
        try:
            self.pid = self._order(list(command), dict(environment))
        except BaseException:
            self.stop(at_once=True)
            raise

    @property
    def exit_code(self) -> int | None:
        """None while it runs, else what it exited with, or 128 + the signal that ended it."""
        code = self._guardian.poll()
        return 128 - code if code is not None and code < 0 else code

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within `timeout_s`."""
        try:
            self._guardian.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, *, at_once: bool = False) -> None:
        """End it and wait until it is gone, output included; `at_once` gives it no time. A second call does nothing."""
        if at_once:
            with contextlib.suppress(OSError):  # already closed, or nobody there any more
                self._control.sendall(b"now")
        self._control.close()
        if not self.wait(self._grace_s + _SPARE_S):
            self._guardian.kill()  # the server dies with it
            self._guardian.wait()
        self._reader.join(_SPARE_S)
        remove(self._claim.name)  # done by the guardian, unless it was killed itself

    def _order(self, command: list[str], environment: dict[str, str]) -> int:
        """Tell the guardian what to run; returns the process id."""
        order = {
            "command": command,
            "env": environment,
            "grace_s": self._grace_s,
            "locks": self._claim.locks,
            "prefix": self._claim.prefix,
            "shared_memory": str(SHARED_MEMORY),
            "folder": str(self._claim.folder),
            "lock_file": str(self._claim.memory_lock),
        }
        try:
            self._control.sendall(json.dumps(order).encode() + b"\n")
            with self._control.makefile("rb") as stream:
                answer = json.loads(stream.readline() or b'{"error": "the guardian ended"}')
        except (OSError, ValueError) as error:
            raise LauncherError(f"{command[0]}: its guardian does not answer: {error}") from error
        if "error" in answer:
            raise LauncherError(f"{command[0]}: cannot be started: {answer['error']}")
        return int(answer["pid"])

    def _read(self, on_line: Callable[[str], None]) -> None:
        stream = self._guardian.stdout
        assert stream is not None
        with stream:
            for line in stream:
                on_line(line.decode(errors="replace").rstrip("\n"))
