"""A tritonserver and the virtual environment of its Python backend: where the parts are, and what it must run in.

The server is that of the wheel `nvidia-pytriton` in the environment, or one that the system has, as in NVIDIA's image.
Its Python backend runs every model in a *stub*, a program linked against one version of libpython, which looks for
`python3` on PATH (PYTHONPATH is ignored) and so finds the packages of whatever environment comes first there. With
numpy 2 in that environment a model answers with empty tensors and no error: it is refused here, and once more inside
each stub (`_IN_STUB`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import EnvironmentMissing, LibpythonMissing, NumpyUnusable, StubMissing, WheelMissing

MEND = "run `make setup`"
_PROBE_TIMEOUT_S = 60
_STUB = "triton_python_backend_stub"
_NOT_INHERITED = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONSAFEPATH")

# Asked of the environment's own Python, with the PATH that the stub will get.
_PROBE = """
import json, os, sys, sysconfig
wanted = sysconfig.get_config_var
folders = [wanted("LIBDIR"), os.path.join(wanted("LIBDIR") or "", wanted("MULTIARCH") or ""), wanted("LIBPL"),
           os.path.join(sys.base_prefix, "lib")]
told = {"version": "%d.%d" % sys.version_info[:2], "packages": sysconfig.get_path("purelib"),
        "folders": [folder for folder in folders if folder]}
try:
    import numpy
    told["numpy"], told["numpy_file"] = numpy.__version__, numpy.__file__
except Exception as error:
    told["numpy_error"] = "%s: %s" % (type(error).__name__, str(error).strip().split("\\n")[0])
print(json.dumps(told))
"""

# Appended to the copy of triton_python_backend_utils.py that every stub imports before any model of ours.
_IN_STUB = """

if int(np.__version__.split(".")[0]) >= 2:
    raise ImportError(f"the Python backend needs numpy < 2 (numpy 2 gives empty outputs), found {np.__version__}")
"""


@dataclass(frozen=True, slots=True)
class Wheel:
    """Files of one tritonserver: program, Python backend, the stub for `python` (such as `3.11`), shared libraries.

    `others` are the folders of other backends, such as TensorRT's.
    """

    environment: Path
    python: str
    program: Path
    backend: Path
    stub: Path
    libraries: Path
    libpython: Path
    others: tuple[Path, ...] = ()

    def process_environment(self, inherited: Mapping[str, str], libraries: Path) -> dict[str, str]:
        """Environment variables of the server and so of its stubs; `libraries` is what `assemble_backend` gave."""
        variables = _stub_environment(self.environment, inherited)
        paths = [str(libraries), str(self.libraries), inherited.get("LD_LIBRARY_PATH", "")]
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(path for path in paths if path)
        return variables

    def assemble_backend(self, target: Path) -> tuple[Path, Path]:
        """Fill `target` with a working backend directory; returns it and a folder that holds libpython alone."""
        backends, libraries = target / "backends", target / "libraries"
        python = backends / "python"
        python.mkdir(parents=True)
        for other in self.others:
            (backends / other.name).symlink_to(other)
        libraries.mkdir()
        for source in (*self.backend.glob("*.so"), self.stub):
            (python / source.name).symlink_to(source)
        utilities = "triton_python_backend_utils.py"
        text = (self.backend / utilities).read_text(encoding="utf-8")
        (python / utilities).write_text(text + _IN_STUB, encoding="utf-8")
        (libraries / f"libpython{self.python}.so.1.0").symlink_to(self.libpython)
        return backends, libraries


def find_wheel(environment: Path, installed: Path | None = None) -> Wheel:
    """Look into a virtual environment and check that its Triton, or the `installed` one, can run with it.

    Raises EnvironmentMissing, WheelMissing, StubMissing, LibpythonMissing, NumpyUnusable: one line that says
    what to do.
    """
    environment = environment.absolute()
    told = _probe(environment)
    packages = Path(str(told["packages"]))
    version = str(told["version"])
    if installed is not None:
        return _installed(environment, installed.absolute(), told)
    root = packages / "pytriton" / "tritonserver"
    program = root / "bin" / "tritonserver"
    if not program.is_file():
        raise WheelMissing(f"{environment}: no tritonserver in it (package nvidia-pytriton); {MEND}")
    stub = root / "python_backend_stubs" / version / _STUB
    if not stub.is_file():
        offered = ", ".join(sorted((entry.name for entry in stub.parents[1].glob("3.*")), key=_as_numbers))
        raise StubMissing(
            f"{environment}: this Triton has no Python backend for Python {version}, only for {offered or 'none'}; "
            "make the environment with one of these"
        )
    libpython = _libpython(environment, version, told["folders"])
    _check_numpy(environment, told)
    return Wheel(
        environment,
        version,
        program,
        root / "backends" / "python",
        stub,
        packages / "nvidia_pytriton.libs",
        libpython,
    )


def _installed(environment: Path, root: Path, told: Mapping[str, object]) -> Wheel:
    """A Triton as NVIDIA's image has it: one stub, made for the Python of the image."""
    program, backend, version = root / "bin" / "tritonserver", root / "backends" / "python", str(told["version"])
    for file in (program, backend / _STUB):
        if not file.is_file():
            raise WheelMissing(f"{file}: no such file; expected a Triton with its Python backend in {root}")
    _check_numpy(environment, told)
    others = tuple(sorted(entry for entry in backend.parent.iterdir() if entry.is_dir() and entry != backend))
    libpython = _libpython(environment, version, told["folders"])
    return Wheel(environment, version, program, backend, backend / _STUB, root / "lib", libpython, others)


def _stub_environment(environment: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    variables = {name: value for name, value in inherited.items() if name not in _NOT_INHERITED}
    variables["PATH"] = os.pathsep.join((str(environment / "bin"), inherited.get("PATH", os.defpath)))
    variables["VIRTUAL_ENV"] = str(environment)
    variables["PYTHONNOUSERSITE"] = "1"
    return variables


def _probe(environment: Path) -> dict[str, object]:
    variables = _stub_environment(environment, os.environ)
    if not (environment / "bin").is_dir():
        raise EnvironmentMissing(f"{environment}: no virtual environment for Triton there; {MEND}")
    python = shutil.which("python3", path=str(environment / "bin"))
    if python is None:
        raise EnvironmentMissing(f"{environment}: has no bin/python3 that runs; remove it and {MEND}")
    try:
        run = subprocess.run(
            [python, "-I", "-c", _PROBE],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=True,
        )
        told: dict[str, object] = json.loads(run.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise EnvironmentMissing(
            f"{python}: does not run: {' '.join(said)}; remove {environment} and {MEND}"
        ) from error
    return told


def _libpython(environment: Path, version: str, folders: object) -> Path:
    name = f"libpython{version}.so.1.0"
    assert isinstance(folders, list)
    for folder in folders:
        if (file := Path(str(folder)) / name).is_file():
            return file
    raise LibpythonMissing(
        f"{environment}: {name} not found in {', '.join(map(str, folders))}; Triton's Python backend needs it: install "
        f"the system's libpython{version}, or a Python built with --enable-shared, and make the environment again"
    )


def _check_numpy(environment: Path, told: Mapping[str, object]) -> None:
    if "numpy_error" in told:
        raise NumpyUnusable(f"{environment}: numpy cannot be imported: {told['numpy_error']}; {MEND}")
    version = str(told["numpy"])
    if int(version.split(".")[0]) >= 2:
        raise NumpyUnusable(
            f"{environment}: Triton's Python backend needs numpy < 2 (numpy 2 gives empty outputs, silently), "
            f"found {version} in {told['numpy_file']}; {MEND}"
        )


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
