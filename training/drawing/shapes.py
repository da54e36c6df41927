"""Outlines as arrays of points: smooth curves, ellipses, limbs and what moves them.

All outlines are float64 [n, 2], closed, (x, y) with y downwards, in whatever unit the caller draws in.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


def smooth(points: ArrayLike, closed: bool = True, steps: int = 6) -> Points:
    """Pass a Catmull-Rom curve through the points, with `steps` samples a segment."""
    p = np.asarray(points, np.float64)
    before, after = (p[-1:], p[:2]) if closed else (2 * p[:1] - p[1:2], 2 * p[-1:] - p[-2:-1])
    p = np.concatenate([before, p, after])
    p0, p1, p2, p3 = p[:-3, None], p[1:-2, None], p[2:-1, None], p[3:, None]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    ).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-2:-1]])


def symmetric(right: ArrayLike, steps: int = 6) -> Points:
    """Close a smooth curve from its right half, given from top to bottom; x = 0 is the axis."""
    p = np.asarray(right, np.float64)
    inner = p[np.abs(p[:, 0]) > 1e-9][::-1]
    return smooth(np.concatenate([p, inner * (-1, 1)]), steps=steps)


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, n: int = 28) -> Points:
    """Draw an ellipse about (x, y), turned clockwise by `turn` radians."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return move(np.stack([rx * np.cos(angle), ry * np.sin(angle)], axis=1), turn=turn, shift=(x, y))


def rectangle(half_width: float, half_height: float) -> Points:
    """Draw a rectangle about (0, 0)."""
    return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.array([half_width, half_height])


def limb(spine: ArrayLike, widths: Sequence[float], steps: int = 8) -> Points:
    """Draw a stroke with round ends along a smooth spine; `widths` are spread evenly along it."""
    line = smooth(spine, closed=False, steps=steps)
    half = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(widths)), widths)[:, None] / 2
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = along[:, ::-1] * (-1, 1)
    bend = np.linspace(0, np.pi, 7)[1:-1, None]
    end = line[-1] + half[-1] * (across[-1] * np.cos(bend) + along[-1] * np.sin(bend))
    start = line[0] - half[0] * (across[0] * np.cos(bend) + along[0] * np.sin(bend))
    return np.concatenate([line + half * across, end, (line - half * across)[::-1], start])


def leaf(length: float, width: float, bend: float = 0.0) -> Points:
    """Draw a pointed leaf from (0, 0) along +x, its middle bent aside by `bend`."""
    t = np.linspace(0, 1, 12)
    spine, half = bend * np.sin(np.pi * t), width / 2 * np.sin(np.pi * t**0.8)
    upper, lower = np.stack([length * t, spine - half], 1), np.stack([length * t, spine + half], 1)
    return np.concatenate([upper, lower[-2:0:-1]])


def blob(rng: np.random.Generator, rx: float, ry: float, roughness: float = 0.3) -> Points:
    """Draw a random rounded shape about (0, 0)."""
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False) + rng.uniform(0, 2 * np.pi)
    radius = rng.uniform(1 - roughness, 1 + roughness, 9)
    return smooth(np.stack([rx * radius * np.cos(angle), ry * radius * np.sin(angle)], axis=1))


def move(
    points: Points,
    scale: float | tuple[float, float] = 1.0,
    turn: float = 0.0,
    shift: tuple[float, float] | Points = (0.0, 0.0),
    flip: bool = False,
) -> Points:
    """Scale (and mirror left to right, if `flip`), then turn clockwise by `turn` radians about (0, 0), then shift."""
    cos, sin = np.cos(turn), np.sin(turn)
    scaled = points * np.array(scale) * (-1.0 if flip else 1.0, 1.0)
    return scaled @ np.array([[cos, sin], [-sin, cos]]) + shift


def ruffle(points: Points, depth: float, rng: np.random.Generator, pitch: float) -> Points:
    """Break an outline into tufts about `pitch` apart that stand out up to `depth`: the edge of a fur."""
    closed = np.concatenate([points, points[:1]])
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    n = max(12, 2 * int(length[-1] / pitch / 2))
    at = (np.arange(n) + rng.uniform(-0.3, 0.3, n)) * length[-1] / n
    ring = np.stack([np.interp(at, length, closed[:, 0]), np.interp(at, length, closed[:, 1])], axis=1)
    along = np.roll(ring, -1, axis=0) - np.roll(ring, 1, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    tuft = np.where(np.arange(n) % 2, 1.0, -0.3) * rng.uniform(0.3, 1.0, n) * depth
    x, y = points[:, 0], points[:, 1]
    clockwise = np.sign(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    return ring + clockwise * tuft[:, None] * along[:, ::-1] * (1, -1)
