"""One training run: its pictures, its folder, and the fit loop that recipes call."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from training import heads
from training.checkpoints import Checkpoints
from training.cluster import Cluster
from training.data import batches
from training.data.batches import Augment, Mix, Rows
from training.data.features import Features, cached_features
from training.data.pictures import PictureSet
from training.data.pixels import Pixels
from training.errors import FoveaError
from training.history import History
from training.monitoring import Monitoring
from training.options import TrainOptions
from training.run_folder import CONFIG_FILE, whole_file

Progress = Callable[[str, int, int], None]
"""(what is being done, how many are done, how many there are)"""


class Run:
    """What a recipe works with.

    The folder receives `config.json` at the start, then after every epoch a line of `history.csv` and the whole
    state of the training under `checkpoints/`.
    """

    def __init__(
        self,
        folder: Path,
        options: TrainOptions,
        pictures: PictureSet,
        progress: Progress | None = None,
        monitoring: Monitoring | None = None,
        cluster: Cluster | None = None,
    ):
        """Begin a run in a new folder, or take up the one that is there.

        Raises:
            FoveaError: the folder holds a run of other options or pictures.
        """
        self.folder = folder
        self.options = options
        self.pictures = pictures
        self._progress = progress
        self._monitoring = monitoring or Monitoring()
        self._cluster = cluster or Cluster()
        self._pixels: dict[str, Pixels] = {}
        if self._cluster.is_chief:
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        config = options.to_json() | {
            "class_names": list(pictures.class_names),
            "data_fingerprint": pictures.fingerprint,
        }
        _keep_config(folder / CONFIG_FILE, config, self._cluster.is_chief)
        self._history = History(folder / "history.csv", self._cluster.is_chief)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the pictures."""
        return (self.options.height, self.options.width, 3)

    @property
    def steps(self) -> int:
        """Steps of the main training phase, for schedules."""
        return self.options.epochs * batches.steps(
            len(self.pictures.splits["train"]), self.options.batch_size, self._cluster.size > 1
        )

    def classifier(self, softmax: bool = False) -> list[keras.layers.Layer]:
        """Return the last layers of a net, for the classes of the pictures or the characters of their texts."""
        if self.pictures.positions is not None:
            return heads.text_classifier(self.pictures.positions, len(self.pictures.class_names))
        return heads.classifier(len(self.pictures.class_names), softmax)

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
        mix: Mix | None = None,
    ) -> None:
        """Train a model that ends in probabilities, or go on where the run was broken off.

        Args:
            model: the model.
            optimizer: a new optimizer.
            rows: gives what it takes for a split, if not pixels: features, for a net that is quick.
            phase: name of this part of the training in the history.
            epochs: how many; those of the options by default.
            augment: how to vary the training pictures.
            mix: how to mix the pictures and labels of a training batch; the model must end in a softmax.
        """
        # Where the net takes less time than the Python between two steps, an epoch is one execution.
        short = rows is not None
        rows = rows or self.pixels
        epochs = epochs or self.options.epochs
        train, batch_size = rows("train"), self.options.batch_size
        # Workers share whole batches: of a smaller last one, some could be left without a picture.
        whole = self._cluster.size > 1
        self._cluster.check_batch_size(batch_size, len(train))
        steps_per_epoch = batches.steps(len(train), batch_size, whole)
        checkpoints = Checkpoints(
            self.folder / "checkpoints", self._history, phase, len(train), self.options, self._cluster
        )
        one_hot = mix is not None
        model.compile(
            optimizer,
            loss=_loss(model, one_hot),
            metrics=["accuracy"],
            steps_per_execution=steps_per_epoch if short else 1,
        )
        done = checkpoints.restore(model, steps_per_epoch)
        self._cluster.check_same("the epochs that are done", done)
        if done < epochs and not checkpoints.is_over(done):
            classes = model.output_shape[-1]
            data = batches.training_batches(
                train,
                self.pictures.labels("train"),
                batch_size,
                self.options.seed,
                first_epoch=done,
                epochs=epochs,
                augment=augment,
                mix=mix,
                one_hot=classes if one_hot else None,
                whole=whole,
            )
            held_out = batches.evaluation_batches(
                rows("validation"),
                self.pictures.labels("validation"),
                batch_size,
                one_hot=classes if one_hot else None,
            )
            self._cluster.fit(
                model,
                data,
                steps_per_epoch,
                done,
                epochs,
                held_out,
                self._class_weights(),
                [checkpoints, *self._monitoring.callbacks(phase, len(train))],
                verbose=(1 if sys.stdout.isatty() else 2) if self._cluster.is_chief else 0,
            )
            self._cluster.check_same("the steps that were made", int(model.optimizer.iterations.numpy()))
        checkpoints.finish(model)

    def _class_weights(self) -> dict[int, float] | None:
        if not self.options.class_weights:
            return None
        labels = self.pictures.labels("train")
        if labels.ndim > 1:
            raise FoveaError("--class-weights needs pictures with one label each; these have a text")
        counts = np.bincount(labels)
        return {label: counts.sum() / (len(counts) * count) for label, count in enumerate(counts)}

    def predict(self, model: keras.Model, split: str) -> np.ndarray:
        """Return the probabilities of a split's pictures, float32 [n, classes], or [n, positions, classes]."""
        outputs = model.predict(
            batches.evaluation_batches(self.pixels(split), self.pictures.labels(split), 64), verbose=0
        )
        return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1:] == (1,) else outputs

    def _report(self, what: str) -> Callable[[int, int], None] | None:
        if self._progress is None:
            return None
        progress = self._progress
        return lambda done, total: progress(what, done, total)


def _loss(model: keras.Model, one_hot: bool) -> keras.losses.Loss:
    if model.output_shape[-1] == 1:
        return keras.losses.BinaryCrossentropy()
    if one_hot:
        return keras.losses.CategoricalCrossentropy()
    return keras.losses.SparseCategoricalCrossentropy()


def _keep_config(path: Path, config: dict[str, object], is_chief: bool) -> None:
    if not path.exists():
        if is_chief:
            with whole_file(path) as unfinished:
                unfinished.write_text(json.dumps(config, indent=2) + "\n")
        return
    for key, before in json.loads(path.read_text()).items():
        if before != config[key]:
            raise FoveaError(
                f"{path.parent} is a run with {key} {before!r}, not {config[key]!r}; "
                "resume it as it began, or name a new folder with --run"
            )
