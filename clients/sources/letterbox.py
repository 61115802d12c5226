"""Where a picture lies on the canvas. Pure arithmetic: it knows sizes, not pixels."""

from __future__ import annotations

from dataclasses import dataclass

from clients.types import Canvas, Geometry

_STEP_PX = 4  # keeps the padding on each side even, as NV12's half-size chroma needs, and equal on both sides


@dataclass(frozen=True, slots=True)
class Fit:
    """The scaled picture's size on the canvas, and the geometry that maps canvas pixels back to the source."""

    width: int
    height: int
    geometry: Geometry


def letterbox(width: int, height: int, canvas: Canvas) -> Fit:
    """Fit a picture of `width` x `height` pixels into the canvas, centred, its shape kept to within 2 pixels.

    Both sides become multiples of 4, so the scales of the two axes differ slightly; `Geometry` carries both.
    Raises ValueError for a size that is not positive.
    """
    if width < 1 or height < 1:
        raise ValueError(f"a picture needs at least 1x1 pixels, got {width}x{height}")
    ratio = min(canvas.width / width, canvas.height / height)
    fit_width = _rounded(width * ratio, canvas.width)
    fit_height = _rounded(height * ratio, canvas.height)
    geometry = Geometry(
        scale_x=fit_width / width,
        scale_y=fit_height / height,
        pad_x=(canvas.width - fit_width) / 2,
        pad_y=(canvas.height - fit_height) / 2,
    )
    return Fit(fit_width, fit_height, geometry)


def _rounded(value: float, limit: int) -> int:
    return max(_STEP_PX, min(limit, _STEP_PX * round(value / _STEP_PX)))
