"""One training run: its pictures, its folder, and the fit loop that recipes call."""

import csv
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from training import heads
from training.data import batches
from training.data.batches import Augment, Rows
from training.data.features import Features, cached_features
from training.data.pictures import PictureSet
from training.data.pixels import Pixels
from training.options import TrainOptions

HISTORY_COLUMNS = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds", "pictures_per_second")

Progress = Callable[[str, int, int], None]
"""(what is being done, how many are done, how many there are)"""


class Run:
    """What a recipe works with.

    The folder receives `config.json` at the start, then after every epoch a line of `history.csv` and the whole
    state of the training under `checkpoints/`.
    """

    def __init__(self, folder: Path, options: TrainOptions, pictures: PictureSet, progress: Progress | None = None):
        self.folder = folder
        self.options = options
        self.pictures = pictures
        self._progress = progress
        self._pixels: dict[str, Pixels] = {}
        folder.mkdir(parents=True)
        (folder / "checkpoints").mkdir()
        (folder / "config.json").write_text(json.dumps(options.to_json(), indent=2) + "\n")
        with self._history.open("w", newline="") as file:
            csv.writer(file).writerow(HISTORY_COLUMNS)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the pictures."""
        return (self.options.height, self.options.width, 3)

    @property
    def _history(self) -> Path:
        return self.folder / "history.csv"

    def classifier(self) -> list[keras.layers.Layer]:
        """Return the last layers of a net, for the classes of the pictures."""
        return heads.classifier(len(self.pictures.class_names))

    def pixels(self, split: str) -> Pixels:
        """Return the decoded pictures of a split, decoded when they are first asked for."""
        if split not in self._pixels:
            paths = [picture.path for picture in self.pictures.splits[split]]
            self._pixels[split] = Pixels(paths, *self.input_shape[:2], progress=self._report(f"decode {split}"))
        return self._pixels[split]

    def features(self, base: keras.Model) -> Callable[[str], Features]:
        """Return a function that gives a split's features of a frozen base, from disk if an earlier run left them."""

        def features_of(split: str) -> Features:
            order = "".join(picture.digest for picture in self.pictures.splits[split])
            return cached_features(
                base, lambda: self.pixels(split), f"{split}\t{order}", progress=self._report(f"{base.name} {split}")
            )

        return features_of

    def fit(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        rows: Callable[[str], Rows] | None = None,
        phase: str = "train",
        epochs: int | None = None,
        augment: Augment | None = None,
    ) -> None:
        """Train a model whose last layers are those of `classifier`.

        Args:
            model: the model.
            optimizer: a new optimizer.
            rows: gives what it takes for a split; the pixels by default.
            phase: name of this part of the training in the history.
            epochs: how many; those of the options by default.
            augment: how to vary the training pictures.
        """
        rows = rows or self.pixels
        epochs = epochs or self.options.epochs
        two_classes = model.output_shape[-1] == 1
        model.compile(
            optimizer,
            loss="binary_crossentropy" if two_classes else "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        train, batch_size = rows("train"), self.options.batch_size
        labels = self.pictures.labels("train")
        model.fit(
            batches.training_batches(train, labels, batch_size, self.options.seed, epochs=epochs, augment=augment),
            steps_per_epoch=batches.steps(len(train), batch_size),
            epochs=epochs,
            validation_data=batches.evaluation_batches(
                rows("validation"), self.pictures.labels("validation"), batch_size
            ),
            callbacks=[_Record(self, phase, len(train))],
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 2,
        )

    def record(self, phase: str, epoch: int, logs: Mapping[str, float], seconds: float, pictures: int) -> None:
        """Append an epoch to the history."""
        values = [f"{logs[column]:.6f}" for column in HISTORY_COLUMNS[2:6]]
        with self._history.open("a", newline="") as file:
            csv.writer(file).writerow([phase, epoch, *values, f"{seconds:.2f}", f"{pictures / seconds:.1f}"])

    def predict(self, model: keras.Model, split: str) -> np.ndarray:
        """Return the probabilities of a split's pictures, float32 [n, classes]."""
        outputs = model.predict(
            batches.evaluation_batches(self.pixels(split), self.pictures.labels(split), 64), verbose=0
        )
        return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs

    def _report(self, what: str) -> Callable[[int, int], None] | None:
        if self._progress is None:
            return None
        progress = self._progress
        return lambda done, total: progress(what, done, total)


class _Record(keras.callbacks.Callback):
    """Write history and checkpoint after every epoch."""

    def __init__(self, run: Run, phase: str, pictures: int):
        super().__init__()
        self._run, self._phase, self._pictures = run, phase, pictures
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        seconds = time.perf_counter() - self._started
        unfinished = self._run.folder / "checkpoints" / f".{self._phase}.keras"
        self.model.save(unfinished)
        unfinished.replace(self._run.folder / "checkpoints" / f"{self._phase}.keras")
        self._run.record(self._phase, epoch + 1, logs or {}, seconds, self._pictures)
