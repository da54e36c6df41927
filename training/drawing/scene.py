"""The picture around an animal: background, shadow, what stands in front, light and lens."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from training.drawing.animals import Figure, pose
from training.drawing.backdrop import any_colour, background, obstacles
from training.drawing.brush import Coat, Layer, Part, moved, vary
from training.drawing.shapes import ellipse, move

Rng = np.random.Generator

SUPERSAMPLING = 2
MOST_HIDDEN = 0.35
"""The largest part of an animal, and of its face, that may be hidden by what stands in front."""


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

    image = background(back_rng, w, h, light)
    animal = Layer(w, h)
    face = Image.new("L", (w, h))
    if figure is not None:
        animal, face = _animal(figure, figure_rng, w, h, light)
        image = _shadow(image, animal.alpha, light, figure_rng)
        image.paste(animal.image, mask=animal.alpha)
    front = Layer(w, h) if bare else _in_front(front_rng, animal.alpha, face, light)
    image.paste(front.image, mask=front.alpha)
    seen = ImageChops.subtract(animal.alpha, front.alpha).reduce(SUPERSAMPLING)
    return Drawing(_develop(image, light_rng, light), seen.point(lambda a: 255 if a >= 128 else 0))


def _animal(figure: Figure, rng: Rng, w: int, h: int, light: tuple[float, float]) -> tuple[Layer, Image.Image]:
    """Paint a figure at a size and place drawn at random, and the mask of its face.

    The frame may cut the animal, but not its face.
    """
    flip, turn = bool(rng.random() < 0.5), rng.uniform(-0.16, 0.16)
    parts = moved(figure.parts, 1.0, turn, flip=flip)
    corners = np.concatenate([part.outline for part in parts])
    low, high = corners.min(axis=0), corners.max(axis=0)
    scale = rng.uniform(0.8, 1.2) * min(w, h) / float(max(high - low))
    unit = figure.head * scale
    reach = (high - low) * scale
    cut = 0.1 * reach
    x = _between(-cut[0], w - reach[0] + cut[0], rng)
    y = h - reach[1] * rng.uniform(0.75, 0.95) if figure.bust else _between(-cut[1], h - reach[1] + cut[1], rng)

    shift = (x, y) - low * scale
    face = move(np.array([figure.face]), scale, turn, shift, flip)[0]
    shift += np.clip(face, 0.9 * unit, (w - 0.9 * unit, h - 0.9 * unit)) - face
    face_mask = Image.new("L", (w, h))
    disc = move(ellipse(*figure.face, 0.8 * figure.head, 0.8 * figure.head), scale, turn, shift, flip)
    ImageDraw.Draw(face_mask).polygon(disc.ravel().tolist(), fill=255)

    sheet = Layer(w, h)
    ink = float(rng.choice([0.0, 0.02 * unit + 1], p=[0.15, 0.85]))
    sheet.paint(moved(parts, scale, shift=shift), Coat(rng, w, h), rng, unit, light, ink)
    return sheet, face_mask


def _between(low: float, high: float, rng: Rng) -> float:
    """Draw a number between two, more often near their middle."""
    return low + (high - low) * float(rng.uniform(0, 1, 4).mean())


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


def _in_front(rng: Rng, alpha: Image.Image, face: Image.Image, light: tuple[float, float]) -> Layer:
    """Put obstacles before the animal; leave out each that would hide too much of it or of its face."""
    w, h = alpha.size
    front, things = Layer(w, h), obstacles(rng, w, h)
    if not things:
        return front
    coat, colour = Coat(rng, w, h), any_colour(rng)
    for outline in things:
        part = Part(outline, "coat" if rng.random() < 0.2 else vary(colour, rng), 0.4)
        trial = front.alpha.copy()
        ImageDraw.Draw(trial).polygon(outline.ravel().tolist(), fill=255)
        if all(_area(ImageChops.multiply(m, trial)) <= MOST_HIDDEN * _area(m) for m in (alpha, face)):
            front.paint([part], coat, rng, 0.1 * min(w, h), light)
    return front


def _area(mask: Image.Image) -> int:
    return mask.histogram()[255]


def _develop(image: Image.Image, rng: Rng, light: tuple[float, float]) -> Image.Image:
    """Light the scene and take it through a lens: slope of light, vignette, colour cast, contrast, blur, noise."""
    image = image.reduce(SUPERSAMPLING)
    width, height = image.size
    blur = rng.uniform(0, 0.9) * max(width, height) / 160 if rng.random() < 0.4 else 0.0
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)[..., None]
    slope = 1 + rng.uniform(0, 0.3) * (x * light[0] + y * light[1])
    vignette = 1 - rng.uniform(0, 0.22) * (x * x + y * y)
    gain = rng.uniform(0.8, 1.25) * rng.uniform(0.92, 1.08, 3).astype(np.float32)
    pixels = (np.asarray(image, np.float32) - 110) * np.float32(rng.uniform(0.8, 1.2)) + 110
    noise = rng.standard_normal((height, width, 1), np.float32) * np.float32(rng.uniform(0, 6))
    return Image.fromarray(np.clip(pixels * gain * slope * vignette + noise, 0, 255).astype(np.uint8))
