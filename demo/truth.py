"""What is known of every frame of a clip, and the file beside it that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.errors import FleetError
from clients.types import Canvas


class TruthError(FleetError):
    """A truth file cannot be read."""


LEAST_SIDE_PX, LEAST_VISIBILITY = 8.0, 0.3  # on the default canvas; what is smaller or more hidden is ignored


@dataclass(frozen=True, slots=True)
class TrueObject:
    """One object in one frame.

    `xyxy` is the whole object as drawn, hidden parts too, in source pixels (edges, not centres), clipped to the
    picture; `visibility` is the share, 0..1, of its pixels in the picture that nothing nearer covers. `ignore`: nobody
    is asked to find it; it is not missed when it is not found, and no mistake when it is.
    """

    object_id: int
    class_id: int
    xyxy: tuple[float, float, float, float]
    visibility: float
    ignore: bool = False


def is_ignored(xyxy: tuple[float, float, float, float], visibility: float, size_px: tuple[int, int]) -> bool:
    """The one rule: a side under 8 pixels on the canvas that a picture of (width, height) is served on, or hidden by
    more than 70 %."""
    canvas = Canvas()
    scale = min(canvas.width / size_px[0], canvas.height / size_px[1])
    x1, y1, x2, y2 = xyxy
    return visibility < LEAST_VISIBILITY or min(x2 - x1, y2 - y1) * scale < LEAST_SIDE_PX


@dataclass(frozen=True, slots=True)
class Truth:
    """A clip's truth: `frames[i]` holds the objects of frame i. `key` names what the clip was rendered from.

    `conditions` are words such as night, rain, fog, crowd, far; `density` is static, calm or busy; `kind` the place.
    """

    camera: str
    width: int
    height: int
    fps: int
    seed: int
    classes: tuple[str, ...]
    key: str
    frames: Sequence[Sequence[TrueObject]]
    kind: str = ""
    density: str = ""
    conditions: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """UTF-8 JSON without spaces; pixels to a tenth, visibility to a hundredth."""
        frames = [
            {"index": index, "objects": [_object_json(entry) for entry in objects]}
            for index, objects in enumerate(self.frames)
        ]
        head: dict[str, Any] = {
            "camera": self.camera,
            "width": self.width,
            "height": self.height,
            "fps": self.fps,
            "seed": self.seed,
            "classes": self.classes,
            "key": self.key,
            "kind": self.kind,
            "density": self.density,
            "conditions": self.conditions,
        }
        return json.dumps(head | {"frames": frames}, separators=(",", ":")).encode()


def read_truth(path: Path) -> Truth:
    """Read a truth file. Raises TruthError that names the file when it is missing or not one."""
    try:
        data = json.loads(path.read_bytes())
        return Truth(
            camera=data["camera"],
            width=data["width"],
            height=data["height"],
            fps=data["fps"],
            seed=data["seed"],
            classes=tuple(data["classes"]),
            key=data["key"],
            frames=[[_object(entry) for entry in frame["objects"]] for frame in data["frames"]],
            kind=data["kind"],
            density=data["density"],
            conditions=tuple(data["conditions"]),
        )
    except OSError as error:
        raise TruthError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TruthError(f"{path}: not a truth file ({type(error).__name__}: {error})") from error


def _object_json(entry: TrueObject) -> dict[str, Any]:
    return {
        "id": entry.object_id,
        "class_id": entry.class_id,
        "xyxy": [round(v, 1) for v in entry.xyxy],
        "visibility": round(entry.visibility, 2),
        "ignore": entry.ignore,
    }


def _object(data: dict[str, Any]) -> TrueObject:
    x1, y1, x2, y2 = (float(v) for v in data["xyxy"])
    return TrueObject(
        int(data["id"]), int(data["class_id"]), (x1, y1, x2, y2), float(data["visibility"]), bool(data["ignore"])
    )
