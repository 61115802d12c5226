"""What has been exported and built, and whether it still fits: the ONNX files, this card, TensorRT, the repository.

A plan that was built for another card or TensorRT is refused by Triton with an error that names neither; here each
reason is a line with the command that mends it. Reads files and asks the driver; needs no torch, no ONNX, no GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.types import Tier
from export.errors import ExportError, NoCard
from export.machine import Card
from export.on_card import tensorrt, the_card
from export.publish import sha256
from export.sidecar import batches_of, told_of
from export.spec import POSTPROCESS, Spec, engine_name
from export.versions import library_version, same_version

_Compared = tuple[str, Any, Any]  # what, as the sidecar has it, as it is here


@dataclass(frozen=True, slots=True)
class Here:
    """What plans are compared with: the GPU and the version of TensorRT, each None where there is none."""

    card: Card | None
    tensorrt: str | None


@dataclass(frozen=True, slots=True)
class State:
    """One model's file. `flaws` say why it does not fit (none: it does), `mend` is the command that helps.

    `unloadable` are those of the flaws that keep Triton from loading it.
    """

    model: str
    file: Path
    present: bool
    flaws: tuple[str, ...]
    mend: str
    unloadable: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data for the last line of stdout."""
        state = "absent" if not self.present else "mismatch" if self.flaws else "ok"
        return {"model": self.model, "file": str(self.file), "state": state, "flaws": self.flaws, "mend": self.mend}


def here() -> Here:
    """The GPU and the TensorRT of this machine, as far as there are any; a server's own library comes first."""
    card, version = None, library_version()
    with contextlib.suppress(NoCard):  # said by whoever prints the states
        card = the_card()
    if version is None:
        with contextlib.suppress(NoCard):
            version = str(tensorrt().__version__)
    return Here(card, version)


def states(spec: Spec, onnx_folder: Path, plan_folder: Path, machine: Here) -> Iterator[State]:
    """The ONNX file and the plan of each tier and of the postprocess model, smallest tier first.

    Raises ExportError when a file is there but cannot be read.
    """
    for tier in Tier:
        yield _onnx_state(engine_name(tier), tier, spec, onnx_folder)
    names = {engine_name(tier): tier for tier in Tier} | {POSTPROCESS: Tier.N}
    for name, tier in names.items():
        yield plan_state(name, tier, spec, onnx_folder, plan_folder, machine)


def plan_flaws(told: dict[str, Any], name: str, spec: Spec, machine: Here) -> Iterator[tuple[str, bool]]:
    """Why a plan with this `plan.json` does not fit the repository, card or TensorRT; True: it cannot be loaded."""
    built, wanted = told.get("batches", {}).get("largest"), batches_of(name, spec).largest
    too_small = not isinstance(built, int) or built < wanted
    yield from _marked([("batches up to", built, wanted)], unloadable=too_small)
    if "canvas" in told:  # the postprocess model's export says nothing of it
        yield from _marked(_shape(told, spec), unloadable=True)
    if machine.card is not None:
        major, minor = machine.card.sm
        yield from _marked([("GPU", told.get("gpu"), machine.card.name)], unloadable=False)
        yield from _marked([("compute capability", told.get("sm"), f"{major}.{minor}")], unloadable=True)
    if machine.tensorrt is not None and not same_version(str(told.get("tensorrt")), machine.tensorrt):
        yield from _marked([("TensorRT", told.get("tensorrt"), machine.tensorrt)], unloadable=True)


def _marked(compared: list[_Compared], *, unloadable: bool) -> Iterator[tuple[str, bool]]:
    return ((flaw, unloadable) for flaw in _differing("built", compared))


def _shape(told: dict[str, Any], spec: Spec) -> list[_Compared]:
    return [("canvas", told.get("canvas"), str(spec.canvas)), ("top-k", told.get("top_k"), spec.top_k)]


def _differing(verb: str, compared: list[_Compared]) -> Iterator[str]:
    for what, told, wanted in compared:
        if told != wanted:
            yield f"{verb} for {what} {told}, here it is {wanted}"


def _onnx_state(name: str, tier: Tier, spec: Spec, folder: Path) -> State:
    file, sidecar = folder / name / "1" / "model.onnx", folder / name / "export.json"
    mend = f"python -m export {tier.value}"
    if not file.is_file():
        return State(name, file, False, (), mend)
    told = told_of(sidecar)
    flaws = []
    if told is None:
        flaws.append(f"{sidecar.name} is missing, so nothing says what it was exported from")
    else:
        if told.get("sha256", {}).get("onnx") != sha256(_read(file)):
            flaws.append(f"it is not the file that {sidecar.name} describes")
        flaws += _differing("exported", _shape(told, spec))
    return State(name, file, True, tuple(flaws), mend)


def plan_state(name: str, tier: Tier, spec: Spec, onnx_folder: Path, folder: Path, machine: Here) -> State:
    """One plan, `tier` being what its command builds. Raises ExportError as `states` does."""
    file, sidecar = folder / name / "1" / "model.plan", folder / name / "plan.json"
    mend = f"python -m export build {tier.value}"
    if not file.is_file():
        return State(name, file, False, (), mend)
    told = told_of(sidecar)
    if told is None:
        return State(name, file, True, (f"{sidecar.name} is missing, so nothing says what built it",), mend)
    flaws = []
    if told.get("plan_sha256") != sha256(_read(file)):
        flaws.append(f"it is not the file that {sidecar.name} describes")
    source = onnx_folder / name / "1" / "model.onnx"
    if source.is_file() and told.get("onnx_sha256") != sha256(_read(source)):
        flaws.append(f"built from another ONNX file than {source}")
    found = list(plan_flaws(told, name, spec, machine))
    flaws += [flaw for flaw, _ in found]
    return State(name, file, True, tuple(flaws), mend, tuple(flaw for flaw, unloadable in found if unloadable))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror}") from error
