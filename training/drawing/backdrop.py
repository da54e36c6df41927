"""What stands behind an animal and in front of it, drawn alike for every species."""

import numpy as np
from PIL import Image, ImageFilter

from training.drawing.brush import Coat, Colour, Layer, Part, Tone, any_fur, value_noise, vary
from training.drawing.shapes import Points, blob, ellipse, leaf, limb, move, rectangle, smooth

Rng = np.random.Generator

PLACES: tuple[Colour, ...] = (
    (96, 128, 74),
    (136, 160, 96),
    (70, 96, 66),
    (150, 178, 196),
    (112, 136, 160),
    (186, 160, 140),
    (170, 90, 76),
    (200, 190, 160),
    (104, 86, 112),
)


def any_colour(rng: Rng) -> Colour:
    """Draw a colour of fur, or in a smaller part of the pictures one of places."""
    return any_fur(rng) if rng.random() < 0.6 else vary(PLACES[rng.integers(len(PLACES))], rng, 24)


def _ground(rng: Rng, w: int, h: int) -> Image.Image:
    """Draw what the clutter stands before: a gradient, a horizon, tiles or stripes, under rough noise."""
    first, second = np.array(any_colour(rng), np.float32), np.array(any_colour(rng), np.float32)
    y, x = np.mgrid[:h, :w].astype(np.float32)[..., None] / max(w, h)
    angle = rng.uniform(0, 2 * np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    match rng.choice(["gradient", "horizon", "tiles", "stripes"], p=[0.25, 0.35, 0.2, 0.2]):
        case "gradient":
            mix = np.clip(along + 0.4 * value_noise(rng, w, h, 4, 4), 0, 1)
        case "horizon":
            edge = rng.uniform(0.3, 0.8) + rng.uniform(-0.2, 0.2) * x + 0.03 * value_noise(rng, w, h, 8, 2)
            mix = np.clip((y - edge) * 60, 0, 1) * np.float32(rng.uniform(0.7, 1)) + 0.2 * y
        case "tiles":
            pitch = rng.uniform(0.12, 0.3)
            mix = (np.floor(along / pitch) + np.floor(across / pitch)) % 2 * np.float32(rng.uniform(0.2, 0.8))
            joint = np.minimum(along / pitch % 1, across / pitch % 1) < 0.06
            mix = np.where(joint, 1, mix)
        case _:
            mix = 0.5 + 0.5 * np.sin(along * 2 * np.pi / rng.uniform(0.06, 0.3) + 2 * value_noise(rng, w, h, 3, 3))
            mix = mix * np.float32(rng.uniform(0.3, 0.9))
    rough = 1 + rng.uniform(0.04, 0.2) * value_noise(rng, w, h, w / rng.uniform(1, 3), h / rng.uniform(1, 3))
    rough = rough + rng.uniform(0, 0.2) * value_noise(rng, w, h, 10, 10)
    return Image.fromarray(np.clip((first + (second - first) * mix) * rough, 0, 255).astype(np.uint8))


def _thing(rng: Rng, size: float) -> list[Points]:
    """Draw one thing of about `size` across, about (0, 0): the shapes that animals are made of, and others."""
    match rng.integers(7):
        case 0:
            return [blob(rng, size * rng.uniform(0.3, 0.6), size * rng.uniform(0.25, 0.5))]
        case 1:
            x = size * rng.uniform(0.15, 0.35)
            return [smooth([(-x, 0.3 * size), (0, -0.5 * size), (x, 0.3 * size)], steps=3)]
        case 2:
            spine = np.cumsum(rng.normal((0.3, 0), 0.4, (4, 2)), axis=0) * size * 0.7
            return [limb(spine, [size * rng.uniform(0.08, 0.22), size * rng.uniform(0.04, 0.16)])]
        case 3:
            n = rng.integers(2, 6)
            return [
                move(
                    leaf(size * rng.uniform(0.6, 1), size * rng.uniform(0.2, 0.4), size * rng.uniform(-0.2, 0.2)),
                    turn=t,
                )
                for t in rng.uniform(-np.pi, 0, n)
            ]
        case 4:
            return [rectangle(*rng.uniform(0.2, 0.6, 2) * size)]
        case 5:
            return [ellipse(0, 0, size * rng.uniform(0.2, 0.5), size * rng.uniform(0.2, 0.5))]
        case _:
            x = size * rng.uniform(0.15, 0.4)
            ear = smooth([(-0.1 * size, 0), (0.1 * size, -0.1 * size), (0.3 * size, 0.5 * size), (0, 0.6 * size)])
            return [blob(rng, 1.6 * x, 1.3 * x), move(ear, shift=(x, -x)), move(ear, shift=(-x, -x), flip=True)]


def background(rng: Rng, w: int, h: int, light: tuple[float, float]) -> Image.Image:
    """Draw a cluttered scene without an animal: sharp, or out of focus and then drawn at half the resolution."""
    whole = w, h
    ground = _ground(rng, w // 2, h // 2)
    blurred = rng.random() < 0.7
    if blurred:
        w, h = w // 2, h // 2
    sheet = Layer(w, h)
    sheet.image = ground.resize((w, h), Image.Resampling.BILINEAR)
    coats = [Coat(rng, w, h) for _ in range(2)]
    small = min(w, h)
    for _ in range(rng.integers(5, 13)):
        size = small * rng.uniform(0.08, 0.4)
        turn, at, colour = rng.uniform(-0.6, 0.6), rng.uniform(0, (w, h)), any_colour(rng)
        paints: tuple[Tone | Colour, ...] = ("coat", "trim", "points", colour, colour)
        paint = paints[rng.integers(len(paints))]
        volume, bright = float(rng.choice([0.0, 0.5])), rng.uniform(0.7, 1.1)
        outlines = [move(outline, turn=turn, shift=at) for outline in _thing(rng, size)]
        parts = [Part(outline, paint, volume, bright, furry=True) for outline in outlines]
        ink = float(rng.choice([0.0, 1.0 + 0.01 * size], p=[0.7, 0.3]))
        sheet.paint(parts, coats[rng.integers(2)], rng, 0.3 * size, light, ink)
    image = sheet.image
    if blurred:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.004, 0.02) * small))
        image = image.resize(whole, Image.Resampling.BILINEAR)
    haze = Image.new("RGB", whole, image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))
    return Image.blend(image, haze, rng.uniform(0.15, 0.6))


