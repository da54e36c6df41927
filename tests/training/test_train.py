"""Whole training runs on a tiny picture set."""

import csv
import json
import subprocess

import keras
import numpy as np
import pytest

from serving.contract import images, signatures
from serving.contract.card import from_json
from training import recipes
from training.data.pictures import read_picture_set
from training.drawing.make import make_picture_set
from training.errors import FoveaError
from training.export.verify import Session
from training.history import COLUMNS
from training.reports.predictions import read_predictions
from training.run import Run
from training.store import Store
from training.train import publish_run, train


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    make_picture_set(folder / "set", per_class={"train": 8, "validation": 4, "test": 4}, size=40)
    return read_picture_set(folder / "set")


def options(pictures, recipe, size=94, **changes):
    return recipes.recipe(recipe).options(
        pictures.root, **({"height": size, "width": size, "epochs": 2, "batch_size": 8} | changes)
    )


def train_only(given, pictures, folder):
    """Run a recipe without exporting its model."""
    keras.utils.set_random_seed(given.seed)
    return recipes.recipe(given.recipe).train(Run(folder, given, pictures))


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def served_card(store, model):
    session = Session(f"{store.root}/{model}/1")
    answer = session.run(signatures.MODEL_CARD, {signatures.QUERY: np.array([b""], object)})
    session.close()
    return from_json(answer[signatures.CARD][0])


def test_scratch_leaves_a_run_folder_and_a_published_model(drawn, tmp_path):
    store = Store(tmp_path / "store")
    result = train(options(drawn, "scratch"), drawn, tmp_path / "run", store)
    files = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert files == {
        "config.json", "history.csv", "curves.png", "summary.json",
        "model.keras", "model_card.json", "published.json", "checkpoints/train.weights.h5",
        "validation_confusion.png", "validation_report.json", "validation_report.txt", "validation_calibration.png",
        "validation_predictions.csv", "mistakes.png",
        "test_confusion.png", "test_report.json", "test_report.txt", "test_calibration.png", "test_predictions.csv",
    }  # fmt: skip
    assert json.loads((tmp_path / "run" / "config.json").read_text())["recipe"] == "scratch"
    rows = history(tmp_path / "run")
    assert tuple(rows[0]) == COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2"]

    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    convolutions = [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert convolutions == [32, 64, 128, 128]

    assert publish_run(tmp_path / "run", store) == 2

    card = served_card(store, "scratch")
    assert list(card.class_names) == ["cat", "dog"]
    assert card.training.data_fingerprint == drawn.fingerprint
    assert dict(card.training.images_per_class) == {"cat": 8, "dog": 8}
    assert card.training.validation_accuracy == pytest.approx(result.summary["validation_accuracy"])
    assert card.training.HasField("test_accuracy")
    assert card.training.calibration_error == pytest.approx(result.summary["validation_calibration_error"])
    assert card.temperature == pytest.approx(result.summary["temperature"])
    kept = read_predictions(tmp_path / "run" / "validation_predictions.csv", drawn.class_names)
    assert kept.files[0] == "validation/cat/cat.0001.jpg"
    assert kept.right.mean() == pytest.approx(result.summary["validation_accuracy"])
    assert card.grad_cam_layer == "conv4"


def test_a_net_without_convolutions_has_no_heat_map(drawn, tmp_path):
    store = Store(tmp_path / "store")
    train(options(drawn, "dense", size=32, epochs=1), drawn, tmp_path / "run", store)
    card = served_card(store, "dense")
    assert card.grad_cam_layer == ""
    assert list(card.layers) == []


def test_what_is_served_is_what_was_calibrated(drawn, tmp_path):
    store = Store(tmp_path / "store")
    result = train(options(drawn, "dense", size=16), drawn, tmp_path / "run", store)
    assert result.summary["temperature"] != pytest.approx(1, abs=0.01)
    kept = read_predictions(tmp_path / "run" / "validation_predictions.csv", drawn.class_names)
    pictures = [images.resize(images.decode((drawn.root / file).read_bytes()), 16, 16) for file in kept.files]
    session = Session(f"{store.root}/dense/1")
    served = session.run(signatures.PREDICT, {signatures.IMAGES: np.stack(pictures)})
    session.close()
    np.testing.assert_allclose(served[signatures.PROBABILITIES], kept.probabilities, atol=1e-4)


def test_the_same_seed_gives_the_same_history(drawn, tmp_path):
    columns = ("loss", "accuracy", "val_loss", "val_accuracy")
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        train_only(options(drawn, "scratch", seed=seed), drawn, tmp_path / name)
    first, second, other = (
        [[row[c] for c in columns] for row in history(tmp_path / name)] for name in ("first", "second", "other")
    )
    assert first == second
    assert first != other


def test_a_store_that_cannot_be_written_is_found_before_training(drawn, tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(FoveaError, match="not writable"):
        train(options(drawn, "scratch"), drawn, tmp_path / "run", Store(tmp_path / "store"))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system takes rights that this user lacks")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_during_the_export_loses_nothing(drawn, small_disk, tmp_path):
    store = Store(small_disk / "store")
    with pytest.raises(FoveaError, match=r"export .* failed: .*The trained model is kept; publish it with"):
        train(options(drawn, "scratch", epochs=1), drawn, tmp_path / "run", store)
    assert store.models() == []
    assert list((small_disk / "store" / ".staging").iterdir()) == []
    with pytest.raises(FoveaError, match=r"^the export into .* failed: .*No space left on device"):
        publish_run(tmp_path / "run", store)
    assert publish_run(tmp_path / "run", Store(tmp_path / "store")) == 1


def test_a_folder_without_a_finished_run_is_not_published(tmp_path):
    with pytest.raises(FoveaError, match="no finished run"):
        publish_run(tmp_path, Store(tmp_path / "store"))


def test_a_run_folder_is_not_overwritten(drawn, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(FoveaError, match="exists"):
        train(options(drawn, "scratch"), drawn, tmp_path / "run", Store(tmp_path / "store"))


def test_unknown_recipe():
    with pytest.raises(FoveaError, match=r"'magic'; choose one of dense, scratch"):
        recipes.recipe("magic")


def test_a_sigmoid_run_predicts_two_columns(drawn, tmp_path):
    run = Run(tmp_path / "run", options(drawn, "scratch", size=32), drawn)
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), *run.classifier()])
    probabilities = run.predict(model, "validation")
    assert probabilities.shape == (8, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_model_trained_in_mixed_precision_is_served_in_float32(drawn, tmp_path):
    store = Store(tmp_path / "store")
    train(options(drawn, "dense", size=16, epochs=1, precision="mixed_bfloat16"), drawn, tmp_path / "run", store)
    keras.config.set_dtype_policy("float32")
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert store.versions("dense") == [1]
