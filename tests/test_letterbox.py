"""Where a picture lies on the canvas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.sources.letterbox import letterbox
from clients.types import Canvas, Geometry

SIZES = st.integers(16, 7680)
CANVASES = st.builds(lambda w, h: Canvas(32 * w, 32 * h), st.integers(1, 40), st.integers(1, 40))


@given(SIZES, SIZES, CANVASES)
def test_the_picture_lies_inside_the_canvas_with_equal_even_padding(width: int, height: int, canvas: Canvas) -> None:
    """Both paddings of an axis are equal and even, and one axis is filled to within a step."""
    fit = letterbox(width, height, canvas)
    geometry = fit.geometry
    assert fit.width + 2 * geometry.pad_x == canvas.width
    assert fit.height + 2 * geometry.pad_y == canvas.height
    assert geometry.pad_x % 2 == 0
    assert geometry.pad_y % 2 == 0
    assert min(geometry.pad_x, geometry.pad_y) <= 1


@given(SIZES, SIZES, st.floats(0, 1), st.floats(0, 1))
def test_a_point_returns_to_where_it_came_from(width: int, height: int, right: float, down: float) -> None:
    """Source to canvas and back by the geometry is the identity, to a thousandth of the picture."""
    geometry = letterbox(width, height, Canvas()).geometry
    x, y = right * width, down * height
    assert ((x * geometry.scale_x + geometry.pad_x) - geometry.pad_x) / geometry.scale_x == pytest.approx(x, abs=1e-6)
    assert ((y * geometry.scale_y + geometry.pad_y) - geometry.pad_y) / geometry.scale_y == pytest.approx(y, abs=1e-6)
    assert (Canvas().width - 2 * geometry.pad_x) / geometry.scale_x == pytest.approx(width)
    assert (Canvas().height - 2 * geometry.pad_y) / geometry.scale_y == pytest.approx(height)


@given(st.integers(64, 7680), st.integers(64, 7680))
def test_the_shape_is_kept(width: int, height: int) -> None:
    """The picture's sides on the canvas are within 2 pixels of the exact ratio, unless a side would vanish."""
    canvas = Canvas()
    fit = letterbox(width, height, canvas)
    ratio = min(canvas.width / width, canvas.height / height)
    assert abs(fit.width - max(4, width * ratio)) <= 2
    assert abs(fit.height - max(4, height * ratio)) <= 2


def test_common_cameras() -> None:
    """The usual camera sizes land where a person would put them."""
    assert letterbox(1920, 1080, Canvas()).geometry == Geometry(1 / 3, 1 / 3, 0, 12)
    assert letterbox(640, 360, Canvas()).geometry == Geometry(1, 1, 0, 12)
    portrait = letterbox(1080, 1920, Canvas())
    assert (portrait.width, portrait.height) == (216, 384)


@pytest.mark.parametrize("size", [(0, 5), (5, -1)])
def test_a_size_without_pixels_is_refused(size: tuple[int, int]) -> None:
    """A size that is not positive is an error that shows it."""
    with pytest.raises(ValueError, match=f"got {size[0]}x{size[1]}"):
        letterbox(*size, Canvas())


@pytest.mark.parametrize("text", ["640", "640x380", "0x384", "ax3", "-32x32"])
def test_a_canvas_that_cannot_be_is_refused(text: str) -> None:
    """A canvas is WIDTHxHEIGHT in multiples of 32."""
    with pytest.raises(ValueError, match="got"):
        Canvas.parse(text)
