"""The REST API of a real fleet: cameras come and go, what is wrong is said in one shape, strangers are kept out."""

from __future__ import annotations

import json
import logging
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import pytest
from conftest import demo_clip
from prometheus_client.parser import text_string_to_metric_families
from served import Served, serving
from test_fleet import configured

from clients.config import Settings, Web, parse_settings
from clients.errors import ConfigError
from clients.roster import Roster
from clients.web.guard import MOST_BODY_BYTES
from clients.web.serve import MOST_CONNECTIONS, token_of
from clients.web.serve import serving as web_serving
from clients.web.viewers import MOST
from deploy.server import TritonServer

JSON = {"Content-Type": "application/json"}


def config_with(folder: Path, server: TritonServer, **web: Any) -> Path:
    """One busy camera, served on any free port."""
    cameras = [{"id": "cam02", "source": str(demo_clip()), "loop": True}]
    return configured(
        folder,
        cameras=cameras,
        triton={"url": server.grpc_url},
        system={"target_fps": 4},
        web={"enabled": True, "port": 0, **web},
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, triton: TritonServer) -> Iterator[Served]:
    """One fleet for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("served")
    with serving(config_with(folder, triton), folder / "fleet.log") as running:
        running.until_inferred("cam02")
        yield running


def is_problem(response: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    """Problem details of this status whose text has these words, with the headers that every answer has."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    problem: dict[str, Any] = response.json()
    assert set(problem) == {"type", "title", "status", "detail", "errors"}
    assert problem["status"] == status
    assert "\n" not in problem["detail"]
    for word in words:
        assert word in problem["detail"], problem
    return problem


def test_a_camera_comes_changes_rests_and_goes(served: Served) -> None:
    """Added, inferred, changed, paused, resumed, removed; each answer says what is so now, the other camera goes on."""
    response = served.add("yard", demo_clip(), loop=True, max_fps=3)
    assert response.status_code == 201, response.text
    assert response.headers["location"] == "/v1/streams/yard"
    assert served.until_inferred("yard")["camera"] == "yard"
    assert [stream["id"] for stream in served.http.get("/v1/streams").json()] == ["cam02", "yard"]
    changed = served.http.patch("/v1/streams/yard", json={"max_fps": 2, "confidence": 0.5}).json()
    assert changed["options"] == {"loop": True, "max_fps": 2.0, "confidence": 0.5}
    assert all(found["confidence"] >= 0.5 for found in served.until_inferred("yard")["objects"])
    for _ in range(2):  # once more changes nothing
        paused = served.http.post("/v1/streams/yard/pause").json()
        assert (paused["state"], paused["paused"], paused["options"]) == ("paused", True, changed["options"])
    assert served.http.get("/v1/streams/yard/detections").json() == {"id": "yard", "results": []}
    is_problem(served.http.get("/v1/streams/yard/frame.jpg"), 404, "yard: it is paused")
    is_problem(served.add("yard", demo_clip()), 409, "the id is in use")
    assert served.http.post("/v1/streams/yard/resume").json()["paused"] is False
    assert served.until_inferred("yard")["frame"] >= 0
    assert served.http.delete("/v1/streams/yard").status_code == 204
    is_problem(served.http.delete("/v1/streams/yard"), 404, "there is no such camera")
    assert served.http.get("/v1/stats").json()["per_camera"]["cam02"]["states"] == {"connecting": 1, "live": 1}


