"""Events on a real mosquitto: delivered, kept while it is away, counted when there are too many; nobody waits."""

from __future__ import annotations

import asyncio
import json
import queue
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
import trustme
from conftest import PATIENCE_S, demo_clip
from paho.mqtt.enums import CallbackAPIVersion
from test_events import EVENT
from test_library import content
from test_webhook import Receiver, event, listening

from clients.config import parse_settings
from clients.errors import ConfigError
from clients.fleet import Fleet
from clients.sinks.keys import MqttKeys
from clients.sinks.mqtt import MqttSink
from deploy.server import TritonServer

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")


class Broker:
    """A mosquitto that can be stopped and started again on its port."""

    def __init__(self, folder: Path, *, password: str | None = None, tls: trustme.CA | None = None) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._config, self._log = folder / "mosquitto.conf", folder / "mosquitto.log"
        who = "allow_anonymous true"
        if password is not None:
            passwords = folder / "passwords"
            command = ["mosquitto_passwd", "-b", "-c", str(passwords), "gate", password]
            subprocess.run(command, check=True, capture_output=True)
            who = f"allow_anonymous false\npassword_file {passwords}"
        if tls is not None:
            tls.cert_pem.write_to_path(folder / "ca.pem")
            certificate = tls.issue_cert("127.0.0.1")
            certificate.private_key_pem.write_to_path(folder / "key.pem")
            certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
            who += f"\ncertfile {folder}/cert.pem\nkeyfile {folder}/key.pem"
        kept = f"persistence true\npersistence_location {folder}/"
        self._config.write_text(f"listener {self.port} 127.0.0.1\n{who}\n{kept}\nuser root\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it can be connected to."""
        assert MOSQUITTO, "apt-get install mosquitto"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stderr=log)
        while True:
            assert self._process.poll() is None, "mosquitto has ended"
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return

    def said(self, words: str) -> int:
        """How often these words stand in its log."""
        return self._log.read_text(encoding="utf-8").count(words)

    def stop(self) -> None:
        """It keeps its sessions in a file."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


@contextmanager
def broker(folder: Path, **options: Any) -> Iterator[Broker]:
    """A running mosquitto."""
    mosquitto = Broker(folder, **options)
    mosquitto.start()
    try:
        yield mosquitto
    finally:
        mosquitto.stop()


Messages = Callable[[int], list[tuple[str, str]]]


@contextmanager
def subscribed(port: int, topic: str = "#") -> Iterator[Messages]:
    """What is published there: `messages(count)` are the next ones, (topic, payload)."""
    arrived: queue.Queue[tuple[str, str]] = queue.Queue()
    ready: queue.Queue[int] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, "reader", clean_session=False)  # what it misses waits for it
    client.on_message = lambda _client, _user, message: arrived.put((message.topic, message.payload.decode()))
    client.on_subscribe = lambda *_: ready.put(1)
    client.on_connect = lambda client, *_: client.subscribe(topic, 1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    ready.get(timeout=20)
    try:
        yield lambda count: [arrived.get(timeout=20) for _ in range(count)]
    finally:
        client.disconnect()
        client.loop_stop()


def sink(stack: ExitStack, port: int, login: str = "", **keys: Any) -> MqttSink:
    """A sink that is closed with the stack."""
    made = MqttSink(MqttKeys(url=f"mqtt://{login}127.0.0.1:{port}", **keys), {"TOKEN": "s3cr3t/@"})
    stack.callback(made.close)
    return made


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_events_are_published_in_order(tmp_path: Path, qos: int) -> None:
    """As JSON of the schema, under their camera; the status says online, and offline in the end."""
    with broker(tmp_path) as mosquitto, subscribed(mosquitto.port) as messages, ExitStack() as stack:
        publishing = sink(stack, mosquitto.port, topic="site/7", qos=qos)
        assert messages(1) == [("site/7/status", "online")]
        for number in range(200):
            publishing.write(event(number))
        told = messages(200)
        stack.close()
        assert messages(1) == [("site/7/status", "offline")]
    assert {topic for topic, _ in told} == {"site/7/cam/events"}
    records = [json.loads(payload) for _, payload in told]
    assert [record["id"] for record in records] == [f"cam-{number}" for number in range(200)]
    EVENT.validate(records[0])
    assert publishing.dropped == 0


def test_a_broker_that_comes_back_gets_what_waited(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is stopped and started again: what came meanwhile is delivered, and each event at least once."""
    with broker(tmp_path) as mosquitto, ExitStack() as stack:
        with subscribed(mosquitto.port, "+/+/events") as messages:
            publishing = sink(stack, mosquitto.port)
            publishing.write(event(0))
            messages(1)
            mosquitto.stop()
            for number in range(1, 50):
                publishing.write(event(number))
            mosquitto.start()
            seen: set[str] = set()
            while len(seen) < 49:
                seen |= {json.loads(payload)["id"] for _, payload in messages(1)}
        assert seen >= {f"cam-{number}" for number in range(1, 50)}
        stack.close()
        assert publishing.dropped == 0
    assert "is lost" in caplog.text


