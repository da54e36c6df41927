"""What training costs: against Keras's own generator, with cached features, and in memory as the pictures grow."""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from PIL import Image

from benchmarks.measuring import Figure, report

if TYPE_CHECKING:
    import keras

CLASSES = ("cat", "dog")
BATCH_SIZE = 32
FEW, MANY = 500, 5000


def write_pictures(folder: Path, train: int, validation: int = 32) -> None:
    """Write JPEGs of 240x200 pixels into split class folders: smooth noise, which takes as long as photographs."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("validation", validation)):
        for number in range(count):
            path = folder / split / CLASSES[number % 2] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(generator.integers(0, 256, (25, 30, 3), np.uint8))
            coarse.resize((240, 200), Image.Resampling.BICUBIC).save(path, quality=90)


def against_generator(folder: Path, epochs: int) -> list[Figure]:
    """Time epochs of scratch_augmented fed by Fovea and by `ImageDataGenerator.flow_from_directory`, in turn."""
    import keras
    import tensorflow as tf

    from training.data import batches
    from training.data.pictures import read_picture_set
    from training.data.pixels import Pixels
    from training.recipes.scratch import AUGMENTATION

    pictures = read_picture_set(folder)
    count = len(pictures.splits["train"])
    started = time.perf_counter()
    pixels = Pixels([picture.path for picture in pictures.splits["train"]], 150, 150)
    decoding = time.perf_counter() - started
    ours = batches.training_batches(
        pixels, pictures.labels("train"), BATCH_SIZE, seed=0, epochs=epochs + 1, augment=AUGMENTATION
    )
    # Keras 3 keeps it for what was written for Keras 2, under this name alone.
    theirs = tf.keras.preprocessing.image.ImageDataGenerator(
        rotation_range=AUGMENTATION.rotation,
        width_shift_range=AUGMENTATION.shift,
        height_shift_range=AUGMENTATION.shift,
        shear_range=float(np.rad2deg(AUGMENTATION.shear)),
        zoom_range=AUGMENTATION.zoom,
        horizontal_flip=AUGMENTATION.flip,
        fill_mode="nearest",
    ).flow_from_directory(
        str(folder / "train"), target_size=(150, 150), batch_size=BATCH_SIZE, class_mode="binary", seed=0
    )
    steps = batches.steps(count, BATCH_SIZE)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    nets = {name: _net(folder.parent / name) for name in seconds}
    feeds = {"ours": iter(ours), "theirs": iter(theirs)}
    for epoch in range(epochs + 1):
        for name, feed in feeds.items():
            started = time.perf_counter()
            for _ in range(steps):
                images, labels = next(feed)
                nets[name].train_on_batch(images, labels)
            # The first epoch compiles.
            if epoch:
                seconds[name].append(time.perf_counter() - started)
    keras.utils.clear_session()
    speed = {name: count / statistics.median(values) for name, values in seconds.items()}
    return [
        Figure("scratch_augmented over ImageDataGenerator", speed["ours"] / speed["theirs"], "times", at_least=2),
        Figure("scratch_augmented, training", speed["ours"], "pictures/s"),
        Figure("the same net fed by ImageDataGenerator", speed["theirs"], "pictures/s"),
        Figure("decoding, once before the first epoch", count / decoding, "pictures/s"),
    ]


def _net(folder: Path) -> "keras.Model":
    """Build and compile the net of scratch_augmented."""
    import keras

    from benchmarks.scratch import Untrained
    from training.data.pictures import Findings, PictureSet
    from training.recipes import recipe

    chosen = recipe("scratch_augmented")
    model = chosen.train(Untrained(folder, chosen.options(folder), PictureSet(folder, CLASSES, {}, Findings())))
    model.compile(keras.optimizers.RMSprop(1e-4), "binary_crossentropy", metrics=["accuracy"])
    return model


def cached_against_end_to_end(folder: Path, workspace: Path, epochs: int) -> list[Figure]:
    """Compare epochs of feature_extraction on cached features with those that run the base, as the history tells."""
    seconds = {
        name: statistics.median(_epochs(folder, workspace / name, "feature_extraction", epochs, cached=cached))
        for name, cached in (("end_to_end", False), ("cached", True))
    }
    return [
        Figure("end-to-end epoch over cached epoch", seconds["end_to_end"] / seconds["cached"], "times", at_least=100),
        Figure("epoch of feature_extraction, end to end", seconds["end_to_end"], "s"),
        Figure("epoch of feature_extraction, cached", seconds["cached"], "s"),
    ]


def _epochs(folder: Path, run: Path, name: str, epochs: int, **options: object) -> list[float]:
    """Train by a recipe; return the seconds of each epoch but the first."""
    from training.data.pictures import read_picture_set
    from training.recipes import recipe
    from training.reports.curves import read_history
    from training.run import Run

    chosen = recipe(name)
    chosen.train(Run(run, chosen.options(folder, epochs=epochs + 1, **options), read_picture_set(folder)))
    return read_history(run)["seconds"][1:]


def memory(workspace: Path) -> list[Figure]:
    """Compare the peak memory of training on few and on many pictures, each in a process of its own."""
    peaks = {}
    for count in (FEW, MANY):
        write_pictures(workspace / str(count), count)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks[count] = pool.submit(_peak_memory, workspace / str(count), workspace / f"run{count}").result()
    return [
        Figure(f"peak memory, {MANY} pictures over {FEW}", peaks[MANY] / peaks[FEW], "times", at_most=1.2),
        *(Figure(f"peak memory, {count} pictures", peak, "MB") for count, peak in peaks.items()),
    ]


def _peak_memory(folder: Path, run: Path) -> float:
    from training.quiet import import_tensorflow

    import_tensorflow()
    _epochs(folder, run, "scratch_augmented", 1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(
    pictures: Annotated[int, typer.Option(min=1, help="Training pictures where speed is measured.")] = 500,
    cached_pictures: Annotated[int, typer.Option(min=1, help="The same for features kept on disk.")] = 2000,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs that are timed.")] = 5,
) -> None:
    """Measure training speed and memory."""
    from training.quiet import import_tensorflow

    import_tensorflow()
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Path(temporary)
        write_pictures(workspace / "pictures", pictures)
        write_pictures(workspace / "cached", cached_pictures)
        parts: list[Callable[[], list[Figure]]] = [
            lambda: against_generator(workspace / "pictures", epochs),
            lambda: cached_against_end_to_end(workspace / "cached", workspace, epochs),
            lambda: memory(workspace),
        ]
        figures = [figure for part in parts for figure in part()]
    options = {"pictures": pictures, "cached_pictures": cached_pictures, "epochs": epochs}
    report("training", options, figures)


if __name__ == "__main__":
    typer.run(main)
