"""Heads of cats, dogs and rabbits, from the front and in profile.

Parts are in units of about half a head, about (0, 0) at its middle. `yaw` in -1 to 1 turns a face to its side: what
stands out of the face moves further. Profiles look to the right.
"""

import numpy as np

from training.drawing.brush import INK, PINK, Colour, Part, vary
from training.drawing.shapes import Points, ellipse, limb, move, smooth, symmetric

BRIGHT: tuple[Colour, ...] = ((206, 170, 40), (140, 164, 60), (196, 130, 40), (100, 150, 190))
BROWN: tuple[Colour, ...] = ((120, 76, 36), (90, 58, 38), (150, 100, 50))
SIDES = (-1, 1)


def _mirrored(outline: Points, side: int) -> Points:
    return move(outline, flip=side < 0)


def eye(x: float, y: float, size: float, slit: bool, iris: Colour, tilt: float = 0.0, gaze: float = 0.0) -> list[Part]:
    """Draw an open eye: a dark rim, the iris, a slit or round pupil and a glint."""
    tall = 0.82 if slit else 1.0
    pupil = (0.28, 0.72) if slit else (0.56, 0.56)
    return [
        Part(ellipse(x, y, 1.16 * size, 1.16 * tall * size, tilt), INK, 0),
        Part(ellipse(x, y, size, tall * size, tilt), iris, 0),
        Part(ellipse(x + gaze * size, y, pupil[0] * size, pupil[1] * size), (16, 14, 16), 0),
        Part(ellipse(x + (gaze + 0.25) * size, y - 0.3 * size, 0.2 * size, 0.2 * size, n=10), (250, 250, 250), 0),
    ]


def _iris(rng: np.random.Generator, slit: bool) -> Colour:
    """Draw the colour of an iris: bright around a slit, for the most part brown around a round pupil."""
    irises = BRIGHT if slit or rng.random() < 0.15 else BROWN
    return vary(irises[rng.integers(len(irises))], rng)


def closed_eye(x: float, y: float, size: float) -> list[Part]:
    """Draw the lid line of a sleeping eye."""
    return [Part(limb([(x - size, y), (x, y + 0.5 * size), (x + size, y)], [0.05, 0.09, 0.05]), INK, 0)]


def _eyes(
    rng: np.random.Generator, apart: float, y: float, size: float, slit: bool, shift: float, yaw: float
) -> list[Part]:
    iris = _iris(rng, slit)
    asleep, gaze = rng.random() < 0.08, rng.uniform(-0.2, 0.2)
    parts: list[Part] = []
    for side in SIDES:
        x = shift + side * apart * (1 - 0.25 * max(0.0, side * yaw))
        tilt = side * -0.25 if slit else 0.0
        parts += closed_eye(x, y, size) if asleep else eye(x, y, size, slit, iris, tilt, gaze)
    return parts


def _mouth(x: float, y: float, width: float) -> list[Part]:
    return [
        Part(
            limb(
                [(x, y - 0.12), (x + 0.02 * side, y), (x + side * 0.5 * width, y + 0.1), (x + side * width, y)],
                [0.05, 0.05, 0.04],
            ),
            INK,
            0,
        )
        for side in SIDES
    ]


def _whiskers(rng: np.random.Generator, x: float, y: float, sides: tuple[int, ...] = SIDES) -> list[Part]:
    colour: Colour = (235, 232, 226) if rng.random() < 0.6 else (60, 56, 56)
    droop, length = rng.uniform(-0.1, 0.25), rng.uniform(0.7, 1.05)
    return [
        Part(
            limb(
                [
                    (x + side * 0.2, y + 0.06 * row),
                    (x + side * (0.2 + 0.6 * length), y + 0.16 * row - 0.06),
                    (x + side * (0.2 + length), y + 0.26 * row + droop),
                ],
                [0.045, 0.035, 0.02],
                steps=4,
            ),
            colour,
            0,
        )
        for side in sides
        for row in (-1, 0, 1)
    ]


