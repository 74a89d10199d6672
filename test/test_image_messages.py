"""Image messages: encodings, compression, padding, and what is said of damaged ones."""

from __future__ import annotations

import sys
import zlib
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from twodpass_core.cameras.model import CameraModel
from twodpass_core.data.frame import CameraView
from twodpass_core.data.image_messages import PLAIN, decode_image, image_size, is_picture
from twodpass_core.errors import ImageError, MissingDependencyError
from twodpass_core.geometry.rigid_transform import RigidTransform

HEIGHT, WIDTH = 24, 32


def picture(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth, so that lossy forms come close."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3)).astype(np.float64)
    y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    top, bottom = corners[0, 0] * (1 - x) + corners[0, 1] * x, corners[1, 0] * (1 - x) + corners[1, 1] * x
    return np.asarray(top * (1 - y) + bottom * y).astype(np.uint8)


def message(encoding: str, values: np.ndarray, padding: int = 0, is_bigendian: bool = False) -> Any:
    """An Image of (H, W) or (H, W, channels) values."""
    height, width = values.shape[:2]
    wire = values.astype(values.dtype.newbyteorder(">" if is_bigendian else "<"))
    rows = np.pad(
        np.frombuffer(wire.tobytes(), np.uint8).reshape(height, -1), ((0, 0), (0, padding)), constant_values=7
    )
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=is_bigendian, step=rows.shape[1], data=rows.ravel()
    )


def compressed(image: Image.Image, form: str, **options: Any) -> Any:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return SimpleNamespace(format=form.lower(), data=np.frombuffer(buffer.getvalue(), np.uint8))


@given(st.sampled_from(sorted(PLAIN)), st.integers(0, 9), st.booleans(), st.integers(0, 99))
def test_plain_encodings(encoding: str, padding: int, is_bigendian: bool, seed: int) -> None:
    kind, channels, order = PLAIN[encoding]
    rgb = picture(seed)
    if channels == 1:
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    values: np.ndarray = np.full((HEIGHT, WIDTH, channels), 99, np.uint8)
    values[..., list(order)] = rgb
    if kind == "u2":
        values = values.astype(np.uint16) << 8 | 0x7F
    sent = message(encoding, values, padding, is_bigendian)
    np.testing.assert_array_equal(decode_image(sent), rgb)
    assert image_size(sent) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("encoding", sorted(PLAIN))
def test_colours_are_in_the_order_of_the_encodings_name(encoding: str) -> None:
    """Where that is of a type alone, in OpenCV's."""
    kind, channels, _ = PLAIN[encoding]
    pixel = np.array([50, 100, 150, 200][:channels], kind) << (0 if kind == "u1" else 8)
    decoded = decode_image(message(encoding, np.tile(pixel, (2, 3, 1))))
    expected = [50] * 3 if channels == 1 else [50, 100, 150] if encoding.startswith("rgb") else [150, 100, 50]
    assert decoded[1, 2].tolist() == expected


def test_values_of_12_bits_in_16_are_not_dark() -> None:
    grey = np.repeat(picture()[..., :1], 3, axis=2)
    twelve = grey[..., 0].astype(np.uint16) << 4 | 0xF
    np.testing.assert_array_equal(decode_image(message("mono16", twelve)), grey)
    np.testing.assert_array_equal(decode_image(compressed(Image.fromarray(twelve), "PNG")), grey)
    pytest.importorskip("cv2")
    eight = decode_image(message("bayer_rggb8", grey[..., 0]))
    np.testing.assert_array_equal(decode_image(message("bayer_rggb16", twelve)), eight)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    ("order", "red", "blue"),
    [("rggb", (0, 0), (1, 1)), ("bggr", (1, 1), (0, 0)), ("gbrg", (1, 0), (0, 1)), ("grbg", (0, 1), (1, 0))],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_images_are_decoded_to_colours(
    order: str, red: tuple[int, int], blue: tuple[int, int], bits: int, padding: int
) -> None:
    pytest.importorskip("cv2")
    rgb = picture()
    mosaic = rgb[..., 1].copy()
    mosaic[red[0] :: 2, red[1] :: 2] = rgb[red[0] :: 2, red[1] :: 2, 0]
    mosaic[blue[0] :: 2, blue[1] :: 2] = rgb[blue[0] :: 2, blue[1] :: 2, 2]
    values = mosaic if bits == 8 else mosaic.astype(np.uint16) * 257
    decoded = decode_image(message(f"bayer_{order}{bits}", values, padding))
    assert np.abs(decoded[2:-2, 2:-2].astype(int) - rgb[2:-2, 2:-2]).max() < 16
    sent = compressed(Image.fromarray(values), "PNG")
    sent.format = f"bayer_{order}{bits}; png compressed bayer_{order}{bits}"
    np.testing.assert_array_equal(decode_image(sent), decoded)


