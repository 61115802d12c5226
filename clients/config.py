"""The one configuration file: read once, checked whole, every complaint a line that names its key.

`system`, `model`, `optimization` and `monitoring` are the article's sections and keep its spelling; `sources`,
`triton`, `cameras`, `sinks` and `web` are ours, as is every key whose description does not say otherwise.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from clients.errors import ConfigError
from clients.logs import LogFormat
from clients.overrides import with_overrides
from clients.section import Section as _Section
from clients.shards import Shard
from clients.sinks.keys import ClipKeys, MqttKeys, WebhookKeys
from clients.sources.address import address_of
from clients.sources.tls import problem_of
from clients.types import Canvas, DecodeOn, LiveOptions, StreamSpec, Thresholds, Tier, TlsOptions, parse_tier
from clients.zones.keys import LayoutKeys
from clients.zones.layout import Layout

TransportName = Literal["auto", "shm", "grpc", "jpeg"]
Runtime = Literal["openvino", "tensorrt"]
Emit = Literal["inferred", "all"]
ParsedTier = Annotated[Tier, BeforeValidator(lambda v: v if isinstance(v, Tier) else parse_tier(str(v)))]


class System(_Section):
    """How many cameras, how often, how large a batch."""

    max_streams: int = Field(50, ge=1, le=1000, description="More cameras than this is an error.")
    admission: Literal["strict", "degrade"] = Field(
        "degrade", description="A camera added while it runs: refused unless all keep their rates, or all get fewer."
    )
    target_fps: float = Field(25, gt=0, le=240, description="Inferences per second of a camera that names no max_fps.")
    max_batch_size: int = Field(16, ge=1, le=128, description="No model forms a larger batch than this.")
    min_batch_size: int = Field(4, ge=1, le=128, description="Requests in flight to begin with.")

    @model_validator(mode="after")
    def _ordered(self) -> System:
        if self.min_batch_size > self.max_batch_size:
            raise ValueError(
                f"min_batch_size must not exceed max_batch_size, got {self.min_batch_size} > {self.max_batch_size}"
            )
        return self


class Model(_Section):
    """Which tiers of YOLO12, and what counts as a detection."""

    default: ParsedTier = Field(Tier.M, description="Tier of a camera that names none.")
    fallback: ParsedTier = Field(Tier.N, description="Tier used where the wanted one is not exported or fails.")
    high_precision: ParsedTier = Field(Tier.X, description="Tier for difficult scenes.")
    retry_s: float = Field(30, gt=0, le=3600, description="Seconds until a tier that fails is tried again.")
    confidence: float = Field(0.25, ge=0, le=1, description="Least score of a detection.")
    iou: float = Field(0.7, ge=0, le=1, description="Largest overlap of two boxes of one class.")
    canvas: str = Field("640x384", description="Size that is inferred; the exported models must have the same.")

    @field_validator("canvas")
    @classmethod
    def _canvas(cls, value: str) -> str:
        return str(Canvas.parse(value))

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers named by default, fallback and high_precision, smallest first, each once."""
        return tuple(tier for tier in Tier if tier in (self.default, self.fallback, self.high_precision))


class Optimization(_Section):
    """What may be saved."""

    enable_dynamic_batching: bool = Field(True, description="Let Triton merge the requests of all cameras.")
    enable_memory_optimization: bool = Field(True, description="Skip frames similar to the last inferred one.")
    enable_model_switching: bool = Field(True, description="Choose n, m or x per frame, where several are exported.")
    resolution_scaling: bool = Field(
        True, description="Scale frames above max_resolution before they are sent as JPEG."
    )
    max_resolution: str = Field("1280x720", description="WIDTHxHEIGHT in pixels.")
    similarity_threshold: float = Field(0.95, gt=0, le=1, description="A frame at least this similar is skipped.")
    max_skip_s: float = Field(0.8, gt=0, le=10, description="A camera is inferred at least this often, similar or not.")
    switching: Literal["budget", "article", "fixed"] = Field(
        "budget", description="Who chooses n, m or x: where a GPU-millisecond buys most, edges, or the configuration."
    )
    governor: Literal["ours", "article", "off"] = Field(
        "ours", description="What holds the load: the age of results, or the article's rule, or nothing."
    )
    audit_share: float = Field(
        0.02, ge=0, le=1, description="Of the skipped frames, inferred when there is room, to count what was missed."
    )

    @field_validator("max_resolution")
    @classmethod
    def _resolution(cls, value: str) -> str:
        width, times, height = value.lower().partition("x")
        if not (times and width.isdigit() and height.isdigit() and int(width) >= 32 and int(height) >= 32):
            raise ValueError(f"must be WIDTHxHEIGHT in pixels, each at least 32, such as 1280x720, got {value!r}")
        return f"{int(width)}x{int(height)}"

    @property
    def max_size_px(self) -> tuple[int, int]:
        """(width, height) of `max_resolution`."""
        width, height = self.max_resolution.split("x")
        return int(width), int(height)


