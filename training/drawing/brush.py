"""Colours, fur and the brush: how an outline becomes shaded pixels on a layer."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from training.drawing.shapes import Points, move, ruffle

Pixels = NDArray[np.float32]
Colour = tuple[float, float, float]
Tone = Literal["coat", "trim", "points"]

FUR: tuple[Colour, ...] = (
    (48, 44, 46),
    (88, 84, 86),
    (138, 134, 132),
    (190, 184, 178),
    (236, 230, 220),
    (222, 196, 156),
    (206, 140, 74),
    (176, 108, 58),
    (124, 82, 54),
    (82, 56, 42),
)
"""The colours of fur, which every species, and much of the clutter behind them, share (RGB, 0 to 255)."""

PINK: Colour = (206, 140, 134)
INK: Colour = (34, 28, 30)


@dataclass(frozen=True)
class Part:
    """One closed outline and what fills it.

    `paint` is a tone of the animal's own coat or a plain colour; `volume` says how much the part darkens towards its
    edge away from the light, 0 to 1; `bright` multiplies its colour; a `furry` part has a tufted edge.
    """

    outline: Points
    paint: Tone | Colour
    volume: float = 0.6
    bright: float = 1.0
    furry: bool = False


def moved(
    parts: Iterable[Part],
    scale: float | tuple[float, float] = 1.0,
    turn: float = 0.0,
    shift: tuple[float, float] | Points = (0.0, 0.0),
    flip: bool = False,
) -> list[Part]:
    """Move each part as `shapes.move` does."""
    return [replace(part, outline=move(part.outline, scale, turn, shift, flip)) for part in parts]


def value_noise(rng: np.random.Generator, width: int, height: int, cells_x: float, cells_y: float) -> Pixels:
    """Draw smooth noise in -1 to 1, float32 [height, width, 1], with that many cells across and down."""
    grid = rng.integers(0, 256, (max(2, round(cells_y)), max(2, round(cells_x))), dtype=np.uint8)
    image = Image.fromarray(grid).resize((width, height), Image.Resampling.BILINEAR)
    return (np.asarray(image, np.float32)[..., None] - 127.5) / 127.5


def vary(colour: Colour, rng: np.random.Generator, amount: float = 14.0) -> Colour:
    """Shift a colour at random, all channels together and each by itself, by up to about `amount`."""
    r, g, b = np.clip(np.asarray(colour) + rng.uniform(-amount, amount) + rng.uniform(-amount, amount, 3) / 2, 8, 250)
    return float(r), float(g), float(b)


def any_fur(rng: np.random.Generator) -> Colour:
    """Draw a colour of fur."""
    return vary(FUR[rng.integers(len(FUR))], rng)


class Coat:
    """The fur of one animal: its tones as float32 [height / 2, width / 2, 3] for a sheet of that width and height.

    Half the sheet's resolution is what is left of it in the picture.
    """

    def __init__(self, rng: np.random.Generator, sheet_width: int, sheet_height: int) -> None:
        width, height = sheet_width // 2 + 1, sheet_height // 2 + 1
        base, second = np.array(any_fur(rng), np.float32), np.array(any_fur(rng), np.float32)
        light = np.array(vary(FUR[4], rng), np.float32)
        turn = rng.uniform(0, np.pi)
        strands = value_noise(rng, width, height, width, height / rng.uniform(1.5, 4))
        fur = 1 + rng.uniform(0.06, 0.2) * strands + 0.08 * value_noise(rng, width, height, 5, 5)
        match rng.choice(["plain", "stripes", "patches", "spots"], p=[0.5, 0.2, 0.18, 0.12]):
            case "plain":
                amount = np.zeros((1, 1, 1), np.float32)
            case "stripes":
                y, x = np.mgrid[:height, :width].astype(np.float32)[..., None]
                phase = (x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / (width * rng.uniform(0.05, 0.1))
                wave = np.sin(phase + 3 * value_noise(rng, width, height, 6, 6))
                amount = np.clip(2 * wave + rng.uniform(-0.8, 0.2), 0, 1) * rng.uniform(0.4, 0.9)
            case "patches":
                amount = np.clip(6 * value_noise(rng, width, height, rng.uniform(4, 8), 6) + rng.uniform(-1, 1), 0, 1)
            case _:
                cells = rng.uniform(14, 24)
                amount = np.clip(8 * value_noise(rng, width, height, cells, cells) - rng.uniform(1.5, 3), 0, 1)
        coat = base + (second - base) * amount
        trim = light if rng.random() < 0.45 else 0.85 * coat + 0.15 * light
        points = coat if rng.random() < 0.6 else 0.8 * second
        self._fur = fur.astype(np.float32)
        self._tones: dict[Tone, Pixels] = {"coat": coat, "trim": trim, "points": points}
        self.fluff = float(rng.choice([0.0, rng.uniform(0.01, 0.035)]))

    def colours(self, tone: Tone, x0: int, y0: int, x1: int, y1: int) -> Pixels:
        """Return the colours of a box of the sheet, float32 [y1 - y0, x1 - x0, 3]."""
        box = np.s_[y0 // 2 : y1 // 2 + 1, x0 // 2 : x1 // 2 + 1]
        tones = self._tones[tone]
        coarse = (tones if tones.size == 3 else tones[box]) * self._fur[box]
        return coarse.repeat(2, axis=0).repeat(2, axis=1)[y0 % 2 :, x0 % 2 :][: y1 - y0, : x1 - x0]


class Layer:
    """A transparent sheet of `width` x `height` pixels to paint parts on."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.image = Image.new("RGB", (width, height))
        self.alpha = Image.new("L", (width, height))

    def paint(
        self,
        parts: Iterable[Part],
        coat: Coat,
        rng: np.random.Generator,
        unit: float,
        light: tuple[float, float] = (-0.5, -0.8),
        ink: float = 0.0,
    ) -> None:
        """Paint parts, given in pixels, one over the other.

        `unit` is the length in pixels that tufts and shading go by; `light` points towards the light (x, y);
        `ink` is the width in pixels of a dark line around each part, 0 for none.
        """
        for part in parts:
            outline = part.outline
            if part.furry and coat.fluff:
                outline = ruffle(outline, coat.fluff * unit, rng, max(3.0, 0.045 * unit))
            self._paint(part, outline, coat, unit, light, ink)

    def _paint(
        self, part: Part, outline: Points, coat: Coat, unit: float, light: tuple[float, float], ink: float
    ) -> None:
        margin = 2 + int(ink)
        left, top = np.floor(outline.min(axis=0)).astype(int).tolist()
        right, bottom = np.ceil(outline.max(axis=0)).astype(int).tolist()
        x0, y0 = max(left - margin, 0), max(top - margin, 0)
        x1, y1 = min(right + margin, self.width), min(bottom + margin, self.height)
        if x0 >= x1 or y0 >= y1:
            return
        mask = Image.new("L", (x1 - x0, y1 - y0))
        corners = (outline - (x0, y0)).ravel().tolist()
        ImageDraw.Draw(mask).polygon(corners, fill=255)

        colours: Pixels
        if isinstance(part.paint, str):
            colours = coat.colours(part.paint, x0, y0, x1, y1)
        else:
            colours = np.array(part.paint, np.float32)
        if part.volume:
            size = min(right - left, bottom - top, 0.9 * unit)
            dx, dy = (round(0.16 * size * d) for d in light)
            soft = Image.new("L", mask.size)
            soft.paste(mask, (dx, dy))
            lit = np.asarray(soft.filter(ImageFilter.BoxBlur(0.2 * size)), np.float32)[..., None]
            colours = colours * (part.bright * (1 + part.volume * (0.85 / 255 * lit - 0.72)))
        else:
            colours = colours * np.float32(part.bright)
        pixels = np.clip(colours, 0, 255).astype(np.uint8)
        fill = tuple(pixels.tolist()) if pixels.ndim == 1 else Image.fromarray(pixels)
        self.image.paste(fill, (x0, y0, x1, y1), mask)
        self.alpha.paste(255, (x0, y0, x1, y1), mask)
        if ink and part.volume:
            dark = tuple(int(c) for c in 0.35 * pixels[:: 1 + len(pixels) // 8].mean(axis=(0, 1)))
            ring = outline.ravel().tolist()
            ring += ring[:2]
            ImageDraw.Draw(self.image).line(ring, fill=dark, width=max(1, round(ink)))
            ImageDraw.Draw(self.alpha).line(ring, fill=255, width=max(1, round(ink)))
