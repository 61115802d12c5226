"""Pictures for the documentation: contact sheets of the base cameras, and the curve of the training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.city.cameras import BASE_VIEWS, View
from demo.render import Renderer
from demo.scenes import Purpose, camera_name, scene

_TILE_PX, _COLUMNS, _BAR_PX, _JPEG_QUALITY = (480, 270), 3, 22, 82
_TIME_S = 6.2
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 720, 300, 56, 24, 46
_FILLS = {"start": "#999", "cuts": "", "canvases": "white"}
_COLOURS = {"map50": "#1f77b4", "map50_95": "#d62728"}


def write_sheets(folder: Path, per_sheet: int = 9) -> list[Path]:
    """`city-1.jpg` and on: one picture of every base camera, with what it is. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    tiles = [_tile(number, view) for number, view in enumerate(BASE_VIEWS)]
    paths = []
    for number, start in enumerate(range(0, len(tiles), per_sheet), start=1):
        path = folder / f"city-{number}.jpg"
        if not cv2.imwrite(
            str(path), _grid(tiles[start : start + per_sheet]), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        ):
            raise OSError(f"{path}: the picture cannot be written")
        paths.append(path)
    return paths


def _tile(number: int, view: View) -> NDArray[np.uint8]:
    image = Renderer(scene(Purpose.CLIPS, 0, number)).render(round(_TIME_S * view.fps), view.fps).image
    small = cv2.resize(image, _TILE_PX, interpolation=cv2.INTER_AREA)
    bar = np.full((_BAR_PX, _TILE_PX[0], 3), 24, dtype=np.uint8)
    words = f"{camera_name(number)}  {view.kind}, {view.density}: {', '.join(view.conditions)}"
    told = f"{view.height}p{view.fps} {view.codec.upper()} {view.colour}"
    for text, x in ((words, 6), (told, _TILE_PX[0] - 8 * len(told))):
        cv2.putText(bar, text, (x, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (225, 225, 225), 1, cv2.LINE_AA)
    return np.vstack((small, bar))


def _grid(tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    filled = [*tiles, *[np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)]
    return np.vstack([np.hstack(filled[k : k + _COLUMNS]) for k in range(0, len(filled), _COLUMNS)])


def write_curve(curve: Path, target: Path) -> list[dict[str, Any]]:
    """An SVG of the held-out score after every epoch; returns the points. Raises OSError, ValueError: not a curve."""
    points: list[dict[str, Any]] = json.loads(curve.read_text(encoding="utf-8"))
    if not points:
        raise ValueError(f"{curve}: no epoch has been scored yet")
    step = (_WIDTH - _LEFT - 90) / max(1, len(points) - 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        y = _row(share)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 80}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.1f}</text>')
    for name, colour in _COLOURS.items():
        places = [(_LEFT + step * number, _row(point[name])) for number, point in enumerate(points)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" stroke="{colour}" fill="{_FILLS[point["round"]] or colour}"/>'
            for (x, y), point in zip(places, points, strict=True)
        ]
        last, label = points[-1][name], {"map50": "mAP50", "map50_95": "mAP50-95"}[name]
        parts.append(f'<text x="{_WIDTH - 78}" y="{_row(last) + 4:.1f}" fill="{colour}">{label} {last:.2f}</text>')
    for number in range(len(points)):
        parts.append(f'<text x="{_LEFT + step * number:.1f}" y="{_HEIGHT - 26}" text-anchor="middle">{number}</text>')
    legend = "epochs; filled: on cuts, white: on whole canvases, grey: the weights that a training started from"
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 8}" fill="#555">{legend}</text>')
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
    return points


def _row(share: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)