def cat_face(rng: np.random.Generator, yaw: float) -> list[Part]:
    """Draw a cat's face: wide and short, pricked triangular ears, slit eyes, a small nose, whiskers."""
    wide, tall = rng.uniform(0.92, 1.08), rng.uniform(0.95, 1.3)
    apart, turn = rng.uniform(-0.06, 0.1), rng.uniform(-0.1, 0.2)
    parts: list[Part] = []
    for side in SIDES:
        ear = np.array([(-0.4, 0.42), (-0.3, -0.2), (0.12, -0.75 * tall), (0.3, -0.2), (0.42, 0.3)])
        outer, inner = smooth(ear, steps=3), smooth(ear * (0.6, 0.72) + (0.0, 0.04), steps=3)
        at = (0.6 + apart, -0.68)
        for outline, paint, volume in ((outer, "points", 0.5), (inner, vary(PINK, rng), 0.4)):
            placed = _mirrored(move(outline, turn=0.12 + turn, shift=at), side)
            parts.append(Part(placed - (0.1 * yaw, 0), paint, volume))  # type: ignore[arg-type]
    skull = symmetric([(0, -0.84), (0.5, -0.76), (0.9, -0.25), (0.98, 0.2), (0.62, 0.66), (0, 0.84)])
    parts.append(Part(skull * (wide, 1), "coat", 0.6, furry=True))
    x = 0.26 * yaw
    parts += _eyes(rng, 0.42, -0.06, rng.uniform(0.2, 0.26), True, x, yaw)
    x = 0.36 * yaw
    parts += [Part(ellipse(x + side * 0.19, 0.42, 0.25, 0.2), "trim", 0.25) for side in SIDES]
    parts.append(Part(ellipse(x, 0.6, 0.16, 0.13), "trim", 0.2))
    nose = smooth([(-0.13, -0.06), (0, -0.08), (0.13, -0.06), (0, 0.09)], steps=4)
    parts.append(Part(move(nose, shift=(x, 0.25)), vary(PINK if rng.random() < 0.5 else (70, 52, 52), rng), 0.2))
    return parts + _mouth(x, 0.45, 0.24) + _whiskers(rng, x, 0.42)


def _hanging_ear(rng: np.random.Generator) -> tuple[Points, bool]:
    """Draw a dog's right ear, its root at (0, 0); tell whether it hangs in front of the head."""
    kind = rng.choice(["long", "button", "half"], p=[0.5, 0.32, 0.18])
    if kind == "long":
        drop, wide = rng.uniform(0.95, 1.5), rng.uniform(0.9, 1.2)
        ear = [(-0.16, -0.1), (0.22, -0.16), (0.5, 0.16), (0.56, 0.6), (0.42, 0.98), (0.16, 0.94), (0.06, 0.5)]
        return smooth(ear) * (wide, drop), True
    if kind == "button":
        ear = [(-0.3, 0.06), (0.0, -0.26), (0.38, -0.18), (0.62, 0.12), (0.66, 0.5), (0.44, 0.46), (0.2, 0.2)]
        return smooth(ear) * rng.uniform(0.9, 1.15), True
    ear = [(-0.3, 0.2), (-0.12, -0.3), (0.16, -0.58), (0.5, -0.5), (0.66, -0.14), (0.46, -0.16), (0.36, 0.3)]
    return smooth(ear), False


