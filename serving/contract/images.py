"""Encoded picture in, upright RGB out, and the one resize that training and serving share."""

import io
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

RESIZE_RULE = "pillow-bilinear-stretch-1"
"""Name of `resize` in model cards: Pillow's bilinear filter with its support widened when it
shrinks (so without aliasing), aspect ratio not kept, uint8 in and out."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
FORMATS_TEXT = "JPEG, PNG, WebP, GIF, BMP or TIFF"

# Limits belong to the caller (`max_pixels`), which can say what the limit is. Pillow's own only warns.
Image.MAX_IMAGE_PIXELS = None


class UndecodableImageError(ValueError):
    """The bytes are no picture of a known format, or a damaged one."""


class TooManyPixelsError(ValueError):
    """The picture's header announces more pixels than the caller allows."""


def decode(data: bytes | BinaryIO, max_pixels: int | None = None) -> Image.Image:
    """Decode a picture to upright RGB.

    The first frame of animations is taken, EXIF orientation applied, alpha laid over white,
    16 bits a channel reduced to the upper 8, palettes, grey and CMYK converted.

    Args:
        data: the encoded picture, or a binary file of it.
        max_pixels: refuse pictures of more pixels than this, before any is decoded.

    Returns:
        A picture of mode RGB.

    Raises:
        UndecodableImageError: not a picture of a known format, truncated, or of a pixel format
            without a defined range (floating point, 32-bit integers).
        TooManyPixelsError: more than `max_pixels`.
    """
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        image = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        raise UndecodableImageError(f"the data is not a {FORMATS_TEXT} picture") from None
    # Pillow's decoders raise errors of many types on damaged headers (struct.error, SyntaxError, ...).
    except Exception as error:
        raise UndecodableImageError(f"the picture's header is damaged: {_sentence(error)}") from error
    if max_pixels is not None and image.width * image.height > max_pixels:
        raise TooManyPixelsError(
            f"the picture has {image.width} x {image.height} pixels; at most {max_pixels} are allowed"
        )
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except UndecodableImageError:
        raise
    except Exception as error:
        raise UndecodableImageError(f"the picture is damaged: {_sentence(error)}") from error


def resize(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Resize an RGB picture to what a model takes (see `RESIZE_RULE`).

    Returns:
        uint8 [height, width, 3].
    """
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise UndecodableImageError(
            f"the pixel format {image.mode} has no defined range of grey or colour; save the picture with 8 or 16 bits"
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
