"""Whatever matrix and range a camera sends, the canvas is BT.601 limited: what FFmpeg shows is what the model sees."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from conftest import write_clip
from numpy.typing import NDArray

from clients.sources.picture import AvPicture, Scalers
from clients.types import Canvas

PATCHES = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (230, 230, 230), (20, 20, 20), (120, 60, 180), (250, 200, 30)]
PATCH_PX = 64


def chart(height: int) -> NDArray[np.uint8]:
    """RGB colour patches side by side; the height decides what an untagged clip means."""
    row = np.concatenate([np.full((height, PATCH_PX, 3), colour, np.uint8) for colour in PATCHES], axis=1)
    return row[:, : row.shape[1] // 2 * 2]


def encoder(matrix: Colorspace, full: bool, pix_fmt: str):
    """Converts RGB to what a camera of that kind encodes."""

    def convert(frame: av.VideoFrame) -> av.VideoFrame:
        to_range = ColorRange.JPEG if full else ColorRange.MPEG
        return frame.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=to_range)

    return convert


CAMERAS = {
    # name: (height, matrix, full range, tags or None, codec, pixel format)
    "bt601": (360, Colorspace.ITU601, False, (6, 1), "libx264", "yuv420p"),
    "bt709": (720, Colorspace.ITU709, False, (1, 1), "libx264", "yuv420p"),
    "bt709 in a small picture": (360, Colorspace.ITU709, False, (1, 1), "libx264", "yuv420p"),
    "bt601 in a large picture": (720, Colorspace.ITU601, False, (6, 1), "libx264", "yuv420p"),
    "full range": (360, Colorspace.ITU601, True, (6, 2), "libx264", "yuv420p"),
    "full range bt709": (720, Colorspace.ITU709, True, (1, 2), "libx264", "yuv420p"),
    "untagged small": (360, Colorspace.ITU601, False, None, "libx264", "yuv420p"),
    "untagged large": (720, Colorspace.ITU709, False, None, "libx264", "yuv420p"),
    "mjpeg": (360, Colorspace.ITU601, True, None, "mjpeg", "yuvj420p"),
    "10 bit": (720, Colorspace.ITU709, False, (1, 1), "libx264", "yuv420p10le"),
}


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_canvas_shows_the_colours_that_ffmpeg_shows(tmp_path: Path, camera: str) -> None:
    """Canvas to RGB by BT.601 limited is within 3 grey levels of FFmpeg's own rgb24 of the same frame."""
    height, matrix, full, tags, codec, pix_fmt = CAMERAS[camera]
    options = {"qscale": "1"} if codec == "mjpeg" else {"preset": "ultrafast", "crf": "2"}
    path = tmp_path / ("clip.avi" if codec == "mjpeg" else "clip.mp4")
    convert = encoder(matrix, full, pix_fmt)
    write_clip(path, [chart(height)] * 3, codec=codec, pix_fmt=pix_fmt, options=options, prepare=convert, tags=tags)
    frame = first_frame(path)
    if tags is None and codec != "mjpeg":
        assert frame.colorspace == 2, "the clip is meant to be untagged"
    canvas = Canvas()
    pixels = np.empty(canvas.nv12_shape, np.uint8)
    geometry = AvPicture(frame, Scalers()).write_canvas(canvas, pixels)
    shown = cv2.cvtColor(pixels, cv2.COLOR_YUV2RGB_NV12)
    expected = ffmpeg_rgb(path, matrix, full)
    for index in range(len(PATCHES)):
        x = int((index + 0.5) * PATCH_PX)
        y = height // 2
        at_canvas = shown[round(y * geometry.scale_y + geometry.pad_y), round(x * geometry.scale_x + geometry.pad_x)]
        assert np.abs(at_canvas.astype(int) - expected[y, x].astype(int)).max() <= 3, (camera, PATCHES[index])