def obstacles(rng: Rng, w: int, h: int) -> list[Points]:
    """Draw what may stand in front of an animal: bars, plants or boxes, in about half the pictures."""
    small = min(w, h)
    match rng.choice(["nothing", "bars", "plants", "boxes"], p=[0.55, 0.13, 0.2, 0.12]):
        case "bars":
            pitch, wide, lean = rng.uniform((0.16, 0.015, -0.15), (0.35, 0.05, 0.15)) * (small, small, h)
            return [limb([(x, -20), (x + lean, h + 20)], [wide]) for x in np.arange(rng.uniform(0, pitch), w, pitch)]
        case "plants":
            blades = [
                leaf(*(rng.uniform((0.25, 0.03, -0.1), (0.6, 0.1, 0.1)) * small)) for _ in range(rng.integers(4, 14))
            ]
            return [move(b, turn=rng.uniform(-2.3, -0.8), shift=(rng.uniform(0, w), h + 4)) for b in blades]
        case "boxes":
            boxes = [rectangle(*rng.uniform(0.08, 0.22, 2) * small) for _ in range(rng.integers(1, 3))]
            return [move(b, turn=rng.uniform(-0.3, 0.3), shift=rng.uniform((0, 0.4 * h), (w, h))) for b in boxes]
        case _:
            return []
