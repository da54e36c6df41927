"""Training on several machines: data parallelism, in step, as TF_CONFIG describes it."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from training.errors import FoveaError, WorkerLostError
from training.run_folder import whole_file

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.InternalError)
"""What an operation across workers raises when one of them is gone."""


class Cluster:
    """The workers of a run and this one's place among them; one worker alone needs no cluster.

    TF_CONFIG has the form that the Kubeflow training operator sets: `{"cluster": {"worker": ["host:port", …]},
    "task": {"type": "worker", "index": 0}}`, with or without a `chief`. All workers take every batch alike and
    train on a slice of it each; the gradients are summed over the workers (MultiWorkerMirroredStrategy). The
    chief, or worker 0, alone writes the run's folder, from which all go on when the run is resumed.
    """

    def __init__(self, tf_config: str | None = None):
        """Read TF_CONFIG and join the other workers; must come before any other use of TensorFlow.

        Raises:
            FoveaError: TF_CONFIG is not of that form.
        """
        try:
            config = json.loads(tf_config or "{}")
            workers = [address for job in ("chief", "worker") for address in config.get("cluster", {}).get(job, [])]
            task = config.get("task", {"type": "worker", "index": 0})
            self.is_chief = task["type"] == "chief" or ("chief" not in config.get("cluster", {}) and task["index"] == 0)
        except (ValueError, AttributeError, TypeError, KeyError):
            raise FoveaError(
                'TF_CONFIG is not of the form {"cluster": {"worker": ["host:port", ...]}, '
                '"task": {"type": "worker", "index": 0}}'
            ) from None
        self.size = max(1, len(workers))
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy() if self.size > 1 else None

    @classmethod
    def from_environment(cls) -> "Cluster":
        """Join the cluster of the environment variable TF_CONFIG."""
        return cls(os.environ.get("TF_CONFIG"))

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make models and optimizers, and fit, in this context.

        Raises:
            WorkerLostError: a worker is gone.
        """
        if self._strategy is None:
            yield
            return
        try:
            with self._strategy.scope():
                yield
        except LOST as error:
            raise WorkerLostError(
                "another worker is gone, and training ends here; start all workers again with --resume to go on "
                "from the last checkpoint"
            ) from error

    def check_batch_size(self, batch_size: int, pictures: int) -> None:
        """Raise FoveaError unless batches can be shared evenly and there is a whole one."""
        if self.size > 1 and (batch_size % self.size or batch_size > pictures):
            raise FoveaError(
                f"{self.size} workers cannot share batches of {batch_size} of {pictures} pictures evenly; choose a "
                f"--batch-size that is a multiple of {self.size} and at most {pictures}"
            )

    def check_same(self, what: str, value: int) -> None:
        """Raise FoveaError unless all workers come with the same number."""
        if self._strategy is None:
            return
        values = self._strategy.gather(self._strategy.run(lambda: tf.constant([value])), axis=0).numpy()
        if len(set(values)) > 1:
            raise FoveaError(
                f"the workers disagree about {what}: {values.tolist()}; the run's folder must be one that all share"
            )

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Give a path to save a model to; the chief's becomes `path` in one rename, that of others is thrown away.

        All workers must save, since metrics are summed over the workers when they are read.
        """
        if self.is_chief:
            with whole_file(path) as unfinished:
                yield unfinished
        else:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder) / path.name

    def fit(
        self,
        model: keras.Model,
        data: tf.data.Dataset,
        steps_per_epoch: int,
        initial_epoch: int,
        epochs: int,
        held_out: tf.data.Dataset,
        class_weight: dict[int, float] | None,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int,
    ) -> None:
        """Fit a compiled model, on this worker alone or in step with the others.

        Keras 3.15 cannot reduce what `Model.fit` reports over several workers; with them its own training step
        runs in a loop of ours.
        """
        if self._strategy is None:
            model.fit(
                data,
                steps_per_epoch=steps_per_epoch,
                initial_epoch=initial_epoch,
                epochs=epochs,
                validation_data=held_out,
                class_weight=class_weight,
                callbacks=list(callbacks),
                shuffle=False,
                verbose=verbose,
            )
            return
        strategy = self._strategy
        if class_weight is not None:
            weights = tf.constant([class_weight[label] for label in sorted(class_weight)], tf.float32)
            data = data.map(lambda rows, labels: (rows, labels, tf.gather(weights, labels)))
        _build(model, data)
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        batches = iter(strategy.experimental_distribute_dataset(data.with_options(options)))

        @tf.function
        def train_step(batch: tuple[tf.Tensor, ...]) -> None:
            strategy.run(model.train_step, args=(batch,))

        @tf.function
        def test_step(batch: tuple[tf.Tensor, ...]) -> None:
            # Every worker measures on all pictures: slices of the last batch could be empty.
            strategy.run(model.test_step, args=(batch,))

        container = keras.callbacks.CallbackList(
            list(callbacks), add_progbar=True, model=model, verbose=verbose, epochs=epochs, steps=steps_per_epoch
        )
        container.on_train_begin()
        model.stop_training = False
        for epoch in range(initial_epoch, epochs):
            container.on_epoch_begin(epoch)
            model.reset_metrics()
            for step in range(steps_per_epoch):
                container.on_train_batch_begin(step)
                train_step(next(batches))
                container.on_train_batch_end(step, {})
            logs = _measures(model)
            model.reset_metrics()
            for batch in held_out:
                test_step(batch)
            container.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in _measures(model).items()})
            if model.stop_training:
                break
        container.on_train_end({})


def _measures(model: keras.Model) -> dict[str, float]:
    return {name: float(value) for name, value in model.get_metrics_result().items()}


def _build(model: keras.Model, data: tf.data.Dataset) -> None:
    """Make the variables of metrics and optimizer, which cannot come into being within a step."""
    rows, labels = data.element_spec[:2]
    some = tf.zeros([1, *rows.shape[1:]], rows.dtype)
    model.compute_metrics(some, tf.zeros([1, *labels.shape[1:]], labels.dtype), model(some, training=False))
    model.reset_metrics()
    model.optimizer.build(model.trainable_variables)
