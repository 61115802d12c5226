"""The keys of the sinks that reach other machines. `${NAME}` is an environment variable, never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from clients.section import Section
from clients.sources.address import shown_url
from clients.zones.event import Kind


class WebhookKeys(Section):
    """Every event as an HTTP POST."""

    url: str | None = Field(None, description="http(s) URL that events are posted to; empty is none.", repr=False)
    secret: str | None = Field(None, description="Signs what is posted: whsec_ and base64.", repr=False)
    tls_ca: Path | None = Field(None, description="PEM file of those who vouch for an https receiver.")
    timeout_s: float = Field(5, gt=0, le=60, description="A receiver that takes longer has failed.")
    retry_s: float = Field(60, ge=0, le=3600, description="An event is tried again for so long.")
    dead_letters: Path = Field(Path("out/dead-letters.jsonl"), description="File for what could not be delivered.")

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        return _with_scheme(value, ("http", "https"))


class MqttKeys(Section):
    """Every event as an MQTT message."""

    url: str | None = Field(None, description="mqtt(s)://user:password@host:port; empty is none.", repr=False)
    tls_ca: Path | None = Field(None, description="PEM file of those who vouch for an mqtts broker.")
    topic: str = Field("yolo12-fleet", description="Events go to <topic>/<camera>/events.")
    qos: Literal[0, 1, 2] = Field(1, description="MQTT's quality of service.")

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        return _with_scheme(value, ("mqtt", "mqtts"))

    @field_validator("topic")
    @classmethod
    def _topic(cls, value: str) -> str:
        if not value or len(value.encode()) > 1000 or set("+#\0") & set(value) or value.startswith(("$", "/")):
            raise ValueError(f"must be an MQTT topic without + and #, not beginning with $ or /, got {value!r}")
        return value.rstrip("/")


class ClipKeys(Section):
    """What the camera saw around an event, as it sent it."""

    folder: Path | None = Field(None, description="Folder for the clips; empty is none.")
    before_s: float = Field(5, ge=0, le=60, description="A clip begins so long before its event, at a key frame.")
    after_s: float = Field(5, gt=0, le=60, description="And ends so long after it.")
    kinds: tuple[Kind, ...] = Field(("enter", "dwell", "cross"), description="Events that make clips.")
    ring_mb: float = Field(16, gt=0, le=1000, description="Memory for the newest packets of each camera, at most.")
    most_mb: float = Field(1000, gt=0, le=1e7, description="All clips together; the oldest are removed.")


def _with_scheme(value: str | None, schemes: tuple[str, ...]) -> str | None:
    if value is None:
        return None
    scheme, sign, rest = value.partition("://")
    if not sign or scheme not in schemes or not rest:
        came = repr(shown_url(value)) if sign else "none of them"  # without a scheme nobody knows what is a password
        raise ValueError(f"must begin with {' or '.join(f'{name}://' for name in schemes)}, got {came}")
    return value
