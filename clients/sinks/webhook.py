"""Events as HTTP POSTs: signed as standardwebhooks.com says, tried again while they are young, else dead letters.

A receiver that is away is not asked for every event anew: it has a pause that doubles, and what grows too old in it
goes to the dead letters without a request. So the queue moves on however long the receiver is away.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import urllib3

from clients.errors import ConfigError
from clients.sinks.jsonl import LineFile, Rotation
from clients.sinks.keys import WebhookKeys
from clients.sinks.outbox import CLOSE_S, Outbox
from clients.sources.address import expanded, expanded_url, shown_url
from clients.sources.tls import problem_of
from clients.zones.event import Event, as_record, timestamp

_QUEUE = 1000  # events
_PAUSE_S = (0.25, 30.0)  # after the first failure, and at most
_AGAIN = (408, 425, 429)  # and every 5xx: what may be different later
_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a request failed, and whether it may be tried again."""

    problem: str
    is_final: bool = False


class WebhookSink:
    """Posts events in a thread. `dropped` counts those that became dead letters, or found the queue full."""

    def __init__(self, keys: WebhookKeys, rotation: Rotation, environment: Mapping[str, str] = os.environ) -> None:
        """Raises ConfigError: no URL, a variable that is not set, a secret or certificate that is none."""
        if keys.url is None:
            raise ConfigError("sinks.webhook.url: is required and missing")
        try:
            self._url = expanded_url(keys.url, environment)
            self._key = None if keys.secret is None else signing_key(expanded(keys.secret, environment))
        except ValueError as error:
            raise ConfigError(f"sinks.webhook: {error}") from None
        problem = None if keys.tls_ca is None else problem_of(keys.tls_ca)
        if problem is not None:
            raise ConfigError(f"sinks.webhook.tls_ca: {problem}")
        self._shown = shown_url(keys.url)
        self._keys, self._rotation = keys, rotation
        self._dead_letters: LineFile | None = None
        self._pause_s = 0.0
        self._next_s = 0.0  # when the receiver may be asked again
        self._closing = threading.Event()
        ca = None if keys.tls_ca is None else str(keys.tls_ca)
        self._pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=keys.timeout_s, ca_certs=ca)
        self._outbox = Outbox[tuple[float, Event]]("sinks.webhook", self._deliver, most=_QUEUE)

    @property
    def dropped(self) -> int:
        """Events that were not delivered."""
        return self._outbox.losses.count

    def write(self, event: Event) -> None:
        """Hand one over; never waits."""
        self._outbox.put((time.monotonic(), event))

    def close(self) -> None:
        """Try what is queued once more, within seconds."""
        self._closing.set()
        has_ended = self._outbox.close(self._keys.timeout_s + CLOSE_S)
        self._pool.clear()
        if has_ended and self._dead_letters is not None:
            self._dead_letters.close()

    def _deliver(self, item: tuple[float, Event]) -> None:
        put_s, event = item
        record = as_record(event)
        body = json.dumps(record, separators=(",", ":")).encode()
        last_s = put_s + self._keys.retry_s
        problem = f"{self._shown} does not answer"
        while self._waits_until(self._next_s, last_s):
            failure = self._post(event.id, body)
            if failure is None:
                self._pause_s = self._next_s = 0.0
                self._outbox.losses.delivered()
                return
            problem = failure.problem
            if failure.is_final:
                break
            self._pause_s = longer(self._pause_s)
            self._next_s = time.monotonic() + self._pause_s
        self._bury(record, problem)

    def _waits_until(self, moment_s: float, last_s: float) -> bool:
        """Wait for that moment; False when it is later than the last one, or the sink closes before."""
        wait_s = moment_s - time.monotonic()
        if wait_s <= 0:
            return True
        return moment_s <= last_s and not self._closing.wait(wait_s)

    def _post(self, event_id: str, body: bytes) -> _Failure | None:
        headers = {"Content-Type": "application/json", "User-Agent": "yolo12-triton-fleet"}
        headers |= signed(event_id, int(time.time()), body, self._key)
        try:
            answer = self._pool.request("POST", self._url, body=body, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            return _Failure(f"{self._shown}: {_reason(error)}")
        if 200 <= answer.status < 300:
            return None
        is_final = answer.status < 500 and answer.status not in _AGAIN
        return _Failure(f"{self._shown} answers {answer.status}", is_final)

    def _bury(self, record: dict[str, Any], problem: str) -> None:
        path = self._keys.dead_letters
        letter = {"failed": timestamp(time.time()), "problem": problem, "event": record}
        try:
            if self._dead_letters is None:
                self._dead_letters = LineFile(path, self._rotation, appends=True)
            self._dead_letters.write(json.dumps(letter, separators=(",", ":")))
        except OSError as error:
            problem = f"{problem}, and {path} cannot be written: {error.strerror}"
        self._outbox.losses.lost(problem)


def longer(pause_s: float) -> float:
    """The pause after one more failure, in seconds: twice as long, a quarter of one at first, half a minute at most."""
    return min(max(2 * pause_s, _PAUSE_S[0]), _PAUSE_S[1])


def signing_key(secret: str) -> bytes:
    """The bytes of `whsec_<base64>`. Raises ValueError that does not repeat it."""
    if not secret.startswith(_PREFIX):
        raise ValueError(f"secret: must be {_PREFIX} and base64, such as {_PREFIX}$(openssl rand -base64 32)")
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"secret: what follows {_PREFIX} must be base64: {error}") from None
    if not 16 <= len(key) <= 128:
        raise ValueError(f"secret: must be 16 to 128 bytes, got {len(key)}")
    return key


def signed(event_id: str, unix_s: int, body: bytes, key: bytes | None) -> dict[str, str]:
    """The headers of Standard Webhooks; without a key there is no signature."""
    headers = {"webhook-id": event_id, "webhook-timestamp": str(unix_s)}
    if key is not None:
        mac = hmac.digest(key, f"{event_id}.{unix_s}.".encode() + body, hashlib.sha256)
        headers["webhook-signature"] = "v1," + base64.b64encode(mac).decode()
    return headers


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    """One line without the address, which may hold a password."""
    inner = error.__cause__ or error.__context__
    detail = getattr(inner, "strerror", None)
    name = type(error).__name__.removesuffix("Error")
    return f"{name}: {detail}" if detail else name
