"""Pictures from sensor_msgs/Image and CompressedImage, in the form of any library that has their attributes."""

from __future__ import annotations

import sys
from io import BytesIO
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from twodpass_core.errors import ImageError, MissingDependencyError

Picture = npt.NDArray[np.uint8]

MAX_PIXELS: Final = 2**26
MAX_12_BITS: Final = 2**12 - 1
COMPRESSED_FORMATS: Final = ("JPEG", "PNG", "WEBP")
# Encoding -> type of a value, values a pixel, and which of them are red, green, blue. What OpenCV names by type alone
# is taken to have OpenCV's order.
PLAIN: Final[dict[str, tuple[str, int, tuple[int, int, int]]]] = {
    "mono8": ("u1", 1, (0, 0, 0)),
    "8UC1": ("u1", 1, (0, 0, 0)),
    "rgb8": ("u1", 3, (0, 1, 2)),
    "bgr8": ("u1", 3, (2, 1, 0)),
    "8UC3": ("u1", 3, (2, 1, 0)),
    "rgba8": ("u1", 4, (0, 1, 2)),
    "bgra8": ("u1", 4, (2, 1, 0)),
    "8UC4": ("u1", 4, (2, 1, 0)),
    "mono16": ("u2", 1, (0, 0, 0)),
    "rgb16": ("u2", 3, (0, 1, 2)),
    "bgr16": ("u2", 3, (2, 1, 0)),
    "rgba16": ("u2", 4, (0, 1, 2)),
    "bgra16": ("u2", 4, (2, 1, 0)),
}
# Encodings that rosbags-image converts -> type of a value, values a pixel in a row.
CONVERTED: Final = {
    **{f"bayer_{order}8": ("u1", 1) for order in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{order}16": ("u2", 1) for order in ("rggb", "bggr", "gbrg", "grbg")},
    **dict.fromkeys(("uyvy", "yuv422", "yuyv", "yuv422_yuy2"), ("u1", 2)),
}
GREY_MODES: Final = ("L", "I", "I;16", "I;16B")  # of a decompressed picture
PICTURE_ENCODINGS: Final = (*PLAIN, *CONVERTED)
DEPTH_ENCODINGS: Final = ("16UC1", "32FC1", "64FC1")


def decode_image(message: Any) -> Picture:
    """(H, W, 3) uint8 RGB of an Image or a CompressedImage (JPEG, PNG, WebP). Of 16 bits the upper 8 are taken.

    A picture of 16 bits without any value that needs more than 12 is taken to be of a sensor that has 12.

    Raises:
        ImageError: damaged, cut off, or in an encoding that is no colour or grey picture (depth, for one).
        MissingDependencyError: a Bayer or YUV image without rosbags-image or OpenCV.
    """
    return _decompress(message) if is_compressed(message) else _decode(message)


def image_size(message: Any) -> tuple[int, int]:
    """Width and height of an Image or a CompressedImage, without decoding it. Raises ImageError."""
    if not is_compressed(message):
        return message.width, message.height
    with _open(message) as picture:
        return picture.size


def image_encoding(message: Any) -> str:
    """What an Image or a CompressedImage says of how its pixels are stored."""
    return str(message.format if is_compressed(message) else message.encoding)


def is_compressed(message: Any) -> bool:
    return hasattr(message, "format")


def is_picture(message: Any) -> bool:
    """Whether a message holds a picture, and not depths or the like, by the encoding that it names.

    A CompressedImage names it before a semicolon ("bgr8; jpeg compressed bgr8"), or no encoding at all; whatever it
    was, a JPEG is a picture.
    """
    encoding, semicolon, compression = image_encoding(message).partition(";")
    if is_compressed(message) and (not semicolon or "jpeg" in compression):
        return True
    return encoding.strip() in PICTURE_ENCODINGS


def is_depth(encoding: str) -> bool:
    """Whether that is how depths are stored, as `image_encoding` has it ("32FC1", "16UC1; compressedDepth png")."""
    return encoding.partition(";")[0].strip() in DEPTH_ENCODINGS


def _decode(message: Any) -> Picture:
    if message.encoding in PLAIN:
        kind, channels, order = PLAIN[message.encoding]
        values = _rows(message, kind, channels).reshape(message.height, message.width, channels)
        picture = values if kind == "u1" else _upper_bits(values)
        return np.ascontiguousarray(picture[..., order])
    if message.encoding in CONVERTED:
        return _convert(message, _rows(message, *CONVERTED[message.encoding]))
    raise _unknown(message.encoding)


def _unknown(encoding: str) -> ImageError:
    return ImageError(f"encoding '{encoding}' is not a picture; known are {', '.join(PICTURE_ENCODINGS)}")


def _rows(message: Any, kind: str, channels: int) -> npt.NDArray[Any]:
    """(H, values) of the pixels without what pads the rows, in the machine's byte order."""
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    row_bytes = message.width * channels * dtype.itemsize
    step = message.step or row_bytes
    data = np.frombuffer(message.data, np.uint8)
    if not 0 < message.width * message.height <= MAX_PIXELS or step < row_bytes or len(data) < step * message.height:
        raise ImageError(
            f"{len(data)} bytes are no {message.encoding} image of {message.width} x {message.height} pixels with "
            f"{step} bytes a row"
        )
    rows = data[: step * message.height].reshape(message.height, step)[:, :row_bytes]
    return np.ascontiguousarray(rows).view(dtype).astype(dtype.newbyteorder("="), copy=False)


def to_rgb(picture: Image.Image) -> Picture:
    """(H, W, 3) of a picture that Pillow has opened; its own conversion makes 16 bits of grey all white."""
    if picture.mode.startswith("I"):
        return np.repeat(_upper_bits(np.asarray(picture).astype(np.uint16))[..., None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))


def _upper_bits(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """The upper 8 of 16 bits, or of the 12 that a sensor has."""
    return (values >> (8 if (values > MAX_12_BITS).any() else 4)).astype(np.uint8)


def _convert(message: Any, rows: npt.NDArray[Any]) -> Picture:
    try:
        from rosbags.image import message_to_cvimage
    except ImportError as error:
        raise MissingDependencyError(
            "rosbags-image with OpenCV", f"decoding {message.encoding} images", 'pip install "twodpass[bags]"'
        ) from error
    if CONVERTED[message.encoding][1] == 2 and message.width % 2:
        raise ImageError(f"{message.encoding} is of pairs of pixels, and {message.width} are an odd number")
    if rows.dtype == np.uint16:
        rows = _upper_bits(rows)
    packed = SimpleNamespace(
        height=message.height,
        width=message.width,
        encoding=message.encoding.replace("16", "8"),
        is_bigendian=sys.byteorder == "big",
        data=rows.tobytes(),
    )
    return np.asarray(message_to_cvimage(packed, "rgb8"), np.uint8)  # type: ignore[arg-type]


def _decompress(message: Any) -> Picture:
    encoding = image_encoding(message).partition(";")[0].strip()
    with _open(message) as picture:
        try:
            if encoding.startswith("bayer_") and picture.mode in GREY_MODES:  # a sensor's values as they are
                if encoding not in CONVERTED:
                    raise _unknown(encoding)
                values = np.asarray(picture).astype("u1" if picture.mode == "L" else "u2")  # as JPEG has them, always 8
                return _convert(SimpleNamespace(height=picture.height, width=picture.width, encoding=encoding), values)
            return to_rgb(picture)
        except (OSError, SyntaxError, ValueError) as error:
            raise ImageError(f"a compressed image ({message.format}) is damaged or cut off: {error}") from error


def _open(message: Any) -> Image.Image:
    """The picture, of which only the header has been read."""
    try:
        picture = Image.open(BytesIO(bytes(message.data)), formats=COMPRESSED_FORMATS)
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        known = ", ".join(COMPRESSED_FORMATS)
        raise ImageError(
            f"a compressed image ({message.format}) of {len(message.data)} bytes is none of {known}"
        ) from error
    if not 0 < picture.width * picture.height <= MAX_PIXELS:
        raise ImageError(f"a compressed image of {picture.width} x {picture.height} pixels is too large to be sound")
    return picture
