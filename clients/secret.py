"""Secrets: from an environment variable, or from a file, which neither `docker inspect` nor a child process shows.

The names are those of the variables: `TRITON_ADMIN_KEY` is looked for in the environment, then in the file that
`TRITON_ADMIN_KEY_FILE` names, then in `/run/secrets/TRITON_ADMIN_KEY`, where Docker puts its secrets. What is read is
never logged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

FOLDER = Path("/run/secrets")


class Secrets(Mapping[str, str]):
    """The variables of an environment, those that lie in files included; a file is read when its name is asked for."""

    def __init__(self, environment: Mapping[str, str], folder: Path = FOLDER) -> None:
        self._environment = environment
        self._folder = folder

    def __getitem__(self, name: str) -> str:
        """Raises KeyError where there is none, ValueError where its file cannot be read."""
        if name in self._environment:
            return self._environment[name]
        named = self._environment.get(f"{name}_FILE")
        file = self._folder / name if named is None else Path(named)
        if named is None and not file.is_file():
            raise KeyError(name)
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise ValueError(f"{file}: the secret {name} cannot be read: {reason}") from None

    def __iter__(self) -> Iterator[str]:
        yield from self._environment

    def __len__(self) -> int:
        return len(self._environment)