def dog_face(rng: np.random.Generator, yaw: float) -> list[Part]:
    """Draw a dog's face: narrow, hanging ears, round eyes, a long muzzle with a big dark nose, at times a tongue."""
    wide, long = rng.uniform(0.92, 1.1), rng.uniform(0.9, 1.15)
    ear, in_front = _hanging_ear(rng)
    ears = [
        Part(_mirrored(move(ear, shift=(0.46 * wide, -0.62)), side) - (0.1 * yaw, 0), "points", 0.6, 0.9, furry=True)
        for side in SIDES
    ]
    skull = symmetric([(0, -0.86), (0.46, -0.78), (0.76, -0.3), (0.7, 0.12), (0.52, 0.5), (0, 0.72)]) * (wide, 1)
    head = [Part(skull, "coat", 0.6, furry=True)]
    parts = head + ears if in_front else ears + head
    parts += _eyes(rng, 0.34, -0.18, rng.uniform(0.12, 0.17), False, 0.26 * yaw, yaw)
    x = 0.5 * yaw
    if rng.random() < 0.25:
        parts.append(Part(ellipse(x, 0.86 * long, 0.16, 0.28), vary((200, 110, 110), rng), 0.4))
    muzzle = symmetric([(0, -0.12), (0.24, -0.02), (0.46, 0.34), (0.4, 0.68), (0, 0.78)])
    parts.append(Part(move(muzzle, (1, long), shift=(0.9 * x, 0.08)), "trim", 0.5))
    nose = symmetric([(0, -0.15), (0.17, -0.13), (0.25, 0.0), (0.13, 0.13), (0, 0.17)]) * rng.uniform(1.0, 1.35)
    parts.append(Part(move(nose, shift=(1.1 * x, 0.24)), vary((42, 36, 38), rng, 8), 0.5))
    return parts + _mouth(x, 0.6 * long, 0.3)


def rabbit_face(rng: np.random.Generator, yaw: float) -> list[Part]:
    """Draw a rabbit's face: long upright ears, eyes at the sides, buck teeth."""
    tall, spread = rng.uniform(1.3, 1.8), rng.uniform(-0.05, 0.3)
    ear = np.array([(-0.16, 0.2), (-0.26, -0.5), (-0.16, -1.0), (0.02, -1.14), (0.2, -1.0), (0.26, -0.5), (0.16, 0.2)])
    parts: list[Part] = []
    for side in SIDES:
        lean = spread + rng.uniform(-0.08, 0.08)
        for scale, paint, volume in ((1.0, "points", 0.5), (0.62, vary(PINK, rng), 0.4)):
            placed = move(smooth(ear) * (scale, scale * tall), turn=lean, shift=(0.3, -0.62))
            parts.append(Part(_mirrored(placed, side) - (0.1 * yaw, 0), paint, volume))  # type: ignore[arg-type]
    skull = symmetric([(0, -0.86), (0.5, -0.7), (0.78, -0.1), (0.8, 0.3), (0.48, 0.72), (0, 0.86)])
    parts.append(Part(skull, "coat", 0.6, furry=True))
    parts += _eyes(rng, 0.48, -0.12, rng.uniform(0.15, 0.19), False, 0.24 * yaw, yaw)
    x = 0.36 * yaw
    parts.append(Part(ellipse(x, 0.7, 0.13, 0.17), (240, 238, 230), 0.1))
    parts += [Part(ellipse(x + side * 0.17, 0.42, 0.22, 0.2), "trim", 0.25) for side in SIDES]
    nose = smooth([(-0.11, -0.05), (0.11, -0.05), (0, 0.08)], steps=4)
    parts.append(Part(move(nose, shift=(x, 0.26)), vary(PINK, rng), 0.2))
    return parts + _mouth(x, 0.44, 0.16) + _whiskers(rng, x, 0.42)


def cat_profile(rng: np.random.Generator) -> list[Part]:
    """Draw a cat's head from the side."""
    tall = rng.uniform(0.95, 1.25)
    ear = np.array([(-0.34, 0.3), (-0.3, -0.2), (-0.06, -0.78 * tall), (0.22, -0.2), (0.36, 0.3)])
    skull = [(-0.76, 0.0), (-0.5, -0.66), (0.05, -0.8), (0.5, -0.5), (0.72, -0.12), (1.0, 0.16), (0.96, 0.44)]
    skull += [(0.56, 0.62), (0.0, 0.74), (-0.56, 0.56)]
    return [
        Part(move(smooth(ear, steps=3), shift=(0.18, -0.66), turn=0.15), "points", 0.4, 0.7),
        Part(smooth(skull), "coat", 0.6, furry=True),
        Part(move(smooth(ear, steps=3), shift=(-0.3, -0.6), turn=-0.15), "points", 0.5),
        Part(move(smooth(ear * (0.56, 0.7), steps=3), shift=(-0.28, -0.58), turn=-0.15), vary(PINK, rng), 0.4),
        Part(ellipse(0.76, 0.34, 0.26, 0.2, 0.2), "trim", 0.3),
        *eye(0.44, -0.1, rng.uniform(0.15, 0.2), True, _iris(rng, True), gaze=0.2),
        Part(ellipse(0.99, 0.18, 0.09, 0.08), vary(PINK if rng.random() < 0.5 else (70, 52, 52), rng), 0.2),
        Part(limb([(1.0, 0.36), (0.8, 0.44), (0.6, 0.4)], [0.05, 0.04]), INK, 0),
        *_whiskers(rng, 0.62, 0.36, (-1,)),
        *_whiskers(rng, 0.66, 0.36, (1,)),
    ]


