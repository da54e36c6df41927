"""Train by a recipe, report, export and publish."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import keras
import tensorflow as tf
from fovea.v1.model_card_pb2 import ModelCard

from serving.contract import card as cards
from training.cluster import Cluster
from training.data.pictures import PictureSet
from training.errors import FoveaError, reason
from training.export.savedmodel import export
from training.export.verify import verify
from training.monitoring import Monitoring
from training.options import TrainOptions
from training.recipes import recipe
from training.reports.report import SUMMARY_FILE, write_report
from training.run import Progress, Run
from training.run_folder import PUBLISHED_FILE, whole_file
from training.store import Store

CARD_FILE = "model_card.json"
"""What a run knows of its model, to publish it by."""


@dataclass(frozen=True)
class Result:
    """What became of a run."""

    folder: Path
    summary: dict[str, float]
    """Temperature, and accuracy and calibration error of each split held out (`write_evaluation`)."""
    version: int
    """Version in the store."""


class ExportFailedError(FoveaError):
    """The store could not be written."""


def train(
    options: TrainOptions,
    pictures: PictureSet,
    folder: Path,
    store: Store,
    progress: Progress | None = None,
    monitoring: Monitoring | None = None,
    resume: bool = False,
    cluster: Cluster | None = None,
) -> Result:
    """Train, write the run's folder, and publish the model.

    Args:
        options: recipe and its settings.
        pictures: the picture set, with the splits train and validation.
        folder: a new folder for the run.
        store: where the model is published.
        progress: called as decoding and feature extraction go on.
        monitoring: where to show how the training goes.
        resume: go on with the run in the folder, if there is one. A run that was published stays as it is.
        cluster: the workers that train together; the chief alone reports and publishes.

    Raises:
        FoveaError: what the user can mend.
    """
    cluster = cluster or Cluster()
    if folder.exists() and not resume and cluster.is_chief:
        raise FoveaError(f"the run folder {folder} exists; name a new one with --run, or go on with it with --resume")
    if "validation" not in pictures.splits:
        raise FoveaError(f"{pictures.root} has a train folder but no validation folder beside it")
    # Before hours of training rather than after them.
    with store.staging(options.name):
        pass
    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.precision)
    run = Run(folder, options, pictures, progress, monitoring, cluster)
    if (folder / PUBLISHED_FILE).exists():
        version = json.loads((folder / PUBLISHED_FILE).read_text())["version"]
        return Result(folder, json.loads((folder / SUMMARY_FILE).read_text()), version)
    with cluster.scope():
        model = recipe(options.recipe).train(run)
        _compute_in_float32(model)
        with cluster.writing(folder / "model.keras") as unfinished:
            model.save(unfinished)
    if not cluster.is_chief:
        return Result(folder, {}, 0)
    if cluster.size > 1:
        # What the other workers mirror would need them for every prediction.
        model = keras.models.load_model(folder / "model.keras")

    summary = write_report(run, model)
    card = model_card(options, pictures, summary)
    (folder / CARD_FILE).write_text(cards.to_json(card) + "\n")
    try:
        version = publish(model, card, store)
    except ExportFailedError as error:
        raise FoveaError(
            f"{error}. The trained model is kept; publish it with: fovea publish {folder} --store {store.root}"
        ) from error
    with whole_file(folder / PUBLISHED_FILE) as unfinished:
        unfinished.write_text(json.dumps({"store": str(store.root), "version": version}) + "\n")
    return Result(folder, summary, version)


def _compute_in_float32(model: keras.Model) -> None:
    """Leave the precision that a model was trained in: the weights are float32, and a server may have no other unit."""
    for layer in model._flatten_layers():
        layer.dtype_policy = keras.DTypePolicy("float32")


def publish_run(folder: Path, store: Store) -> int:
    """Publish the model of a finished run, for example after a full disk ended its first export.

    Returns:
        The new version.

    Raises:
        FoveaError: the folder holds no finished run.
    """
    if not (folder / CARD_FILE).exists():
        raise FoveaError(f"{folder} holds no finished run: it has no {CARD_FILE}")
    return publish(
        keras.models.load_model(folder / "model.keras"), cards.from_json((folder / CARD_FILE).read_text()), store
    )


def publish(model: keras.Model, card: ModelCard, store: Store) -> int:
    """Export a model, verify the SavedModel as TensorFlow Serving would load it, and move it into the store.

    Returns:
        The new version.

    Raises:
        ExportError: the SavedModel disagrees with Keras; nothing is published.
        ExportFailedError: the store cannot be written, or its disk is full; nothing is published.
    """
    try:
        with store.staging(card.model_name) as folder:
            savedmodel = f"{folder}/savedmodel"
            classifier, complete_card = export(model, card, savedmodel)
            verify(savedmodel, model, classifier, complete_card)
            return store.publish(savedmodel, card.model_name)
    except (OSError, tf.errors.OpError) as error:
        raise ExportFailedError(f"the export into {store.root} failed: {reason(error)}") from error


def model_card(options: TrainOptions, pictures: PictureSet, summary: dict[str, float]) -> ModelCard:
    """Write down what training knows of a model; the export adds what the network tells."""
    card = ModelCard(model_name=options.name, recipe=options.recipe, class_names=pictures.class_names)
    card.temperature = summary["temperature"]
    training = card.training
    training.data_fingerprint = pictures.fingerprint
    training.images_per_class.update(pictures.images_per_class("train"))
    training.seed = options.seed
    training.validation_accuracy = summary["validation_accuracy"]
    training.calibration_error = summary["validation_calibration_error"]
    if "test_accuracy" in summary:
        training.test_accuracy = summary["test_accuracy"]
    training.created_at = datetime.now(UTC).isoformat(timespec="seconds")
    training.code_version = metadata.version("fovea")
    return card
