"""One picture of a scene at one moment, with the exact boxes of what was drawn.

Truth comes from the drawing itself: the same polygons that colour the picture are written, as numbers, into an id
buffer; what is left of an object's pixels there, when all is drawn, is its visibility.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.city.backdrop import TINT, Image, air_of, backdrop
from demo.city.furniture import Standing, standing
from demo.city.lights import fixed, headlight_pool, is_lit, lamps, shadow
from demo.city.people import figure_shape
from demo.city.shapes import Colour, Lens, Part, Shape, Solid, solid_shape
from demo.city.traffic import BUS, CAR
from demo.city.vehicles import solid
from demo.city.weather import Clock, Exposure, Noise, Rain, shake_margin_px, shaken_px, wall_in_front
from demo.scenes import Placed, Scene
from demo.truth import TrueObject, is_ignored

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixel edges
_BITS = 4
_FARTHEST_M = 85.0
_LEAST_PX = 3  # an object with a smaller box is neither drawn nor in the truth
_FURNITURE_ID = 255
_OFF_LAMP = 190.0
_SWAY_M = 0.3
_INVISIBLE = 0.82  # share of haze in which an object is neither drawn nor in the truth


@dataclass(frozen=True, slots=True)
class Rendered:
    """`image` UINT8 (H, W, 3) BGR; `ids` UINT8 (H, W): place + 1 in `objects`, 0 background, 255 furniture."""

    image: Image
    ids: NDArray[np.uint8]
    objects: tuple[TrueObject, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """An object of one frame: where it is, its polygons, its box clipped to the picture (None: not in it)."""

    placed: Placed
    shape: Shape
    box: Box | None


class Renderer:
    """Draws a scene. It keeps what never moves; `render` depends on its arguments only."""

    def __init__(self, scene: Scene) -> None:
        view = scene.view
        self._scene = scene
        self._margin = margin = shake_margin_px(scene)
        self.lens = Lens(view.focal * view.height, view.width / 2, view.horizon * view.height, view.camera_m)
        self._air, self._tint = air_of(view), TINT[view.light]
        self._air_bgr = np.array(self._air.colour)
        self._solids: dict[int, Solid] = {
            m.object_id: solid(m.class_id, m.looks) for m in scene.movers if m.class_id in (CAR, BUS)
        }
        self._furniture = standing(scene, self.lens, _FARTHEST_M)
        self._windy = "wind" in view.quirks
        self._wall = wall_in_front(scene, self._tint)
        self._backdrop = _with_margin(backdrop(scene, self.lens), margin)
        self._ids = np.zeros(self._backdrop.shape[:2], dtype=np.uint8)
        for piece in self._furniture:  # drawn once; again only where something moved behind it
            if not self._sways(piece):
                self._draw(self._backdrop, self._ids, _moved(piece.shape, margin, margin), _FURNITURE_ID, piece.depth_m)
        self._noise, self._clock = Noise(scene), Clock(scene)
        self._rain = Rain(scene) if view.weather == "rain" else None
        self._exposure = Exposure(scene) if "exposure" in view.quirks else None

    def render(self, index: int, fps: float) -> Rendered:
        """Frame number `index` of a clip at `fps`."""
        view, time_s = self._scene.view, index / fps
        dx, dy = shaken_px(self._scene, time_s)
        lens = replace(self.lens, centre_px=self.lens.centre_px + dx, horizon_px=self.lens.horizon_px + dy)
        rows = slice(self._margin - dy, self._margin - dy + view.height)
        columns = slice(self._margin - dx, self._margin - dx + view.width)
        image, ids = self._backdrop[rows, columns].copy(), self._ids[rows, columns].copy()
        drawn = self.drawable(time_s, lens)
        touched = self._on_the_ground(image, drawn, lens)
        found: list[tuple[Placed, Box, int]] = []
        waiting = [
            _Piece(piece, self._shape_of(piece, time_s, dx, dy), self._sways(piece)) for piece in self._furniture
        ]
        waiting.reverse()
        for one in drawn:
            while waiting and waiting[-1].standing.depth_m > one.placed.y:
                self._redraw(image, ids, waiting.pop(), touched)
            if one.box is None:
                continue
            slot = len(found) + 1
            self._draw(image, ids, one.shape, slot, one.placed.y, lit=is_lit(one.placed, view))
            tight = self._tight_box(ids, one.box, slot)
            if tight is None:
                continue
            touched.append(tight)
            found.append((one.placed, tight, _count(ids, tight, slot)))
            if is_lit(one.placed, view):
                lamps(image, one.placed, lens, view)
        while waiting:
            self._redraw(image, ids, waiting.pop(), touched)
        self._before_the_lens(image, ids, index, time_s)
        return Rendered(image, ids, tuple(self._truth(ids, slot, *entry) for slot, entry in enumerate(found, start=1)))

    def _on_the_ground(self, image: Image, drawn: Sequence[Drawn], lens: Lens) -> list[Box]:
        """Shadows, then light; returns where."""
        view = self._scene.view
        seen = [one.placed for one in drawn if one.box is not None]
        places = [shadow(image, placed, lens, view) for placed in seen]
        places += [headlight_pool(image, placed, lens, view) for placed in seen if is_lit(placed, view)]
        return [place for place in places if place is not None]

    def _before_the_lens(self, image: Image, ids: NDArray[np.uint8], index: int, time_s: float) -> None:
        """What is nearer than everything else, and what the camera itself does to its picture."""
        if self._wall is not None:
            picture, mask, columns = self._wall
            np.copyto(image[:, columns], picture, where=mask[..., None])
            ids[:, columns][mask] = _FURNITURE_ID
        if self._rain is not None:
            self._rain.add(image, time_s)
        if self._exposure is not None:
            self._exposure.apply(image, time_s)
        self._noise.add(image, index)
        self._clock.write(image, time_s)

    def drawable(self, time_s: float, lens: Lens | None = None) -> list[Drawn]:
        """Objects in front of the camera, farthest first, as the lens sees them (default: as it hangs in still air)."""
        lens, drawable = lens or self.lens, []
        in_rain = self._scene.view.weather == "rain"
        for placed in self._scene.at(time_s):
            body = self._solids.get(placed.mover.object_id)
            if not self._may_be_seen(placed, 6.5 if body else 1.0):
                continue
            if body:
                shape = solid_shape(body, (placed.x, placed.y), placed.heading, lens)
            else:
                (foot,) = lens.project(np.array([[placed.x, placed.y, 0.0]]))
                shape = figure_shape(placed, lens, foot, in_rain=in_rain)
            drawable.append(Drawn(placed, shape, self._clipped_box(shape)))
        return drawable

    def _may_be_seen(self, placed: Placed, radius_m: float) -> bool:
        """False for what cannot touch the picture, found without projecting its corners."""
        nearest = placed.y - radius_m
        if not 0.8 < placed.y + radius_m < _FARTHEST_M + radius_m or (nearest < 0.8 and radius_m < 2):
            return False
        if self._air.haze(placed.y) > _INVISIBLE:
            return False  # nobody could
        half_width_m = (self._scene.view.width / 2 + self._margin) / self.lens.focal_px * (placed.y + radius_m)
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

    def _draw(
        self, image: Image, ids: NDArray[np.uint8], shape: Shape, slot: int, depth_m: float, *, lit: bool = True
    ) -> None:
        haze = self._air.haze(depth_m)
        corners = fixed(shape.corners)
        for (start, stop, _), colour in zip(shape.parts, self._seen(shape.parts, haze, lit=lit), strict=True):
            outline = [corners[start:stop]]
            cv2.fillPoly(image, outline, colour, cv2.LINE_AA, _BITS)
            cv2.fillPoly(ids, outline, slot, cv2.LINE_8, _BITS)

    def _seen(self, parts: Sequence[Part], haze: float, *, lit: bool) -> list[Colour]:
        """The parts' colours through light and air."""
        colours = np.array([part[2] for part in parts])
        if not lit:
            colours = np.minimum(colours, _OFF_LAMP)
        seen: list[Colour] = (np.minimum(colours * self._tint, 255) * (1 - haze) + haze * self._air_bgr).tolist()
        return seen

    def _sways(self, piece: Standing) -> bool:
        return self._windy and bool(piece.give.any())

    def _shape_of(self, piece: Standing, time_s: float, dx: int, dy: int) -> Shape:
        shape = piece.shape
        if self._sways(piece):
            shape = piece.swayed(time_s, _SWAY_M * self.lens.focal_px / piece.depth_m)
        return _moved(shape, dx, dy) if dx or dy else shape

    def _redraw(self, image: Image, ids: NDArray[np.uint8], piece: _Piece, touched: list[Box]) -> None:
        """A piece of furniture, where something farther away has been drawn over it."""
        x1, y1 = piece.shape.corners.min(axis=0).tolist()
        x2, y2 = piece.shape.corners.max(axis=0).tolist()
        if piece.always or any(a < x2 and c > x1 and b < y2 and d > y1 for a, b, c, d in touched):
            self._draw(image, ids, piece.shape, _FURNITURE_ID, piece.standing.depth_m)
            touched.append((x1, y1, x2, y2))

    def _truth(self, ids: NDArray[np.uint8], slot: int, placed: Placed, box: Box, own_px: int) -> TrueObject:
        visibility = _count(ids, box, slot) / own_px if own_px else 0.0
        mover, view = placed.mover, self._scene.view
        ignore = is_ignored(box, visibility, (view.width, view.height))
        return TrueObject(mover.object_id, mover.class_id, box, visibility, ignore)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Furniture of one frame; `always`: it is not part of the backdrop."""

    standing: Standing
    shape: Shape
    always: bool


def _moved(shape: Shape, dx: int, dy: int) -> Shape:
    return Shape(shape.corners + np.array((dx, dy)), shape.parts)


def _with_margin(image: Image, margin: int) -> Image:
    if not margin:
        return image
    return np.asarray(cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REFLECT_101), dtype=np.uint8)


def _count(ids: NDArray[np.uint8], box: Box, slot: int) -> int:
    x1, y1, x2, y2 = (int(box[0]), int(box[1]), int(box[2]) + 1, int(box[3]) + 1)
    return int(np.count_nonzero(ids[y1:y2, x1:x2] == slot))
