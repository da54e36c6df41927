"""The state of a training after every epoch, so that a run killed at any moment can go on."""

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import keras
import numpy as np

from training.cluster import Cluster
from training.history import History
from training.options import TrainOptions


class Checkpoints(keras.callbacks.Callback):
    """Keep history and weights of one phase; take up the phase where they end.

    After each epoch the history is written first, then the weights if they are the best so far, then weights and
    optimizer state as the checkpoint, each in one rename. The checkpoint says how many epochs are done; whatever
    is newer than it is forgotten and made again.
    """

    def __init__(
        self, folder: Path, history: History, phase: str, pictures: int, options: TrainOptions, cluster: Cluster
    ):
        super().__init__()
        self._last = folder / f"{phase}.weights.h5"
        self._best = folder / f"{phase}.best.weights.h5"
        self._history, self._phase, self._pictures, self._options = history, phase, pictures, options
        self._cluster = cluster
        self._started = 0.0

    def restore(self, model: keras.Model, steps_per_epoch: int) -> int:
        """Load the checkpoint, if there is one, into a compiled model; return how many epochs are done."""
        done = 0
        if self._last.exists():
            model.optimizer.build(model.trainable_variables)
            model.load_weights(self._last)
            done = int(model.optimizer.iterations.numpy()) // steps_per_epoch
        self._history.cut(self._phase, done)
        return done

    def is_over(self, epochs: int) -> bool:
        """Tell whether so many epochs without a better one are enough."""
        return self._options.patience is not None and epochs > 0 and self._waited(epochs) >= self._options.patience

    def finish(self, model: keras.Model) -> None:
        """Give a model the weights that the phase ends with."""
        if self._options.keep_best:
            model.load_weights(self._best)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Make what dropout draws a function of (seed, epoch), as order and augmentation are."""
        states = [v for v in self.model.non_trainable_variables if v.path.endswith("seed_generator_state")]
        for position, state in enumerate(states):
            drawn = np.random.SeedSequence([self._options.seed, epoch, position]).generate_state(2)
            state.assign(drawn.astype(state.dtype))
        self._started = perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keep the epoch; end the phase if the patience is over."""
        self._history.add(self._phase, epoch + 1, logs or {}, perf_counter() - self._started, self._pictures)
        if self._options.keep_best and self._waited(epoch + 1) == 0:
            self._save(self._best)
        self._save(self._last)
        if self.is_over(epoch + 1):
            self.model.stop_training = True

    def _waited(self, epochs: int) -> int:
        return epochs - self._history.best_epoch(self._phase)

    def _save(self, path: Path) -> None:
        with self._cluster.writing(path) as unfinished:
            self.model.save_weights(unfinished)
