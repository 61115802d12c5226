"""`make bench`: what has run is kept, what fails is said, and a page says what its figures are."""

from __future__ import annotations

import datetime
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from clients.errors import FleetError
from loadtest.__main__ import main
from loadtest.bench.command import code_key, kept_path, page, run
from loadtest.bench.steps import Step, Table, steps
from loadtest.bench.tables import at, compared, listed
from loadtest.page_head import machine

_HEAD = subprocess.run(["git", "rev-parse", "--short=7", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
COMMIT = _HEAD.stdout.strip()
PRINTS = ("-c", "import json; print('noise'); print(json.dumps({'rate': 2.5, 'age_ms': {'p50': 7, 'p95': 9}}))")


def a_step(**told: Any) -> Step:
    plain = {
        "name": "some",
        "title": "Some figures",
        "kinds": ("measured", "emulated"),
        "precision": "f32",
        "commands": {"one": PRINTS},
        "tables": (Table(("rate", "age_ms")),),
    }
    return Step(**plain | told)


def test_a_page_says_what_its_figures_are() -> None:
    """Kind, machine, precision, date, versions and command stand in the head; the table has the figures."""
    text = page(a_step(), {"one": run(PRINTS)})
    head = text.split("\n\n")[1]
    assert head.startswith("**Measured** and **emulated**: f32; ")
    assert f"; {datetime.datetime.now(datetime.UTC).date()}; " in head
    assert "cores" in head
    assert f"commit {COMMIT}" in head if COMMIT else "commit" not in head
    assert "numpy " in head
    assert "```sh\n.venv/bin/python -c 'import json" in text
    assert "| | value |\n|---|---|\n| rate | 2.5 |\n| age ms, p50 | 7 |\n| age ms, p95 | 9 |" in text


def test_a_table_is_of_the_commands_that_it_names() -> None:
    """Below its heading, the columns those commands, or one command's rows; figures of two days say both."""
    kept = [run(PRINTS), run(PRINTS)]
    kept[0]["origin"]["day"] = "2026-01-02"
    kept[1]["told"] = {"rows": [{"cpu": 3}]}
    tables = (Table(("rate",), of=("one",), heading="Rates"), Table(rows="rows", of=("two",), heading="All"))
    text = page(
        a_step(commands={"one": PRINTS, "two": PRINTS}, tables=tables), dict(zip(("one", "two"), kept, strict=True))
    )
    assert "## Rates\n\n| | value |\n|---|---|\n| rate | 2.5 |\n\n## All\n\n| cpu |\n|---|\n| 3 |" in text
    assert "2026-01-02; " in text
    assert f" / two: {machine()}; {datetime.datetime.now(datetime.UTC).date()}; " in text
    assert f"; one: {machine()}; 2026-01-02; " in text
    with pytest.raises(FleetError, match="some: cores: expected rows, got NoneType"):
        page(a_step(tables=(Table(rows="cores"),)), {"one": kept[0]})


def test_commands_are_columns_and_what_one_lacks_is_empty() -> None:
    """An object becomes a row for each of its values."""
    told = {"a": {"x": {"p": 1.0, "q": True}}, "b": {"x": {"p": [3, 1]}}}
    assert compared(told, ["x", "y"]).splitlines()[2:] == ["| x, p | 1 | 1 to 3 |", "| x, q | yes |  |", "| y |  |  |"]
    assert at(told, "a.x.p") == 1.0
    assert at(told, "a.z.p") is None


def test_rows_are_objects_by_name_or_in_a_list() -> None:
    """Columns are those of all rows, nested ones by their place."""
    named = listed({"first": {"cpu": {"all": 1.5}}, "second": {"wait": 2}})
    assert named.splitlines()[0] == "|  | cpu, all | wait |"
    assert named.splitlines()[2:] == ["| first | 1.5 |  |", "| second |  | 2 |"]
    assert listed([{"k": "a|b"}]).splitlines()[2] == "| a/b |"
    with pytest.raises(TypeError, match="expected rows, got NoneType"):
        listed(None)


def test_every_step_can_be_named_and_has_something_to_show() -> None:
    """Names and pages are different, each page has rows, and each command is one that exists."""
    names = [step.name for step in steps()]
    files = [step.file for step in steps() if step.file]
    assert len(set(names)) == len(names)
    assert len(set(files)) == len(files)
    for step in steps():
        assert bool(step.tables) == step.has_page
        for table in step.tables:
            assert (table.rows is None) == bool(table.show)
            assert set(table.of) <= set(step.commands)
            assert table.rows is None or len(table.of or step.commands) == 1
        for arguments in step.commands.values():
            assert arguments[0] == "-m"
            assert (ROOT / arguments[1] / "__main__.py").is_file() or arguments[1] in step.needs


def test_what_has_run_with_this_code_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The planner's step, as if it had run: it is not run again, and its page is written."""
    told = ["bench", "--only", "planner", "--kept", str(tmp_path / "kept"), "--out", str(tmp_path / "pages")]
    step = next(step for step in steps() if step.name == "planner")
    for arguments in step.commands.values():  # as if they had run: a step of this list takes too long for a test
        kept = run(PRINTS) | {"key": code_key(arguments), "told": {"fits": True, "cards": 1}}
        path = kept_path(tmp_path / "kept", step, arguments)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(kept))
    assert main(told) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["kept"], found["done"], found["failed"]) == (["planner"], [], {})
    assert "**Projected**" in (tmp_path / "pages" / "planner.md").read_text()


