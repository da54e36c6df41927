"""Convolutional bases: nets without a head, whose features serve for other pictures too."""

from pathlib import Path

import keras

from training.bases.applications import APPLICATIONS, application, scale_as_published, with_top
from training.bases.small import FOVEA_SMALL_WEIGHTS, fovea_small
from training.bases.weights import load_weights
from training.errors import FoveaError

__all__ = ["FOVEA_SMALL_WEIGHTS", "NAMES", "fovea_small", "resolve", "trained_base", "untrained_base"]

NAMES = ("fovea_small", *sorted(APPLICATIONS))
"""Fovea's own base, and the nets of `keras.applications` by Keras's names in lower case."""


def resolve(name: str) -> str:
    """Return the base that a name means; case, hyphens and underscores do not matter.

    Raises:
        FoveaError: there is none of that name.
    """
    found = {_plain(known): known for known in NAMES}.get(_plain(name))
    if found is None:
        raise FoveaError(
            f"there is no base {name!r}; known are fovea_small, vgg16, mobilenet_v2, resnet50, efficientnetv2b0 and "
            "the other models of keras.applications, listed at https://keras.io/api/applications/"
        )
    return found


def untrained_base(name: str, height: int, width: int) -> keras.Model:
    """Build a base with random weights.

    Args:
        name: the base, as `resolve` takes it.
        height: rows of the pictures.
        width: columns of the pictures.

    Returns:
        A model of the resolved name, from RGB [n,h,w,3] in 0..255 to features [n,h',w',c].

    Raises:
        FoveaError: there is no such base, or it does not take pictures of this size.
    """
    name = resolve(name)
    return fovea_small(height, width, weights=None) if name == "fovea_small" else application(name, height, width)


def trained_base(name: str, height: int, width: int, weights: Path | None = None) -> keras.Model:
    """Build a base with trained weights.

    Args:
        name: the base, as `resolve` takes it.
        height: rows of the pictures.
        width: columns of the pictures.
        weights: a file of its weights; None means the bundled ones of `fovea_small`, and those on ImageNet that Keras
            downloads, or has in its cache, of any other.

    Returns:
        As `untrained_base`.

    Raises:
        FoveaError: there is no such base, it does not take pictures of this size, its weights cannot be downloaded,
            or the file holds none of it.
    """
    name = resolve(name)
    if weights is None and name != "fovea_small":
        return application(name, height, width, published=True)
    base = untrained_base(name, height, width)
    if name == "fovea_small":
        load_weights(base, weights or FOVEA_SMALL_WEIGHTS, NAMES)
    else:
        assert weights is not None
        load_weights(base, weights, NAMES, lambda: with_top(name))
        scale_as_published(name, base)
    return base


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
