"""`python -m loadtest events`: from the inference's answer to a broker's and a receiver's subscriber, all of it real.

The demo's cameras have zones that people walk through, a mosquitto and an HTTP receiver run beside them, and what
arrives is matched with the result that it came of. Readers run in this process, so their waiting for it is counted too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from clients.arguments import seconds
from clients.config import Settings, load_settings, parse_settings
from clients.errors import ConfigError
from clients.fleet import Fleet
from clients.result import Result
from clients.sinks.ring import Ring
from clients.statistics import Histogram
from clients.types import Detections, Tier
from clients.zones.layout import Layout, Line, Zone
from clients.zones.watch import Watch

_PLACES = "/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", "")
Key = tuple[str, int]


class Arrivals:
    """When what arrived, by camera and frame; `time_s` is Unix time."""

    def __init__(self) -> None:
        self.seen: list[tuple[Key, float]] = []
        self.ended = 0  # events that no answer has caused: the fleet stopped

    def take(self, body: bytes | bytearray) -> None:
        """One event's JSON."""
        time_s = time.time()
        record = json.loads(body)
        if record["reason"] == "ended":
            self.ended += 1
        else:
            self.seen.append(((record["camera"], record["frame"]), time_s))

    def delays(self, answered_s: dict[Key, float]) -> Histogram:
        """Milliseconds since the answers."""
        delays = Histogram()
        for key, time_s in self.seen:
            if key in answered_s:
                delays.add((time_s - answered_s[key]) * 1000)
        return delays


@contextmanager
def broker(arrivals: Arrivals) -> Iterator[str]:
    """A mosquitto with a reader; its URL. Raises ConfigError where there is none."""
    program = shutil.which("mosquitto", path=_PLACES)
    if program is None:
        raise ConfigError("mosquitto is not installed; on Debian: apt-get install mosquitto")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.on_connect = lambda client, *_: client.subscribe("+/+/events", 1)
        client.on_message = lambda _client, _user, message: arrivals.take(message.payload)
        try:
            while process.poll() is None and not _answers(port):
                time.sleep(0.05)
            client.connect("127.0.0.1", port)
            client.loop_start()
            yield f"mqtt://127.0.0.1:{port}"
        finally:
            client.disconnect()
            client.loop_stop()
            process.terminate()
            process.wait()


@contextmanager
def receiver(arrivals: Arrivals) -> Iterator[str]:
    """An HTTP server that takes events; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            arrivals.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def watched(settings: Settings, mqtt: str, webhook: str) -> Settings:
    """The cameras with zones of a third of the picture each and a line across it; nothing else is written."""
    thirds = [(index / 3, (index + 1) / 3) for index in range(3)]
    zones = [
        {"name": f"third {index}", "points": [[a, 0], [b, 0], [b, 1], [a, 1]], "debounce_s": 0}
        for index, (a, b) in enumerate(thirds)
    ]
    places = {"zones": zones, "lines": [{"name": "across", "points": [[0, 0.6], [1, 0.6]]}]}
    content = settings.model_dump(mode="json", exclude_unset=True)
    content["cameras"] = [camera | places for camera in content["cameras"]]
    content["sinks"] = {"jsonl": None, "mqtt": {"url": mqtt}, "webhook": {"url": webhook}}
    content["web"] = {"enabled": False}
    return parse_settings(content, origin="loadtest")


async def _run(settings: Settings, duration_s: float) -> tuple[dict[Key, float], dict[str, Any]]:
    answered_s: dict[Key, float] = {}

    async def note(stream_id: str) -> None:
        async for result in fleet.results(stream_id, most=1000):
            answered_s[stream_id, result.frame_index] = result.wall_time_s + result.age_ms / 1000

    async with Fleet(settings) as fleet:
        notes = [asyncio.create_task(note(camera.id)) for camera in settings.cameras]
        await asyncio.sleep(duration_s)
        fleet.stop()
        await asyncio.gather(*notes)
    return answered_s, fleet.stats().as_json()


def update_cost_us(objects: int, rounds: int = 500) -> float:
    """Microseconds of one result with so many objects that walk about, three zones and two lines."""
    chance = np.random.default_rng(1)
    thirds = [(index / 3, (index + 1) / 3) for index in range(3)]
    zones = tuple(Zone(str(a), ((a, 0), (b, 0), (b, 1), (a, 1))) for a, b in thirds)
    lines = (Line("across", ((0, 0.6), (1, 0.6))), Line("down", ((0.5, 0), (0.5, 1))))
    watch, ids = Watch("cam", Layout(zones, lines), "x"), np.arange(1, objects + 1)
    feet = chance.uniform(0.1, 0.9, (objects, 2))
    results = []
    for index in range(rounds):
        feet = np.clip(feet + chance.normal(0, 0.005, feet.shape), 0.01, 0.99)
        boxes = np.concatenate((feet - 0.02, feet + 0.02), axis=1) * 640
        rows = np.concatenate((boxes, np.ones((objects, 1)), np.zeros((objects, 1))), axis=1).astype(np.float32)
        found = Detections.from_rows(rows)
        results.append(Result("cam", index, index / 8, 1, Tier.N, found, ids, size_px=(640, 640), wall_time_s=0))
    began_s = time.perf_counter()
    for result in results:
        watch.update(result, ("person",))
    return (time.perf_counter() - began_s) / rounds * 1e6


def ring_cost_us(clip: Path, rounds: int = 20) -> float:
    """Microseconds of keeping one packet of a video for clips, those that are given up included."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        ring = Ring(15, 16_000_000)
        ring.opened(stream)
        began_s = time.perf_counter()
        for index in range(rounds * len(packets)):
            ring.packet(packets[index % len(packets)], index * 40_000_000)
        return (time.perf_counter() - began_s) / (rounds * len(packets)) * 1e6


def measure(config: Path, duration_s: float) -> dict[str, Any]:
    """Run the cameras of a configuration for so long. Raises ConfigError, and what a fleet raises."""
    by_mqtt, by_http = Arrivals(), Arrivals()
    with broker(by_mqtt) as mqtt, receiver(by_http) as webhook:
        settings = watched(load_settings(config), mqtt, webhook)
        answered_s, stats = asyncio.run(_run(settings, duration_s))
    return {
        "cameras": len(settings.cameras),
        "seconds": duration_s,
        "inferences": stats["inferences"],
        "events_at_broker": len(by_mqtt.seen),
        "events_at_receiver": len(by_http.seen),
        "events_at_the_end": by_mqtt.ended,
        "answer_to_broker_ms": by_mqtt.delays(answered_s).summary(),
        "answer_to_receiver_ms": by_http.delays(answered_s).summary(),
        "dropped": stats["results_dropped"],
        "zones_us_per_result": {str(objects): round(update_cost_us(objects), 1) for objects in (0, 1, 10, 100)},
        "ring_us_per_packet": round(ring_cost_us(Path(settings.cameras[0].source)), 1),
        "errors": stats["errors"],
    }


def add_events(commands: Any) -> None:
    """`events` among the commands of `python -m loadtest`."""
    text = "from the answer to broker and receiver: delay of events of the demo's cameras, real mosquitto and HTTP"
    events = commands.add_parser("events", help=text, description=text)
    events.add_argument("--config", type=Path, default=Path("config.demo.yaml"), metavar="FILE")
    events.add_argument("--seconds", type=seconds, default=30.0, metavar="S", help="default %(default)s")
    events.set_defaults(command=_command)


def _command(options: argparse.Namespace) -> dict[str, Any]:
    return measure(options.config, options.seconds)


def _answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
