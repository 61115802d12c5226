"""One picture of a scene at one moment, with the exact boxes of what was drawn.

Truth comes from the drawing itself: the same polygons that colour the picture are written, as numbers, into an id
buffer; what is left of an object's pixels there, when all is drawn, is its visibility.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.backdrop import TINT, Image, backdrop
from demo.scenes import BUS, CAR, Placed, Scene
from demo.sprites import (
    Floats,
    Lens,
    Shape,
    Solid,
    figure_shape,
    footprint,
    post_shape,
    solid,
    solid_shape,
    tree_shape,
)
from demo.truth import TrueObject

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixel edges
_SUBPIXEL_BITS = 4
_FARTHEST_M = 85.0
_LEAST_PX = 3  # an object with a smaller box is neither drawn nor in the truth
_FURNITURE_ID = 255
_NOISE = {"day": 1.3, "overcast": 1.6, "dusk": 2.2, "night": 3.0}  # standard deviation in grey levels
_NOISE_MARGIN = 61


@dataclass(frozen=True, slots=True)
class Rendered:
    """`image` UINT8 (H, W, 3) BGR; `ids` UINT8 (H, W): place + 1 in `objects`, 0 background, 255 furniture."""

    image: Image
    ids: NDArray[np.uint8]
    objects: tuple[TrueObject, ...]


class Renderer:
    """Draws a scene. It keeps the backdrop and a few noise fields; `render` depends on its arguments only."""

    def __init__(self, scene: Scene) -> None:
        view = scene.view
        self._scene = scene
        self.lens = Lens(view.focal * view.height, view.width / 2, view.horizon * view.height, view.camera_m)
        self._backdrop = backdrop(scene, self.lens)
        self._tint = TINT[view.light]
        self._solids: dict[int, Solid] = {
            m.object_id: solid(m.class_id, m.looks) for m in scene.movers if m.class_id in (CAR, BUS)
        }
        self._furniture = _furniture(scene, self.lens)
        rng = np.random.default_rng((*scene.seed, 2))
        shape = (view.height + _NOISE_MARGIN, view.width + _NOISE_MARGIN)
        grey = np.clip(rng.normal(5, _NOISE[view.light], shape), 0, 255).astype(np.uint8)
        self._noise = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)

    def render(self, index: int, fps: float) -> Rendered:
        """Frame number `index` of a clip at `fps`."""
        view = self._scene.view
        image = self._backdrop.copy()
        ids = np.zeros((view.height, view.width), dtype=np.uint8)
        drawn = self._drawable(index / fps)
        for placed, _, box in drawn:
            if box is not None:
                self._shadow(image, footprint(placed, self.lens))
        found: list[tuple[Placed, Box, int]] = []
        furniture = list(self._furniture)
        for placed, shape, box in drawn:
            while furniture and furniture[0][0] > placed.y:
                self._draw(image, ids, furniture.pop(0)[1], _FURNITURE_ID)
            if box is None:
                continue
            slot = len(found) + 1
            self._draw(image, ids, shape, slot)
            tight = self._tight_box(ids, box, slot)
            if tight is not None:
                found.append((placed, tight, _count(ids, tight, slot)))
        for _, shape in furniture:
            self._draw(image, ids, shape, _FURNITURE_ID)
        self._add_noise(image, index)
        return Rendered(image, ids, tuple(self._truth(ids, slot, *entry) for slot, entry in enumerate(found, start=1)))

    def _drawable(self, time_s: float) -> list[tuple[Placed, Shape, Box | None]]:
        """Objects in front of the camera with their polygons and clipped boxes (None: not in the picture)."""
        drawable = []
        for placed in self._scene.at(time_s):
            body = self._solids.get(placed.mover.object_id)
            if not self._may_be_seen(placed, 6.5 if body else 1.0):
                continue
            shape = solid_shape(body, placed, self.lens) if body else figure_shape(placed, self.lens)
            drawable.append((placed, shape, self._clipped_box(shape)))
        return drawable

    def _may_be_seen(self, placed: Placed, radius_m: float) -> bool:
        """False for what cannot touch the picture, found without projecting its corners."""
        nearest = placed.y - radius_m
        if not 0.8 < placed.y + radius_m < _FARTHEST_M + radius_m or (nearest < 0.8 and radius_m < 2):
            return False
        half_width_m = self._scene.view.width / 2 / self.lens.focal_px * (placed.y + radius_m)
        return abs(placed.x) - radius_m < half_width_m

    def _clipped_box(self, shape: Shape) -> Box | None:
        """A polygon colours the pixels that its corners lie in, hence + 1."""
        if not shape.parts:
            return None
        x1, y1 = shape.corners.min(axis=0).tolist()
        x2, y2 = shape.corners.max(axis=0).tolist()
        width, height = self._scene.view.width, self._scene.view.height
        box = max(0.0, x1), max(0.0, y1), min(float(width), x2 + 1), min(float(height), y2 + 1)
        return box if box[2] - box[0] >= _LEAST_PX and box[3] - box[1] >= _LEAST_PX else None

    def _tight_box(self, ids: NDArray[np.uint8], box: Box, slot: int) -> Box | None:
        """A box at the picture's edge, drawn in around what was drawn inside; called before anything nearer is."""
        x1, y1, x2, y2 = box
        if x1 > 0 and y1 > 0 and x2 < self._scene.view.width and y2 < self._scene.view.height:
            return box
        left, top, right, bottom = int(x1), int(y1), int(x2) + 1, int(y2) + 1
        x, y, width, height = cv2.boundingRect((ids[top:bottom, left:right] == slot).astype(np.uint8))
        if not width:
            return None  # its corners lie beyond one another: no pixel of it does
        return float(left + x), float(top + y), float(left + x + width), float(top + y + height)

    def _draw(self, image: Image, ids: NDArray[np.uint8], shape: Shape, slot: int) -> None:
        blue, green, red = self._tint
        corners = _fixed(shape.corners)
        for start, stop, colour in shape.parts:
            outline = [corners[start:stop]]
            tinted = (colour[0] * blue, colour[1] * green, colour[2] * red)
            cv2.fillPoly(image, outline, tinted, cv2.LINE_AA, _SUBPIXEL_BITS)
            cv2.fillPoly(ids, outline, slot, cv2.LINE_8, _SUBPIXEL_BITS)

    def _shadow(self, image: Image, points: Floats) -> None:
        height, width = image.shape[:2]
        x1, y1 = np.clip(np.floor(points.min(axis=0)).astype(int), 0, (width, height))
        x2, y2 = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, 0, (width, height))
        if x2 - x1 < 2 or y2 - y1 < 2:
            return
        mask = np.zeros((y2 - y1, x2 - x1, 3), dtype=np.uint8)
        cv2.fillPoly(mask, [_fixed(points - (x1, y1))], (115, 115, 115), cv2.LINE_AA, _SUBPIXEL_BITS)
        area = image[y1:y2, x1:x2]
        cv2.subtract(area, cv2.multiply(area, mask, scale=1 / 255), dst=area)

    def _add_noise(self, image: Image, index: int) -> None:
        dx, dy = (index * 37) % _NOISE_MARGIN, (index * 23 + index // _NOISE_MARGIN) % _NOISE_MARGIN
        height, width = image.shape[:2]
        cv2.add(image, self._noise[dy : dy + height, dx : dx + width], dst=image)

    @staticmethod
    def _truth(ids: NDArray[np.uint8], slot: int, placed: Placed, box: Box, own_px: int) -> TrueObject:
        visibility = _count(ids, box, slot) / own_px if own_px else 0.0
        mover = placed.mover
        return TrueObject(mover.object_id, mover.class_id, box, visibility)


def _furniture(scene: Scene, lens: Lens) -> list[tuple[float, Shape]]:
    """Lamp posts and trees with their distance, farthest first."""
    rng = np.random.default_rng((*scene.seed, 6))
    lit = scene.view.light == "night"
    posts = [(y, post_shape(x, y, lens, lit=lit)) for x, y in (scene.to_world(*at) for at in scene.posts)]
    trees = [(y, tree_shape(x, y, lens, rng)) for x, y in (scene.to_world(*at) for at in scene.trees)]
    return sorted((entry for entry in posts + trees if 4 < entry[0] < _FARTHEST_M), key=lambda entry: -entry[0])


def _fixed(points: Floats) -> NDArray[np.int32]:
    """Pixels as the fixed-point integers that OpenCV draws with; far outside is cut off, they are 32 bits."""
    return np.round(np.clip(points, -20000, 20000) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _count(ids: NDArray[np.uint8], box: Box, slot: int) -> int:
    x1, y1, x2, y2 = (int(box[0]), int(box[1]), int(box[2]) + 1, int(box[3]) + 1)
    return int(np.count_nonzero(ids[y1:y2, x1:x2] == slot))