class Sources(_Section):
    """How cameras are read and decoded. The capacities are a T4's: about 1 000 and 2 000 pictures of 1080p a second."""

    decode: DecodeOn = Field(
        "auto", description="Where H.264 and H.265 are decoded; auto is the GPU while it has room."
    )
    nvdec_h264_mpixels_per_s: float = Field(2070, gt=0, description="What the GPU decodes of H.264, in all cameras.")
    nvdec_hevc_mpixels_per_s: float = Field(4150, gt=0, description="What the GPU decodes of H.265, in all cameras.")
    nvdec_limit: float = Field(0.8, gt=0, le=1, description="auto fills the GPU's decoders up to this share.")
    max_fps: float = Field(120, ge=1, le=1000, description="A live camera that sends more pictures a second waits.")
    tls_verify: bool = Field(True, description="Verify the certificates of rtsps and https cameras.")
    tls_ca: Path | None = Field(None, description="PEM file of those who vouch for cameras; empty is the system's.")
    skip_not_needed: bool = Field(
        True, description="Leave pictures that no other one needs undecoded while a camera is inferred rarely."
    )


class Monitoring(_Section):
    """What is watched."""

    gpu_utilization_threshold: float = Field(80, gt=0, le=100, description="Percent; above it a warning is logged.")
    check_interval: float = Field(5, gt=0, le=3600, description="Seconds between two looks at the GPU and the server.")
    age_objective_ms: float = Field(200, gt=0, description="Results older than this (95 %) cost tiers, then rates.")
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Port of /metrics for Prometheus; empty is none."
    )
    metrics_host: str = Field("127.0.0.1", description="Address that /metrics listens on.")
    log_format: LogFormat = Field("text", description="Log lines as text, or one JSON object each.")


class EndpointKeys(_Section):
    """One of several Tritons."""

    url: str = Field(description="host:port of its gRPC.")
    tiers: tuple[ParsedTier, ...] = Field((), description="What it is used for; empty is all that it serves.")

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        return _host_and_port(value)


class Triton(_Section):
    """Where the inference server is; by default the embedded one is started."""

    url: str | None = Field(None, description="host:port of a running Triton's gRPC; empty starts the embedded one.")
    endpoints: tuple[EndpointKeys, ...] = Field((), description="Several running Tritons, in place of url.")
    runtime: Runtime = Field("openvino", description="What the embedded Triton runs the models with.")
    models: Path | None = Field(None, description="Folder of exported models; empty is the model repository itself.")
    precision: Literal["f32", "bf16", "auto"] = Field(
        "auto", description="Arithmetic of the openvino runtime; auto is bf16 where the CPU has it, else f32."
    )
    transport: TransportName = Field("auto", description="How frames travel; auto is shm on this host, else grpc.")
    window: int | None = Field(None, ge=1, le=512, description="Requests in flight at most; empty chooses.")
    timeout_ms: float = Field(2000, gt=0, description="A request without an answer after this is given up.")
    ready_timeout_s: float = Field(60, gt=0, description="How long the server may take to become ready.")
    log: Path | None = Field(None, description="File for the embedded server's log; empty is out/triton.log.")
    admin_key_env: str | None = Field(
        None, description="Secret with the key of a running Triton's restricted protocols, by name; empty is none."
    )
    tls: bool = Field(False, description="Speak TLS with a running Triton, and verify its certificate.")
    tls_ca: Path | None = Field(None, description="PEM file of those who vouch for Triton; empty is gRPC's own list.")

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        return None if value is None else _host_and_port(value)

    @model_validator(mode="after")
    def _one_kind(self) -> Triton:
        if self.url is not None and self.endpoints:
            raise ValueError(
                f"url and endpoints exclude each other, got {self.url} and {len(self.endpoints)} endpoints"
            )
        if len(set(self.addresses)) < len(self.addresses):
            raise ValueError(f"endpoints must have different urls, got {', '.join(self.addresses)}")
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """host:port of each Triton that runs already; none where the embedded one is started."""
        return tuple(one.url for one in self.endpoints) or (() if self.url is None else (self.url,))


