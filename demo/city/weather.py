"""What lies between a scene and its pixels: rain, noise, exposure, a shaking pole, a wall in front, a clock."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.city.cameras import Daylight
from demo.city.ground import noise_tile
from demo.city.traffic import HORIZON_S
from demo.scenes import Scene

Image = NDArray[np.uint8]
_NOISE: dict[Daylight, float] = {"day": 1.7, "overcast": 2.1, "dusk": 3.0, "night": 4.4}  # grey levels, deviation
_NOISE_MARGIN = 61
_HOUR: dict[Daylight, int] = {"day": 11, "overcast": 14, "dusk": 18, "night": 22}
_EVENT_S = (5.0, 11.0)  # between two jumps of the exposure


class Noise:
    """One field of sensor noise, laid over every picture at another place."""

    def __init__(self, scene: Scene) -> None:
        view = scene.view
        rng = np.random.default_rng((*scene.seed, 2))
        deviation = _NOISE[view.light]
        field = rng.normal(0, 1, (view.height + _NOISE_MARGIN, view.width + _NOISE_MARGIN)).astype(np.float32)
        field = cv2.GaussianBlur(field, (0, 0), 0.55)
        field *= deviation / float(field.std())
        grey = np.clip(field + 2.2 * deviation, 0, 255).astype(np.uint8)
        self._field = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)

    def add(self, image: Image, index: int) -> None:
        """To frame number `index`."""
        dx, dy = (index * 37) % _NOISE_MARGIN, (index * 23 + index // _NOISE_MARGIN) % _NOISE_MARGIN
        height, width = image.shape[:2]
        cv2.add(image, self._field[dy : dy + height, dx : dx + width], dst=image)


class Rain:
    """Two sheets of streaks, a near and a far one, that fall at their own speed."""

    def __init__(self, scene: Scene) -> None:
        view = scene.view
        rng = np.random.default_rng((*scene.seed, 8))
        self._sheets = [self._sheet(view.width, view.height, rng, size) for size in (0.6, 1.3)]

    @staticmethod
    def _sheet(width: int, height: int, rng: np.random.Generator, size: float) -> Image:
        unit = height / 360 * size
        sheet = np.zeros((height * 2, width, 3), dtype=np.uint8)
        for _ in range(int(330 / size)):
            x, y = rng.uniform(-10, width + 10), rng.uniform(-10, height)
            length, slant, light = rng.uniform(9, 19) * unit, rng.uniform(0.12, 0.2), float(rng.uniform(16, 46))
            for base in (0, height):  # the second half repeats the first, so that it can fall round and round
                start, end = (round(x), round(y + base)), (round(x - slant * length), round(y + base + length))
                cv2.line(sheet, start, end, (light, light * 0.97, light * 0.95), max(1, round(unit)), cv2.LINE_AA)
        sheet[:height] = np.maximum(sheet[:height], sheet[height:])
        sheet[height:] = sheet[:height]
        return sheet

    def add(self, image: Image, time_s: float) -> None:
        """To the picture of that moment."""
        height = image.shape[0]
        for sheet, speed in zip(self._sheets, (2.3, 3.7), strict=True):
            at = height - int(time_s * speed * height) % height
            cv2.add(image, sheet[at : at + height], dst=image)


class Exposure:
    """The camera's automatic exposure loses its mind now and then: a jump, then a slow way back."""

    def __init__(self, scene: Scene) -> None:
        rng = np.random.default_rng((*scene.seed, 9))
        times = np.cumsum(rng.uniform(*_EVENT_S, int(HORIZON_S / _EVENT_S[0])))
        self._events = [(float(at), float(rng.choice([-0.42, -0.3, 0.4, 0.65]))) for at in times]

    def gain(self, time_s: float) -> float:
        """What the picture is multiplied by."""
        within = time_s % HORIZON_S
        return 1 + sum(jump * math.exp(-(within - at) / 1.6) for at, jump in self._events if 0 <= within - at < 12)

    def apply(self, image: Image, time_s: float) -> None:
        """Brighten or darken the picture of that moment."""
        gain = self.gain(time_s)
        if abs(gain - 1) > 0.01:
            levels = np.clip(np.arange(256) * gain, 0, 255).astype(np.uint8)
            cv2.LUT(image, levels, dst=image)


