"""From numbers to pictures: heat maps over photographs, grids of feature maps and filter patterns, npz files.

Pure functions; nothing here knows about requests or models.
"""

import functools
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cmap
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from serving.errors import UnknownColormapError

HOT_SHARE = 0.5
"""The hot region of a heat map is where it reaches this share of its peak."""

OUTLIERS = 0.01
"""Share of the pixels of an attribution map that its drawing does not scale to."""

GRID_COLUMNS = 16
_GAP = 1
_LEAST_CELL = 48
_PATTERN_COLUMNS = 8
_PATTERN_GAP = 4
_PANEL_GAP = 8
_LEAST_LEGEND = 160
# zlib's default of 6 takes four times as long for photographs that are not smaller by a tenth.
_PNG_LEVEL = 1
_COLORMAP_NAME = re.compile(r"[A-Za-z0-9_:.+-]{1,64}")


@dataclass(frozen=True)
class Box:
    """Pixels of a picture, half-open: left <= x < right, top <= y < bottom."""

    left: int
    top: int
    right: int
    bottom: int


def normalize(heatmap: np.ndarray) -> np.ndarray:
    """Divide a map by its peak; a map that is zero everywhere stays so.

    Args:
        heatmap: float32 [h, w], 0 or more.

    Returns:
        float32 [h, w] in 0..1.
    """
    peak = heatmap.max()
    return heatmap / peak if peak > 0 else np.zeros_like(heatmap)


def upsample(heatmap: np.ndarray, width: int, height: int) -> np.ndarray:
    """Interpolate a map bilinearly to the size of a picture, with half-pixel centres and clamped edges.

    Args:
        heatmap: float32 [h, w].
        width: of the picture, in pixels.
        height: of the picture, in pixels.

    Returns:
        float32 [height, width].
    """
    # Pillow's bilinear filter samples at pixel centres; where it enlarges it is plain interpolation.
    return np.asarray(_upsampled(heatmap, width, height))


