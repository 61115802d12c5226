"""`python -m loadtest bench`, which `make bench` runs: step by step, each kept, so that it can go on later."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clients.errors import FleetError
from loadtest.bench.steps import Step, Table, steps
from loadtest.bench.tables import at, compared, listed
from loadtest.page_head import Origin, head, here

ROOT = Path(__file__).resolve().parents[2]
_CODE = ("clients", "deploy", "export", "loadtest", "demo", "model_repository")
_TEXTS = Path(__file__).with_name("pages")
_PACKAGES = ("numpy", "openvino", "onnxruntime", "ultralytics", "torch", "av", "opencv-python", "tritonclient")
_TAIL_LINES = 3  # of a failed command's stderr
log = logging.getLogger(__name__)


def add_bench(commands: Any) -> None:
    """The command and its options."""
    text = "run all benchmarks that can run here and write docs/benchmarks anew; goes on where it was broken off"
    parser = commands.add_parser("bench", help=text, description=text)
    names = ", ".join(step.name for step in steps())
    parser.add_argument("--only", action="append", metavar="STEP", help=f"of {names}; may be given several times")
    parser.add_argument("--again", action="store_true", help="also what has run with this very code already")
    text = "run nothing: write the pages of what is kept, whichever code it ran with"
    parser.add_argument("--pages", action="store_true", help=text)
    parser.add_argument("--kept", type=Path, default=Path("out/bench"), metavar="DIR", help="default %(default)s")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), metavar="DIR", help="default %(default)s")
    parser.set_defaults(command=bench)


def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Run it. Raises FleetError for a step that does not exist or a folder that cannot be written."""
    from demo.progress import bars

    chosen = _chosen(options.only)
    told: dict[str, Any] = {"done": [], "kept": [], "left_out": {}, "missed": {}, "failed": {}}
    with bars() as bar:
        task = bar.add_task("bench", total=len(chosen))
        for number, step in enumerate(chosen):
            bar.update(task, completed=number, description=f"bench: {step.name}")
            missing = [one for one in step.needs if not (options.pages or _is_there(one))]
            if missing:
                told["left_out"][step.name] = f"needs {', '.join(missing)}"
                log.warning("%s is left out: it needs %s", step.name, ", ".join(missing))
                continue
            _step(step, options, told)
        bar.update(task, completed=len(chosen), description="bench")
    return told | {"errors": len(told["failed"])}


def _chosen(names: Sequence[str] | None) -> list[Step]:
    known = {step.name: step for step in steps()}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise FleetError(f"there is no step {unknown[0]!r}; there are {', '.join(known)}")
    return [step for step in known.values() if not names or step.name in names]


def _is_there(need: str) -> bool:
    """A path from the repository's root, or a module."""
    return (ROOT / need).exists() if "/" in need else importlib.util.find_spec(need) is not None


def _step(step: Step, options: argparse.Namespace, told: dict[str, Any]) -> None:
    """Its commands, each kept as soon as it is done, then its page."""
    answers: dict[str, dict[str, Any]] = {}
    ran = False
    if options.pages and not step.has_page:
        return
    for label, arguments in step.commands.items():
        path = kept_path(options.kept, step, arguments)
        key = None if options.pages else code_key(arguments)
        found = None if options.again else _read(path, key)
        if found is None:
            if options.pages:
                told["left_out"][step.name] = f"nothing is kept of `{_shown(arguments)}`"
                return
            ran = True
            try:
                found = run(arguments)
            except FleetError as error:
                told["failed"][step.name] = str(error)
                log.error("%s: %s", step.name, error)
                return
            _write(path, json.dumps({"key": key, **found}) + "\n")
        answers[label] = found
    told["done" if ran else "kept"].append(step.name)
    if missed := _missed(step, answers):
        told["missed"][step.name] = missed
    if step.file is not None:
        _write(options.out / step.file, page(step, answers))


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """What a command prints on its last line, how it ended, where and how long it ran.

    Raises FleetError: it printed no JSON.
    """
    started_s, origin = time.monotonic(), here(_PACKAGES)
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    shown = f"python {' '.join(arguments)}"
    last = done.stdout.strip().splitlines()[-1:]
    if not last:
        tail = " / ".join(done.stderr.strip().splitlines()[-_TAIL_LINES:])
        raise FleetError(f"{shown} ended with {done.returncode}: {tail}")
    try:
        told = json.loads(last[0])
    except ValueError as error:
        raise FleetError(f"{shown} did not end with JSON but with {last[0][:80]!r}") from error
    seconds = round(time.monotonic() - started_s, 1)
    return {"told": told, "seconds": seconds, "exit_code": done.returncode, "origin": asdict(origin)}


def page(step: Step, answers: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown out of what `run` has returned for each command: title, head, the step's own words, tables.

    Raises FleetError where there are no rows.
    """
    commands = [_shown(arguments) for arguments in step.commands.values()]
    origins = {label: Origin(**found["origin"]) for label, found in answers.items()}
    top = head(step.kinds, commands, step.precision, origins)
    text = _TEXTS / f"{step.name}.md"
    words = text.read_text(encoding="utf-8") if text.is_file() else ""
    told = {label: found["told"] for label, found in answers.items()}
    tables = [part for table in step.tables for part in _table(step, table, told)]
    notes = [
        f"`{command}` ended with an error of its own: a target was missed, or an answer wrong."
        for command in _missed(step, answers)
    ]
    parts = (f"# {step.title}", top.rstrip(), words.rstrip(), *tables, *notes)
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(step: Step, table: Table, told: Mapping[str, Any]) -> tuple[str, str]:
    """Its heading, which may be empty, and the table."""
    chosen = {label: told[label] for label in table.of or told}
    heading = f"## {table.heading}" if table.heading else ""
    if table.rows is None:
        return heading, compared(chosen if len(chosen) > 1 else {"": next(iter(chosen.values()))}, table.show)
    (only,) = chosen.values()
    try:
        return heading, listed(at(only, table.rows))
    except TypeError as error:
        raise FleetError(f"{step.name}: {table.rows}: {error}") from error


def _missed(step: Step, answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The commands that ended with an error of their own."""
    return [_shown(step.commands[label]) for label, found in answers.items() if found["exit_code"]]


def _shown(arguments: Sequence[str]) -> str:
    return f"python {shlex.join(arguments)}"


def code_key(arguments: Sequence[str], root: Path = ROOT) -> str:
    """A digest of the command and of all code and data sheets that it may run."""
    digest = hashlib.sha256(json.dumps(list(arguments)).encode())
    for folder in _CODE:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".pbtxt") or path.parent.name == "gpus":
                digest.update(path.read_bytes())
    return digest.hexdigest()


def kept_path(folder: Path, step: Step, arguments: Sequence[str]) -> Path:
    """Where what a command of a step has printed is kept."""
    digest = hashlib.sha256(json.dumps(list(arguments)).encode()).hexdigest()[:12]
    return folder / f"{step.name}-{digest}.json"


def _read(path: Path, key: str | None) -> dict[str, Any] | None:
    """What was kept by the same code, by any with None; None otherwise."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(found, dict) and {"key", "told", "exit_code", "origin"} <= found.keys()
    return found if is_whole and key in (None, found["key"]) else None


def _write(path: Path, text: str) -> None:
    """Whole or not at all. Raises FleetError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f"{path.suffix}.part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise FleetError(f"{path}: cannot be written: {error.strerror or error}") from error
