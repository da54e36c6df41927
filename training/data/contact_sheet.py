"""A picture set at a glance: some pictures of every class and split, and those that look alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from serving.contract import images
from training.data.check import Check
from training.data.pictures import Picture

SIDE = 96
"""Side of a picture's place on the sheet, in pixels."""
COLUMNS = 10
MOST_ROWS = 100
"""Rows of classes that are drawn; a set of thousands of classes would make a picture that nothing shows."""
MOST_PAIRS = 50

_GAP = 4
_LINE = 20
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


@dataclass(frozen=True)
class _Row:
    heading: str
    paths: Sequence[Path]
    captions: Sequence[str] = ()


def draw_contact_sheet(check: Check) -> Image.Image:
    """Draw a row for every split and class (every split of texts), then the near duplicates in pairs.

    A row has pictures from all over it.

    Returns:
        A picture of mode RGB, 1,004 pixels wide.
    """
    rows = list(islice(_rows(check), MOST_ROWS)) + list(_pair_rows(check))
    heights = [_LINE + SIDE + (_LINE if row.captions else 0) + _GAP for row in rows]
    sheet = Image.new("RGB", (COLUMNS * (SIDE + _GAP) + _GAP, sum(heights) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        draw.text((_GAP, top), row.heading, _INK, ImageFont.load_default(14))
        for column, path in enumerate(row.paths):
            left = _GAP + column * (SIDE + _GAP)
            thumbnail = ImageOps.contain(images.decode(path.read_bytes()), (SIDE, SIDE))
            sheet.paste(thumbnail, (left, top + _LINE))
        for pair, caption in enumerate(row.captions):
            left = _GAP + 2 * pair * (SIDE + _GAP)
            draw.text((left, top + _LINE + SIDE), caption, _INK, ImageFont.load_default(11))
        top += height
    return sheet


def _rows(check: Check) -> Iterator[_Row]:
    """Take a split and class at a time; a split at a time where pictures have texts."""
    for split, pictures in check.pictures.splits.items():
        if check.pictures.positions is not None:
            chosen = _some(pictures)
            texts = " ".join(map(check.pictures.name, chosen))
            yield _Row(f"{split}: {len(pictures)}, here {texts}", [picture.path for picture in chosen])
            continue
        for label, name in enumerate(check.pictures.class_names):
            of_class = [picture for picture in pictures if picture.label == label]
            yield _Row(f"{split} / {name}: {len(of_class)}", [picture.path for picture in _some(of_class)])


def _some(pictures: Sequence[Picture]) -> list[Picture]:
    chosen = np.linspace(0, len(pictures) - 1, min(len(pictures), COLUMNS)).astype(int)
    return [pictures[position] for position in chosen]


def _pair_rows(check: Check) -> Iterator[_Row]:
    pairs = check.near_duplicates[:MOST_PAIRS]
    width = COLUMNS // 2
    for start in range(0, len(pairs), width):
        row = pairs[start : start + width]
        yield _Row(
            f"near duplicates across splits: {len(check.near_duplicates)}" if not start else "",
            [path for near in row for path in (near.first, near.second)],
            [f"{near.first.name} | {near.second.name}: {near.distance}"[:34] for near in row],
        )