def test_pages_are_written_of_what_other_code_has_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--pages` runs nothing, takes figures of any code with the day of theirs, and says of what nothing is kept."""
    kept, pages = tmp_path / "kept", tmp_path / "pages"
    told = ["bench", "--pages", "--kept", str(kept), "--out", str(pages)]
    step = next(step for step in steps() if step.name == "decode")
    (arguments,) = step.commands.values()
    old = run(PRINTS) | {"key": "of other code", "told": {"clips": [{"clip": "a.mp4"}]}, "exit_code": 0}
    old["origin"]["day"] = "2026-01-02"
    kept.mkdir()
    kept_path(kept, step, arguments).write_text(json.dumps(old))
    assert main([*told, "--only", "decode", "--only", "client"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["done"], set(found["left_out"])) == ([], {"client"})
    assert "2026-01-02" in (pages / "decode.md").read_text()
    assert [path.name for path in pages.iterdir()] == ["decode.md"]


def test_a_key_changes_with_code_and_command(tmp_path: Path) -> None:
    """Another byte in a module, another option: another key; a file that is no code changes nothing."""
    (tmp_path / "clients").mkdir()
    code = tmp_path / "clients" / "gate.py"
    code.write_text("a = 1\n")
    before = code_key(("-m", "loadtest"), tmp_path)
    (tmp_path / "clients" / "notes.txt").write_text("x")
    assert code_key(("-m", "loadtest"), tmp_path) == before
    assert code_key(("-m", "loadtest", "plan"), tmp_path) != before
    code.write_text("a = 2\n")
    assert code_key(("-m", "loadtest"), tmp_path) != before


def test_a_command_that_fails_or_prints_no_json_is_named() -> None:
    """The command, and the end of what it said; one that misses a target still has its figures."""
    with pytest.raises(FleetError, match="ended with 3: why it failed"):
        run(("-c", "import sys; sys.stderr.write('why it failed'); sys.exit(3)"))
    with pytest.raises(FleetError, match="did not end with JSON but with 'words'"):
        run(("-c", "print('words')"))
    missed = run(("-c", "print('{\"rate\": 1}'); raise SystemExit(1)"))
    assert (missed["told"], missed["exit_code"]) == ({"rate": 1}, 1)
    assert "`python -c 'import json" in page(a_step(), {"one": missed}).splitlines()[-1]
    assert "ended with an error of its own" in page(a_step(), {"one": missed})


def test_an_unknown_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With the steps that there are."""
    assert main(["bench", "--only", "warp"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("loadtest: there is no step 'warp'; there are planner, simulate")


def test_every_page_is_there_and_listed() -> None:
    """docs/benchmarks holds the page of every step and no other, each says what its figures are; the index has all."""
    folder = ROOT / "docs" / "benchmarks"
    pages = {path.name for path in folder.glob("*.md")}
    own = {"savings.md", "scaling.md", "locust.md", "opponents.md"}
    assert pages == {step.file for step in steps() if step.has_page} | own
    index = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name in pages:
        assert f"](benchmarks/{name})" in index
        text = (folder / name).read_text(encoding="utf-8")
        assert re.search(r"\*\*(measured|emulated|modelled|projected)\*\*", text, re.IGNORECASE), name
        assert re.search(r"(python -m|locust) \S", text), name
    for step in steps():
        if step.has_page:
            text = (folder / f"{step.name}.md").read_text(encoding="utf-8")
            for arguments in step.commands.values():
                assert f"\n.venv/bin/python {shlex.join(arguments)}\n" in text, (
                    f"{step.name}: measured by other commands"
                )


def _row(page: str, name: str) -> list[str]:
    """The cells of a table's row in docs/benchmarks."""
    lines = (ROOT / "docs" / "benchmarks" / page).read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_readme_has_the_figures_of_the_pages() -> None:
    """What is saved, what it costs, what breaks first: as the newest pages say, rounded; and there are no others."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = (ROOT / "docs" / "benchmarks" / "savings.md").read_text(encoding="utf-8").splitlines()
    (columns,) = (line for line in lines if line.startswith("| technique |"))
    saved = dict(
        zip([one.strip() for one in columns.split("|")[2:-1]], _row("savings.md", "all together"), strict=True)
    )
    words = " ".join(readme.split())
    told = {
        r"([\d.]+) % of the engine time saved": float(saved["saved %"]),
        r"([\d.]+) % of the streaming AP": float(saved["kept %"]),
        r"([\d.]+) ms added latency": float(saved["added p95"]),
        r"([\d.]+) % of a T4's": 100 * float(_row("planner.md", "limits, nvdec, share")[0]),
    }
    for pattern, figure in told.items():
        (said,) = re.findall(pattern, words)
        assert float(said) == pytest.approx(figure, abs=0.51 if "." not in said else 0.051), pattern
    assert len(re.findall(r"\d ?%|\d ms\b|\d (?:frames|inferences)/s", words)) == len(told)
