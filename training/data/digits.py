"""Grey pictures of 28x28 pixels in ten classes, as folders: the classic sets, or one that needs no internet."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from training.data.staging import new_folder
from training.errors import FoveaError, reason

Source = Literal["digits", "mnist", "fashion_mnist"]
SIDE = 28
DIGIT = 20
_GARMENTS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def write_digits(
    folder: Path, source: Source = "digits", seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write a set of small grey pictures as `<split>/<class>/<number>.png`, with train, validation and test.

    Args:
        folder: a new or empty folder.
        source: `digits`, the 1,797 of 8x8 that come with scikit-learn (Alpaydin and Kaynak 1998), each enlarged to
            20x20 and put somewhere in the picture; `mnist` (LeCun et al. 1998) or `fashion_mnist` (Xiao et al. 2017),
            which Keras downloads.
        seed: decides where digits are put and which pictures are held out; a tenth of MNIST's training pictures
            validate, its test set tests.
        progress: called with (pictures written, pictures in all).

    Raises:
        FoveaError: the folder is not empty, or the pictures cannot be downloaded.
    """
    splits = _bundled(seed) if source == "digits" else _downloaded(source, seed)
    total, done = sum(len(labels) for _, labels in splits.values()), 0
    with new_folder(folder) as staging:
        for split, (pictures, labels) in splits.items():
            for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
                name = _GARMENTS[label] if source == "fashion_mnist" else str(label)
                path = staging / split / name / f"{number:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
                done += 1
                if progress:
                    progress(done, total)


Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def _bundled(seed: int) -> Splits:
    digits = load_digits()
    pictures = np.zeros((len(digits.images), SIDE, SIDE), np.uint8)
    places = np.random.default_rng(seed).integers(0, SIDE - DIGIT + 1, (len(pictures), 2))
    for picture, digit, (top, left) in zip(pictures, digits.images, places, strict=True):
        small = Image.fromarray(np.round(digit * (255 / 16)).astype(np.uint8))
        picture[top : top + DIGIT, left : left + DIGIT] = np.asarray(
            small.resize((DIGIT, DIGIT), Image.Resampling.BICUBIC)
        )
    train, held_out, train_labels, held_out_labels = train_test_split(
        pictures, digits.target, test_size=0.4, random_state=seed, stratify=digits.target
    )
    validation, test, validation_labels, test_labels = train_test_split(
        held_out, held_out_labels, test_size=0.5, random_state=seed, stratify=held_out_labels
    )
    return {
        "train": (train, train_labels),
        "validation": (validation, validation_labels),
        "test": (test, test_labels),
    }


def _downloaded(source: Source, seed: int) -> Splits:
    try:
        (pictures, labels), test = getattr(keras.datasets, source).load_data()
    except Exception as error:
        raise FoveaError(
            f"{source} cannot be downloaded: {reason(error)}. Without internet, choose --source digits, or put the "
            f"file that Keras names into ~/.keras/datasets"
        ) from error
    train, validation, train_labels, validation_labels = train_test_split(
        pictures, labels, test_size=0.1, random_state=seed, stratify=labels
    )
    return {"train": (train, train_labels), "validation": (validation, validation_labels), "test": test}
