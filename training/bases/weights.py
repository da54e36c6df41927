"""Files of a base's weights: official ones of Keras, with or without the head, and Fovea's own."""

import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import keras

from training.errors import FoveaError

SUFFIXES = (".h5", ".hdf5")


def load_weights(
    base: keras.Model, file: Path, names: Iterable[str], with_top: Callable[[], keras.Model] | None = None
) -> None:
    """Load a file into a base.

    Args:
        base: the base.
        file: HDF5 as Keras writes it: `*.weights.h5`, or the older `*.h5`.
        names: of all bases, to say whose weights the file may hold instead.
        with_top: builds the same net with its head, for files that hold the head's weights too.

    Raises:
        FoveaError: no such file, none of weights, or weights of another net.
    """
    if not file.is_file():
        raise FoveaError(f"there is no file {file}; --base-weights takes a file of weights, *.h5")
    if not file.name.endswith(SUFFIXES) or not h5py.is_hdf5(file):
        raise FoveaError(f"{file} is no file of weights; --base-weights takes HDF5 as Keras writes it, *.h5")
    try:
        try:
            _load(base, file)
        except (ValueError, KeyError):
            if with_top is None or _size(file) <= base.count_params():
                raise
            whole = with_top()
            _load(whole, file)
            copy_weights(whole, base)
    except (ValueError, KeyError) as error:
        whose = _named_in(file.name, names) or "another net"
        raise FoveaError(
            f"{file} holds weights of {whose} ({_size(file):,} numbers), not of {base.name} "
            f"({base.count_params():,}); give --base-weights a file of {base.name}, or --base the net of the file"
        ) from error


def _load(model: keras.Model, file: Path) -> None:
    # Keras warns, dozens of times, of what a file lacks, and passes over some of it.
    if _size(file) < model.count_params():
        raise ValueError("the file holds fewer numbers than the model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.load_weights(file)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give the layers of a model the weights of another that begins with the same ones.

    Raises:
        ValueError: a layer has weights of other shapes.
    """
    theirs = (layer for layer in source.layers if layer.weights)
    for layer, original in zip([layer for layer in target.layers if layer.weights], theirs, strict=False):
        layer.set_weights(original.get_weights())
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _size(file: Path) -> int:
    """Count the numbers in a file, those of an optimizer left out."""
    sizes: list[int] = []

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and not path.startswith("optimizer"):
            sizes.append(item.size)

    with h5py.File(file) as opened:
        opened.visititems(visit)
    return sum(sizes)


def _named_in(file: str, names: Iterable[str]) -> str | None:
    """Return the name of the base that a file's name holds, the longest if there are several."""
    plain = re.sub(r"[^a-z0-9]", "", file.lower())
    return max((name for name in names if name.replace("_", "") in plain), key=len, default=None)