@pytest.mark.parametrize(("size", "pads"), [((640, 360), (0, 12)), ((360, 640), (212, 0)), ((641, 361), (0, 12))])
def test_the_rest_of_the_canvas_is_grey(tmp_path: Path, size: tuple[int, int], pads: tuple[int, int]) -> None:
    """Outside the picture the canvas is Y=114, UV=128, inside nothing is left from before; odd sizes work."""
    picture = np.full((size[1], size[0], 3), 255, np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
    canvas = Canvas()
    pixels = np.full(canvas.nv12_shape, 7, np.uint8)
    geometry = AvPicture(frame, Scalers()).write_canvas(canvas, pixels)
    assert (geometry.pad_x, geometry.pad_y) == pads
    left, top = int(geometry.pad_x), int(geometry.pad_y)
    luma, chroma = pixels[: canvas.height], pixels[canvas.height :]
    inner = np.zeros_like(luma, dtype=bool)
    inner[top : canvas.height - top, left : canvas.width - left] = True
    assert (luma[~inner] == 114).all()
    assert (luma[inner] > 230).all()
    inner_chroma = inner[::2]
    assert (chroma[~inner_chroma] == 128).all()
    assert (np.abs(chroma[inner_chroma].astype(int) - 128) <= 2).all()


def test_a_canvas_of_another_shape_is_refused() -> None:
    """The array to fill must be the canvas, and the message shows both."""
    frame = av.VideoFrame(64, 64, "yuv420p")
    with pytest.raises(ValueError, match=r"\(576, 640\), got uint8 \(384, 640\)"):
        AvPicture(frame, Scalers()).write_canvas(Canvas(), np.zeros((384, 640), np.uint8))


def test_a_jpeg_is_scaled_to_the_largest_size() -> None:
    """A picture above the largest size is scaled to fit it, one below is not touched."""
    large = AvPicture(av.VideoFrame.from_ndarray(chart(720).repeat(4, axis=1), format="rgb24"), Scalers())
    data, scale = large.encode_jpeg((640, 360))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert max(decoded.shape[1] / 640, decoded.shape[0] / 360) == pytest.approx(1, abs=0.01)
    assert decoded.shape[1] / large.size_px[0] == pytest.approx(scale, abs=0.01)
    assert large.encode_jpeg(None)[1] == 1.0


def test_the_thumbnail_is_the_averaged_luma() -> None:
    """A bright half stays the bright half, whatever the pixel format."""
    picture = np.zeros((180, 320, 3), np.uint8)
    picture[:, 160:] = 255
    for pix_fmt in ("yuv420p", "yuv420p10le", "rgb24", "gray"):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
        thumbnail = AvPicture(frame, Scalers()).thumbnail()
        assert thumbnail.shape == (36, 64)
        assert thumbnail[:, :31].max() < 40, pix_fmt
        assert thumbnail[:, 33:].min() > 200, pix_fmt


def first_frame(path: Path) -> av.VideoFrame:
    """The first decoded frame of a clip."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def ffmpeg_rgb(path: Path, matrix: Colorspace, full: bool) -> NDArray[np.uint8]:
    """FFmpeg's own scale filter, told what the camera really sent: in_color_matrix and in_range are FFmpeg's names."""
    name = {Colorspace.ITU601: "bt601", Colorspace.ITU709: "bt709"}[matrix]
    with av.open(str(path)) as container:
        graph = av.filter.Graph()
        source = graph.add_buffer(template=container.streams.video[0])
        options = f"in_color_matrix={name}:in_range={'full' if full else 'limited'}:out_range=full"
        options += ":flags=accurate_rnd+full_chroma_int"  # without it FFmpeg itself is 4 levels off for 10 bit
        scale = graph.add("scale", options)
        form = graph.add("format", "rgb24")
        sink = graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(form)
        form.link_to(sink)
        graph.configure()
        graph.push(next(container.decode(video=0)))
        return graph.pull().to_ndarray()


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "rgb24"])
def test_the_threads_of_a_camera_do_not_share_a_scaler(pix_fmt: str) -> None:
    """Thumbnails, canvases (two at once after a time-out) and views made at the same time are what they are alone."""
    scalers = Scalers()
    frame = av.VideoFrame.from_ndarray(chart(720), format="rgb24").reformat(format=pix_fmt)
    picture = AvPicture(frame, scalers)

    def canvas() -> bytes:
        pixels = np.empty(Canvas().nv12_shape, np.uint8)
        picture.write_canvas(Canvas(), pixels)
        return pixels.tobytes()

    jobs = [canvas, canvas, lambda: picture.thumbnail().tobytes(), lambda: picture.to_bgr(320, 180).tobytes()]
    alone = [job() for job in jobs]
    with ThreadPoolExecutor(len(jobs)) as threads:
        for _ in range(60):
            assert list(threads.map(lambda job: job(), jobs)) == alone