class Camera(LayoutKeys):
    """One camera. What is left out comes from `system` and `model`."""

    id: str = Field(description="Unique name: letters, digits, . _ -")
    source: str = Field(description="A file, a pattern of files, /dev/videoN, or rtsp(s) http(s) udp URL.", repr=False)
    max_fps: float | None = Field(None, gt=0, description="Inferences per second at most; system.target_fps.")
    min_fps: float = Field(0, ge=0, le=240, description="Inferences per second that it gets before others get more.")
    weight: float = Field(1.0, gt=0, le=100, description="Share of the GPU when there is too little for all.")
    max_age_ms: float = Field(500, gt=0, description="A frame older than this is not sent any more.")
    model: ParsedTier | None = Field(None, description="Tier of this camera; model.default.")
    confidence: float | None = Field(None, ge=0, le=1, description="Least score; model.confidence.")
    iou: float | None = Field(None, ge=0, le=1, description="Largest overlap; model.iou.")
    loop: bool = Field(False, description="Start a file again when it ends.")
    tls_verify: bool | None = Field(None, description="Verify its certificate; sources.tls_verify.")
    tls_ca: Path | None = Field(None, description="PEM file of those who vouch for it; sources.tls_ca.")
    decode: DecodeOn | None = Field(None, description="Where this camera is decoded; sources.decode.")
    transport: Literal["tcp", "udp"] = Field("tcp", description="What RTSP carries the pictures over.")
    open_timeout_s: float = Field(10, gt=0, le=300, description="How long a live camera may take to answer.")
    read_timeout_s: float = Field(10, gt=0, le=300, description="How long a live camera may be silent.")


class Sinks(_Section):
    """Where results go. An empty path switches the sink off."""

    jsonl: Path | None = Field(Path("out/detections.jsonl"), description="One JSON line per result.")
    events: Path | None = Field(None, description="One JSON line per event of a zone or line, added to the file.")
    rotate_mb: float = Field(100, gt=0, le=1e6, description="A file of lines is put aside when it is this large.")
    rotate_keep: int = Field(5, ge=0, le=1000, description="So many files of each that was put aside are kept.")
    webhook: WebhookKeys = Field(WebhookKeys(), description="Every event as an HTTP POST.")
    mqtt: MqttKeys = Field(MqttKeys(), description="Every event as an MQTT message.")
    clips: ClipKeys = Field(ClipKeys(), description="What the camera saw around an event.")
    videos: Path | None = Field(None, description="Folder for a video of each camera, with boxes.")
    videos_fps: float = Field(5, gt=0, le=30, description="Pictures per second of these videos.")
    emit: Emit = Field("inferred", description="Results of inferred frames only, or of all frames, predicted between.")
    mosaic_video: Path | None = Field(None, description="All cameras in one H.264 picture, with boxes.")
    mosaic_image: Path | None = Field(None, description="The mosaic's last picture as PNG.")
    mosaic_fps: float = Field(5, gt=0, le=30, description="Pictures per second of the mosaic.")

    @field_validator("mosaic_video")
    @classmethod
    def _video(cls, value: Path | None) -> Path | None:
        return _with_suffix(value, (".mp4", ".mkv"))

    @field_validator("mosaic_image")
    @classmethod
    def _image(cls, value: Path | None) -> Path | None:
        return _with_suffix(value, (".png", ".jpg"))


class Web(_Section):
    """The REST API and the live wall."""

    enabled: bool = Field(False, description="Serve the REST API and the live wall while cameras run.")
    host: str = Field("127.0.0.1", min_length=1, description="Address it listens on; 0.0.0.0 shows it to the network.")
    port: int = Field(8080, ge=0, le=65535, description="Port it listens on; 0 takes any that is free.")
    token_env: str | None = Field(
        None, description="Environment variable that holds the token which callers must send; empty asks for none."
    )
    cors_origins: tuple[str, ...] = Field((), description="Other pages' origins that may call it from a browser.")
    state: Path | None = Field(
        None, description="File that keeps what was changed over the API; empty: NAME.state.json beside NAME.yaml."
    )
    tls_cert: Path | None = Field(None, description="PEM file of its certificate, chain included; empty is plain HTTP.")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key.")

    @model_validator(mode="after")
    def _both(self) -> Web:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"tls_cert and tls_key go together, got {self.tls_cert} and {self.tls_key}")
        return self


