"""The configuration file: the article's runs unchanged, and every mistake is a line that names its key."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from pydantic import BaseModel

from clients.config import Camera, EndpointKeys, Settings, load_settings, parse_settings
from clients.errors import ConfigError
from clients.sinks.keys import ClipKeys, MqttKeys, WebhookKeys
from clients.sources.address import Address, Kind
from clients.types import LiveOptions, Tier
from clients.zones.keys import LineKeys, ZoneKeys

ARTICLE = """
system:       {max_streams: 50, target_fps: 25, max_batch_size: 16, min_batch_size: 4}
model:        {default: yolo12m.pt, fallback: yolo12n.pt, high_precision: yolo12x.pt}
optimization: {enable_dynamic_batching: true, enable_memory_optimization: true, enable_model_switching: true,
               resolution_scaling: true, max_resolution: 1280x720}
monitoring:   {gpu_utilization_threshold: 80, check_interval: 5}
"""


def written(folder: Path, text: str) -> Path:
    """A configuration file with this text."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(folder: Path, text: str) -> str:
    """What is said about a configuration file with this text."""
    with pytest.raises(ConfigError, match=r"\w") as caught:
        load_settings(written(folder, text)).streams()
    return str(caught.value)


def test_the_articles_file_runs_unchanged(tmp_path: Path) -> None:
    """Its keys and spelling are understood, and a cameras section beside them is all that is missing."""
    settings = load_settings(written(tmp_path, ARTICLE + "cameras: [{id: a, source: a.mp4}]"))
    (stream,) = settings.streams()
    assert (stream.max_fps, stream.tier) == (25, Tier.M)
    assert settings.tiers == (Tier.N, Tier.M, Tier.X)
    assert settings.optimization.max_size_px == (1280, 720)


def test_defaults_flow_into_the_cameras_and_cameras_override_them(tmp_path: Path) -> None:
    """What a camera leaves out comes from system and model; what it says counts."""
    text = """
    system: {target_fps: 7}
    model: {default: yolo12x, confidence: 0.4, iou: 0.5}
    cameras:
      - {id: a, source: a.mp4}
      - {id: b, source: b.mp4, max_fps: 3, min_fps: 1.5, weight: 2, max_age_ms: 90, model: n, confidence: 0.1,
         iou: 0.9, loop: true}
    """
    a, b = load_settings(written(tmp_path, text)).streams()
    assert (a.max_fps, a.tier, a.thresholds.score, a.thresholds.iou, a.loop) == (7, Tier.X, 0.4, 0.5, False)
    assert (b.max_fps, b.min_fps, b.weight, b.max_age_ms, b.tier) == (3, 1.5, 2, 90, Tier.N)
    assert (b.thresholds.score, b.thresholds.iou, b.loop) == (0.1, 0.9, True)


