"""Pictures that were made to do harm: small files that ask for much time or memory, and files that are something else.

Each function makes one; `HOSTILE` names them with what the gateway answers: `OK` where the harm is
avoided and a picture remains, otherwise the error's code.
"""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

BYTES = 4 << 20
"""What the largest of them take."""
SIDE = 7000
"""Width and height of the largest pictures that are decoded, just below the gateway's default limit."""

_TIFF_LONG, _TIFF_SHORT, _TIFF_UNDEFINED = 4, 3, 7


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def _small(format: str, **options: Any) -> bytes:
    return _saved(Image.new("P" if format == "GIF" else "RGB", (16, 16), 7), format, **options)


# --- JPEG


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _in_jpeg(pieces: bytes) -> bytes:
    """Put pieces behind the first marker of a JPEG."""
    picture = _small("JPEG")
    return picture[:2] + pieces + picture[2:]


def exif_segments() -> bytes:
    """Exif in pieces of one byte; decoders copy what they have so far at each."""
    piece = _segment(0xE1, b"Exif\0\0x")
    return _in_jpeg(piece * (BYTES // len(piece)))


def comments() -> bytes:
    """As many empty segments as fit."""
    piece = _segment(0xFE, b"")
    return _in_jpeg(piece * (BYTES // len(piece)))


def padding() -> bytes:
    """Fill bytes in place of segments."""
    return _in_jpeg(b"\xff" * BYTES)


def scans() -> bytes:
    """The last scan of a large progressive JPEG, again and again; each goes through all of the picture."""
    picture = _saved(Image.new("L", (SIDE, SIDE), 128), "JPEG", progressive=True, quality=50)
    last = picture[picture.rfind(b"\xff\xda") : -2]
    return picture[:-2] + last * 1000 + picture[-2:]


def exif_loop() -> bytes:
    """Exif whose directory refers to itself."""
    directory = tiff_of([(0x0112, _TIFF_SHORT, 1, 6), (0x8769, _TIFF_LONG, 1, 8), (0x014A, _TIFF_LONG, 1, 8)])
    return _in_jpeg(_segment(0xE1, b"Exif\0\0" + directory))


def exif_out_of_bounds() -> bytes:
    """Exif whose values lie outside of it, and whose orientation does not exist."""
    entries = [(0x0112, _TIFF_SHORT, 1, 99), (0x8769, _TIFF_LONG, 1, 0xFFFFFFF0)]
    entries += [(0x9286, _TIFF_UNDEFINED, 0x7FFFFFFF, 0x7FFFFFF0)] * 500
    return _in_jpeg(_segment(0xE1, b"Exif\0\0" + tiff_of(entries)))


def exif_garbage() -> bytes:
    """Exif that is none."""
    return _in_jpeg(_segment(0xE1, b"Exif\0\0MM\0*" + b"\xff" * 200))


# --- PNG


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *chunks: bytes, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join((_chunk(b"IHDR", header), *chunks, _chunk(b"IEND", b"")))


_PIXEL = _chunk(b"IDAT", zlib.compress(bytes(4)))


def huge_png() -> bytes:
    """2,147,483,647 pixels a side by its header."""
    return _png(2**31 - 1, 2**31 - 1, _PIXEL)


def chunks() -> bytes:
    """As many empty chunks as fit."""
    return _png(1, 1, _chunk(b"abCd", b"") * (BYTES // 12), _PIXEL)


def pixel_chunks() -> bytes:
    """Pixels in chunks of one byte."""
    data = zlib.compress(bytes(3001 * 1000), 0)
    return _png(1000, 1000, *(_chunk(b"IDAT", data[at : at + 1]) for at in range(BYTES // 13)))


def text_bomb() -> bytes:
    """Compressed texts of 1 MiB each."""
    return _png(1, 1, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20), 9)) * 1000, _PIXEL)


def profile_bomb() -> bytes:
    """A colour profile that unpacks to 256 MiB."""
    return _png(1, 1, _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(256 << 20), 9)), _PIXEL)


def pixel_bomb() -> bytes:
    """One pixel by its header, and data that unpacks to 256 MiB."""
    return _png(1, 1, _chunk(b"IDAT", zlib.compress(bytes(256 << 20), 9)))


def large_png() -> bytes:
    """As large as is allowed, with transparency, in a few kilobytes."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(4 * SIDE + 1)) for _ in range(SIDE))
    return _png(SIDE, SIDE, _chunk(b"IDAT", rows + packer.flush()), colour=6)


def frames_png() -> bytes:
    """An animation of thousands of frames."""
    frames = [Image.new("RGB", (4, 4), (index % 256, index // 256, 0)) for index in range(2000)]
    return _saved(frames[0], "PNG", save_all=True, append_images=frames[1:])


# --- GIF


def _in_gif(pieces: bytes) -> bytes:
    """Put pieces before the first frame of a GIF."""
    picture = _small("GIF")
    at = 13 + (3 * (2 << (picture[10] & 7)) if picture[10] & 0x80 else 0)
    return picture[:at] + pieces + picture[at:]


def gif_comment() -> bytes:
    """A comment in blocks of one byte."""
    return _in_gif(b"\x21\xfe" + b"\x01x" * (BYTES // 2) + b"\0")


def gif_extensions() -> bytes:
    """As many extensions as fit."""
    return _in_gif(b"\x21\xf9\x04\0\0\0\0\0" * (BYTES // 8))


def frames_gif() -> bytes:
    """An animation of thousands of frames."""
    frames = [Image.new("L", (4, 4), index % 256) for index in range(2000)]
    return _saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def huge_gif() -> bytes:
    """A small screen, and a frame of 65,535 pixels a side that is not in it."""
    picture = _in_gif(b"")
    at = picture.index(b",")
    return picture[:at] + b"," + struct.pack("<4H", 0, 0, 65_535, 65_535) + picture[at + 9 :]


# --- TIFF


def tiff_of(entries: Sequence[tuple[int, int, int, int | bytes]], data: bytes = b"") -> bytes:
    """Make a TIFF of one directory: entries of (tag, type, count, value), data behind it."""
    place = 8 + 2 + 12 * len(entries) + 4
    directory, outside = struct.pack("<H", len(entries)), b""
    for tag, kind, count, value in entries:
        number = place + len(outside) if isinstance(value, bytes) else value
        outside += value if isinstance(value, bytes) else b""
        directory += struct.pack("<HHII", tag, kind, count, number)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + outside + data


def _grey_tiff(width: int, height: int, *more: tuple[int, int, int, int | bytes], compression: int = 1) -> bytes:
    entries: list[tuple[int, int, int, int | bytes]] = [
        (256, _TIFF_LONG, 1, width),
        (257, _TIFF_LONG, 1, height),
        (258, _TIFF_SHORT, 1, 8),
        (259, _TIFF_SHORT, 1, compression),
        (262, _TIFF_SHORT, 1, 1),
        *more,
    ]
    return tiff_of(sorted(entries, key=lambda entry: entry[0]), bytes(200))


def tiff_strips() -> bytes:
    """Hundreds of thousands of strips, all of the same bytes."""
    count = BYTES // 8
    places, sizes = struct.pack("<I", 8) * count, struct.pack("<I", 10) * count
    more = ((273, _TIFF_LONG, count, places), (278, _TIFF_LONG, 1, 1), (279, _TIFF_LONG, count, sizes))
    return _grey_tiff(10, count, *more)


def tiff_tile() -> bytes:
    """A tile of 60,000 pixels a side in a picture of ten."""
    more = (
        (322, _TIFF_LONG, 1, 60_000),
        (323, _TIFF_LONG, 1, 60_000),
        (324, _TIFF_LONG, 1, 8),
        (325, _TIFF_LONG, 1, 100),
    )
    return _grey_tiff(10, 10, *more, compression=5)


def tiff_loop() -> bytes:
    """A directory whose successor is itself."""
    picture = bytearray(_grey_tiff(10, 10, (273, _TIFF_LONG, 1, 8), (279, _TIFF_LONG, 1, 100)))
    struct.pack_into("<I", picture, 8 + 2 + 12 * 7, 8)
    return bytes(picture)


def tiff_values() -> bytes:
    """Thousands of entries that each ask for the rest of the file."""
    return _grey_tiff(10, 10, *[(40_000 + index, _TIFF_UNDEFINED, 1 << 30, 8) for index in range(5000)])


def frames_tiff() -> bytes:
    """Thousands of directories, each the successor of the one before."""
    picture = _grey_tiff(10, 10, (273, _TIFF_LONG, 1, 8), (279, _TIFF_LONG, 1, 100))
    directory = picture[8 : 8 + 2 + 12 * 7]
    places = [len(picture) + index * (len(directory) + 4) for index in range(3000)]
    chain = [directory + struct.pack("<I", following) for following in (*places[1:], 0)]
    return (
        picture[: 8 + len(directory)] + struct.pack("<I", places[0]) + picture[12 + len(directory) :] + b"".join(chain)
    )


# --- WebP, BMP and what is no picture


def large_webp() -> bytes:
    """As large as is allowed, in a few hundred bytes."""
    return _saved(Image.new("RGBA", (SIDE, SIDE), (1, 2, 3, 4)), "WEBP", lossless=True)


def huge_webp() -> bytes:
    """An animation with 16,384 pixels a side by its header."""
    frames = [Image.new("RGB", (4, 4), (200 * index, 0, 0)) for index in range(2)]
    picture = bytearray(_saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    at = picture.index(b"VP8X") + 12
    picture[at : at + 6] = (16_383).to_bytes(3, "little") * 2
    return bytes(picture)


def bmp_runs() -> bytes:
    """A compressed bitmap as large as is allowed, which ends at once."""
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + header + bytes(1024) + b"\0\x01"


def svg() -> bytes:
    """A drawing with script, and with an entity that unfolds to gigabytes."""
    entities = "".join(f'<!ENTITY {b} "{10 * f"&{a};"}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    return (
        f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa">{entities}]>'
        '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><text>&i;</text>'
        '<image href="file:///etc/passwd"/></svg>'
    ).encode()


def postscript() -> bytes:
    """A program, which Pillow would hand to Ghostscript."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file 100 string readstring pop ==\n"


def page_in_gif() -> bytes:
    """A GIF's first bytes, and a page with script."""
    return b"GIF89a/*<html><script>alert(1)</script></html>*/=1;"


def archive_in_jpeg() -> bytes:
    """A picture, and an archive and a page behind it."""
    return _small("JPEG") + b"PK\x03\x04" + b"<html><script>alert(1)</script></html>"


HOSTILE: dict[Callable[[], bytes], str] = {
    exif_segments: "NOT_AN_IMAGE",
    comments: "NOT_AN_IMAGE",
    padding: "NOT_AN_IMAGE",
    scans: "NOT_AN_IMAGE",
    exif_loop: "OK",
    exif_out_of_bounds: "OK",
    exif_garbage: "OK",
    huge_png: "TOO_MANY_PIXELS",
    chunks: "NOT_AN_IMAGE",
    pixel_chunks: "NOT_AN_IMAGE",
    text_bomb: "NOT_AN_IMAGE",
    profile_bomb: "NOT_AN_IMAGE",
    pixel_bomb: "OK",
    large_png: "OK",
    frames_png: "NOT_AN_IMAGE",
    gif_comment: "NOT_AN_IMAGE",
    gif_extensions: "NOT_AN_IMAGE",
    frames_gif: "OK",
    huge_gif: "TOO_MANY_PIXELS",
    tiff_strips: "NOT_AN_IMAGE",
    tiff_tile: "NOT_AN_IMAGE",
    tiff_loop: "OK",
    tiff_values: "NOT_AN_IMAGE",
    frames_tiff: "OK",
    large_webp: "OK",
    huge_webp: "TOO_MANY_PIXELS",
    bmp_runs: "NOT_AN_IMAGE",
    svg: "NOT_AN_IMAGE",
    postscript: "NOT_AN_IMAGE",
    page_in_gif: "NOT_AN_IMAGE",
    archive_in_jpeg: "OK",
}
