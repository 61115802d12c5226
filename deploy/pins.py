"""`python -m deploy.pins`: pin every package of the images, in constraints files that pip reads.

    python -m deploy.pins            write deploy/constraints.txt and deploy/constraints-server.txt anew
    python -m deploy.pins --check    can the registry still give what they say?

pip itself decides, for this Python; nothing is installed. The groups of pyproject.toml say what is wanted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clients.errors import FleetError

HERE = Path(__file__).resolve().parent
FILES: Mapping[str, tuple[str, ...]] = {
    "constraints.txt": ("clients", "export", "card", "load"),
    "constraints-server.txt": ("server",),
}
_HEAD = "# What pip chose for the groups {groups}; images install exactly this. Rewritten by `make pins`.\n"


class Unresolved(FleetError):
    """pip finds no set of packages that fits."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, or the pins can be had; 1 not. The last line of stdout is JSON."""
    parser = argparse.ArgumentParser(prog="python -m deploy.pins", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; ask the registry for what is pinned")
    options = parser.parse_args(arguments)
    told = {}
    try:
        for name, groups in FILES.items():
            file = HERE / name
            found = resolved(groups, file if options.check else None)
            if not options.check:
                file.write_text(_HEAD.format(groups=", ".join(groups)) + "".join(f"{pin}\n" for pin in found))
            told[name] = len(found)
    except Unresolved as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(told))
    return 0


def resolved(groups: Sequence[str], constraints: Path | None) -> list[str]:
    """`name==version` of every package that the groups need, sorted. Raises Unresolved."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    for group in groups:
        command += ["--group", group]
    if constraints is not None:
        command += ["--constraint", str(constraints)]
    asked = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        errors = [line for line in asked.stderr.splitlines() if line.startswith("ERROR")]
        raise Unresolved(f"{', '.join(groups)}: {' '.join(errors[-1:]) or 'pip failed'}")
    packages = [entry["metadata"] for entry in json.loads(asked.stdout)["install"]]
    return sorted(f"{one['name'].lower().replace('_', '-')}=={_public(one['version'])}" for one in packages)


def _public(version: str) -> str:
    """Without the local part: `2.13.0+cpu` is a build of 2.13.0, and a constraint on the latter takes both."""
    return version.partition("+")[0]


if __name__ == "__main__":
    sys.exit(main())
