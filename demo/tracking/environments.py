"""Where the opponents and TrackEval live: environments of their own, that nothing else of the project ever sees."""

from __future__ import annotations

import subprocess
from pathlib import Path

from clients.errors import FleetError

_HERE = Path(__file__).resolve().parent
NEWER = Path(".venv-bench/bin/python")  # dependency group bench
OLDER = Path(".venv-bench-older/bin/python")  # dependency group bench-older: numpy 1, supervision with ByteTrack


class BenchmarkError(FleetError):
    """An opponent or the judge cannot run."""


def require() -> None:
    """Raises BenchmarkError that says how to install what is missing."""
    missing = [str(python.parent.parent) for python in (NEWER, OLDER) if not python.is_file()]
    if missing:
        raise BenchmarkError(
            f"{' and '.join(missing)} not there: the opponents' environments; make them with `make bench-setup`"
        )


def run_script(python: Path, name: str, *arguments: str) -> str:
    """Run a script of this folder; returns its stdout. Raises BenchmarkError with the last line of its stderr."""
    command = [str(python), "-W", "ignore", str(_HERE / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchmarkError(f"{name} {' '.join(arguments[:1])}: {reason}")
    return done.stdout
