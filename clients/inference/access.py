"""How this client may talk to its Triton: over TLS or not, with the key of what not everyone may use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from clients.config import Triton
from clients.errors import ConfigError
from clients.secret import Secrets

ADMIN_HEADER = "admin-key"  # as HTTP has it; gRPC's begins with `triton-grpc-protocol-`, which Triton adds itself


@dataclass(frozen=True, slots=True)
class Access:
    """`admin_key` opens shared memory, model configuration and statistics; `ca` is PEM, None is gRPC's own list."""

    admin_key: str | None = field(default=None, repr=False)
    secure: bool = False
    ca: bytes | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str] | None:
        """What goes with every request to a restricted protocol."""
        return None if self.admin_key is None else {f"triton-grpc-protocol-{ADMIN_HEADER}": self.admin_key}


def access_to(triton: Triton, environment: Mapping[str, str] | None = None) -> Access:
    """What is configured for a Triton that runs already. `environment`: None is this process's, secrets included.

    Raises ConfigError: no such secret, a file that cannot be read.
    """
    known = Secrets(os.environ) if environment is None else environment
    return Access(admin_key(triton.admin_key_env, known), triton.tls, _ca(triton))


def admin_key(name: str | None, known: Mapping[str, str]) -> str | None:
    """The key called `name`; None is none. Raises ConfigError: it is not set, or cannot be sent."""
    if name is None:
        return None
    try:
        key = known[name]
    except KeyError:
        raise ConfigError(
            f"triton.admin_key_env: {name} is not set, nor {name}_FILE; give it the key that Triton was started with"
        ) from None
    except ValueError as error:
        raise ConfigError(f"triton.admin_key_env: {error}") from None
    if not is_key(key):
        raise ConfigError(f"triton.admin_key_env: {name} must hold 16 or more letters, digits, - or _")
    return key


def is_key(text: str) -> bool:
    """Whether Triton's command line and a header both take it as it is."""
    return len(text) >= 16 and text.isascii() and all(sign.isalnum() or sign in "-_" for sign in text)


def _ca(triton: Triton) -> bytes | None:
    if triton.tls_ca is None:
        return None
    try:
        return triton.tls_ca.read_bytes()
    except OSError as error:
        raise ConfigError(f"triton.tls_ca: {triton.tls_ca}: cannot be read: {error.strerror}") from None
