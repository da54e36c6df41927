"""Decoding and the one resize."""

import contextlib
import io
import struct

import numpy as np
import pytest
from PIL import Image

from serving.contract import images


def encoded(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def decoded(data):
    return np.asarray(images.decode(data))


@pytest.fixture
def pixels():
    """uint8 [5,7,3], every pixel another colour."""
    return np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)


@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_lossless_formats_return_the_pixels(pixels, format, options):
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(pixels), format, **options)), pixels)


def test_jpeg_is_close():
    flat = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    assert np.abs(decoded(encoded(Image.fromarray(flat), "JPEG", quality=95)).astype(int) - flat).max() <= 3


def test_gif_gives_its_first_frame():
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decoded(data), np.asarray(first))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(pixels, orientation):
    # How a camera held that way stores the upright picture.
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, 1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    np.testing.assert_array_equal(decoded(data), pixels)


def test_palette():
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    np.testing.assert_array_equal(decoded(encoded(palette, "PNG")), [[[255, 0, 0], [0, 0, 255]]])


def test_transparent_palette_lies_over_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    np.testing.assert_array_equal(decoded(encoded(palette, "PNG", transparency=0)), [[[255, 255, 255], [0, 0, 255]]])


def test_transparent_colour_lies_over_white():
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    data = encoded(image, "PNG", transparency=(1, 2, 3))
    np.testing.assert_array_equal(decoded(data), [[[255, 255, 255], [4, 5, 6]]])


def test_alpha_lies_over_white():
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 127]]], np.uint8)
    np.testing.assert_allclose(
        decoded(encoded(Image.fromarray(rgba), "PNG")), [[[255, 0, 0], [255, 255, 255], [128, 128, 128]]], atol=1
    )
    grey_alpha = Image.fromarray(np.array([[[0, 255], [0, 0]]], np.uint8), "LA")
    np.testing.assert_array_equal(decoded(encoded(grey_alpha, "PNG")), [[[0, 0, 0], [255, 255, 255]]])


def test_cmyk():
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    red = decoded(data).reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(red, [254, 0, 0], atol=4)


def test_grey():
    np.testing.assert_array_equal(decoded(encoded(Image.new("L", (1, 1), 77), "PNG")), [[[77, 77, 77]]])
    np.testing.assert_array_equal(decoded(encoded(Image.new("1", (1, 1), 1), "PNG")), [[[255, 255, 255]]])


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_the_upper_byte(format):
    values = np.array([[0, 255, 256, 0x1234, 65535]], np.uint16)
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(values), format))[0, :, 0], [0, 0, 1, 0x12, 255])


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_defined_range_are_refused(mode):
    with pytest.raises(images.UndecodableImageError, match="no defined range"):
        images.decode(encoded(Image.new(mode, (2, 2)), "TIFF"))


@pytest.mark.parametrize("data", [b"", b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7\n"])
def test_what_is_no_picture(data):
    with pytest.raises(images.UndecodableImageError, match=r"not a JPEG, PNG, WebP, GIF, BMP or TIFF picture"):
        images.decode(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_truncated(format, share):
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), format)
    with pytest.raises(images.UndecodableImageError):
        images.decode(data[: int(len(data) * share)])


def test_too_many_pixels_are_refused_before_decoding():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header
    import zlib

    png = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + struct.pack(">I", 0) + b"IDAT"
    with pytest.raises(images.TooManyPixelsError, match="60000 x 60000"):
        images.decode(png, max_pixels=1_000_000)


def test_resize_keeps_flat_colour_and_orders_axes():
    image = Image.new("RGB", (40, 20), (10, 20, 30))
    resized = images.resize(image, 6, 8)
    assert resized.shape == (6, 8, 3)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, np.broadcast_to([10, 20, 30], (6, 8, 3)))


def test_resize_averages_where_it_shrinks():
    """Without widened support the stripes would alias to black or white."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = images.resize(Image.fromarray(stripes), 8, 8)
    assert np.abs(shrunk.astype(int) - 127).max() <= 8


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("compression", ["group4", "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_decoders_do_not_write_to_standard_error(pixels, compression, capfd):
    image = Image.fromarray(pixels).resize((70, 50)).convert("1" if compression == "group4" else "RGB")
    data = bytearray(encoded(image, "TIFF", compression=compression))
    # The strips lie behind the directory or before it.
    for at in (*range(8, 40), *range(len(data) - 40, len(data))):
        damaged = data.copy()
        damaged[at] ^= 0xFF
        with contextlib.suppress(images.UndecodableImageError):
            images.decode(bytes(damaged))
    assert capfd.readouterr().err == ""