def test_pictures_and_numbers(served: Served) -> None:
    """A JPEG of the size that is asked for, Motion JPEG part by part, metrics that Prometheus can read, a plan."""
    jpeg = served.http.get("/v1/streams/cam02/frame.jpg", params={"width": 320})
    assert cv2.imdecode(np.frombuffer(jpeg.content, np.uint8), cv2.IMREAD_COLOR).shape == (180, 320, 3)
    with served.http.stream("GET", "/v1/streams/cam02/live.mjpg", params={"width": 160}) as live:
        assert live.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        seen = b""
        for part in live.iter_bytes():
            seen += part
            if seen.count(b"--frame\r\nContent-Type: image/jpeg") == 3:
                break
    families = {family.name for family in text_string_to_metric_families(served.http.get("/metrics").text)}
    assert {"y12_frames", "y12_result_age_seconds", "y12_server_up"} <= families
    plan = served.http.get("/v1/plan", params={"max_fps": 1}).json()
    assert (plan["fits"], plan["cameras"], plan["max_streams"], plan["projected"]) == (True, 1, 50, None)
    card = served.http.get("/v1/plan", params={"max_fps": 1, "gpu": "t4", "source": "1280x720@25/h264"}).json()
    assert (card["projected"]["fits"], card["projected"]["cameras"]) == (True, 2)
    assert served.http.get("/healthz").json() == {"status": "ok"}
    assert served.http.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "word"),
    [
        ("GET", "/v1/streams/nobody", {}, 404, "no such camera"),
        ("GET", "/v1/streams/nobody/history", {}, 404, "no such camera"),
        ("GET", "/v1/streams/..%2f..%2fetc%2fpasswd", {}, 404, "Not Found"),
        ("GET", "/v1/streams/%2e%2e/frame.jpg", {}, 422, "stream_id"),
        ("GET", "/static/..%2f..%2fconfig.py", {}, 404, "Not Found"),
        ("GET", "/v1/streams/cam02/frame.jpg?width=9", {}, 422, "width"),
        ("GET", "/nothing/here", {}, 404, "Not Found"),
        ("GET", "/v1/plan?gpu=h7", {}, 422, "no data sheet of 'h7'"),
        ("GET", "/v1/plan?gpu=../t4.json", {}, 422, "gpu"),
        ("GET", "/v1/plan?gpu=t4&source=huge", {}, 422, "WIDTHxHEIGHT@FPS/CODEC"),
        ("PUT", "/v1/streams", {"json": {}}, 405, "Method Not Allowed"),
        ("POST", "/v1/streams", {"content": b"{", "headers": JSON}, 422, "JSON"),
        ("POST", "/v1/streams", {"content": b"id=a", "headers": {"Content-Type": "text/plain"}}, 415, "json"),
        ("POST", "/v1/streams", {"content": b"<a/>"}, 415, "application/json"),
        ("POST", "/v1/streams", {"json": {"id": "a"}}, 422, "source"),
        ("POST", "/v1/streams", {"json": {"id": "<b>a</b>", "source": "a.mp4"}}, 422, "id"),
        ("POST", "/v1/streams", {"json": {"id": "../a", "source": "a.mp4"}}, 422, "id"),
        ("POST", "/v1/streams", {"json": {"id": "a", "source": "ftp://x/y"}}, 422, "must be a path"),
        ("POST", "/v1/streams", {"json": {"id": "a", "source": "http://x/${WALL_TOKEN}"}}, 422, "CAM_"),
        ("POST", "/v1/streams", {"json": {"id": "a", "source": "a.mp4", "max_fsp": 1}}, 422, "max_fsp"),
        ("POST", "/v1/streams", {"json": {"id": "a", "source": "a.mp4", "max_fps": -1}}, 422, "max_fps"),
        ("POST", "/v1/streams", {"json": {"id": "a", "source": "a.mp4", "min_fps": 9}}, 422, "min_fps"),
        ("PATCH", "/v1/streams/cam02", {"content": b"\xff", "headers": JSON}, 422, "UTF-8"),
        ("PATCH", "/v1/streams/cam02", {"json": {"model": "yolo11n"}}, 422, "yolo12n"),
        ("PATCH", "/v1/streams/cam02", {"json": {"id": "other"}}, 422, "id"),
        ("POST", "/v1/streams", {"json": {"id": "a", "source": "x" * MOST_BODY_BYTES}}, 413, "bytes"),
        ("POST", "/v1/streams", {"content": iter([b'"' * 65536] * 9), "headers": JSON}, 413, "bytes"),
        ("DELETE", "/v1/streams/cam02", {"headers": {"Origin": "https://elsewhere.example"}}, 403, "origin"),
        ("POST", "/v1/streams/cam02/pause", {"headers": {"Origin": "null"}}, 403, "origin"),
        ("GET", "/v1/streams", {"headers": {"Host": "rebound.example:80"}}, 421, "loopback"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    served: Served, method: str, path: str, options: dict[str, Any], status: int, word: str
) -> None:
    """Each refusal is one line of problem details, and the camera that was there is still there, alone."""
    is_problem(served.http.request(method, path, **options), status, word)
    streams = served.http.get("/v1/streams").json()
    assert [(stream["id"], stream["state"], stream["options"]) for stream in streams] == [
        ("cam02", "live", {"loop": True})
    ]


def test_zones_and_their_events(served: Served) -> None:
    """A zone is drawn while the camera goes on; who enters is told over SSE, at once and to who comes back later."""
    zone = {"name": "everywhere", "points": [[0, 0], [1, 0], [1, 1], [0, 1]], "debounce_s": 0}
    with served.http.stream("GET", "/v1/events", params={"camera": "cam02"}) as told:
        drawn = served.http.put("/v1/streams/cam02/zones", json={"zones": [zone]}).json()
        assert (drawn["zones"][0]["name"], drawn["lines"]) == ("everywhere", [])
        first, second = [next(events) for events in [events_of(told)] for _ in range(2)]
    assert (first["schema"], first["kind"], first["zone"]) == ("event/1", "enter", "everywhere")
    with served.http.stream("GET", "/v1/events", headers={"Last-Event-ID": first["id"]}) as told:
        assert next(events_of(told)) == second
    assert served.http.get("/v1/streams/cam02/zones").json()["counts"]["everywhere"]["in"] >= 2
    for wrong, words in (
        ({"zones": [zone | {"points": [[0, 0], [1, 1]]}]}, "3"),
        ({"zones": [zone | {"points": [[0, 0], [1, 1], [1, 0], [0, 1]]}]}, "zone"),
        ({"zones": [zone | {"points": [[0, 0], [2, 0], [1, 1]]}]}, "0..1"),
        ({"zones": [zone | {"classes": ["persn"]}]}, "person"),
        ({"zones": [zone, zone]}, "everywhere"),
        ({"zone": []}, "zone"),
    ):
        is_problem(served.http.put("/v1/streams/cam02/zones", json=wrong), 422, words)
    is_problem(served.http.get("/v1/events", params={"camera": "nobody"}), 404, "no such camera")
    assert served.http.put("/v1/streams/cam02/zones", json={}).json()["zones"] == []
    assert served.http.get("/v1/stats").json()["per_camera"]["cam02"]["states"] == {"connecting": 1, "live": 1}


def events_of(told: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of an SSE stream."""
    for line in told.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_secrets_are_never_shown(served: Served) -> None:
    """A login and a query in a source come back hidden, in the answer, in the list, and when they are wrong."""
    source = "rtsp://viewer:s3cret@127.0.0.1:9/stream?key=s3cret"
    assert "s3cret" not in served.add("gate", source, open_timeout_s=0.5).text
    try:
        assert served.http.get("/v1/streams/gate").json()["source"] == "rtsp://***@127.0.0.1:9/stream?***"
        assert "s3cret" not in served.http.get("/v1/stats").text + served.log.read_text()
    finally:
        assert served.http.delete("/v1/streams/gate").status_code == 204
    assert "s3cret" not in served.http.post("/v1/streams", json={"id": "s3cret?", "source": source}).text


def handshake(url: str, path: str = "/v1/wall") -> socket.socket:
    """A WebSocket that says hello and nothing more; it reads nothing either."""
    parts = urlsplit(url)
    assert parts.hostname
    connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=10)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return connection


def first_line(connection: socket.socket) -> str:
    """What was answered; nothing where the connection was cut."""
    try:
        return connection.recv(64).split(b"\r\n")[0].decode()
    except ConnectionError:
        return ""


def test_a_thousand_idle_viewers_are_bounded(served: Served) -> None:
    """So many get a place, the rest is refused or cut, the API answers meanwhile, and all places come back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2048)), hard))
    fds = served.process.num_fds()
    connections = [handshake(served.url) for _ in range(1000)]
    try:
        answers = [first_line(connection) for connection in connections]
        assert answers.count("HTTP/1.1 101 Switching Protocols") == MOST
        assert answers.count("HTTP/1.1 503 Service Unavailable") + answers.count("") == 1000 - MOST
        assert served.process.num_fds() <= fds + MOST_CONNECTIONS
        assert served.http.get("/v1/streams").status_code == 200
        is_problem(served.http.get("/v1/streams/cam02/live.mjpg"), 503, "places")
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    while served.process.num_fds() > fds + 2:
        served.http.get("/healthz")
    with served.http.stream("GET", "/v1/streams/cam02/live.mjpg") as live:
        assert live.status_code == 200


