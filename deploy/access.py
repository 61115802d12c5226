"""Who may do what with a server of ours: a key for what only its own client needs, a certificate for gRPC.

Inference, health and metadata stay open to whoever reaches the port. Shared memory could be used to read what other
processes keep there, model configuration and statistics tell about the house; model control, tracing and logging
change the server. Triton takes the key on its command line only, so other users of this machine can read it there.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clients.errors import ConfigError
from clients.inference.access import ADMIN_HEADER, admin_key

RESTRICTED = ("shared-memory", "model-config", "model-repository", "statistics", "trace", "logging")


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """`admin_key` None: everything is open. `certificate` and `private_key`: PEM files for gRPC, both or none."""

    admin_key: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    private_key: Path | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError: one of the two files without the other, or one that is not there."""
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigError("TLS needs a certificate and its key, got one without the other")
        for file in filter(None, (self.certificate, self.private_key)):
            if not os.access(file, os.R_OK):
                raise ConfigError(f"{file}: no such file, or it cannot be read; TLS needs it")

    def arguments(self) -> Iterator[str]:
        """For tritonserver's command line."""
        if self.admin_key is not None:
            rule = f"{','.join(RESTRICTED)}:{ADMIN_HEADER}={self.admin_key}"
            yield from (f"--grpc-restricted-protocol={rule}", f"--http-restricted-api={rule}")
        if self.certificate is not None:
            yield from ("--grpc-use-ssl=true", f"--grpc-server-cert={self.certificate}")
            yield f"--grpc-server-key={self.private_key}"


def new_admin_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(32)


def made_admin_key(name: str, known: Mapping[str, str], environment: Mapping[str, str]) -> str | None:
    """The key called `name`; where NAME_FILE names a file that is not there yet, it is made, for its owner only.

    Raises ConfigError: it is not set, cannot be read, written, or sent.
    """
    file = environment.get(f"{name}_FILE")
    if file is not None and name not in environment and not Path(file).exists():
        _write_new(Path(file))
    return admin_key(name, known)


def _write_new(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=False)
        file.write_text(new_admin_key() + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: the key cannot be written there: {error.strerror}") from None
