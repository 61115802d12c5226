"""Events as MQTT messages. The broker may go and come back: what is young enough waits for it, bounded."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from clients.errors import ConfigError
from clients.sinks.keys import MqttKeys
from clients.sinks.outbox import CLOSE_S, Outbox
from clients.sources.address import expanded_url, shown_url
from clients.sources.tls import problem_of
from clients.zones.event import Event, as_record

_QUEUE = 1000  # events that wait for the broker, and as many for the thread that hands them over
_IN_FLIGHT = 20  # messages that the broker has not confirmed yet; of more, mosquitto 2.0 loses some at quality 2
_PAUSE_S = (1, 30)  # between two tries to connect, first and longest
_KEEPALIVE_S = 15
log = logging.getLogger(__name__)


class MqttSink:
    """Publishes events to `<topic>/<camera>/events`, and online or offline (retained) to `<topic>/status`.

    `dropped` counts events that found the queue full, and those that the broker had not confirmed when it was closed.
    """

    def __init__(self, keys: MqttKeys, environment: Mapping[str, str] = os.environ) -> None:
        """Connects in the background, for ever. Raises ConfigError: no URL, host or certificate, an unset variable."""
        if keys.url is None:
            raise ConfigError("sinks.mqtt.url: is required and missing")
        self._keys, self._shown = keys, shown_url(keys.url)
        try:
            address = urlsplit(expanded_url(keys.url, environment))
            port = address.port or (8883 if address.scheme == "mqtts" else 1883)
        except ValueError as error:
            raise ConfigError(f"sinks.mqtt.url: {self._shown}: {error}") from None
        if not address.hostname:
            raise ConfigError(f"sinks.mqtt.url: {self._shown}: needs a host")
        problem = None if keys.tls_ca is None else problem_of(keys.tls_ca)
        if problem is not None:
            raise ConfigError(f"sinks.mqtt.tls_ca: {problem}")
        self._client = self._made(address)
        self._changed = threading.Condition()
        self._unconfirmed: set[int] = set()
        self._early: set[int] = set()  # confirmed before `publish` has returned
        self._statuses: set[int] = set()
        self._is_refused = False
        self._is_away = False  # as far as is known: nobody answers, or not any more
        self._outbox = Outbox[Event]("sinks.mqtt", self._publish, most=_QUEUE)
        self._client.connect_async(address.hostname, port, _KEEPALIVE_S)
        self._client.loop_start()

    @property
    def dropped(self) -> int:
        """Events that were not delivered."""
        return self._outbox.losses.count

    def write(self, event: Event) -> None:
        """Hand one over; never waits."""
        self._outbox.put(event)

    def close(self) -> None:
        """Wait for what the broker has not confirmed yet, within seconds, and say goodbye."""
        self._outbox.close()
        with self._changed:
            self._changed.wait_for(lambda: self._is_away or not self._unconfirmed, CLOSE_S)
            unconfirmed = len(self._unconfirmed)
        if unconfirmed:
            self._outbox.losses.lost(f"{self._shown} has not confirmed the last events", unconfirmed)
        goodbye = self._client.publish(f"{self._keys.topic}/status", "offline", qos=1, retain=True)
        with suppress(RuntimeError, ValueError):  # it is away, and its last will says so
            goodbye.wait_for_publish(CLOSE_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _made(self, address: SplitResult) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_connect_fail = self._unreachable
        client.on_publish = self._confirmed
        client.max_inflight_messages_set(_IN_FLIGHT)
        client.max_queued_messages_set(_QUEUE)
        client.reconnect_delay_set(*_PAUSE_S)
        client.will_set(f"{self._keys.topic}/status", "offline", qos=1, retain=True)
        if address.username:
            password = None if address.password is None else unquote(address.password)
            client.username_pw_set(unquote(address.username), password)
        if address.scheme == "mqtts":
            client.tls_set(None if self._keys.tls_ca is None else str(self._keys.tls_ca))
        return client

    def _publish(self, event: Event) -> None:
        body = json.dumps(as_record(event), separators=(",", ":"))
        handed = self._client.publish(f"{self._keys.topic}/{event.stream_id}/events", body, self._keys.qos)
        waits = handed.rc is MQTTErrorCode.MQTT_ERR_NO_CONN and self._keys.qos > 0
        if handed.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS and not waits:
            self._outbox.losses.lost(f"{self._shown}: {paho.error_string(handed.rc)}")
            return
        with self._changed:  # not while publishing: a confirmation holds a lock that publishing needs
            if handed.mid in self._early:
                self._early.remove(handed.mid)
            else:
                self._unconfirmed.add(handed.mid)

    def _confirmed(self, _client: paho.Client, _user: Any, mid: int, *_: Any) -> None:
        if mid in self._statuses:
            self._statuses.remove(mid)
            return
        with self._changed:
            if mid in self._unconfirmed:
                self._unconfirmed.remove(mid)
            else:
                self._early.add(mid)
            self._changed.notify_all()
        self._outbox.losses.delivered()

    def _connected(self, client: paho.Client, _user: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        if code.is_failure:
            self._gone()
            if not self._is_refused:
                log.error("sinks.mqtt: %s refuses the connection: %s", self._shown, code)
            self._is_refused = True
            return
        self._is_refused = self._is_away = False
        log.info("sinks.mqtt: connected to %s", self._shown)
        self._statuses.add(client.publish(f"{self._keys.topic}/status", "online", qos=1, retain=True).mid)

    def _disconnected(self, _client: paho.Client, _user: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._gone()
        if code.is_failure and not self._is_refused:
            log.warning("sinks.mqtt: %s is lost: %s; it is connected again", self._shown, code)

    def _unreachable(self, _client: paho.Client, _user: Any) -> None:
        if not self._is_away:
            why = ", or its certificate is not trusted" if self._shown.startswith("mqtts") else ""
            log.warning("sinks.mqtt: nobody answers at %s%s; it is tried again", self._shown, why)
        self._gone()

    def _gone(self) -> None:
        with self._changed:
            self._is_away = True
            self._changed.notify_all()