def hot_region(heatmap: np.ndarray, width: int, height: int) -> Box | None:
    """Find the smallest box around all pixels of a picture where the map reaches half of its peak.

    The peak is that of the upsampled map, so that the box always holds a pixel.

    Args:
        heatmap: float32 [h, w], 0 or more.
        width: of the picture, in pixels.
        height: of the picture, in pixels.

    Returns:
        The box, or None where the map is zero everywhere.
    """
    if heatmap.max() <= 0:
        return None
    large = upsample(normalize(heatmap), width, height)
    hot = large >= HOT_SHARE * large.max()
    rows, columns = np.flatnonzero(hot.any(axis=1)), np.flatnonzero(hot.any(axis=0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def overlay(picture: Image.Image, heatmap: np.ndarray, alpha: float, colormap: str) -> Image.Image:
    """Lay a map in colours over a picture of its own size.

    Args:
        picture: RGB.
        heatmap: float32 [h, w], 0 or more; normalised here.
        alpha: strength in 0..1; 0 leaves the picture as it is.
        colormap: name of a colour map (see `palette`).

    Returns:
        RGB of the picture's size: (1 - alpha) * picture + alpha * colours.
    """
    # Pillow cuts off fractions when it converts to bytes, hence the half; as a palette picture the map
    # takes one byte a pixel on its way to colours.
    indices = _upsampled(normalize(heatmap) * np.float32(255) + np.float32(0.5), *picture.size).convert("L")
    indices.putpalette(palette(colormap, 256).tobytes())
    return Image.blend(picture, indices.convert("RGB"), alpha)


def without_outliers(heatmap: np.ndarray) -> np.ndarray:
    """Cut a map off above all but its greatest hundredth of values, which would leave the rest dark.

    Args:
        heatmap: float32 [h, w], 0 or more.
    """
    limit = np.quantile(heatmap, 1 - OUTLIERS)
    return np.minimum(heatmap, limit) if limit > 0 else heatmap


def outline(image: Image.Image, box: Box) -> None:
    """Draw the edge of a box into a picture, white within black so that it shows on any ground."""
    draw = ImageDraw.Draw(image)
    edges = (box.left, box.top, box.right - 1, box.bottom - 1)
    draw.rectangle(edges, outline="black", width=3)
    left, top, right, bottom = edges
    if right - left > 2 and bottom - top > 2:
        draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline="white", width=1)


def with_legend(image: Image.Image, lines: Sequence[str], colormap: str, peak: float) -> Image.Image:
    """Set a scale of colours from 0 to the peak, and lines of text, below a picture.

    Args:
        image: RGB.
        lines: short texts; what does not fit the width is cut off.
        colormap: name of a colour map (see `palette`).
        peak: the value of the brightest colour.

    Returns:
        RGB, as wide as the picture but at least 160 pixels.
    """
    width, line, bar, gap = max(image.width, _LEAST_LEGEND), 16, 10, 4
    sheet = Image.new("RGB", (width, image.height + gap + bar + gap + line * (len(lines) + 1)), "white")
    sheet.paste(image, (0, 0))
    scale = Image.fromarray(palette(colormap, width - 2 * gap)[np.newaxis].repeat(bar, axis=0))
    sheet.paste(scale, (gap, top := image.height + gap))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    top += bar + 1
    draw.text((gap, top), "0", "black", font)
    draw.text((width - gap, top), f"{peak:.3g}", "black", font, anchor="ra")
    for number, text in enumerate(lines, start=1):
        draw.text((gap, top + number * line), text, "black", font)
    return sheet


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Lay pictures in a row, with white gaps of 8 pixels between them."""
    if len(images) == 1:
        return images[0]
    width = sum(image.width for image in images) + _PANEL_GAP * (len(images) - 1)
    row = Image.new("RGB", (width, max(image.height for image in images)), "white")
    left = 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + _PANEL_GAP
    return row


def activation_grid(activations: np.ndarray, colormap: str) -> Image.Image:
    """Draw the channels of a layer side by side, 16 a row, each normalised on its own.

    A channel is shifted to mean 0 and scaled to standard deviation 1; then 128 + 64 times that,
    clipped to 0..255, is its brightness (Chollet, Deep Learning with Python, 5.4.1). A channel of
    equal values, as all silent ones are, is drawn in the lowest colour. Cells of fewer than 48
    pixels are enlarged by a whole factor; white lines of one pixel part them.

    Args:
        activations: float32 [h, w, c].
        colormap: name of a colour map (see `palette`).

    Returns:
        A palette picture (mode P).
    """
    height, width, channels = activations.shape
    deviation = activations.std(axis=(0, 1))
    scale = np.where(deviation > 0, 64 / np.where(deviation > 0, deviation, 1), 0)
    levels = (activations - activations.mean(axis=(0, 1))) * scale + np.where(deviation > 0, 128, 0)
    # The last index is white for the gaps, so levels end one below it.
    cells = np.minimum(np.clip(levels, 0, 255).astype(np.uint8), 254).transpose(2, 0, 1)
    factor = -(-_LEAST_CELL // max(height, width))
    if factor > 1:
        cells = cells.repeat(factor, axis=1).repeat(factor, axis=2)
    image = Image.fromarray(_grid(cells, min(GRID_COLUMNS, channels), _GAP, fill=255))
    image.putpalette(palette(colormap, 255).tobytes() + b"\xff\xff\xff")
    return image


def pattern_grid(patterns: np.ndarray) -> Image.Image:
    """Lay pictures of equal size side by side, 8 a row.

    Args:
        patterns: uint8 [k, h, w, 3].

    Returns:
        RGB, with white gaps of 4 pixels.
    """
    return Image.fromarray(_grid(patterns, min(_PATTERN_COLUMNS, len(patterns)), _PATTERN_GAP, fill=255))


def png(image: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=_PNG_LEVEL)
    return stream.getvalue()


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Write arrays as an uncompressed npz file; a `/` in a name becomes a `.`, since the names are file names."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **{name.replace("/", "."): array for name, array in arrays.items()})
    return stream.getvalue()


@functools.lru_cache(maxsize=64)
def palette(name: str, size: int) -> np.ndarray:
    """Sample a colour map at equal steps.

    Args:
        name: a name of the catalogue of `cmap`, such as inferno, viridis, magma or cividis.
        size: how many colours.

    Returns:
        uint8 [size, 3].

    Raises:
        UnknownColormapError: there is no such colour map.
    """
    try:
        colors = cmap.Colormap(name if _COLORMAP_NAME.fullmatch(name) else "")
    except ValueError:
        raise UnknownColormapError(
            f"there is no colour map {name[:64]!r}; for example inferno, viridis, magma and cividis"
        ) from None
    return (colors(np.linspace(0, 1, size))[:, :3] * 255 + 0.5).astype(np.uint8)


def _upsampled(heatmap: np.ndarray, width: int, height: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(heatmap, dtype=np.float32))
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _grid(cells: np.ndarray, columns: int, gap: int, fill: int) -> np.ndarray:
    """Arrange cells [n, h, w, ...] in rows, with gaps between and around them."""
    count, height, width, *rest = cells.shape
    rows = -(-count // columns)
    padded = np.full((rows * columns, height + gap, width + gap, *rest), fill, dtype=cells.dtype)
    padded[:count, gap:, gap:] = cells
    order = (0, 2, 1, 3, *range(4, 4 + len(rest)))
    body = padded.reshape(rows, columns, height + gap, width + gap, *rest).transpose(order)
    body = body.reshape(rows * (height + gap), columns * (width + gap), *rest)
    return np.pad(body, ((0, gap), (0, gap), *[(0, 0)] * len(rest)), constant_values=fill)
