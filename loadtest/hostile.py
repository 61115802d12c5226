"""Requests that no honest client sends, as hypothesis strategies: small recipes, made into bytes when they are drawn.

A recipe is plain values, so a failing example can be read and repeated. Some recipes turn out to be valid; that is no
harm. Nothing here knows what the server does with them (fuzz.py).
"""

from __future__ import annotations

import functools
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from tritonclient.grpc import service_pb2 as pb

CANVAS = (576, 640)
_CANDIDATES = (768, 6)
_MODELS = (
    *("yolo12n", "yolo12n_jpeg", "yolo12n_engine", "postprocess", "decode_jpeg"),
    *("yolo12q", "", "../secret", "x" * 5000),
)
_VERSIONS = ("", "1", "99", "-1", "a")
_NAMES = ("frames", "geometry", "thresholds", "candidates", "image", "", "x" * 3000)
_DTYPES = ("UINT8", "FP32", "FP16", "BOOL", "INT64", "BYTES", "", "UINT9")
_SIDES = (0, 1, 2, 16, 17, 384, 576, 640, -1, 2**31, 2**40, 2**62)
_ODD = (float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 1e38, -1e38, 1e-45, 2.0)
_PARAMETERS = ("timeout", "priority", "sequence_id", "triton_x", "binary_data")
_REGIONS = ("nothing", "", "y12f-1-0", "/dev/shm/x", "x" * 4000)
_BYTES = (0, 1, -1, 368_640, 2**31, 2**62, -(2**62))
_PNG = b"\x89PNG\r\n\x1a\n"
_STARTS = (b"", b"GIF89a", b"BM", b"RIFF\x00\x00\x00\x00WEBP", b"II*\x00", _PNG, b"\xff\xd8", b"%PDF", b"<svg>")
_CLAIMS = (0, 1, 2, 4096, 8000, 65_535)
_PREFACES = (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET ")
_LENGTHS = ("0", "10", "-1", "99999999999", "a", "")
_BODIES = (b"", b"{", b"[" * 2000, b'{"inputs": [{}]}', b'{"inputs": ' + b"9" * 400 + b"}", b"\x00\xff")
_PATHS = ("v2", "v2/models/yolo12n/infer", "v2/models/yolo12n_jpeg/infer", "v2/repository/index", "%00")


@dataclass(frozen=True, slots=True)
class Input:
    """One tensor of a request, as it travels: what it claims to be, and its bytes."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: bytes


@dataclass(frozen=True, slots=True)
class Hostile:
    """One request: its `kind`, and the gRPC message, or the bytes that are sent to the `port` grpc or http."""

    kind: str
    message: pb.ModelInferRequest | None = None
    port: str = "grpc"
    data: bytes = b""

    def __repr__(self) -> str:
        told = str(self.message) if self.message is not None else repr(self.data)
        return f"Hostile({self.kind}, {told[:300]})"


def request_of(model: str, inputs: Sequence[Input], version: str = "") -> pb.ModelInferRequest:
    """The gRPC message."""
    request = pb.ModelInferRequest(model_name=model, model_version=version)
    for one in inputs:
        request.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        request.raw_input_contents.append(one.data)
    return request


def requests() -> SearchStrategy[Hostile]:
    """Any of them; pictures and tensors oftener than rubbish."""
    return st.one_of(*[_pictures()] * 4, *[_tensors()] * 3, _places(), _rubbish())


# --- pictures --------------------------------------------------------------------------------------------------------


def _pictures() -> SearchStrategy[Hostile]:
    seeds, shares = st.integers(0, 2**32 - 1), st.floats(0, 1)
    sizes = st.sampled_from([(8, 8), (1, 300), (300, 1), (97, 61), (640, 360)])
    formats = st.sampled_from([".jpg", ".png", "progressive", "grey"])
    good = st.builds(_encoded, sizes, formats, st.integers(0, 9))
    claims, bombs = st.sampled_from(_CLAIMS), st.sampled_from([(2000, 2000), (7999, 8000), (60_000, 60_000)])
    return st.one_of(
        st.builds(_cut, good, shares).map(_picture("cut")),
        st.builds(_flipped, good, seeds, st.integers(1, 200)).map(_picture("bytes changed")),
        st.builds(_spliced, good, good, shares).map(_picture("two in one")),
        st.builds(_claiming, good, claims, claims).map(_picture("size that lies")),
        st.builds(_png_bomb, bombs, st.integers(0, 8)).map(_picture("decompression bomb")),
        st.builds(_noise, st.sampled_from(_STARTS), seeds, st.integers(0, 4000)).map(_picture("no picture")),
        st.integers(1, 8).map(lambda megabytes: bytes(megabytes * 1_000_000)).map(_picture("huge")),
        st.builds(_segments, seeds, st.integers(1, 2000)).map(_picture("endless segments")),
    )


def _picture(kind: str) -> Callable[[bytes], Hostile]:
    limits = Input("thresholds", "FP32", (1, 2), np.array([0.25, 0.7], np.float32).tobytes())

    def made(data: bytes) -> Hostile:
        inputs = [Input("image", "UINT8", (1, len(data)), data), limits]
        return Hostile(f"picture: {kind}", request_of("yolo12n_jpeg", inputs))

    return made


@functools.lru_cache(256)  # drawing must not take longer than asking
def _encoded(size: tuple[int, int], form: str, seed: int) -> bytes:
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    picture = noise[..., 0] if form == "grey" else noise
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1] if form == "progressive" else []
    return bytes(cv2.imencode(form if form == ".png" else ".jpg", picture, options)[1].tobytes())


def _cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def _flipped(data: bytes, seed: int, count: int) -> bytes:
    chance, changed = random.Random(seed), bytearray(data)
    for _ in range(count):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _spliced(one: bytes, other: bytes, share: float) -> bytes:
    return _cut(one, share) + other[int(len(other) * share) :]


def _claiming(data: bytes, width: int, height: int) -> bytes:
    """The header says another size than the data has."""
    changed = bytearray(data)
    if data.startswith(_PNG):
        changed[16:24] = struct.pack(">II", width, height)
        return bytes(changed)
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        at = data.find(marker)
        if at >= 0:
            changed[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(changed)


@functools.cache
def _png_bomb(size: tuple[int, int], megabytes: int) -> bytes:
    """A valid PNG of a huge picture; its zeros are deflated to next to nothing."""
    body = zlib.compress(bytes(megabytes * 1_000_000), 9)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)), (b"IDAT", body), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return _PNG + b"".join(packed)


def _noise(start: bytes, seed: int, count: int) -> bytes:
    return start + random.Random(seed).randbytes(count)


def _segments(seed: int, count: int) -> bytes:
    """A JPEG whose frame header never comes."""
    chance = random.Random(seed)
    lengths = [chance.randrange(8) for _ in range(count)]
    parts = [struct.pack(">BBH", 0xFF, 0xE1, 2 + length) + bytes(length) for length in lengths]
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xd9"


# --- tensors ---------------------------------------------------------------------------------------------------------


def _tensors() -> SearchStrategy[Hostile]:
    names, datatypes = st.sampled_from(_NAMES), st.sampled_from(_DTYPES)
    shapes = st.lists(st.sampled_from(_SIDES), max_size=5)
    inputs = st.lists(st.builds(Input, names, datatypes, shapes, st.integers(0, 5000).map(bytes)), max_size=5)
    odd = st.lists(st.sampled_from(_ODD), min_size=4, max_size=4)
    return st.one_of(
        st.builds(_asked, st.sampled_from(_MODELS), inputs, st.sampled_from(_VERSIONS)),
        st.builds(_odd_numbers, odd, odd),
        st.builds(_odd_candidates, odd, odd, st.sampled_from(_ODD)),
        st.builds(_wrong_length, st.integers(0, 3 * CANVAS[0] * CANVAS[1])),
        st.builds(_odd_parameters, st.sampled_from(_PARAMETERS), st.integers(-(2**62), 2**62)),
    )


def _asked(model: str, inputs: list[Input], version: str) -> Hostile:
    return Hostile("tensors: any names, types and shapes", request_of(model, inputs, version))


def _with_numbers(first: Input, geometry: Sequence[float], thresholds: Sequence[float]) -> list[Input]:
    return [
        first,
        Input("geometry", "FP32", (1, 4), np.array(geometry, np.float32).tobytes()),
        Input("thresholds", "FP32", (1, 2), np.array(thresholds[:2], np.float32).tobytes()),
    ]


def _canvas(data: bytes) -> Input:
    return Input("frames", "UINT8", (1, *CANVAS), data)


def _odd_numbers(geometry: list[float], thresholds: list[float]) -> Hostile:
    inputs = _with_numbers(_canvas(bytes(CANVAS[0] * CANVAS[1])), geometry, thresholds)
    return Hostile("tensors: odd geometry and thresholds", request_of("yolo12n", inputs))


def _odd_candidates(geometry: list[float], thresholds: list[float], value: float) -> Hostile:
    data = np.full(_CANDIDATES, value, np.float32).tobytes()
    inputs = _with_numbers(Input("candidates", "FP32", (1, *_CANDIDATES), data), geometry, thresholds)
    return Hostile("tensors: odd candidates", request_of("postprocess", inputs))


def _wrong_length(count: int) -> Hostile:
    inputs = _with_numbers(_canvas(bytes(count)), [1, 1, 0, 0], [0.25, 0.7])
    return Hostile("tensors: wrong length", request_of("yolo12n", inputs))


def _odd_parameters(name: str, value: int) -> Hostile:
    request = request_of("yolo12n", _with_numbers(_canvas(bytes(8)), [1, 1, 0, 0], [0.25, 0.7]))
    request.parameters[name].int64_param = value
    return Hostile("tensors: odd parameters", request)


def _places() -> SearchStrategy[Hostile]:
    """Inputs and outputs in shared memory that nobody has registered, at places that cannot be."""
    return st.builds(
        _placed, st.sampled_from(_REGIONS), st.sampled_from(_BYTES), st.sampled_from(_BYTES), st.booleans()
    )


def _placed(region: str, size: int, offset: int, of_output: bool) -> Hostile:
    request = request_of("yolo12n", _with_numbers(_canvas(b""), [1, 1, 0, 0], [0.25, 0.7]))
    where = request.outputs.add(name="detections") if of_output else request.inputs[0]
    where.parameters["shared_memory_region"].string_param = region
    where.parameters["shared_memory_byte_size"].int64_param = size
    where.parameters["shared_memory_offset"].int64_param = offset
    del request.raw_input_contents[0]
    return Hostile("shared memory that is not there", request)


# --- the ports themselves --------------------------------------------------------------------------------------------


def _rubbish() -> SearchStrategy[Hostile]:
    noise = st.builds(_noise, st.sampled_from(_PREFACES), st.integers(0, 2**32 - 1), st.integers(0, 5000))
    lengths = st.sampled_from(_LENGTHS)
    return st.one_of(
        noise.map(lambda data: Hostile("rubbish on the gRPC port", data=data)),
        noise.map(lambda data: Hostile("rubbish on the HTTP port", port="http", data=data)),
        st.builds(_http, st.sampled_from(_PATHS), st.sampled_from(_BODIES), lengths, lengths),
    )


def _http(path: str, body: bytes, length: str, header_length: str) -> Hostile:
    lengths = f"Content-Length: {length}\r\nInference-Header-Content-Length: {header_length}"
    head = f"POST /{path} HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n"
    return Hostile("HTTP with lengths that lie", port="http", data=head.encode() + body)