def shaken_px(scene: Scene, time_s: float) -> tuple[int, int]:
    """How far the picture is moved, whole pixels to the right and down; (0, 0) for a pole that stands firm."""
    if "shake" not in scene.view.quirks:
        return 0, 0
    unit = scene.view.height / 360
    gust = max(0.0, math.sin(2 * math.pi * time_s / 8.3 + scene.seed[-1])) ** 2 + 0.12
    dx = gust * (2.6 * math.sin(2 * math.pi * 2.1 * time_s) + 1.2 * math.sin(2 * math.pi * 5.3 * time_s))
    dy = gust * (1.5 * math.sin(2 * math.pi * 2.6 * time_s + 1) + 0.9 * math.sin(2 * math.pi * 4.7 * time_s))
    return round(dx * unit), round(dy * unit)


def shake_margin_px(scene: Scene) -> int:
    """The farthest that `shaken_px` moves a picture."""
    return math.ceil(4.5 * scene.view.height / 360) if "shake" in scene.view.quirks else 0


def wall_in_front(scene: Scene, tint: tuple[float, float, float]) -> tuple[Image, NDArray[np.bool_], slice] | None:
    """The corner of a near house at one edge: its picture, its mask, and the columns that they are for."""
    view = scene.view
    if "occluder" not in view.quirks:
        return None
    rng = np.random.default_rng((*scene.seed, 10))
    width, height = round(view.width * rng.uniform(0.16, 0.24)), view.height
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    unit = height / 360
    edge = width - 6 * unit - rows * rng.uniform(0.0, 0.03)
    brick_h, brick_w = 7.0 * unit, 19.0 * unit
    slope = (width - columns) * 0.12 + rows
    course = np.floor(slope / brick_h)
    joint = (slope % brick_h < 1.3 * unit) | ((columns + (course % 2) * brick_w / 2) % brick_w < 1.3 * unit)
    tone = ((course * 37 + np.floor((columns + (course % 2) * brick_w / 2) / brick_w) * 91) % 17) / 17
    tile = cv2.resize(noise_tile(rng), (width, height), interpolation=cv2.INTER_LINEAR)
    base = np.array(((72, 88, 150), (110, 128, 140), (88, 92, 104))[int(rng.integers(3))], dtype=np.float32)
    value = np.where(joint, 1.18, 0.82 + 0.22 * tone) + 0.07 * tile
    value *= 0.55 + 0.4 * columns / width
    value *= np.where(columns > edge - 5 * unit, 1.25, 1.0)
    image = np.clip(value[..., None] * base * np.array(tint, dtype=np.float32), 0, 255).astype(np.uint8)
    mask = columns < edge
    if rng.random() < 0.5:
        image, mask = image[:, ::-1].copy(), mask[:, ::-1].copy()
        return image, mask, slice(view.width - width, view.width)
    return image, mask, slice(0, width)


class Clock:
    """What the camera writes into its picture: its name, the date and the time of day."""

    def __init__(self, scene: Scene) -> None:
        view = scene.view
        rng = np.random.default_rng((*scene.seed, 11))
        minutes, days = int(rng.integers(0, 59)), int(rng.integers(0, 300))
        self._start = datetime(2026, 1, 7, _HOUR[view.light], minutes, 41, tzinfo=UTC) + timedelta(days=days)
        self._size = view.height / 360
        self._name = f"CAM {scene.seed[2] + 1:02d}"
        self._width = view.width

    def write(self, image: Image, time_s: float) -> None:
        """Onto the picture of that moment."""
        told = (self._start + timedelta(seconds=int(time_s))).strftime("%Y-%m-%d %H:%M:%S")
        right = self._width - int(158 * self._size)
        for text, x in ((self._name, int(8 * self._size)), (told, right)):
            for colour, offset in (((20, 20, 20), 1), ((235, 235, 235), 0)):
                at = (x + int(offset * self._size), int((16 + offset) * self._size))
                scale = 0.42 * self._size
                cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, round(self._size), cv2.LINE_AA)
