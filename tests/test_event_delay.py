"""`python -m loadtest events`: what it measures with, on a real broker and receiver."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, moving_square, write_clip
from test_webhook import event

from clients.config import load_settings
from clients.sinks.jsonl import Rotation
from clients.sinks.keys import MqttKeys, WebhookKeys
from clients.sinks.mqtt import MqttSink
from clients.sinks.webhook import WebhookSink
from loadtest.event_delay import Arrivals, broker, receiver, ring_cost_us, update_cost_us, watched


def test_what_arrives_is_matched_with_its_answer(tmp_path: Path) -> None:
    """Each event at both ends once; the delay counts from the answer of its frame, if one caused it."""
    by_mqtt, by_http = Arrivals(), Arrivals()
    with broker(by_mqtt) as mqtt, receiver(by_http) as webhook:
        publishing = MqttSink(MqttKeys(url=mqtt))
        posting = WebhookSink(WebhookKeys(url=webhook, dead_letters=tmp_path / "dead.jsonl"), Rotation())
        for number in range(5):
            publishing.write(event(number))
            posting.write(event(number))
        publishing.write(replace(event(5), kind="leave", reason="ended"))
        posting.write(replace(event(5), kind="leave", reason="ended"))
        while not (by_mqtt.ended and by_http.ended):
            pass
        publishing.close()
        posting.close()
    for arrivals in (by_mqtt, by_http):
        assert {key for key, _ in arrivals.seen} == {("cam", 0)}
        first = min(time_s for _, time_s in arrivals.seen)
        delays = arrivals.delays({("cam", 0): first - 0.5})
        assert len(delays) == 5
        assert delays.quantile(0.2) == pytest.approx(500, rel=0.02)
        assert len(arrivals.delays({("cam", 1): first})) == 0


def test_the_cameras_are_given_zones_and_nothing_else_is_written() -> None:
    """The demo's configuration with both sinks, without files and wall."""
    settings = watched(load_settings(ROOT / "config.demo.yaml"), "mqtt://127.0.0.1:1", "http://127.0.0.1:1/")
    assert all(len(stream.layout.places) == 4 for stream in settings.streams())
    assert (settings.sinks.jsonl, settings.sinks.mosaic_video, settings.web.enabled) == (None, None, False)
    assert settings.model.default == "yolo12n"


def test_the_cost_of_zones_and_rings_is_measured(tmp_path: Path) -> None:
    """Of a result with nobody and with many, and of a packet."""
    assert 0 < update_cost_us(0, rounds=3) < 1e6
    assert 0 < update_cost_us(50, rounds=3) < 1e6
    assert 0 < ring_cost_us(write_clip(tmp_path / "clip.mp4", moving_square(5)), rounds=2) < 1e6
