"""The nets of `keras.applications` as bases: without their heads, with the input scaling they were trained with."""

import http.client
import inspect
import re
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from training.errors import FoveaError

APPLICATIONS: dict[str, Callable[..., keras.Model]] = {
    name.lower(): build for name, build in vars(keras.applications).items() if inspect.isfunction(build)
}
"""What builds each net, by Keras's name in lower case."""

NETWORK_TIMEOUT_S = 30.0


@keras.saving.register_keras_serializable(package="fovea")
class InputScaling(keras.layers.Layer):
    """Bring RGB in 0..255 into the channel order and range that a net expects: x[..., order] * scale + offset."""

    def __init__(self, order: Sequence[int], scale: Sequence[float], offset: Sequence[float], **kwargs: Any):
        """Take three values each, for the channels of the result."""
        super().__init__(**kwargs)
        self.order, self.scale, self.offset = list(order), list(scale), list(offset)

    def call(self, images: Any) -> Any:
        """Scale images [n,h,w,3]."""
        if self.order != [0, 1, 2]:
            images = keras.ops.take(images, self.order, axis=-1)
        return images * keras.ops.cast(self.scale, images.dtype) + keras.ops.cast(self.offset, images.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"order": self.order, "scale": self.scale, "offset": self.offset}


def input_scaling(name: str) -> InputScaling | None:
    """Return the layer that does what Keras's `preprocess_input` for a net does; None where that changes nothing.

    Every `preprocess_input` scales and shifts each channel, and some reverse their order. What black and the three
    primary colours become says all of it.
    """
    preprocess = inspect.getmodule(APPLICATIONS[name]).preprocess_input  # type: ignore[union-attr]
    black = np.asarray(preprocess(np.zeros((1, 1, 1, 3))))[0, 0, 0]
    primaries = np.asarray(preprocess(255 * np.eye(3)[:, np.newaxis, np.newaxis]))[:, 0, 0] - black
    order = np.abs(primaries).argmax(axis=0)
    scale = primaries[order, np.arange(3)] / 255
    if np.array_equal(primaries, 255 * np.eye(3)) and not black.any():
        return None
    return InputScaling(order.tolist(), scale.tolist(), black.tolist(), name="input_scaling")


def application(name: str, height: int, width: int, published: bool = False) -> keras.Model:
    """Build a net without its head.

    Args:
        name: a key of APPLICATIONS.
        height: rows of the pictures.
        width: columns of the pictures.
        published: give it its ImageNet weights, which Keras downloads unless its cache holds them; else random ones.

    Returns:
        A model from RGB [n,h,w,3] in 0..255 to features [n,h',w',c].

    Raises:
        FoveaError: the net does not take pictures of this size, or its weights cannot be downloaded.
    """
    inputs = keras.Input((height, width, 3), name="images")
    scaling = input_scaling(name)
    with _sentences(name, height, width):
        net = APPLICATIONS[name](
            include_top=False,
            weights="imagenet" if published else None,
            input_tensor=inputs if scaling is None else scaling(inputs),
            input_shape=(height, width, 3),
        )
    return keras.Model(inputs, net.output, name=name)


def with_top(name: str) -> keras.Model:
    """Build a net with its head for the thousand classes of ImageNet, at the size it was made for."""
    return APPLICATIONS[name](include_top=True, weights=None)


def scale_as_published(name: str, base: keras.Model) -> None:
    """Correct the input scaling of a net whose published weights were loaded from a file.

    EfficientNet divides its normalised input once more by the square root of each channel's deviation where Keras
    itself loads the weights, and only there (keras.src.applications.efficientnet); here the variance takes that in.
    """
    deviations = getattr(inspect.getmodule(APPLICATIONS[name]), "IMAGENET_STDDEV_RGB", None)
    if deviations is None:
        return
    for layer in base.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_variance.assign(layer.adapt_variance * np.array(deviations, np.float32))
            layer.finalize_state()


@contextmanager
def _sentences(name: str, height: int, width: int) -> Iterator[None]:
    """Build and download in this context: never hang, and turn what Keras raises into sentences."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT_S)
    try:
        with warnings.catch_warnings():
            # MobileNets warn that their weights were trained at another size, which every transfer does.
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        if least := re.search(r"at least (\d+) ?x ?(\d+)", str(error)):
            raise FoveaError(
                f"{name} takes pictures of {least[1]}x{least[2]} pixels or more, not {width}x{height}; "
                f"choose a larger --size, or another --base"
            ) from error
        if "corrupted file" in str(error) or "open file" in str(error):
            raise FoveaError(
                f"the ImageNet weights of {name} in the cache of Keras (~/.keras/models) are damaged; delete the file "
                f"and try again, or give the official one with --base-weights FILE"
            ) from error
        address = re.search(r"URL fetch failure on (\S+): (?:None -- )?(.*)", str(error))
        if address or isinstance(error, (OSError, http.client.HTTPException)):
            origin, reason = address.groups() if address else (None, str(error))
            raise FoveaError(
                f"the ImageNet weights of {name} could not be downloaded ({reason}); download "
                f"{origin or 'its official file without top'} elsewhere and give it with --base-weights FILE, "
                f"or use --base fovea_small, whose weights come with Fovea"
            ) from error
        if isinstance(error, ValueError):
            raise FoveaError(f"{name} cannot be built for pictures of {width}x{height} pixels: {error}") from error
        raise
    finally:
        socket.setdefaulttimeout(timeout)
