"""The worst mistakes of a model on one sheet: what it was surest of and wrong about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont, ImageOps

from serving.contract import images
from training.reports.heatmaps import overlay
from training.reports.predictions import Predictions

MOST = 20

_COLUMNS = 4
_SIDE = 170
"""Side of the place of a picture, in pixels; its overlay stands beside it."""
_GAP, _LINE, _FONT_SIZE = 14, 17, 12
_INK, _PAPER, _WRONG, _RIGHT = (40, 40, 40), (255, 255, 255), (176, 32, 32), (24, 110, 50)


@dataclass(frozen=True)
class Mistake:
    """A picture that a model is wrong about."""

    row: int
    """Of the predictions."""
    position: int | None
    """Of a text: the first wrong character."""
    label: int
    predicted: int
    confidence: float
    """Probability of the predicted class, in 0..1."""


def worst_mistakes(predictions: Predictions, most: int = MOST) -> list[Mistake]:
    """Return the mistakes of highest confidence, the surest first; of a text its first wrong character counts."""
    found = []
    for row in np.flatnonzero(~predictions.right):
        wrong = np.atleast_1d(predictions.predicted[row] != predictions.labels[row])
        first = int(wrong.argmax())
        probabilities = np.atleast_2d(predictions.probabilities[row])[first]
        predicted = int(probabilities.argmax())
        label = int(np.atleast_1d(predictions.labels[row])[first])
        position = first if predictions.labels.ndim == 2 else None
        found.append(Mistake(int(row), position, label, predicted, float(probabilities[predicted])))
    return sorted(found, key=lambda mistake: -mistake.confidence)[:most]


def draw_mistakes(
    mistakes: Sequence[Mistake],
    files: Sequence[Path],
    predictions: Predictions,
    heat_maps: Sequence[np.ndarray],
    class_names: Sequence[str],
) -> Image.Image:
    """Draw each picture, its heat map over it, its file name, what it is and what it was taken for.

    Args:
        mistakes: at least one.
        files: the picture file of each mistake.
        predictions: that the mistakes belong to.
        heat_maps: of the predicted class of each mistake, float32 [h, w]; none for a net without convolutions.
        class_names: names by class index.

    Returns:
        RGB.
    """
    views = []
    for number, file in enumerate(files):
        picture = ImageOps.contain(images.decode(file.read_bytes()), (_SIDE, _SIDE))
        views.append([picture, overlay(picture, heat_maps[number])] if heat_maps else [picture])
    columns = min(_COLUMNS, len(mistakes))
    tallest = max(picture.height for picture, *_ in views)
    width, height = len(views[0]) * _SIDE + _GAP, tallest + 3 * _LINE + _GAP
    rows = -(-len(mistakes) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), _FONT_SIZE)
    for number, (mistake, file) in enumerate(zip(mistakes, files, strict=True)):
        left, top = _GAP + number % columns * width, _GAP + number // columns * height
        for place, view in enumerate(views[number]):
            sheet.paste(view, (left + place * _SIDE + (_SIDE - view.width) // 2, top + (tallest - view.height) // 2))
        label, predicted = _names(mistake, predictions, class_names)
        lines = (
            (file.name, _INK),
            (f"is {label}", _RIGHT),
            (f"taken for {predicted}, {100 * mistake.confidence:.1f} %", _WRONG),
        )
        for line, (text, ink) in enumerate(lines):
            draw.text((left, top + tallest + 2 + line * _LINE), _fit(text, font, width - _GAP), ink, font)
    return sheet


def _names(mistake: Mistake, predictions: Predictions, class_names: Sequence[str]) -> tuple[str, str]:
    if mistake.position is None:
        return class_names[mistake.label], class_names[mistake.predicted]
    label, predicted = (
        "".join(class_names[index] for index in indices[mistake.row])
        for indices in (predictions.labels, predictions.predicted)
    )
    at = f" ({class_names[mistake.predicted]} at {mistake.position + 1})"
    return label, predicted + at


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Cut a text in the middle until it is no wider than so many pixels."""
    kept = len(text)
    fitted = text
    while font.getlength(fitted) > width and kept > 2:
        kept -= 1
        fitted = text[: kept // 2] + "…" + text[-(kept - kept // 2) :]
    return fitted