def test_a_compressed_sensor_image_has_the_bits_that_its_file_has() -> None:
    """JPEG has 8, whatever the encoding before compression had."""
    pytest.importorskip("cv2")
    grey = Image.fromarray(np.full((HEIGHT, WIDTH), 200, np.uint8))
    deep = Image.fromarray(np.full((HEIGHT, WIDTH), 200 << 8, np.uint16))
    for image, form, encoding in ((grey, "JPEG", "bayer_rggb16"), (deep, "PNG", "bayer_rggb8")):
        sent = compressed(image, form)
        sent.format = f"{encoding}; {form.lower()} compressed {encoding}"
        assert np.abs(decode_image(sent).astype(int) - 200).max() < 16, encoding


def test_a_sensor_image_that_was_compressed_in_colour_is_in_colour() -> None:
    """As image_transport does it: JPEG has no arrangement of a sensor."""
    rgb = picture()
    sent = compressed(Image.fromarray(rgb), "JPEG", quality=95, subsampling=0)
    sent.format = "bayer_rggb8; jpeg compressed bgr8"
    assert np.abs(decode_image(sent).astype(int) - rgb).max() < 16


def test_a_compressed_sensor_image_of_another_arrangement_is_no_picture() -> None:
    sent = compressed(Image.fromarray(picture()[..., 0]), "JPEG")
    sent.format = "bayer_rggb12; jpeg compressed bayer_rggb12"
    with pytest.raises(ImageError, match="encoding 'bayer_rggb12' is not a picture; known are mono8"):
        decode_image(sent)


@pytest.mark.parametrize(("encoding", "luma"), [("yuv422", 1), ("uyvy", 1), ("yuyv", 0), ("yuv422_yuy2", 0)])
def test_yuv_images_are_decoded_to_colours(encoding: str, luma: int) -> None:
    cv2 = pytest.importorskip("cv2")
    rgb = picture(3)
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_UYVY if luma else cv2.COLOR_RGB2YUV_YUYV)
    decoded = decode_image(message(encoding, np.asarray(yuv).reshape(HEIGHT, WIDTH, 2)))
    assert np.abs(decoded.astype(int) - rgb).max() < 16


def test_compressed_images() -> None:
    rgb = picture()
    jpeg = compressed(Image.fromarray(rgb), "JPEG", quality=95, subsampling=0)
    assert np.abs(decode_image(jpeg).astype(int) - rgb).max() < 16
    np.testing.assert_array_equal(decode_image(compressed(Image.fromarray(rgb), "PNG")), rgb)
    grey = Image.fromarray(rgb[..., 0])
    np.testing.assert_array_equal(decode_image(compressed(grey, "PNG")), np.repeat(rgb[..., :1], 3, axis=2))
    deep = Image.fromarray(rgb[..., 0].astype(np.uint16) << 8 | 3)
    np.testing.assert_array_equal(decode_image(compressed(deep, "PNG")), np.repeat(rgb[..., :1], 3, axis=2))
    assert image_size(jpeg) == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "32FC1"}, "encoding '32FC1' is not a picture; known are mono8"),
        ({"data": b"\0" * 100}, "100 bytes are no rgb8 image of 32 x 24 pixels with 96 bytes a row"),
        ({"step": 95}, "with 95 bytes a row"),
        ({"width": 0}, "of 0 x 24 pixels"),
        ({"width": 2**31, "height": 2**31}, "no rgb8 image"),
    ],
)
def test_damaged_images(changes: dict[str, Any], reason: str) -> None:
    sent = message("rgb8", picture())
    for name, value in changes.items():
        setattr(sent, name, value)
    with pytest.raises(ImageError, match=reason):
        decode_image(sent)