def dog_profile(rng: np.random.Generator) -> list[Part]:
    """Draw a dog's head from the side: a long snout that ends in a big nose."""
    long = rng.uniform(0.9, 1.25)
    skull = [(-0.74, 0.0), (-0.5, -0.62), (0.0, -0.78), (0.42, -0.5), (0.6, -0.14), (0.6 + 0.7 * long, 0.0)]
    skull += [(0.68 + 0.74 * long, 0.24), (0.56 + 0.6 * long, 0.46), (0.5, 0.56), (0.0, 0.7), (-0.54, 0.56)]
    tip = 0.66 + 0.72 * long
    muzzle = [(0.6, 0.16), (tip - 0.24, 0.04), (tip, 0.26), (tip - 0.2, 0.44), (0.6, 0.54)]
    ear, _ = _hanging_ear(rng)
    parts = [Part(smooth(skull), "coat", 0.6, furry=True), Part(smooth(muzzle), "trim", 0.4)]
    if rng.random() < 0.25:
        tongue = limb([(tip - 0.4, 0.46), (tip - 0.3, 0.66), (tip - 0.3, 0.86)], [0.14, 0.2, 0.18])
        parts.insert(0, Part(tongue, vary((200, 110, 110), rng), 0.4))
    return [
        *parts,
        Part(move(ear, 0.95, shift=(-0.14, -0.6), flip=True), "points", 0.6, 0.9, furry=True),
        *eye(0.4, -0.16, rng.uniform(0.11, 0.15), False, _iris(rng, False), gaze=0.2),
        Part(ellipse(tip + 0.02, 0.04, 0.2, 0.16, 0.3), vary((42, 36, 38), rng, 8), 0.5),
        Part(limb([(tip, 0.36), (0.9, 0.46), (0.6, 0.36)], [0.05, 0.05]), INK, 0),
    ]


def rabbit_profile(rng: np.random.Generator) -> list[Part]:
    """Draw a rabbit's head from the side."""
    tall, back = rng.uniform(1.2, 1.7), rng.uniform(-0.9, -0.05)
    ear = smooth([(-0.16, 0.2), (-0.26, -0.5), (-0.14, -1.0), (0.02, -1.1), (0.2, -0.9), (0.26, -0.5), (0.16, 0.2)])
    skull = [
        (-0.7, 0.05),
        (-0.5, -0.56),
        (0.0, -0.72),
        (0.5, -0.44),
        (0.9, 0.1),
        (0.86, 0.4),
        (0.4, 0.62),
        (-0.4, 0.62),
    ]
    return [
        Part(move(ear, (1, tall), back + 0.2, (-0.1, -0.56)), "points", 0.4, 0.75),
        Part(smooth(skull), "coat", 0.6, furry=True),
        Part(move(ear, (1, tall), back, (-0.3, -0.5)), "points", 0.5),
        Part(move(ear * (0.55, 0.7), (1, tall), back, (-0.3, -0.52)), vary(PINK, rng), 0.4),
        Part(ellipse(0.66, 0.32, 0.24, 0.2), "trim", 0.3),
        *eye(0.3, -0.14, rng.uniform(0.14, 0.18), False, _iris(rng, False), gaze=0.1),
        Part(ellipse(0.9, 0.14, 0.07, 0.07), vary(PINK, rng), 0.2),
        *_whiskers(rng, 0.6, 0.32, (-1,)),
    ]