class Settings(_Section):
    """The whole file."""

    system: System = System()
    model: Model = Model()
    optimization: Optimization = Optimization()
    sources: Sources = Sources()
    monitoring: Monitoring = Monitoring()
    triton: Triton = Triton()
    cameras: tuple[Camera, ...] = Field((), description="The cameras, at least one to run.")
    sinks: Sinks = Sinks()
    web: Web = Web()

    @property
    def canvas(self) -> Canvas:
        """The canvas as a value."""
        return Canvas.parse(self.model.canvas)

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """Every tier that a camera or the model section names, smallest first."""
        named = {camera.model for camera in self.cameras} | set(self.model.tiers)
        return tuple(tier for tier in Tier if tier in named)

    def of_shard(self, shard: Shard | None) -> Settings:
        """The same with the cameras that fall to a shard; with all of them where there is none."""
        if shard is None:
            return self
        return self.model_copy(update={"cameras": tuple(camera for camera in self.cameras if shard.owns(camera.id))})

    def of_node(self, name: str) -> Settings:
        """The same for the fleet of one node of a cluster: no cameras yet, its own files, no ports.

        Files get the node's name before their ending, folders a folder of that name.
        """
        sinks, triton = self.sinks, self.triton
        own: dict[str, object] = {
            key: _of_node(getattr(sinks, key), name)
            for key in ("jsonl", "events", "videos", "mosaic_video", "mosaic_image")
        }
        own["webhook"] = sinks.webhook.model_copy(update={"dead_letters": _of_node(sinks.webhook.dead_letters, name)})
        own["clips"] = sinks.clips.model_copy(update={"folder": _of_node(sinks.clips.folder, name)})
        parts = {
            "cameras": (),
            "sinks": sinks.model_copy(update=own),
            "triton": triton.model_copy(update={"log": _of_node(triton.log or Path("out/triton.log"), name)}),
            "monitoring": self.monitoring.model_copy(update={"metrics_port": None}),
            "web": Web(),
        }
        return self.model_copy(update=parts)

    def streams(self, *, may_be_empty: bool = False) -> tuple[StreamSpec, ...]:
        """The cameras with the defaults filled in.

        Raises ConfigError: no camera, one too many, an id twice or malformed, a source that cannot be one.
        """
        self._check_cameras(may_be_empty=may_be_empty)
        return tuple(self.stream(camera) for camera in self.cameras)

    def stream(self, camera: Camera) -> StreamSpec:
        """One camera with the defaults filled in. Raises ConfigError: a malformed id, a source that cannot be one."""
        try:
            stream = self._stream(camera)
        except ValueError as error:
            raise ConfigError(f"cameras: {error}") from error
        address_of(stream)
        return stream

    def _check_cameras(self, *, may_be_empty: bool) -> None:
        if not (self.cameras or may_be_empty):
            raise ConfigError("cameras: the list is empty; add at least one camera with an id and a source")
        if len(self.cameras) > self.system.max_streams:
            raise ConfigError(
                f"cameras: {len(self.cameras)} cameras are more than system.max_streams ({self.system.max_streams}); "
                "remove some or raise the limit"
            )
        seen: set[str] = set()
        for camera in self.cameras:
            if camera.id in seen:
                raise ConfigError(f"cameras: the id {camera.id!r} is used twice; every camera needs its own")
            seen.add(camera.id)

    def _stream(self, camera: Camera) -> StreamSpec:
        return StreamSpec(
            stream_id=camera.id,
            source=camera.source,
            max_fps=self.system.target_fps if camera.max_fps is None else camera.max_fps,
            min_fps=camera.min_fps,
            weight=camera.weight,
            max_age_ms=camera.max_age_ms,
            tier=self.model.default if camera.model is None else camera.model,
            thresholds=Thresholds(
                score=self.model.confidence if camera.confidence is None else camera.confidence,
                iou=self.model.iou if camera.iou is None else camera.iou,
            ),
            loop=camera.loop,
            live=self._live(camera),
            skip_not_needed=self.sources.skip_not_needed,
            decode=self.sources.decode if camera.decode is None else camera.decode,
            layout=camera.layout(),
        )

    def _live(self, camera: Camera) -> LiveOptions:
        sources = self.sources
        ca = sources.tls_ca if camera.tls_ca is None else camera.tls_ca
        problem = None if ca is None else problem_of(ca)
        if problem is not None:
            raise ConfigError(f"camera {camera.id}: tls_ca: {problem}")
        verify = sources.tls_verify if camera.tls_verify is None else camera.tls_verify
        tls = TlsOptions(verify, ca)
        return LiveOptions(camera.transport, camera.open_timeout_s, camera.read_timeout_s, tls, sources.max_fps)