def test_connections_in_all_are_bounded(served: Served) -> None:
    """Those beyond the bound are cut at once, whoever is there goes on."""
    parts = urlsplit(served.url)
    fds = served.process.num_fds()
    assert served.http.get("/healthz").status_code == 200  # its connection stays
    idle = [
        socket.create_connection((parts.hostname or "", parts.port or 80), 10) for _ in range(MOST_CONNECTIONS + 50)
    ]
    try:
        assert [first_line(connection) for connection in idle[-40:]] == [""] * 40
        assert served.process.num_fds() <= fds + MOST_CONNECTIONS
        assert served.http.get("/healthz").status_code == 200
    finally:
        for connection in idle:
            connection.close()
    while served.process.num_fds() > fds + 2:
        served.http.get("/healthz")


def test_a_browser_page_of_another_origin_gets_no_wall(served: Served) -> None:
    """CORS does not hold WebSockets back, so the server does."""
    parts = urlsplit(served.url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10)
    with connection:
        connection.sendall(
            f"GET /v1/wall HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Origin: https://elsewhere.example\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert first_line(connection) == "HTTP/1.1 403 Forbidden"


def test_cameras_come_and_go_without_a_trace(served: Served) -> None:
    """Many cycles, some removed before their first frame: no thread, descriptor or metric's label is left."""
    served.add("warm-up", demo_clip())
    served.until_inferred("warm-up")
    served.http.delete("/v1/streams/warm-up")
    threads, fds = served.process.num_threads(), served.process.num_fds()
    for cycle in range(20):
        assert served.add(f"cycle-{cycle}", demo_clip()).status_code == 201
        if cycle % 4 == 0:
            served.until_inferred(f"cycle-{cycle}")
        assert served.http.delete(f"/v1/streams/cycle-{cycle}").status_code == 204
    assert served.process.num_threads() < threads + 10, "the pool for work beside the event loop may still grow"
    assert served.process.num_fds() < fds + 10
    assert "cycle-" not in served.http.get("/metrics").text
    camera = served.http.get("/v1/stats").json()["per_camera"]["cam02"]
    assert camera["states"] == {"connecting": 1, "live": 1}
    assert camera["frames_skipped"]["failed"] == 0


def test_schemathesis_finds_nothing(served: Served, tmp_path: Path) -> None:
    """Generated requests of every kind, by the API's own description: no crash, nothing that is not described."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json", "--max-examples=10"]
    # what a source, a certificate or a pair of rates may be, no schema says: such a refusal is no finding
    options = ["--exclude-checks=positive_data_acceptance", "--phases=examples,fuzzing", "--seed=1", "--no-color"]
    options += ["--exclude-path-regex=live.mjpg|/v1/events", "--generation-database=none"]
    process = subprocess.run(
        [*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False
    )
    try:
        assert process.returncode == 0, process.stdout
    finally:
        for stream in served.http.get("/v1/streams").json():
            if stream["id"] != "cam02":
                assert served.http.delete(f"/v1/streams/{stream['id']}").status_code == 204


def test_changes_survive_a_restart_until_the_file_says_otherwise(tmp_path: Path, triton: TritonServer) -> None:
    """Added, changed, paused and removed cameras are so after a restart, under a token too; a new word of the file
    about one of them counts."""
    config = config_with(tmp_path, triton, token_env="WALL_TOKEN")
    text = config.read_text()
    state = config.with_suffix(".state.json")
    with serving(config, tmp_path / "first.log", token="letmein") as first:
        assert first.add("yard", demo_clip(), loop=True, max_fps=2).status_code == 201
        assert first.add("gone", demo_clip()).status_code == 201
        assert first.http.delete("/v1/streams/gone").status_code == 204
        assert first.http.post("/v1/streams/yard/pause").status_code == 200
        assert first.http.patch("/v1/streams/cam02", json={"max_fps": 1}).status_code == 200
    assert state.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob(".*state*")] == []
    with serving(config, tmp_path / "second.log", token="letmein") as second:
        streams = {stream["id"]: stream for stream in second.http.get("/v1/streams").json()}
        assert {name: stream["paused"] for name, stream in streams.items()} == {"cam02": False, "yard": True}
        assert streams["cam02"]["options"]["max_fps"] == 1
        token_is_asked(second)
        assert second.http.post("/v1/streams/yard/resume").status_code == 200
        second.until_inferred("yard")
        config.write_text(text.replace("loop: true", "loop: true\n  weight: 2"))
    with serving(config, tmp_path / "third.log", token="letmein") as third:
        streams = {stream["id"]: stream for stream in third.http.get("/v1/streams").json()}
        assert streams["cam02"]["options"] == {"loop": True, "weight": 2.0}
        assert streams["yard"]["paused"] is False


def token_is_asked(served: Served) -> None:
    """Without it nothing is told but that the server lives; a browser's cookie stands for it."""
    with httpx.Client(base_url=served.url) as stranger:
        for path in ("/v1/streams", "/metrics", "/openapi.json", "/v1/streams/cam02/frame.jpg"):
            is_problem(stranger.get(path), 401, "token")
        is_problem(stranger.get("/v1/streams", headers={"Authorization": "Bearer nearly"}), 401)
        is_problem(stranger.post("/v1/session", json={"token": "nearly"}), 401, "not the token")
        assert stranger.get("/healthz").status_code == stranger.get("/").status_code == 200
        response = stranger.post("/v1/session", json={"token": "letmein"})
        assert response.status_code == 204
        assert "HttpOnly" in response.headers["set-cookie"]
        assert "letmein" not in response.headers["set-cookie"]
        assert stranger.get("/v1/streams").status_code == 200


@pytest.mark.anyio
async def test_the_address_is_open_when_it_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    """Who reads it from the log and asks at once is not refused, though the event loop has not come to the server."""
    with caplog.at_level(logging.INFO):
        async with web_serving(Roster(parse_settings({"web": {"enabled": True, "port": 0}}, origin="test"))):
            found = re.search(r"the live wall: http://([\d.]+):(\d+)/", caplog.text)
            assert found is not None
            socket.create_connection((found[1], int(found[2])), timeout=5).close()


@pytest.mark.anyio
async def test_what_cannot_be_served_is_said_before_anything_is_started(tmp_path: Path) -> None:
    """A port that is taken, a token that is not set, a state file of somebody else's: one line each."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        content = {"web": {"enabled": True, "port": taken.getsockname()[1]}}
        roster = Roster(parse_settings(content, origin="test"))
        with pytest.raises(ConfigError, match=r"web.port: 127.0.0.1:\d+ cannot be used: Address already in use"):
            async with web_serving(roster):
                pass
    with pytest.raises(ConfigError, match=r"web.token_env: the environment variable NO_SUCH_TOKEN is not set"):
        token_of(Web(token_env="NO_SUCH_TOKEN"))
    state = tmp_path / "config.state.json"
    for text, word in (
        ('{"version": 1, "changes": {"a": {}}}', "changes.a.camera: field required"),
        ('{"version": 7, "changes": {}}', "expected version 1, got 7"),
        ("not JSON", "invalid json"),
    ):
        state.write_text(text)
        with pytest.raises(ConfigError, match=word):
            Roster(Settings(), state)
