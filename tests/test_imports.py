"""Imports point one way, and what runs beside the cameras stays free of torch and Ultralytics."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HEAVY = {"torch", "ultralytics", "torchvision", "onnx", "onnxruntime"}
OPPONENTS = {"trackers", "supervision", "norfair", "trackeval"}
FORBIDDEN = {
    "clients": HEAVY | OPPONENTS | {"export", "loadtest", "demo"},
    "deploy": HEAVY | OPPONENTS | {"demo", "loadtest"},
    "loadtest": {"torch", "ultralytics", "torchvision"},
}


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_does_not_import_what_it_must_not(room: str) -> None:
    """No file of the room names a forbidden package."""
    guilty = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / room).rglob("*.py")
        for name in imported(path) & FORBIDDEN[room]
    }
    assert not guilty


def imported_modules(path: Path) -> set[str]:
    """Whole dotted names that a file imports from."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_the_data_sheet_is_a_leaf() -> None:
    """Export, load tests and planner read and write one definition of a GPU's data sheet; it imports only errors."""
    used = {name for path in (ROOT / "export").rglob("*.py") for name in imported_modules(path)}
    assert not {name for name in used if name.startswith("loadtest")}
    sheet = imported_modules(ROOT / "clients" / "data_sheet.py")
    assert {name for name in sheet if name.partition(".")[0] not in sys.stdlib_module_names} == {"clients.errors"}


@pytest.mark.parametrize("module", ["clients.__main__", "deploy.triton", "demo.__main__", "export.configs"])
def test_what_the_demo_needs_loads_no_torch(module: str) -> None:
    """Importing it, with all it imports in turn, loads neither torch nor Ultralytics."""
    code = f"import {module}, sys; print(*(set(sys.modules) & {{'torch', 'ultralytics'}}))"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == ""


def test_a_client_beside_a_running_triton_loads_no_launcher() -> None:
    """With `triton.url` set, neither the launcher nor the export's spec is imported."""
    code = "import clients.fleet, sys; print(*({name.split('.')[0] for name in sys.modules} & {'deploy', 'export'}))"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == ""
