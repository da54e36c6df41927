"""Which layers of a base fine-tuning adapts, and the proof that it adapted those alone."""

import re

import keras
import numpy as np

from training.errors import FoveaError

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)

DEFAULTS = {"fovea_small": "stage2,stage3,features", "vgg16": "block5", "vgg19": "block5"}
OTHERWISE = "3"
"""What to adapt of a base that DEFAULTS does not name: as many convolutions as the last block of VGG16 has."""


def choose_layers(base: keras.Model, wanted: str | None = None) -> list[keras.layers.Layer]:
    """Return the layers to adapt. Batch normalisation is never among them.

    Args:
        base: the base.
        wanted: beginnings of layer names, separated by commas, each up to a whole number: `block1` means
            `block1_conv1` and not `block16_conv1`. Or how many of the last convolutions. None means what
            DEFAULTS and OTHERWISE say.

    Raises:
        FoveaError: no layer with weights begins so, or there are fewer convolutions.
    """
    wanted = wanted or DEFAULTS.get(base.name, OTHERWISE)
    if wanted.isdecimal():
        return _last_convolutions(base, int(wanted))
    prefixes = [prefix.strip() for prefix in wanted.split(",")]
    adaptable = [layer for layer in base.layers if _is_adaptable(layer)]
    for prefix in prefixes:
        if not any(_begins(layer.name, prefix) for layer in adaptable):
            raise FoveaError(
                f"--unfreeze {prefix!r} begins no layer of {base.name}; its layers begin with "
                f"{', '.join(_prefixes(adaptable))}; or give the number of its last convolutions"
            )
    return [layer for layer in adaptable if any(_begins(layer.name, prefix) for prefix in prefixes)]


def unfreeze(base: keras.Model, chosen: list[keras.layers.Layer]) -> None:
    """Make these layers of a base trainable and no others."""
    base.trainable = True
    for layer in base.layers:
        layer.trainable = any(layer is one for one in chosen)


class Watch:
    """Tells which layers of a base have moved since the watch began."""

    def __init__(self, base: keras.Model):
        """Remember the weights."""
        self._base = base
        self._before = [layer.get_weights() for layer in base.layers]

    def moved(self) -> list[str]:
        """Return the names of the layers whose weights, moving statistics among them, are not what they were."""
        return [
            layer.name
            for layer, before in zip(self._base.layers, self._before, strict=True)
            if any(not np.array_equal(now, then) for now, then in zip(layer.get_weights(), before, strict=True))
        ]

    def check(self, unfrozen: list[keras.layers.Layer]) -> None:
        """Raise FoveaError if a frozen layer moved, or one of those unfrozen did not."""
        moved, expected = set(self.moved()), {layer.name for layer in unfrozen}
        if wrong := sorted(moved - expected):
            raise FoveaError(f"training moved layers of {self._base.name} that were frozen: {', '.join(wrong)}")
        if wrong := sorted(expected - moved):
            raise FoveaError(
                f"training left layers of {self._base.name} as they were that it was to adapt: {', '.join(wrong)}; "
                "no gradient reached them"
            )


def _last_convolutions(base: keras.Model, count: int) -> list[keras.layers.Layer]:
    convolutions = [layer for layer in base.layers if isinstance(layer, CONVOLUTIONS)]
    if not 1 <= count <= len(convolutions):
        raise FoveaError(
            f"--unfreeze {count} asks for more or fewer convolutions than {base.name} has; give 1 to "
            f"{len(convolutions)}, or the beginning of layer names"
        )
    return convolutions[-count:]


def _is_adaptable(layer: keras.layers.Layer) -> bool:
    fixed = (keras.layers.BatchNormalization, keras.layers.Normalization)
    return bool(layer.weights) and not isinstance(layer, fixed)


def _begins(name: str, prefix: str) -> bool:
    whole_number = r"(?!\d)" if prefix[-1:].isdecimal() else ""
    return bool(prefix) and re.match(re.escape(prefix) + whole_number, name) is not None


def _prefixes(layers: list[keras.layers.Layer]) -> list[str]:
    """Return the words, with their numbers, that layer names begin with, in the order of the layers."""
    words = (re.match(r"[A-Za-z]+(_?\d+)?|.*", layer.name) for layer in layers)
    return list(dict.fromkeys(word[0] for word in words if word))
