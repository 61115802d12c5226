"""Requests, serialised before the clock starts: pictures of the demo city as NV12 canvases or JPEG, stamped per camera.

A stamp is the camera's number in its pixels (emulator/camera_code.py): an emulated engine answers with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from clients.sources.picture import AvPicture, Scalers
from clients.types import Canvas, Thresholds, Tier
from demo.clips import source_hash
from demo.render import Renderer
from export.spec import jpeg_name
from loadtest.coded_clips import FPS, as_bgr, coded_scene
from loadtest.emulator.camera_code import MOST, code_squares
from loadtest.load.wanted import SendPath

KEPT = Path("out/loadtest")
log = logging.getLogger("locust.fleet")
SCENES, FRAMES = 4, (25, 75)  # places, and the frames of each that are sent in turn


def city_pictures(folder: Path = KEPT) -> list[list[NDArray[np.uint8]]]:
    """Of the demo city, UINT8 (360, 640, 3) BGR, by place. Rendered, which takes seconds, and kept where it can be."""
    key = hashlib.sha256(f"{source_hash()} {SCENES} {FRAMES}".encode()).hexdigest()[:12]
    path = folder / f"pictures-{key}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # none, or a broken one
        return [list(place) for place in np.load(path)]
    pictures = np.stack([np.stack(list(_place(number))) for number in range(SCENES)])
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.save(file, pictures)
        partial.replace(path)
    except OSError as error:
        log.warning("%s: the pictures are not kept for the next time: %s", folder, error.strerror or error)
    return [list(place) for place in pictures]


def _place(number: int) -> Iterator[NDArray[np.uint8]]:
    renderer = Renderer(coded_scene(number))
    for index in FRAMES:
        yield renderer.render(index, FPS).image


def code_of(number: int) -> int:
    """The number that a camera's pixels can carry."""
    return number % (MOST + 1)


def requests_of(
    number: int, tier: Tier, path: SendPath, pictures: Sequence[Sequence[NDArray[np.uint8]]], canvas: Canvas
) -> list[bytes]:
    """What a camera sends in turn: complete ModelInferRequest messages. Raises SourceError for unusable pictures."""
    return [_request(_stamped(picture, number), tier, path, canvas) for picture in pictures[number % len(pictures)]]


def _stamped(bgr: NDArray[np.uint8], number: int) -> AvPicture:
    squares = code_squares(code_of(number))
    image = bgr.copy()
    image[: squares.shape[0], : squares.shape[1]] = as_bgr(squares)
    frame = av.VideoFrame.from_ndarray(image, format="bgr24")
    return AvPicture(frame, Scalers())


def _request(picture: AvPicture, tier: Tier, path: SendPath, canvas: Canvas) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=tier.value if path == "ensemble" else jpeg_name(tier))
    if path == "ensemble":
        pixels = np.empty(canvas.nv12_shape, np.uint8)
        geometry = picture.write_canvas(canvas, pixels)
        _add(request, "frames", pixels[np.newaxis], "UINT8")
        _add(request, "geometry", geometry.as_array()[np.newaxis], "FP32")
    else:
        encoded, _ = picture.encode_jpeg(None)
        _add(request, "image", np.frombuffer(encoded, np.uint8)[np.newaxis], "UINT8")
    _add(request, "thresholds", Thresholds().as_array()[np.newaxis], "FP32")
    return bytes(request.SerializeToString())


def _add(request: service_pb2.ModelInferRequest, name: str, array: NDArray[np.generic], datatype: str) -> None:
    tensor = request.inputs.add()
    tensor.name, tensor.datatype = name, datatype
    tensor.shape.extend(array.shape)
    request.raw_input_contents.append(array.tobytes())