def test_an_image_without_the_end_of_its_padded_rows_is_damaged() -> None:
    sent = message("rgb8", picture(), padding=8)
    sent.data = sent.data[: -8 * 4]
    with pytest.raises(ImageError, match="2464 bytes are no rgb8 image of 32 x 24 pixels with 104 bytes a row"):
        decode_image(sent)


@given(st.data())
def test_damaged_compressed_images(data: st.DataObject) -> None:
    sent = compressed(Image.fromarray(picture()), data.draw(st.sampled_from(["PNG", "JPEG"])))
    sent.data = sent.data[: data.draw(st.integers(0, len(sent.data) - 30))]
    with pytest.raises(ImageError, match="a compressed image"):
        decode_image(sent)


@pytest.mark.parametrize(("side", "reason"), [(50_000, "is none of JPEG"), (9000, "9000 x 9000 pixels is too large")])
def test_a_huge_picture_is_not_opened(side: int, reason: str) -> None:
    """A header alone that promises so many pixels: more than Pillow opens, and more than any camera has."""
    sent = compressed(Image.fromarray(picture()), "PNG")
    header = sent.data.copy()
    header[16:24] = np.frombuffer(side.to_bytes(4, "big") * 2, np.uint8)
    header[29:33] = np.frombuffer(zlib.crc32(header[12:29]).to_bytes(4, "big"), np.uint8)
    sent.data = header
    with pytest.raises(ImageError, match=reason):
        image_size(sent)


def test_depth_is_no_picture() -> None:
    assert is_picture(message("bgr8", picture()))
    assert not is_picture(message("16UC1", picture()[..., 0].astype(np.uint16)))
    for form in (
        "jpeg",
        "png",
        "",
        "bgr8; jpeg compressed bgr8",
        "mono8; png compressed ",
        "nv21; jpeg compressed bgr8",
    ):
        assert is_picture(SimpleNamespace(format=form)), form
    for form in (
        "16UC1; compressedDepth",
        "16UC1; png compressed ",
        "32FC1; compressedDepth png",
        "32FC1; tiff compressed",
    ):
        assert not is_picture(SimpleNamespace(format=form)), form


def test_without_opencv_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rosbags.image", None)
    with pytest.raises(
        MissingDependencyError, match=r'decoding bayer_rggb8 images needs .*: pip install "twodpass\[bags\]"'
    ):
        decode_image(message("bayer_rggb8", picture()[..., 0]))


@pytest.mark.parametrize("encoding", ["uyvy", "yuv422_yuy2"])
def test_pairs_of_pixels_of_an_odd_width_are_refused(encoding: str) -> None:
    image = SimpleNamespace(
        encoding=encoding, width=63, height=2, step=126, is_bigendian=0, data=np.zeros(252, np.uint8)
    )
    with pytest.raises(ImageError, match="pairs of pixels, and 63 are an odd number"):
        decode_image(image)


def test_a_picture_of_16_bits_of_grey_is_not_white(tmp_path: Path) -> None:
    grey = np.arange(200, dtype=np.uint16).reshape(10, 20)
    Image.fromarray(grey << 8 | 7).save(tmp_path / "deep.png")
    view = CameraView("deep", CameraModel(np.eye(3), 20, 10), RigidTransform.identity(), tmp_path / "deep.png")
    np.testing.assert_array_equal(view.load_image(), np.repeat(grey[..., None], 3, axis=2))
