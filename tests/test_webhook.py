"""Events posted to a real HTTP receiver: signed, tried again, buried; whatever it does, nobody waits for it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import trustme
from test_events import EVENT, HERE
from test_zones import watched

from clients.errors import ConfigError
from clients.sinks.jsonl import Rotation
from clients.sinks.keys import WebhookKeys
from clients.sinks.webhook import WebhookSink, longer, signed, signing_key
from clients.zones.event import Event, as_record

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
(AN_EVENT,) = watched(HERE, [{1: (0.2, 0.5)}])


def event(number: int) -> Event:
    """One of many."""
    return replace(AN_EVENT, id=f"cam-{number}")


@dataclass(frozen=True)
class Posted:
    """A request that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float

    @property
    def number(self) -> int:
        return int(self.headers["webhook-id"].removeprefix("cam-"))


class Receiver:
    """Answers with the given statuses, then with 200; `None` never answers."""

    def __init__(self, *statuses: int | None) -> None:
        self.arrived: queue.Queue[Posted] = queue.Queue()
        self.released = threading.Event()
        self._statuses = iter(statuses)
        self.url = ""
        self.stop = lambda: None

    def take(self) -> Posted:
        """The next request."""
        return self.arrived.get(timeout=20)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if self.released.is_set():  # it has stopped: a connection that was kept is of no use
            handler.close_connection = True
            return
        self.arrived.put(
            Posted(handler.path, {k.lower(): v for k, v in handler.headers.items()}, body, time.monotonic())
        )
        status = next(self._statuses, 200)
        if status is None:
            self.released.wait(60)
            return
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        if status == 302:
            handler.send_header("Location", self.url)
        handler.end_headers()


