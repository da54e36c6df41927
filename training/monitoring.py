"""What a running training shows: Prometheus metrics and TensorBoard logs."""

import time
from collections.abc import Mapping
from pathlib import Path

import keras
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from training.errors import FoveaError, reason


class Monitoring:
    """Where to show how the training goes; both ways are optional."""

    def __init__(self, metrics_port: int | None = None, tensorboard: Path | None = None):
        """Open the metrics port.

        Args:
            metrics_port: port of all interfaces on which `/metrics` answers.
            tensorboard: folder for TensorBoard's logs.

        Raises:
            FoveaError: the port cannot be opened.
        """
        self._tensorboard = tensorboard
        self._metrics = _Metrics() if metrics_port is not None else None
        if self._metrics is not None and metrics_port is not None:
            try:
                start_http_server(metrics_port, registry=self._metrics.registry)
            except OSError as error:
                raise FoveaError(f"--metrics-port {metrics_port} cannot be opened: {reason(error)}") from error

    def callbacks(self, phase: str, pictures: int) -> list[keras.callbacks.Callback]:
        """Return what Keras is to call while it fits a phase of so many pictures an epoch."""
        callbacks: list[keras.callbacks.Callback] = []
        if self._metrics is not None:
            callbacks.append(_Watch(self._metrics, phase, pictures))
        if self._tensorboard is not None:
            callbacks.append(keras.callbacks.TensorBoard(self._tensorboard / phase, write_graph=False))
        return callbacks


class _Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.epoch = Gauge("fovea_training_epoch", "Epochs done in this phase.", ["phase"], registry=self.registry)
        self.loss = Gauge("fovea_training_loss", "Mean loss.", ["phase", "split"], registry=self.registry)
        self.accuracy = Gauge("fovea_training_accuracy", "Accuracy, 0..1.", ["phase", "split"], registry=self.registry)
        self.speed = Gauge(
            "fovea_training_pictures_per_second",
            "Training pictures a second over the last epoch.",
            ["phase"],
            registry=self.registry,
        )
        self.pictures = Counter("fovea_training_pictures", "Pictures trained on.", ["phase"], registry=self.registry)


class _Watch(keras.callbacks.Callback):
    """Keep the metrics current: training figures with every step, validation figures with every epoch."""

    def __init__(self, metrics: _Metrics, phase: str, pictures: int):
        super().__init__()
        self._metrics, self._phase, self._pictures = metrics, phase, pictures
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Take the time."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Show loss and accuracy so far."""
        self._set("train", logs or {}, "")
        self._metrics.pictures.labels(self._phase).inc(self._pictures / self.params["steps"])

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Show the epoch's figures."""
        self._set("train", logs or {}, "")
        self._set("validation", logs or {}, "val_")
        self._metrics.epoch.labels(self._phase).set(epoch + 1)
        self._metrics.speed.labels(self._phase).set(self._pictures / (time.perf_counter() - self._started))

    def _set(self, split: str, logs: Mapping[str, float], prefix: str) -> None:
        for measure, gauge in (("loss", self._metrics.loss), ("accuracy", self._metrics.accuracy)):
            if f"{prefix}{measure}" in logs:
                gauge.labels(self._phase, split).set(float(logs[f"{prefix}{measure}"]))
