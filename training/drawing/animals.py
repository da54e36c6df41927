"""The creatures: each species' poses, as parts to paint."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.drawing import faces
from training.drawing.brush import INK, Part, any_fur, moved, vary
from training.drawing.shapes import ellipse, limb, move, smooth, symmetric

Rng = np.random.Generator


@dataclass(frozen=True)
class Figure:
    """An animal in a pose, in units of its own, y downwards.

    `face` is the middle of its head and `head` about half the width of it, which tufts and shading go by; a `bust` is a
    portrait that the lower edge of the picture cuts.
    """

    parts: list[Part]
    face: tuple[float, float]
    head: float
    bust: bool = False


@dataclass(frozen=True)
class Anatomy:
    """What tells one four-legged species from another; the rest of the body is drawn alike for all."""

    face: Callable[[Rng, float], list[Part]]
    profile: Callable[[Rng], list[Part]]
    tail: Callable[[Rng], tuple[np.ndarray, list[float]]]
    poses: tuple[Callable[[Rng, "Anatomy"], Figure], ...]


def _cat_tail(rng: Rng) -> tuple[np.ndarray, list[float]]:
    """Draw the spine of a long thin tail that ends in a curl, from (0, 0) away to the left, and its widths."""
    curl = rng.choice([-1, 1])
    up = rng.uniform(0.5, 1.0)
    spine = np.array([(0, 0), (-0.35, -0.1), (-0.6, -0.5 * up), (-0.66, -0.95 * up), (-0.66 + 0.26 * curl, -1.2 * up)])
    thick = rng.uniform(0.12, 0.19)
    return spine, [thick, thick, thick, 0.9 * thick, 0.7 * thick]


def _dog_tail(rng: Rng) -> tuple[np.ndarray, list[float]]:
    """Draw a shorter tail, thick at its root: raised, curled over the back, or bushy."""
    match rng.choice(["raised", "curled", "bushy"]):
        case "raised":
            return np.array([(0, 0), (-0.22, -0.2), (-0.34, -0.5), (-0.3, -0.74)]), [0.22, 0.17, 0.12, 0.06]
        case "curled":
            return np.array([(0, 0), (-0.22, -0.26), (-0.1, -0.54), (0.14, -0.5), (0.16, -0.3)]), [0.22, 0.2, 0.16, 0.1]
        case _:
            return np.array([(0, 0), (-0.3, -0.06), (-0.54, -0.26), (-0.66, -0.52)]), [0.16, 0.3, 0.3, 0.08]


def _rabbit_tail(rng: Rng) -> tuple[np.ndarray, list[float]]:
    size = rng.uniform(0.26, 0.36)
    return np.array([(0.04, 0), (-0.06, -0.06)]), [size, size]


def _head(rng: Rng, anatomy: Anatomy, at: tuple[float, float], size: float, yaw: float | None) -> list[Part]:
    """Draw the head at a place: a face at this yaw, or the profile to the right where yaw is None."""
    parts = anatomy.profile(rng) if yaw is None else anatomy.face(rng, yaw)
    return moved(parts, size, rng.uniform(-0.18, 0.18), at)


def _look(rng: Rng) -> float | None:
    """Choose where an animal that stands to the right looks."""
    return None if rng.random() < 0.25 else rng.uniform(-0.3, 0.7)


def _tail(rng: Rng, anatomy: Anatomy, at: tuple[float, float], size: float, turn: float = 0.0) -> Part:
    spine, widths = anatomy.tail(rng)
    tail = move(limb(spine, widths), size, turn + rng.uniform(-0.25, 0.25), at)
    return Part(tail, "points", 0.6, 0.92, furry=True)


def _leg(x: float, y: float, foot: float, ground: float, thick: float, bright: float = 1.0) -> list[Part]:
    knee = ((x + foot) / 2 - 0.05, (y + ground) / 2)
    return [
        Part(limb([(x, y), knee, (foot, ground - 0.06)], [1.7 * thick, 1.05 * thick, thick]), "coat", 0.6, bright),
        Part(ellipse(foot + 0.05, ground - 0.04, 0.72 * thick, 0.46 * thick), "trim", 0.4, bright),
    ]


def standing(rng: Rng, anatomy: Anatomy) -> Figure:
    """Stand or walk to the right, seen from the side."""
    long, deep, legs = rng.uniform(0.75, 1.0), rng.uniform(0.46, 0.62), rng.uniform(0.75, 1.0)
    thick, stride, size = rng.uniform(0.17, 0.25), rng.uniform(-0.16, 0.16), rng.uniform(0.52, 0.64)
    spine = [(-long * 0.85, 0.02), (-0.2, 0.03), (0.3, 0.02), (long * 0.8, -0.05)]
    crouch = rng.uniform(-0.5, 0.1)
    head = (long * 0.8 + 0.36, -0.5 - 0.3 * crouch)
    hip, chest, ground = -long * 0.8, long * 0.68, deep / 2 + legs
    parts = [
        _tail(rng, anatomy, (-long * 0.85 - deep * 0.3, -0.08), rng.uniform(0.95, 1.2)),
        *_leg(hip + 0.12, 0.1, hip + 0.16 - stride, ground - 0.06, thick, 0.72),
        *_leg(chest + 0.1, 0.1, chest + 0.12 + stride, ground - 0.06, thick, 0.72),
        Part(limb([(long * 0.7, 0.0), head], [deep * 0.9, size * 1.1]), "coat", 0.55, 0.95, furry=True),
        Part(limb(spine, [deep * 1.05, deep * 0.86, deep, deep * 1.15]), "coat", 0.65, furry=True),
        Part(ellipse(hip + 0.06, 0.12, deep * 0.5, deep * 0.6), "coat", 0.3),
        *_leg(hip, 0.1, hip - 0.04 + stride, ground, thick),
        *_leg(chest, 0.1, chest - stride, ground, thick),
    ]
    return Figure([*parts, *_head(rng, anatomy, head, size, _look(rng))], head, size)


def sitting(rng: Rng, anatomy: Anatomy) -> Figure:
    """Sit to the right, seen from the side."""
    size, thick, lean = rng.uniform(0.56, 0.68), rng.uniform(0.19, 0.26), rng.uniform(-0.1, 0.15)
    head = (0.42 + lean, -0.92)
    parts = [
        _tail(rng, anatomy, (-0.72, 0.82), rng.uniform(0.9, 1.15), rng.uniform(-0.3, 0.3)),
        *_leg(0.36, 0.1, 0.5 + lean, 1.0, thick, 0.74),
        Part(
            limb([(-0.36, 0.56), (-0.02, 0.06), (0.22 + lean, -0.4), head], [1.06, 0.84, 0.6, 0.5]),
            "coat",
            0.6,
            furry=True,
        ),
        Part(ellipse(0.26 + lean, -0.06, 0.22, 0.36, -0.3), "trim", 0.2),
        *_leg(0.22 + lean, 0.1, 0.34 + lean, 1.06, thick),
        Part(ellipse(-0.36, 0.62, 0.46, 0.46), "coat", 0.5, furry=True),
        Part(limb([(-0.34, 0.98), (0.04, 1.02)], [0.22, 0.24]), "trim", 0.4),
    ]
    return Figure([*parts, *_head(rng, anatomy, head, size, _look(rng))], head, size)


def facing(rng: Rng, anatomy: Anatomy) -> Figure:
    """Sit with the body towards the viewer."""
    size, thick, wide = rng.uniform(0.6, 0.74), rng.uniform(0.2, 0.28), rng.uniform(0.85, 1.1)
    torso = symmetric([(0, -0.75), (0.3, -0.6), (0.42, -0.1), (0.62, 0.5), (0.6, 0.95), (0, 1.05)]) * (wide, 1)
    parts = [_tail(rng, anatomy, (-0.5 * wide, 0.85), rng.uniform(0.8, 1.05), rng.uniform(-0.2, 0.4))]
    parts.append(Part(torso, "coat", 0.6, furry=True))
    parts += [Part(ellipse(side * 0.5 * wide, 0.72, 0.28, 0.36), "coat", 0.5) for side in (-1, 1)]
    parts += [Part(ellipse(side * 0.5 * wide, 1.02, 0.26, 0.13), "trim", 0.4) for side in (-1, 1)]
    parts.append(Part(ellipse(0, -0.1, 0.26, 0.42), "trim", 0.2))
    for side in (-1, 1):
        x = side * 0.2 * wide
        parts.append(Part(limb([(x, 0.0), (x * 1.05, 0.5), (x, 1.0)], [1.3 * thick, thick, thick]), "coat", 0.55))
        parts.append(Part(ellipse(x, 1.06, 0.75 * thick, 0.5 * thick), "trim", 0.4))
    head = (0.0, -0.95)
    return Figure([*parts, *_head(rng, anatomy, head, size, rng.uniform(-0.6, 0.6))], head, size)


def lying(rng: Rng, anatomy: Anatomy) -> Figure:
    """Lie to the right with the head up."""
    size, thick, long = rng.uniform(0.52, 0.64), rng.uniform(0.2, 0.26), rng.uniform(0.8, 1.0)
    head = (long * 0.82, -0.42 + rng.uniform(-0.1, 0.25))
    parts = [
        _tail(rng, anatomy, (-long - 0.18, 0.34), rng.uniform(0.85, 1.1), rng.uniform(-0.5, 0.1)),
        Part(limb([(long * 0.6, 0.5), (long + 0.5, 0.54)], [0.3, thick]), "coat", 0.5, 0.74),
        Part(limb([(-long * 0.8, 0.2), (0, 0.16), (long * 0.66, 0.12)], [0.82, 0.7, 0.76]), "coat", 0.65, furry=True),
        Part(limb([(long * 0.6, 0.1), head], [0.66, size * 1.1]), "coat", 0.5, furry=True),
        Part(ellipse(-long * 0.72, 0.26, 0.44, 0.38), "coat", 0.45, furry=True),
        Part(limb([(-long * 0.72, 0.56), (-long * 0.25, 0.58)], [0.22, 0.2]), "trim", 0.4),
        Part(limb([(long * 0.5, 0.44), (long * 0.9, 0.58), (long + 0.36, 0.6)], [0.34, thick, thick]), "coat", 0.5),
        Part(ellipse(long + 0.42, 0.6, 0.7 * thick, 0.5 * thick), "trim", 0.4),
    ]
    return Figure([*parts, *_head(rng, anatomy, head, size, _look(rng))], head, size)


def portrait(rng: Rng, anatomy: Anatomy) -> Figure:
    """Show head and chest."""
    wide = rng.uniform(0.85, 1.1)
    chest = symmetric([(0, 0.1), (0.5, 0.3), (0.78, 0.9), (1.0, 1.7), (0.95, 2.4), (0, 2.5)]) * (wide, 1)
    parts = [Part(chest, "coat", 0.5, 0.94, furry=True), Part(ellipse(0, 1.4, 0.4, 0.6), "trim", 0.2)]
    yaw = None if rng.random() < 0.12 else rng.uniform(-0.8, 0.8)
    return Figure([*parts, *_head(rng, anatomy, (0, 0), 1.0, yaw)], (0, 0), 1.0, bust=True)


CAT = Anatomy(
    faces.cat_face,
    faces.cat_profile,
    _cat_tail,
    (standing, sitting, facing, facing, lying, portrait, portrait, portrait),
)
DOG = Anatomy(
    faces.dog_face,
    faces.dog_profile,
    _dog_tail,
    (standing, sitting, facing, facing, lying, portrait, portrait, portrait),
)
RABBIT = Anatomy(faces.rabbit_face, faces.rabbit_profile, _rabbit_tail, (sitting, facing, lying, portrait))


def four_legged(anatomy: Anatomy) -> Callable[[Rng], Figure]:
    """Draw the species of this anatomy in one of its poses."""
    return lambda rng: anatomy.poses[rng.integers(len(anatomy.poses))](rng, anatomy)


def fish(rng: Rng) -> Figure:
    """Swim to the right, seen from the side."""
    deep, spread = rng.uniform(0.36, 0.6), rng.uniform(0.8, 1.3)
    body = [(1.0, 0.02), (0.72, -0.6 * deep), (0.1, -deep), (-0.6, -0.5 * deep), (-1.0, -0.12)]
    body += [(-1.0, 0.12), (-0.6, 0.5 * deep), (0.1, deep), (0.72, 0.62 * deep)]
    tail = np.array([(0.1, 0), (-0.25, -0.3), (-0.6, -0.55), (-0.42, 0), (-0.6, 0.55), (-0.25, 0.3)]) * (1, spread)
    back = [(0.4, -0.8 * deep), (0.2, -deep - 0.3 * spread), (-0.3, -deep - 0.22 * spread), (-0.5, -0.4 * deep)]
    belly = [(0.1, 0.8 * deep), (-0.16, deep + 0.24 * spread), (-0.4, 0.6 * deep)]
    fin = smooth([(0, -0.1), (-0.3, -0.2), (-0.46, 0.04), (-0.3, 0.2), (0, 0.1)])
    parts = [
        Part(move(smooth(tail), shift=(-0.92, 0)), "points", 0.5),
        Part(smooth(back), "points", 0.4),
        Part(smooth(belly), "points", 0.4),
        Part(smooth(body), "coat", 0.7),
        Part(
            smooth([(0.95, 0.1), (0.7, 0.6 * deep), (0.0, 0.92 * deep), (-0.6, 0.4 * deep), (0.1, 0.5 * deep)]),
            "trim",
            0.2,
        ),
        Part(limb([(0.5, -0.5 * deep), (0.38, 0), (0.5, 0.5 * deep)], [0.03, 0.05, 0.03]), INK, 0),
        Part(move(fin, turn=rng.uniform(-0.7, 0.2), shift=(0.25, 0.12)), "points", 0.4),
        *faces.eye(0.7, -0.16, rng.uniform(0.09, 0.13), False, (238, 226, 190)),
        Part(limb([(0.98, 0.08), (0.86, 0.14)], [0.05, 0.04]), INK, 0),
    ]
    return Figure(parts, (0.65, 0), 0.5)


def owl(rng: Rng) -> Figure:
    """Perch upright with the face to the viewer."""
    yaw, wide = rng.uniform(-0.4, 0.4), rng.uniform(0.9, 1.15)
    body = symmetric([(0, -0.5), (0.5, -0.4), (0.68, 0.2), (0.5, 0.9), (0, 1.15)]) * (wide, 1)
    head = symmetric([(0, -1.0), (0.46, -1.04), (0.72, -0.6), (0.56, -0.16), (0, 0.02)]) * (wide, 1)
    wing = smooth([(0.5, -0.3), (0.82, 0.2), (0.7, 0.9), (0.44, 1.2), (0.4, 0.5)]) * (wide, 1)
    tuft = smooth([(0.2, -0.9), (0.62, -1.36), (0.64, -0.8)], steps=3) * (wide, 1)
    beak = smooth([(-0.09, -0.56), (0, -0.6), (0.09, -0.56), (0.0, -0.3)], steps=4)
    iris = vary((216, 160, 40), rng)
    parts = [Part(limb([(-0.16, 0.8), (-0.12, 1.45)], [0.44, 0.3]), "points", 0.5, 0.8)]
    parts += [Part(body, "coat", 0.6), Part(ellipse(0, 0.4, 0.4, 0.62), "trim", 0.3)]
    for row in range(4):
        parts += [
            Part(
                limb([(x - 0.07, 0.06 + 0.24 * row), (x, 0.13 + 0.24 * row), (x + 0.07, 0.06 + 0.24 * row)], [0.05]),
                "points",
                0,
                0.6,
            )
            for x in np.arange(-0.24 + 0.08 * (row % 2), 0.3, 0.2)
        ]
    parts += [Part(move(wing, flip=side < 0), "points", 0.6, 0.9) for side in (-1, 1)]
    parts += [Part(move(tuft, flip=side < 0), "points", 0.5, 0.9) for side in (-1, 1)]
    parts.append(Part(head, "coat", 0.6, furry=True))
    parts += [Part(ellipse(side * 0.3 + 0.1 * yaw, -0.55, 0.32, 0.36), "trim", 0.35) for side in (-1, 1)]
    for side in (-1, 1):
        parts += faces.eye(side * 0.28 + 0.14 * yaw, -0.58, rng.uniform(0.16, 0.2), False, iris)
    parts.append(Part(move(beak, shift=(0.2 * yaw, 0)), (186, 140, 60), 0.4))
    parts += [
        Part(ellipse(side * 0.22 + toe, 1.14, 0.06, 0.1), (186, 140, 60), 0.3)
        for side in (-1, 1)
        for toe in (-0.1, 0, 0.1)
    ]
    return Figure(parts, (0, -0.55), 0.6)


def turtle(rng: Rng) -> Figure:
    """Walk to the right, seen from the side, under a domed shell."""
    high, reach = rng.uniform(0.75, 1.0), rng.uniform(0.2, 0.45)
    skin, shell = any_fur(rng), any_fur(rng)
    dark = (0.6 * shell[0], 0.6 * shell[1], 0.6 * shell[2])
    dome = smooth([(-1.0, 0.2), (-0.86, -0.3), (-0.4, -0.72), (0.2, -0.74), (0.74, -0.36), (0.94, 0.2), (0, 0.3)]) * (
        1,
        high,
    )
    neck = limb([(0.7, 0.16), (0.96 + 0.4 * reach, 0.06), (1.06 + reach, -0.14)], [0.34, 0.26, 0.3])
    head = ellipse(1.14 + reach, -0.2, 0.27, 0.21, -0.1)
    parts = [
        Part(smooth([(-0.9, 0.14), (-1.28, 0.3), (-0.9, 0.3)], steps=4), skin, 0.4),
        *(Part(limb([(x, 0.2), (x + 0.06, 0.54)], [0.32, 0.26]), skin, 0.5, 0.7) for x in (-0.42, 0.66)),
        Part(neck, skin, 0.5),
        Part(head, skin, 0.5),
        *faces.eye(1.22 + reach, -0.25, 0.06, False, (60, 50, 40)),
        Part(limb([(1.4 + reach, -0.14), (1.2 + reach, -0.1)], [0.03]), INK, 0),
        *(Part(limb([(x, 0.2), (x + rng.uniform(-0.1, 0.1), 0.6)], [0.36, 0.3]), skin, 0.5) for x in (-0.66, 0.46)),
        Part(dome, shell, 0.7),
    ]
    for x, y, size in (
        (-0.02, -0.36, 0.3),
        (-0.52, -0.2, 0.25),
        (0.46, -0.2, 0.25),
        (-0.26, 0.02, 0.18),
        (0.22, 0.02, 0.18),
    ):
        scute = ellipse(x, y * high, size, 0.8 * size * high, rng.uniform(0, 1), n=6)
        parts.append(Part(scute, dark, 0.5))
    parts.append(Part(limb([(-1.02, 0.22), (0, 0.32), (0.96, 0.22)], [0.13]), dark, 0.4))
    return Figure(parts, (1.1 + reach, -0.2), 0.3)


_FIGURES: dict[str, Callable[[Rng], Figure]] = {
    "cat": four_legged(CAT),
    "dog": four_legged(DOG),
    "fish": fish,
    "owl": owl,
    "rabbit": four_legged(RABBIT),
    "turtle": turtle,
}
SPECIES: tuple[str, ...] = tuple(_FIGURES)
"""The species that can be drawn."""


def pose(species: str, rng: Rng) -> Figure:
    """Draw a species in a pose chosen at random.

    Raises ValueError, with the species there are, for one that is not among them.
    """
    if species not in _FIGURES:
        raise ValueError(f"there is no species {species!r}; the species that can be drawn are {', '.join(SPECIES)}")
    return _FIGURES[species](rng)