def test_without_a_broker_nobody_waits_and_all_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """What is more than may wait is dropped at once, the rest when it is closed; said once."""
    with ExitStack() as stack:
        publishing = sink(stack, 9)
        for number in range(4000):
            publishing.write(event(number))
            if number % 50 == 0:
                threading.Event().wait(0.005)  # the thread may hand over what it has: its place is bounded too
        assert publishing.dropped >= 4000 - 2 * 1000 - 1, "as many as the queue and the client hold wait"
        stack.close()
        assert publishing.dropped == 4000
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


def test_a_wrong_password_is_said_once_and_a_right_one_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker's own word, without the password, however often it refuses."""
    with broker(tmp_path, password="s3cr3t/@") as mosquitto, ExitStack() as stack:
        sink(stack, mosquitto.port, "gate:wrong-one@")
        while mosquitto.said("not authorised") < 3:
            time.sleep(0.05)
        (said,) = (one.getMessage() for one in caplog.records if one.name.startswith("clients."))
        assert said.endswith("refuses the connection: Not authorized")
        assert "wrong-one" not in caplog.text
        publishing = sink(stack, mosquitto.port, "gate:${TOKEN}@")
        publishing.write(event(1))
        stack.close()
        assert publishing.dropped == 0


# paho leaves a socket whose certificate it refused to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_encrypted_broker_is_verified(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By the certificates that are named, else the system's: who is not vouched for gets nothing."""
    with broker(tmp_path, tls=trustme.CA()) as mosquitto:
        url = f"mqtts://127.0.0.1:{mosquitto.port}"
        trusting = MqttSink(MqttKeys(url=url, tls_ca=tmp_path / "ca.pem"), {})
        trusting.write(event(1))
        trusting.close()
        distrusting = MqttSink(MqttKeys(url=url), {})
        distrusting.write(event(2))
        while "or its certificate is not trusted" not in caplog.text:
            time.sleep(0.05)
        distrusting.close()
    assert (trusting.dropped, distrusting.dropped) == (0, 1)
    with pytest.raises(ConfigError, match=r"sinks\.mqtt\.tls_ca: /nowhere: cannot be read"):
        MqttSink(MqttKeys(url=url, tls_ca=Path("/nowhere")), {})


@pytest.mark.anyio
async def test_dead_sinks_do_not_disturb_a_fleet(triton: TritonServer, tmp_path: Path) -> None:
    """Broker and receiver die while people walk through a zone: results go on; both come back and are told again."""
    zone = {"name": "whole", "points": [[0, 0], [1, 0], [1, 1], [0, 1]], "debounce_s": 0}
    with broker(tmp_path) as mosquitto, listening(Receiver()) as receiver:
        url, port = receiver.url, int(urlsplit(receiver.url).port or 0)
        sinks = {"mqtt": {"url": f"mqtt://127.0.0.1:{mosquitto.port}"}}
        sinks["webhook"] = {"url": url, "dead_letters": str(tmp_path / "dead.jsonl")}
        async with Fleet(parse_settings(content(triton.grpc_url, sinks=sinks), origin="test")) as fleet:
            with subscribed(mosquitto.port, "+/city/events") as messages:
                await fleet.add_stream("city", str(demo_clip()), loop=True, zones=[zone])
                (told,) = await asyncio.to_thread(messages, 1)
                posted = await asyncio.to_thread(receiver.take)
                assert json.loads(told[1])["id"] == json.loads(posted.body)["id"]
                receiver.stop()
                mosquitto.stop()
                results = fleet.results("city")
                async with asyncio.timeout(PATIENCE_S):
                    for _ in range(10):
                        await anext(results)
                mosquitto.start()
                with listening(Receiver(), port) as again:
                    await asyncio.to_thread(again.take)
                    await asyncio.to_thread(messages, 1)
        assert fleet.stats().errors == 0


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://:1883", r"sinks\.mqtt\.url: mqtt://:1883: needs a host"),
        ("mqtt://me:hush@broker:many", r"sinks\.mqtt\.url: mqtt://\*\*\*@broker:many: Port could not be cast"),
        ("mqtt://${NOBODY}@broker", r"the environment variable NOBODY is not set"),
        (None, r"sinks\.mqtt\.url: is required and missing"),
    ],
)
def test_a_broker_that_cannot_be_is_a_clear_error(url: str | None, expected: str) -> None:
    """One line without the password."""
    with pytest.raises(ConfigError, match=expected) as caught:
        MqttSink(MqttKeys(url=url), {})
    assert "hush" not in str(caught.value)
