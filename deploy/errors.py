"""What can keep a local Triton from starting; each error's text is one line that says what to do.

FleetError
└── LauncherError
    ├── EnvironmentUnusable     the server's virtual environment lacks something
    │   ├── EnvironmentMissing  there is none, or its Python does not run
    │   ├── WheelMissing        no tritonserver in it
    │   ├── StubMissing         the wheel has no Python-backend stub for this version of Python
    │   ├── LibpythonMissing    the stub needs a shared libpython that this Python does not have
    │   └── NumpyUnusable       numpy is missing, broken, or 2 and later
    ├── PortTaken               somebody else listens on a port
    ├── ModelLoadFailed         Triton cannot load a model; carries Triton's own reason
    ├── ServerExited            the server ended before it was ready
    └── NotReady                the server was not ready in time
"""

from __future__ import annotations

from clients.errors import FleetError


class LauncherError(FleetError):
    """A local Triton cannot be started."""


class EnvironmentUnusable(LauncherError):
    """The server's virtual environment lacks something."""


class EnvironmentMissing(EnvironmentUnusable):
    """There is no virtual environment for the server, or its Python does not run."""


class WheelMissing(EnvironmentUnusable):
    """The environment holds no tritonserver."""


class StubMissing(EnvironmentUnusable):
    """The wheel has no Python-backend stub for the environment's version of Python."""


class LibpythonMissing(EnvironmentUnusable):
    """The environment's Python has no shared libpython."""


class NumpyUnusable(EnvironmentUnusable):
    """The Python backend's numpy is missing, broken, or 2 and later."""


class PortTaken(LauncherError):
    """Somebody else listens on a port that the server needs; `service` is grpc, http or metrics."""

    def __init__(self, service: str, host: str, port: int) -> None:
        self.service = service
        super().__init__(f"port {port} ({service}) on {host} is taken; stop what listens there or give another")


class ModelLoadFailed(LauncherError):
    """Triton cannot load one or more models; `reasons` maps each model's name to Triton's own words."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = dict(reasons)
        told = "; ".join(f"{model}: {reason}" for model, reason in reasons.items())
        super().__init__(f"Triton could not load {told}")


class ServerExited(LauncherError):
    """The server ended before it was ready."""


class NotReady(LauncherError):
    """The server was not ready in time."""
