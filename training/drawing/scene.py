"""The picture around an animal: background, shadow, what stands in front, light and lens."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from training.drawing.animals import Figure, pose
from training.drawing.brush import Coat, Colour, Layer, Part, Tone, any_fur, moved, value_noise, vary
from training.drawing.shapes import Points, blob, ellipse, leaf, limb, move, smooth

Rng = np.random.Generator

SUPERSAMPLING = 2
MOST_HIDDEN = 0.35
"""The largest part of an animal that may be hidden by what stands in front."""

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


@dataclass(frozen=True)
class Drawing:
    """A picture, RGB, and its mask, mode L: 255 where the animal is seen, 0 elsewhere."""

    picture: Image.Image
    mask: Image.Image


def draw(species: str, rng: Rng, size: int) -> Drawing:
    """Draw one animal of a species in a cluttered scene; width and height are each 0.8 to 1.2 times `size` pixels.

    Raises ValueError for an unknown species.
    """
    figure_rng, scene_rng = rng.spawn(2)
    return compose(pose(species, figure_rng), scene_rng, size)


def compose(figure: Figure | None, rng: Rng, size: int, bare: bool = False) -> Drawing:
    """Set a figure in a scene that does not depend on it.

    Without a figure the scene is empty; if `bare`, nothing stands in front.
    """
    frame_rng, back_rng, figure_rng, front_rng, light_rng = rng.spawn(5)
    width, height = (int(n) for n in frame_rng.uniform(0.8, 1.2, 2) * size)
    w, h = width * SUPERSAMPLING, height * SUPERSAMPLING
    angle = frame_rng.uniform(-np.pi * 0.9, -np.pi * 0.1)
    light = (float(np.cos(angle)), float(np.sin(angle)))

    image = _background(back_rng, w, h, light)
    alpha = Image.new("L", (w, h))
    if figure is not None:
        sheet = _animal(figure, figure_rng, w, h, light)
        alpha = sheet.alpha
        image = _shadow(image, alpha, light, figure_rng)
        image.paste(sheet.image, mask=alpha)
    front = Layer(w, h) if bare else _in_front(front_rng, w, h, alpha, light)
    image.paste(front.image, mask=front.alpha)
    seen = ImageChops.subtract(alpha, front.alpha).resize((width, height), Image.Resampling.BOX)
    return Drawing(_develop(image, light_rng, width, height, light), seen.point(lambda a: 255 if a >= 128 else 0))


def _animal(figure: Figure, rng: Rng, w: int, h: int, light: tuple[float, float]) -> Layer:
    """Paint a figure at a size and place drawn at random: 30 to 80 % of the frame, at most partly cut by its edge."""
    flip, turn = bool(rng.random() < 0.5), rng.uniform(-0.16, 0.16)
    parts = moved(figure.parts, 1.0, turn, flip=flip)
    corners = np.concatenate([part.outline for part in parts])
    low, high = corners.min(axis=0), corners.max(axis=0)
    scale = rng.uniform(0.45, 0.85) * min(w, h) / float(max(high - low))
    reach = (high - low) * scale
    cut = 0.12 * reach
    x = rng.uniform(-cut[0], w - reach[0] + cut[0])
    y = h - reach[1] * rng.uniform(0.75, 0.95) if figure.bust else rng.uniform(-cut[1], h - reach[1] + cut[1])
    sheet = Layer(w, h)
    unit = figure.head * scale
    ink = float(rng.choice([0.0, 0.02 * unit + 1]))
    sheet.paint(moved(parts, scale, shift=(x, y) - low * scale), Coat(rng, w, h), rng, unit, light, ink)
    return sheet


def _shadow(image: Image.Image, alpha: Image.Image, light: tuple[float, float], rng: Rng) -> Image.Image:
    """Darken the scene where an animal keeps the light away: beside it, and most under it."""
    w, h = image.size
    box = alpha.getbbox()
    small = alpha.resize((w // 4, h // 4), Image.Resampling.BOX)
    cast = Image.new("L", small.size)
    dx, dy = (round(-0.03 * min(w, h) * d * rng.uniform(0.5, 1.5)) for d in light)
    cast.paste(small.point(lambda a: int(0.5 * a)), (dx // 4, dy // 4))
    if box:
        x0, _, x1, y1 = (n / 4 for n in box)
        deep = 0.07 * (x1 - x0)
        shift = -light[0] * 0.1 * (x1 - x0)
        ImageDraw.Draw(cast).ellipse((x0 + shift, y1 - 1.4 * deep, x1 + shift, y1 + deep), fill=210)
    cast = cast.filter(ImageFilter.GaussianBlur(0.008 * w)).resize((w, h), Image.Resampling.BILINEAR)
    strength = rng.uniform(0.25, 0.7)
    return Image.composite(Image.new("RGB", (w, h)), image, cast.point(lambda a: int(strength * a)))


def _any_colour(rng: Rng) -> Colour:
    return any_fur(rng) if rng.random() < 0.6 else vary(PLACES[rng.integers(len(PLACES))], rng, 24)


def _ground(rng: Rng, w: int, h: int) -> Image.Image:
    """Draw what the clutter stands before: a gradient, a horizon, tiles or stripes, under rough noise."""
    first, second = np.array(_any_colour(rng), np.float32), np.array(_any_colour(rng), np.float32)
    sheet_size = w, h
    w, h = w // 2, h // 2
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
    pixels = np.clip((first + (second - first) * mix) * rough, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize(sheet_size, Image.Resampling.BILINEAR)


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
            x, y = size * rng.uniform(0.2, 0.6, 2)
            return [np.array([(-x, -y), (x, -y), (x, y), (-x, y)])]
        case 5:
            return [ellipse(0, 0, size * rng.uniform(0.2, 0.5), size * rng.uniform(0.2, 0.5))]
        case _:
            x = size * rng.uniform(0.15, 0.4)
            ear = smooth([(-0.1 * size, 0), (0.1 * size, -0.1 * size), (0.3 * size, 0.5 * size), (0, 0.6 * size)])
            return [blob(rng, 1.6 * x, 1.3 * x), move(ear, shift=(x, -x)), move(ear, shift=(-x, -x), flip=True)]


def _background(rng: Rng, w: int, h: int, light: tuple[float, float]) -> Image.Image:
    """Draw a cluttered scene without an animal."""
    sheet = Layer(w, h)
    sheet.image = _ground(rng, w, h)
    coats = [Coat(rng, w, h) for _ in range(2)]
    small = min(w, h)
    for _ in range(rng.integers(10, 26)):
        size = small * rng.uniform(0.08, 0.5)
        turn, at, colour = rng.uniform(-0.6, 0.6), rng.uniform(0, (w, h)), _any_colour(rng)
        paints: tuple[Tone | Colour, ...] = ("coat", "trim", "points", colour, colour)
        paint = paints[rng.integers(len(paints))]
        volume, bright = float(rng.choice([0.0, 0.5])), rng.uniform(0.7, 1.1)
        outlines = [move(outline, turn=turn, shift=at) for outline in _thing(rng, size)]
        parts = [Part(outline, paint, volume, bright, furry=True) for outline in outlines]
        ink = float(rng.choice([0.0, 1.0 + 0.01 * size]))
        sheet.paint(parts, coats[rng.integers(2)], rng, 0.3 * size, light, ink)
    blur = float(rng.choice([0.0, rng.uniform(0, 0.012) * small]))
    return sheet.image.filter(ImageFilter.GaussianBlur(blur)) if blur else sheet.image


def _in_front(rng: Rng, w: int, h: int, alpha: Image.Image, light: tuple[float, float]) -> Layer:
    """Put bars, plants or boxes before the animal in about half the pictures; leave out what would hide too much."""
    front = Layer(w, h)
    small = min(w, h)
    things: list[Points] = []
    match rng.choice(["nothing", "bars", "plants", "boxes"], p=[0.45, 0.15, 0.25, 0.15]):
        case "bars":
            pitch, wide, lean = (
                small * rng.uniform(0.16, 0.35),
                small * rng.uniform(0.015, 0.05),
                rng.uniform(-0.15, 0.15),
            )
            for x in np.arange(rng.uniform(0, pitch), w, pitch):
                things.append(limb([(x, -20), (x + lean * h, h + 20)], [wide]))
        case "plants":
            for _ in range(rng.integers(4, 14)):
                blade = leaf(
                    small * rng.uniform(0.25, 0.6), small * rng.uniform(0.03, 0.1), small * rng.uniform(-0.1, 0.1)
                )
                things.append(move(blade, turn=rng.uniform(-2.3, -0.8), shift=(rng.uniform(0, w), h + 4)))
        case "boxes":
            for _ in range(rng.integers(1, 3)):
                x, y = small * rng.uniform(0.08, 0.22, 2)
                box = np.array([(-x, -y), (x, -y), (x, y), (-x, y)])
                things.append(move(box, turn=rng.uniform(-0.3, 0.3), shift=rng.uniform((0, 0.4 * h), (w, h))))
    if not things:
        return front
    coat, colour = Coat(rng, w, h), _any_colour(rng)
    whole = _area(alpha)
    for outline in things:
        part = Part(outline, "coat" if rng.random() < 0.2 else vary(colour, rng), 0.4)
        trial = front.alpha.copy()
        ImageDraw.Draw(trial).polygon([tuple(p) for p in outline.tolist()], fill=255)
        if _area(ImageChops.multiply(alpha, trial)) <= MOST_HIDDEN * whole:
            front.paint([part], coat, rng, 0.1 * small, light)
    return front


def _area(mask: Image.Image) -> int:
    return mask.histogram()[255]


def _develop(image: Image.Image, rng: Rng, width: int, height: int, light: tuple[float, float]) -> Image.Image:
    """Light the scene and take it through a lens: slope of light, vignette, colour cast, contrast, blur, noise."""
    image = image.resize((width, height), Image.Resampling.BOX)
    blur = rng.uniform(0, 0.9) * max(width, height) / 160 if rng.random() < 0.4 else 0.0
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)[..., None]
    slope = 1 + rng.uniform(0, 0.3) * (x * light[0] + y * light[1])
    vignette = 1 - rng.uniform(0, 0.22) * (x * x + y * y)
    gain = rng.uniform(0.65, 1.25) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    pixels = (np.asarray(image, np.float32) - 110) * np.float32(rng.uniform(0.7, 1.15)) + 110
    noise = rng.standard_normal((height, width, 1), np.float32) * np.float32(rng.uniform(0, 9))
    return Image.fromarray(np.clip(pixels * gain * slope * vignette + noise, 0, 255).astype(np.uint8))
