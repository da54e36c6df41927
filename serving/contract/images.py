"""Encoded picture in, upright RGB out, and the one resize that training and serving share."""

import ctypes
import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from serving.contract import structure

RESIZE_RULE = "pillow-bilinear-stretch-1"
"""Name of `resize` in model cards: Pillow's bilinear filter with its support widened when it
shrinks (so without aliasing), aspect ratio not kept, uint8 in and out."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
FORMATS_TEXT = "JPEG, PNG, WebP, GIF, BMP or TIFF"

_STRIP_ROWS = 256

# Limits belong to the caller (`max_pixels`), which can say what the limit is. Pillow's own only warns.
Image.MAX_IMAGE_PIXELS = None


def _silence_libtiff() -> None:
    """Keep libtiff from writing what is wrong with a picture to standard error, as often as its maker likes.

    Pillow turns off its warnings only. The damage shows in the error that Pillow raises.
    """
    try:
        # A symbol is also looked for in what a library is linked to, wherever that lies.
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)
    except (AttributeError, OSError):
        # This Pillow was built without libtiff, or holds it within itself.
        return


_silence_libtiff()


class UndecodableImageError(ValueError):
    """The bytes are no picture of a known format, or a damaged one."""


class TooManyPixelsError(ValueError):
    """The picture's header announces more pixels than the caller allows."""


def decode(data: bytes, max_pixels: int | None = None) -> Image.Image:
    """Decode a picture to upright RGB: `open_header`, then `load`."""
    return load(open_header(data, max_pixels))


def open_header(data: bytes, max_pixels: int | None = None) -> Image.Image:
    """Read a picture's header.

    Args:
        data: the encoded picture.
        max_pixels: refuse pictures of more pixels than this, before any is decoded.

    Returns:
        A picture whose size is known and whose pixels are not decoded yet; for `load`.

    Raises:
        UndecodableImageError: not a picture of a known format, damaged, or made to keep a decoder busy.
        TooManyPixelsError: more than `max_pixels`.
    """
    try:
        structure.check(data)
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except structure.DisproportionateError as error:
        raise UndecodableImageError(str(error)) from None
    except UnidentifiedImageError:
        raise UndecodableImageError(f"the data is not a {FORMATS_TEXT} picture") from None
    # Pillow's decoders raise errors of many types on damaged headers (struct.error, SyntaxError, ...).
    except Exception as error:
        raise UndecodableImageError(f"the picture's header is damaged: {_sentence(error)}") from error
    if max_pixels is not None and image.width * image.height > max_pixels:
        raise TooManyPixelsError(
            f"the picture has {image.width} x {image.height} pixels; at most {max_pixels} are allowed"
        )
    return image


def load(image: Image.Image) -> Image.Image:
    """Decode the pixels of a picture to upright RGB.

    The first frame of animations is taken, EXIF orientation applied, alpha laid over white,
    16 bits a channel reduced to the upper 8, palettes, grey and CMYK converted. It takes up to 16
    bytes of memory a pixel.

    Args:
        image: what `open_header` returned; it is used up.

    Returns:
        A picture of mode RGB.

    Raises:
        UndecodableImageError: damaged, truncated, or of a pixel format without a defined range
            (floating point, 32-bit integers).
    """
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)
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
        return _over_white(image)
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Lay a picture with transparency over white, strip by strip: whole, it would be in memory five times."""
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, (255, 255, 255, 255))
        result.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return result


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
