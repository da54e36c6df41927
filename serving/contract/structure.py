"""Pictures that would keep a decoder busy out of all proportion to their size, told by their structure.

What is refused here no camera and no program writes. The decoders read the pieces of a file one by one, some copy what
they have so far at each, and a progressive JPEG is gone through once for each of its scans, however short. The limits
on pixels say nothing about that.
"""

import struct
from collections.abc import Iterator

MOST_PIECES = 1024
"""Segments of a JPEG, blocks of a GIF before its first frame; of a PNG, chunks beyond one for each KiB."""
MOST_SCANS = 64
"""Scans of a JPEG; programs write ten, or up to about twenty."""
MOST_STRIPS = 65_536
"""Strips or tiles of a TIFF."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_SCAN = b"\xff\xda"
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD8)))
_TIFF_COUNTED = frozenset((273, 279, 324, 325))


class DisproportionateError(ValueError):
    """The picture is made of more pieces than any program writes."""


def check(data: bytes) -> None:
    """Look through the pieces of an encoded picture; of what is none, nothing is said.

    Raises:
        DisproportionateError: there are too many.
    """
    if data.startswith(_JPEG):
        _check_jpeg(data)
    elif data.startswith(_PNG):
        _check_count(_png_chunks(data), MOST_PIECES + len(data) // 1024, "chunks")
    elif data[:4] == b"GIF8":
        _check_count(_gif_blocks(data), MOST_PIECES, "blocks before its first frame")
    elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_tiff(data)


def _check_count(pieces: Iterator[int], most: int, what: str) -> None:
    for number, _ in enumerate(pieces):
        if number >= most:
            raise DisproportionateError(f"the picture has more than {most} {what}")


def _check_jpeg(data: bytes) -> None:
    _check_count(_jpeg_segments(data), MOST_PIECES, "segments")
    # Within a scan an FF is followed by 00, so this counts scans, and those of thumbnails in segments.
    if data.count(_SCAN) > MOST_SCANS:
        raise DisproportionateError(f"the picture has more than {MOST_SCANS} scans")


def _jpeg_segments(data: bytes) -> Iterator[int]:
    """Yield the places of what comes before the first scan; bytes between segments are pieces of their own."""
    at, end = len(_JPEG), len(data) - 3
    while at < end:
        yield at
        if data[at] != 0xFF or data[at + 1] == 0xFF:
            at += 1
        elif (marker := data[at + 1]) == _SCAN[1]:
            return
        elif marker in _STANDALONE:
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))


def _png_chunks(data: bytes) -> Iterator[int]:
    at = len(_PNG)
    while at < len(data):
        yield at
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _gif_blocks(data: bytes) -> Iterator[int]:
    at = 13
    if len(data) > 10 and data[10] & 0x80:
        at += 3 * (2 << (data[10] & 7))
    while at < len(data):
        yield at
        introducer, at = data[at], at + 1
        if introducer in (0x2C, 0x3B):
            return
        if introducer == 0x21:
            at += 1
            while at < len(data) and (size := data[at]):
                yield at
                at += 1 + size
            at += 1


def _check_tiff(data: bytes) -> None:
    """Look at the first directory, the only one that is decoded."""
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, count, entry = ("Q", "Q", "HHQ8x") if big else ("I", "H", "HHI4x")
    try:
        (at,) = struct.unpack_from(order + offset, data, 8 if big else 4)
        (entries,) = struct.unpack_from(order + count, data, at)
        at += struct.calcsize(order + count)
        for _ in range(min(entries, 65_536)):
            tag, _, values = struct.unpack_from(order + entry, data, at)
            if tag in _TIFF_COUNTED and values > MOST_STRIPS:
                raise DisproportionateError(f"the picture has more than {MOST_STRIPS} strips or tiles")
            at += struct.calcsize(order + entry)
    except struct.error:
        # It ends within its directory, which the decoder will say.
        return