@contextmanager
def listening(receiver: Receiver, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """The receiver on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            receiver.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        receiver.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/hook"
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()

        def stop() -> None:
            receiver.released.set()
            server.shutdown()
            thread.join()
            server.socket.close()

        receiver.stop = stop
        try:
            yield receiver
        finally:
            stop()


def sink(folder: Path, url: str, **keys: Any) -> WebhookSink:
    """A webhook with its dead letters in this folder."""
    chosen = WebhookKeys(url=url, dead_letters=folder / "dead.jsonl", **keys)
    return WebhookSink(chosen, Rotation(), {"TOKEN": "s3cr3t", "KEY": SECRET})


def dead(folder: Path) -> list[dict[str, Any]]:
    """The dead letters."""
    path = folder / "dead.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification's own libraries, and by hand; another body, id, time or key is another one."""
    body = b'{"test": 2432232314}'
    key = signing_key(SECRET)
    headers = signed("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, key)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    others = {
        signed("msg_other", 1614265330, body, key)["webhook-signature"],
        signed("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265331, body, key)["webhook-signature"],
        signed("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body + b" ", key)["webhook-signature"],
        signed("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, b"0" * 24)["webhook-signature"],
    }
    assert len(others | {headers["webhook-signature"]}) == 5


def test_events_arrive_in_order_and_signed(tmp_path: Path) -> None:
    """As JSON of the schema, with an id, a time and a signature that the receiver can check."""
    with listening(Receiver()) as receiver:
        posting = sink(tmp_path, receiver.url, secret="${KEY}")
        for number in range(20):
            posting.write(event(number))
        posted = [receiver.take() for _ in range(20)]
        posting.close()
    assert [one.number for one in posted] == list(range(20))
    for one in posted:
        EVENT.validate(json.loads(one.body))
        assert one.headers["content-type"] == "application/json"
        told = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + one.body
        mac = hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), told, hashlib.sha256).digest()
        assert one.headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
    assert posting.dropped == 0
    assert dead(tmp_path) == []


@pytest.mark.parametrize("status", [500, 429])
def test_what_may_work_later_is_tried_again(tmp_path: Path, status: int) -> None:
    """The same event with the same id until it is taken, then the next one."""
    with listening(Receiver(status, status)) as receiver:
        posting = sink(tmp_path, receiver.url)
        posting.write(event(1))
        posting.write(event(2))
        assert [receiver.take().number for _ in range(4)] == [1, 1, 1, 2]
        posting.close()
    assert posting.dropped == 0


def test_pauses_grow_until_it_answers(tmp_path: Path) -> None:
    """Each is twice the one before; after an answer they begin anew."""
    with listening(Receiver(503, 503, 503, 503, 200, 503)) as receiver:
        posting = sink(tmp_path, receiver.url)
        posting.write(event(1))
        posting.write(event(2))
        posts = [receiver.take() for _ in range(7)]
        posting.close()
    assert [post.number for post in posts] == [1] * 5 + [2] * 2
    gaps_s = [later.at_s - earlier.at_s for earlier, later in pairwise(posts)]
    assert all(gap_s >= pause_s for gap_s, pause_s in zip(gaps_s, (0.25, 0.5, 1, 2), strict=False))
    assert gaps_s[5] < 2, "not the fifth pause of a row"


def test_a_pause_has_bounds() -> None:
    """From a quarter of a second to half a minute."""
    assert list(accumulate(range(9), lambda pause_s, _: longer(pause_s))) == [0, 0.25, 0.5, 1, 2, 4, 8, 16, 30]
    assert longer(30) == 30


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_what_is_refused_is_a_dead_letter(tmp_path: Path, status: int) -> None:
    """At once, with the reason and the whole event, and the next one is delivered; a redirection is not followed."""
    with listening(Receiver(status)) as receiver:
        posting = sink(tmp_path, receiver.url)
        posting.write(event(1))
        posting.write(event(2))
        assert [receiver.take().number for _ in range(2)] == [1, 2]
        posting.close()
    assert posting.dropped == 1
    (letter,) = dead(tmp_path)
    assert letter["event"] == as_record(event(1))
    assert letter["problem"] == f"{receiver.url} answers {status}"


def test_a_receiver_that_comes_back_gets_what_is_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What grew too old while it was away is in the dead letters; both are said once; secrets are never said."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    posting = sink(tmp_path, f"http://me:${{TOKEN}}@127.0.0.1:{port}/hook?key=${{TOKEN}}", retry_s=0)
    number = 0
    while posting.dropped < 3:  # each is buried sooner or later
        number += 1
        posting.write(event(number))
        threading.Event().wait(0.01)
    with listening(Receiver(), port) as receiver:
        while receiver.arrived.empty():
            number += 1
            posting.write(event(number))
            threading.Event().wait(0.01)
        posting.write(event(number + 1))
        posting.close()
        taken = [receiver.take() for _ in range(receiver.arrived.qsize())]
    buried = {letter["event"]["id"] for letter in dead(tmp_path)}
    assert taken[-1].number == number + 1
    assert taken[-1].path == "/hook?key=s3cr3t"
    assert {f"cam-{one.number}" for one in taken} | buried == {f"cam-{n + 1}" for n in range(number + 1)}
    assert posting.dropped == len(buried)
    assert [record.levelname for record in caplog.records if "sinks.webhook" in record.message] == ["ERROR", "WARNING"]
    assert "s3cr3t" not in caplog.text + (tmp_path / "dead.jsonl").read_text()
    assert "***@127.0.0.1" in caplog.text


def test_a_receiver_that_never_answers_holds_nobody_up(tmp_path: Path) -> None:
    """However many events come, they are taken or counted; closing waits for one request at most."""
    with listening(Receiver(*[None] * 50)) as receiver:
        posting = sink(tmp_path, receiver.url, timeout_s=0.2, retry_s=0)
        for number in range(5000):
            posting.write(event(number))
        receiver.take()
        posting.close()
        assert posting.dropped == 5000
        assert 0 < len(dead(tmp_path)) < 5000, "those for which there was room"


def test_an_https_receiver_is_verified(tmp_path: Path) -> None:
    """By the certificates that are named, else the system's: who is not vouched for gets nothing."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with listening(Receiver(), tls=context) as receiver:
        trusting = sink(tmp_path, receiver.url, tls_ca=tmp_path / "ca.pem")
        trusting.write(event(1))
        assert receiver.take().number == 1
        trusting.close()
        distrusting = sink(tmp_path, receiver.url, retry_s=0)
        distrusting.write(event(2))
        distrusting.close()
    assert (trusting.dropped, distrusting.dropped) == (0, 1)
    assert receiver.arrived.empty()
    assert "SSL" in dead(tmp_path)[0]["problem"]


def test_dead_letters_that_cannot_be_written_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The line says both problems."""
    keys = WebhookKeys(url="http://127.0.0.1:9/", dead_letters=Path("/proc/nowhere/dead.jsonl"), retry_s=0)
    posting = WebhookSink(keys, Rotation())
    posting.write(event(1))
    posting.close()
    assert posting.dropped == 1
    assert "/proc/nowhere/dead.jsonl cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"url": "http://x", "secret": "hush"}, "sinks.webhook: secret: must be whsec_ and base64"),
        ({"url": "http://x", "secret": "whsec_hush!"}, "sinks.webhook: secret: what follows whsec_ must be base64"),
        ({"url": "http://x", "secret": "whsec_aHVzaA=="}, "secret: must be 16 to 128 bytes, got 4"),
        ({"url": "http://x/${NOBODY}"}, "sinks.webhook: the environment variable NOBODY is not set"),
        ({"url": "https://x", "tls_ca": "/nowhere"}, "sinks.webhook.tls_ca: /nowhere: cannot be read"),
        ({}, "sinks.webhook.url: is required and missing"),
    ],
)
def test_a_webhook_that_cannot_be_is_a_clear_error(keys: dict[str, Any], expected: str) -> None:
    """One line that does not repeat the secret."""
    with pytest.raises(ConfigError, match=expected) as caught:
        WebhookSink(WebhookKeys(**keys), Rotation(), {})
    assert "hush" not in str(caught.value)
    assert "aHVzaA" not in str(caught.value)
