"""Encoded pictures (JPEG, PNG) to NV12 canvases: BT.601 limited range, letterboxed, with the geometry to map back.

The size in the header is checked before anything is decoded, so a small file that claims a huge picture costs
nothing. A picture that cannot be used gets its own error; the others of the batch are answered. The canvas is read
from the outputs in config.pbtxt; the parameter `max_pixels` bounds a picture. An orientation tag is ignored: boxes
refer to the pixels as they are coded.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

_PAD_Y, _PAD_UV = 114, 128
_STEP_PX = 4  # the scaled sides are multiples of 4, so paddings are even and equal on both sides
_PNG = b"\x89PNG\r\n\x1a\n"
# Frame headers carry the size. C4, C8 and CC lie between them and are something else (ITU-T T.81, table B.1).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


class TritonPythonModel:
    """Decodes, scales and converts; Triton calls initialize, then execute for every batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the canvas. Raises TritonModelException under numpy 2."""
        require_numpy_1(np.__version__)
        config = json.loads(args["model_config"])
        outputs = {entry["name"]: entry for entry in config["output"]}
        rows, self.width = (int(dim) for dim in outputs["frames"]["dims"])
        self.height = rows * 2 // 3
        self.max_pixels = int(config["parameters"]["max_pixels"]["string_value"])
        cv2.setNumThreads(1)  # Triton runs several instances; each is one core

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order: frames and geometry, or the reason why there are none."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            encoded = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            pictures = [canvas_of(row.tobytes(), self.width, self.height, self.max_pixels) for row in encoded]
        except (ValueError, cv2.error) as error:
            message = " ".join(str(error).split())
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(f"image: {message}", pb_utils.TritonError.INVALID_ARG)
            )
        frames = np.stack([frame for frame, _ in pictures])
        geometry = np.stack([geometry for _, geometry in pictures])
        return pb_utils.InferenceResponse([pb_utils.Tensor("frames", frames), pb_utils.Tensor("geometry", geometry)])


def require_numpy_1(version: str) -> None:
    """Refuse numpy 2: with it this Python backend answers with empty tensors, silently."""
    if int(version.split(".")[0]) >= 2:
        raise pb_utils.TritonModelException(
            f"the Python backend needs numpy < 2 (numpy 2 gives empty outputs), found numpy {version}"
        )


def canvas_of(data: bytes, width: int, height: int, max_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """NV12 UINT8 (height * 3 / 2, width) and geometry FP32 (4,) of one encoded picture.

    Raises ValueError: neither JPEG nor PNG, larger than `max_pixels`, or damaged.
    """
    source = picture_size(data)
    if source[0] * source[1] > max_pixels:
        raise ValueError(f"{source[0]}x{source[1]} pixels are more than the {max_pixels} allowed")
    size, geometry = letterbox(*source, width, height)
    picture = _decoded(data, source, size)
    scaled = cv2.resize(picture, size, interpolation=_interpolation(picture, size))
    return _nv12_canvas(scaled, width, height), geometry


def picture_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the header of a JPEG or PNG. Raises ValueError where there is none."""
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
    elif data.startswith(b"\xff\xd8"):
        width, height = _jpeg_size(data)
    else:
        raise ValueError(f"expected a JPEG or PNG, got {len(data)} bytes that begin with {data[:8].hex(' ')!r}")
    if width < 1 or height < 1:
        raise ValueError(f"the header says {width}x{height} pixels")
    return width, height


def letterbox(source_w: int, source_h: int, width: int, height: int) -> tuple[tuple[int, int], np.ndarray]:
    """Size of the picture on the canvas, and geometry FP32 (4,); the rule of clients/sources/letterbox.py."""
    ratio = min(width / source_w, height / source_h)
    fit_w, fit_h = _fitted(source_w * ratio, width), _fitted(source_h * ratio, height)
    geometry = [fit_w / source_w, fit_h / source_h, (width - fit_w) / 2, (height - fit_h) / 2]
    return (fit_w, fit_h), np.array(geometry, dtype=np.float32)


def _fitted(value: float, limit: int) -> int:
    return max(_STEP_PX, min(limit, _STEP_PX * round(value / _STEP_PX)))


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk the segments up to the frame header, then see that the picture's end is there."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            if data.find(b"\xff\xd9", at) < 0:
                raise ValueError("the JPEG is cut short")
            return width, height
        bare = marker in _JPEG_BARE or marker == 0xFF  # 0xFF may be repeated as filling
        at += (1 if marker == 0xFF else 2) if bare else 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    raise ValueError("the JPEG has no frame header")


def _decoded(data: bytes, source: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """BGR, decoded at 1/2, 1/4 or 1/8 where that is still no smaller than wanted: JPEG does so in its transform."""
    fitting = [f for f in _REDUCED if source[0] // f >= size[0] and source[1] // f >= size[1]]
    flag = _REDUCED[fitting[0]] if fitting else cv2.IMREAD_COLOR
    picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise ValueError(f"the picture of {source[0]}x{source[1]} pixels is damaged")
    return picture


def _interpolation(picture: np.ndarray, size: tuple[int, int]) -> int:
    return cv2.INTER_AREA if picture.shape[1] > size[0] or picture.shape[0] > size[1] else cv2.INTER_LINEAR


def _nv12_canvas(bgr: np.ndarray, width: int, height: int) -> np.ndarray:
    """Paste the picture, converted to NV12, in the middle of a grey canvas."""
    fit_h, fit_w = bgr.shape[:2]
    left, top = (width - fit_w) // 2, (height - fit_h) // 2
    planar = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)  # BT.601, limited range
    chroma = planar[fit_h:].reshape(2, fit_h // 2, fit_w // 2)
    canvas = np.full((height * 3 // 2, width), _PAD_UV, dtype=np.uint8)
    canvas[:height] = _PAD_Y
    canvas[top : top + fit_h, left : left + fit_w] = planar[:fit_h]
    below = height + top // 2
    canvas[below : below + fit_h // 2, left : left + fit_w] = chroma.transpose(1, 2, 0).reshape(fit_h // 2, fit_w)
    return canvas