MISTAKES = {
    "unknown key": ("system: {max_streems: 5}", r"system\.max_streems: unknown key; did you mean 'max_streams'\?"),
    "unknown section": ("sistem: {}", r"sistem: unknown key; did you mean 'system'\?"),
    "unknown camera key": (
        "cameras: [{id: a, source: y, sorce: x}]",
        r"cameras\[0\]\.sorce: unknown key; did you mean 'source'",
    ),
    "missing camera key": ("cameras: [{id: a}]", r"cameras\[0\]\.source: is required and missing"),
    "wrong type": ("system: {target_fps: fast}", r"system\.target_fps: .*number.*got 'fast'"),
    "out of range": ("model: {confidence: 1.5}", r"model\.confidence: .*less than or equal to 1, got 1\.5"),
    "unknown tier": ("model: {default: yolo13n}", r"model\.default: expected one of yolo12n, .*, got 'yolo13n'"),
    "canvas": ("model: {canvas: 641x384}", r"model\.canvas: .*multiple of 32 px, got 641"),
    "resolution": ("optimization: {max_resolution: big}", r"max_resolution: must be WIDTHxHEIGHT .* got 'big'"),
    "url": ("triton: {url: 'http://x:8000'}", r"triton\.url: must be host:port, .*got 'http://x:8000'"),
    "transport": ("triton: {transport: carrier}", r"triton\.transport: .*'auto'.*got 'carrier'"),
    "batch sizes": ("system: {max_batch_size: 2}", r"system: min_batch_size must not exceed .*got 4 > 2"),
    "infinite": ("system: {target_fps: .inf}", r"system\.target_fps: .*finite number, got inf"),
    "video name": ("sinks: {mosaic_video: out/m.foo}", r"sinks\.mosaic_video: must end in \.mp4 or \.mkv, got 'out/m"),
    "emit": ("sinks: {emit: some}", r"sinks\.emit: .*'inferred' or 'all', got 'some'"),
    "image name": ("sinks: {mosaic_image: out/m}", r"sinks\.mosaic_image: must end in \.png or \.jpg, got 'out/m'"),
    "broken YAML": ("system: {max_streams: 5", r"not valid YAML: line \d+, column \d+"),
    "a key twice": ("system: {}\nsystem: {}", r"not valid YAML: line 2, column 1: the key 'system' is given twice"),
    "a list": ("- a\n- b", r"expected sections such as `cameras:` at the top, got a list"),
    "no camera": ("system: {}", r"cameras: the list is empty"),
    "empty camera list": ("cameras:", r"cameras: the list is empty"),
    "a camera twice": ("cameras: [{id: a, source: x}, {id: a, source: y}]", r"the id 'a' is used twice"),
    "a minimum above the maximum": (
        "cameras: [{id: a, source: x, max_fps: 2, min_fps: 3}]",
        r"a: min_fps must lie in 0\.\.max_fps \(2\), got 3",
    ),
    "camera transport": ("cameras: [{id: a, source: x, transport: pigeon}]", r"transport: .*'tcp'.*got 'pigeon'"),
    "camera timeout": ("cameras: [{id: a, source: x, open_timeout_s: 0}]", r"open_timeout_s: .*than 0, got 0"),
    "camera patience": ("cameras: [{id: a, source: x, read_timeout_s: 999}]", r"read_timeout_s: .*300, got 999"),
    "a bad source": ("cameras: [{id: a, source: 'ftp://x/y'}]", r"camera a: source: must be a path.*got ftp://"),
    "a zone's key": (
        "cameras: [{id: a, source: x, zones: [{name: z, points: [[0, 0], [1, 1], [0, 1]], dwel_s: 1}]}]",
        r"cameras\[0\]\.zones\[0\]\.dwel_s: unknown key; did you mean 'dwell_s'",
    ),
    "a zone of two corners": (
        "cameras: [{id: a, source: x, zones: [{name: z, points: [[0, 0], [1, 1]]}]}]",
        r"cameras\[0\]\.zones\[0\]: zone 'z': points must be 3 to 64 corners, got 2",
    ),
    "a corner of three numbers": (
        "cameras: [{id: a, source: x, lines: [{name: l, points: [[0, 0, 0], [1, 1]]}]}]",
        r"cameras\[0\]\.lines\[0\]\.points\[0\]: .*at most 2 items",
    ),
    "a line named as a zone": (
        "cameras: [{id: a, source: x, zones: [{name: z, points: [[0, 0], [1, 1], [0, 1]]}],"
        " lines: [{name: z, points: [[0, 0], [1, 1]]}]}]",
        r"cameras\[0\]: zones and lines need names of their own, got 'z' 2 times",
    ),
    "a webhook's scheme": (
        "sinks: {webhook: {url: 'ftp://me:hush@x/?key=hush'}}",
        r"sinks\.webhook\.url: must begin with http:// or https://, got 'ftp://\*\*\*@x/\?\*\*\*'",
    ),
    "a webhook that is no section": ("sinks: {webhook: 'http://me:hush@x'}", r"sinks\.webhook: .*dictionary.*"),
    "a secret that is no text": ("sinks: {webhook: {secret: [hush]}}", r"sinks\.webhook\.secret: .*valid string$"),
    "a broker's scheme": (
        "sinks: {mqtt: {url: 'me:hush@x'}}",
        r"sinks\.mqtt\.url: must begin with mqtt:// or mqtts://",
    ),
    "a topic": ("sinks: {mqtt: {topic: 'a/#'}}", r"sinks\.mqtt\.topic: must be an MQTT topic without .*got 'a/#'"),
    "a quality of service": ("sinks: {mqtt: {qos: 3}}", r"sinks\.mqtt\.qos: .*0, 1 or 2"),
    "an event that is none": ("sinks: {clips: {kinds: [fly]}}", r"sinks\.clips\.kinds\[0\]: .*'enter'.*got 'fly'"),
    "a clip of nothing": ("sinks: {clips: {after_s: 0}}", r"sinks\.clips\.after_s: .*greater than 0, got 0"),
    "no rotation": ("sinks: {rotate_mb: 0}", r"sinks\.rotate_mb: .*greater than 0, got 0"),
    "a bad camera id": ("cameras: [{id: 'a b', source: x}]", r"a camera id is 1 to 64 of .*got 'a b'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_a_line_that_names_its_key(tmp_path: Path, name: str) -> None:
    """The key, what was expected, what came."""
    text, expected = MISTAKES[name]
    said = complaint(tmp_path, text)
    assert re.search(expected, said), said
    assert "\n" not in said
    assert "pydantic" not in said
    assert "hush" not in said


def test_a_camera_too_many_is_refused(tmp_path: Path) -> None:
    """max_streams is a limit, and the message says both numbers."""
    cameras = "\n".join(f"  - {{id: c{i}, source: x.mp4}}" for i in range(4))
    said = complaint(tmp_path, f"system: {{max_streams: 3}}\ncameras:\n{cameras}")
    assert "4 cameras are more than system.max_streams (3)" in said


def test_several_mistakes_are_several_lines(tmp_path: Path) -> None:
    """All complaints come at once."""
    said = complaint(tmp_path, "system: {a: 1}\nmodel: {b: 2}")
    assert len(said.splitlines()) == 2


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    """Both are one clear line with the path."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such configuration file"):
        load_settings(tmp_path / "nowhere.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="cannot be read as text"):
        load_settings(binary)


NESTED = {
    "endpoints": EndpointKeys,
    "zones": ZoneKeys,
    "lines": LineKeys,
    "webhook": WebhookKeys,
    "mqtt": MqttKeys,
    "clips": ClipKeys,
}


def sections() -> list[tuple[str, type[BaseModel]]]:
    """Every section of the file and its model."""
    models = {name: field.annotation for name, field in Settings.model_fields.items() if name != "cameras"}
    return [*models.items(), ("cameras", Camera), *NESTED.items()]  # type: ignore[list-item]


@pytest.mark.parametrize(("name", "model"), sections(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_key_is_explained_where_it_stands(name: str, model: type[BaseModel]) -> None:
    """config.yaml shows each key with a comment, and its description in the code is no empty word."""
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    for key, field in model.model_fields.items():
        assert re.search(rf"^[# -]*{key}:.*#\s*\S+", text, re.MULTILINE), f"{name}.{key} is not explained"
        assert field.description, f"{name}.{key} has no description"


def test_the_file_shows_the_defaults() -> None:
    """What config.yaml says for a key is what the code assumes without it."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    assert parse_settings(content, origin="config.yaml") == Settings()


def test_there_is_an_example_of_every_kind_of_source() -> None:
    """The commented examples of config.yaml are cameras that could run: each kind, a login, a query, a pattern."""
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    examples = [yaml.safe_load(line.removeprefix("# - ")) for line in text.splitlines() if line.startswith("# - {")]
    settings = parse_settings({"cameras": examples}, origin="config.yaml")
    addresses = [Address.parse(camera.source, {"CAM_PASSWORD": "x"}) for camera in settings.cameras]
    assert {address.kind for address in addresses} == set(Kind)
    sources = " ".join(camera.source for camera in settings.cameras)
    for word in ("rtsp://", "rtsps://", "http://", "https://", "udp://", "/dev/video", "*", "${CAM_PASSWORD}", ".m3u8"):
        assert word in sources


def test_how_a_live_camera_is_opened_is_each_cameras_own(tmp_path: Path) -> None:
    """Transport and timeouts reach the stream; left out they are TCP and ten seconds."""
    text = """
    cameras:
      - {id: a, source: "rtsp://cam/1"}
      - {id: b, source: "rtsp://cam/2", transport: udp, open_timeout_s: 3, read_timeout_s: 20.5}
    """
    a, b = load_settings(written(tmp_path, text)).streams()
    assert a.live == LiveOptions("tcp", 10, 10)
    assert b.live == LiveOptions("udp", 3, 20.5)


def test_the_example_of_zones_is_one(tmp_path: Path) -> None:
    """The commented keys of the example camera, zones and lines among them, are a camera that could run."""
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    lines = text[text.index("# - id: gate-3") : text.index("# One example")].splitlines()
    shown = "cameras:\n" + "\n".join(line.removeprefix("#") for line in lines if "tls_ca" not in line)
    (camera,) = load_settings(written(tmp_path, shown)).streams()
    assert [place.name for place in camera.layout.places] == ["yard", "door"]
    assert camera.layout.zones[0].dwell_s == 20


def test_the_demo_needs_tier_n_only() -> None:
    """The demo's file is valid, names eight cameras and no tier but n."""
    settings = load_settings(ROOT / "config.demo.yaml")
    assert settings.tiers == (Tier.N,)
    assert len(settings.streams()) == 8


def test_cameras_may_share_what_they_have_in_common(tmp_path: Path) -> None:
    """YAML's own anchors and merges: fifty cameras need not repeat themselves."""
    text = """
    cameras:
      - &first {id: a, source: a.mp4, max_fps: 3, loop: true}
      - {<<: *first, id: b}
    """
    a, b = load_settings(written(tmp_path, text)).streams()
    assert (a.stream_id, b.stream_id) == ("a", "b")
    assert (b.source, b.max_fps, b.loop) == ("a.mp4", 3, True)


def test_a_key_on_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    """`--set` changes one key, read as YAML, and leaves the rest of its section; empty is no value."""
    file = tmp_path / "config.yaml"
    file.write_text("triton: {url: 127.0.0.1:8001, timeout_ms: 500}\n")
    settings = load_settings(file, ["triton.url=triton:8001", "monitoring.metrics_port=9400", "sinks.jsonl="])
    assert (settings.triton.url, settings.triton.timeout_ms) == ("triton:8001", 500)
    assert settings.monitoring.metrics_port == 9400
    assert settings.sinks.jsonl is None


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("triton.url", r"--set triton\.url: expected SECTION\.KEY=VALUE"),
        ("url=x", r"--set url=x: expected SECTION\.KEY=VALUE"),
        ("triton.url.port=1", "expected SECTION"),
        ("triton.url=[", r"--set triton\.url: not a YAML value"),
        ("cameras.id=x", "cameras has no keys that can be set"),
        ("triton.ulr=x", r"triton\.ulr: unknown key; did you mean 'url'"),
        ("triton.url=nowhere", "must be host:port"),
    ],
)
def test_a_wrong_override_is_one_clear_line(tmp_path: Path, override: str, complaint: str) -> None:
    """It is checked with the file, by the same rules."""
    file = tmp_path / "config.yaml"
    file.write_text("cameras: [{id: a, source: a.mp4}]\n")
    with pytest.raises(ConfigError, match=complaint):
        load_settings(file, [override])