def load_settings(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read and check a configuration file; `overrides` (`section.key=value`) go before what it says.

    Raises ConfigError with one line per complaint: file missing, not YAML, unknown key (its nearest neighbour is
    named), wrong type, value out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from error
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)  # a SafeLoader underneath
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {_one_line(error)}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections such as `cameras:` at the top, got a {type(content).__name__}")
    return parse_settings(with_overrides(content or {}, overrides), origin=str(path))


def parse_settings(content: dict[str, Any], *, origin: str) -> Settings:
    """Check a configuration that is already a mapping; `origin` begins every complaint. Raises ConfigError."""
    present = {
        key: value for key, value in content.items() if value is not None
    }  # an empty `cameras:` is an empty list
    try:
        return Settings.model_validate(present)
    except ValidationError as error:
        lines = [f"{origin}: {_complaint(detail)}" for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def parse_camera(stream_id: str, source: str, options: Mapping[str, Any]) -> Camera:
    """One camera of `add_stream`; the options are the keys of the file's `cameras`. Raises ConfigError."""
    try:
        return Camera.model_validate({**options, "id": stream_id, "source": source})
    except ValidationError as error:
        details = [{**detail, "loc": ("cameras", stream_id, *detail["loc"])} for detail in error.errors()]
        raise ConfigError("\n".join(_complaint(detail) for detail in details)) from None


def parse_layout(stream_id: str, content: Mapping[str, Any]) -> Layout:
    """The zones and lines of a camera, `{"zones": [...], "lines": [...]}`. Raises ConfigError."""
    try:
        return LayoutKeys.model_validate(content).layout()
    except ValidationError as error:
        details = [{**detail, "loc": ("cameras", stream_id, *detail["loc"])} for detail in error.errors()]
        raise ConfigError("\n".join(_complaint(detail) for detail in details)) from None


_SECRET = {"source", "webhook", "mqtt"}  # what is written there may hold a password
_MERGE = "tag:yaml.org,2002:merge"  # `<<: *defaults`: what it brings may be overridden


class _UniqueKeyLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice instead of keeping the last silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = None if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _host_and_port(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536 and "/" not in host):
        raise ValueError(f"must be host:port, such as 127.0.0.1:8001, got {value!r}")
    return value


def _of_node(path: Path | None, name: str) -> Path | None:
    if path is None:
        return None
    return path.with_name(f"{path.stem}.{name}{path.suffix}") if path.suffix else path / name


def _with_suffix(value: Path | None, suffixes: tuple[str, ...]) -> Path | None:
    if value is not None and value.suffix.lower() not in suffixes:
        raise ValueError(f"must end in {' or '.join(suffixes)}, got {str(value)!r}")
    return value


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "cannot be parsed"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def _complaint(detail: Any) -> str:
    path = tuple(detail["loc"])
    where = _dotted(path)
    if detail["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{where}: unknown key{hint}"
    if detail["type"] == "missing":
        return f"{where}: is required and missing"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if ", got " in message or _SECRET & set(path):
        return f"{where}: {message}"
    return f"{where}: {message}, got {detail['input']!r}"


def _dotted(path: tuple[int | str, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _known_keys(path: tuple[int | str, ...]) -> list[str]:
    """The keys of the section that a complaint's path leads to; numbers and a camera's name are passed over."""
    section: Any = Settings
    for part in path:
        field = section.model_fields.get(part)
        if field is not None:
            section = next((kind for kind in _kinds_in(field.annotation) if hasattr(kind, "model_fields")), section)
    return list(section.model_fields)


def _kinds_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _kinds_in(argument)
