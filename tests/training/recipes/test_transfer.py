"""Recipes on a pretrained base, with untrained ones on a tiny picture set."""

import csv
import json

import keras
import numpy as np
import pytest

from serving.contract import signatures
from serving.contract.card import from_json
from training import recipes
from training.bases import fovea_small
from training.bases.unfreezing import choose_layers
from training.data.pictures import read_picture_set
from training.drawing.make import make_picture_set
from training.errors import FoveaError
from training.export.verify import Session
from training.recipes import transfer
from training.run import Run
from training.store import Store
from training.train import train


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    make_picture_set(folder / "set", per_class={"train": 4, "validation": 2}, size=40)
    return read_picture_set(folder / "set")


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    make_picture_set(folder / "set", ("cat", "dog", "fish"), {"train": 4, "validation": 2}, size=40)
    return read_picture_set(folder / "set")


@pytest.fixture(scope="module")
def base_weights(tmp_path_factory):
    weights = tmp_path_factory.mktemp("weights") / "fovea_small.weights.h5"
    keras.utils.set_random_seed(3)
    fovea_small(32, 32, weights=None).save_weights(weights)
    return weights


@pytest.fixture(autouse=True)
def short_and_clean(tmp_path, monkeypatch):
    """One epoch for the head of fine-tuning, and a cache folder that is thrown away."""
    monkeypatch.setattr(transfer, "HEAD_EPOCHS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def options(pictures, recipe, **changes):
    return recipes.recipe(recipe).options(
        pictures.root, **({"height": 32, "width": 32, "epochs": 2, "batch_size": 4} | changes)
    )


def train_only(given, pictures, folder):
    """Run a recipe without exporting its model."""
    keras.utils.set_random_seed(given.seed)
    return recipes.recipe(given.recipe).train(Run(folder, given, pictures))


def train_and_keep(given, pictures, folder):
    """Run a recipe and save its model as a finished run has it."""
    model = train_only(given, pictures, folder)
    model.save(folder / "model.keras")
    return model


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def measures(folder):
    return [[row[column] for column in ("phase", "epoch", "loss", "val_loss")] for row in history(folder)]


def served_card(store, model):
    session = Session(f"{store.root}/{model}/1")
    answer = session.run(signatures.MODEL_CARD, {signatures.QUERY: np.array([b""], object)})
    session.close()
    return from_json(answer[signatures.CARD][0])


def moved(base, original):
    return {
        layer.name
        for layer in original.layers
        if any(
            not np.array_equal(old, new)
            for old, new in zip(layer.get_weights(), base.get_layer(layer.name).get_weights(), strict=True)
        )
    }


@pytest.mark.slow
def test_cached_features_serve_a_second_run_and_leave_the_base_alone(three_classes, base_weights, tmp_path):
    store = Store(tmp_path / "store")
    given = options(three_classes, "feature_extraction", base_weights=base_weights, cached=True)
    train(given, three_classes, tmp_path / "run", store)
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert moved(model.get_layer("fovea_small"), fovea_small(32, 32, base_weights)) == set()
    assert served_card(store, "feature_extraction").grad_cam_layer == "fovea_small/features"

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert len(kept) == 2
    train_only(given, three_classes, tmp_path / "again")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")} == kept
    assert measures(tmp_path / "again") == measures(tmp_path / "run")


def test_end_to_end_the_base_stays_as_it_was(drawn, base_weights, tmp_path):
    given = options(drawn, "feature_extraction", base_weights=base_weights)
    model = train_only(given, drawn, tmp_path / "run")
    original = fovea_small(32, 32, base_weights)
    assert moved(model.get_layer("fovea_small"), original) == set()
    assert {variable.path.split("/")[-2] for variable in model.trainable_variables} == {"dense", "logits"}
    assert [row["phase"] for row in history(tmp_path / "run")] == ["train", "train"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("unfreeze", "adapted"),
    [
        (None, {layer.name for layer in choose_layers(fovea_small(32, 32, weights=None))}),
        ("3", {"stage3_conv2", "stage3_shortcut", "features"}),
    ],
)
def test_fine_tuning_moves_what_is_unfrozen_and_nothing_else(unfreeze, adapted, drawn, base_weights, tmp_path):
    given = options(drawn, "fine_tuned", base_weights=base_weights, unfreeze=unfreeze)
    model = train_only(given, drawn, tmp_path / "run")
    assert [row["phase"] for row in history(tmp_path / "run")] == ["head", "joint", "joint"]
    assert moved(model.get_layer("fovea_small"), fovea_small(32, 32, base_weights)) == adapted


def test_fine_tuning_goes_on_where_it_was_broken_off(drawn, base_weights, tmp_path):
    given = options(drawn, "fine_tuned", base_weights=base_weights)
    whole = train_only(given, drawn, tmp_path / "whole")
    kept = measures(tmp_path / "whole")
    # As after a kill between the phases.
    (tmp_path / "whole" / "checkpoints" / "joint.weights.h5").unlink()
    again = train_only(given, drawn, tmp_path / "whole")
    assert measures(tmp_path / "whole") == kept
    assert moved(again.get_layer("fovea_small"), whole.get_layer("fovea_small")) == set()


@pytest.mark.parametrize("cached", [True, False])
def test_fine_tuning_begins_with_an_earlier_run(cached, drawn, base_weights, tmp_path):
    given = options(drawn, "feature_extraction", base_weights=base_weights, cached=cached)
    earlier = train_and_keep(given, drawn, tmp_path / "earlier")
    run = Run(tmp_path / "begun", options(drawn, "fine_tuned", from_run=tmp_path / "earlier"), drawn)
    begun = transfer._earlier(run, tmp_path / "earlier")
    for taken, original in zip(begun.get_weights(), earlier.get_weights(), strict=True):
        np.testing.assert_array_equal(taken, original)

    model = train_only(options(drawn, "fine_tuned", from_run=tmp_path / "earlier"), drawn, tmp_path / "run")
    assert [row["phase"] for row in history(tmp_path / "run")] == ["joint", "joint"]
    original = fovea_small(32, 32, base_weights)
    assert moved(model.get_layer("fovea_small"), original) == {layer.name for layer in choose_layers(original)}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"base": "mobilenet_v2"}, r"on the base fovea_small, not mobilenetv2; give --base fovea_small"),
        ({"height": 40}, r"pictures of 32x32 pixels, not 32x40; give --size 32x32"),
        ({"base_weights": "FILE"}, r"leave --base-weights out"),
    ],
)
def test_an_earlier_run_of_another_kind_is_refused(changes, sentence, drawn, base_weights, tmp_path):
    train_and_keep(
        options(drawn, "feature_extraction", base_weights=base_weights, cached=True), drawn, tmp_path / "earlier"
    )
    given = options(drawn, "fine_tuned", from_run=tmp_path / "earlier", **changes)
    with pytest.raises(FoveaError, match=sentence):
        train_only(given, drawn, tmp_path / "run")
    assert history(tmp_path / "run") == []


def test_an_earlier_run_of_other_classes_or_in_another_order_is_refused(drawn, three_classes, base_weights, tmp_path):
    earlier = tmp_path / "earlier"
    given = options(drawn, "feature_extraction", base_weights=base_weights, cached=True)
    train_and_keep(given, drawn, earlier)
    with pytest.raises(FoveaError, match=r"with the classes cat, dog; these pictures have cat, dog, fish"):
        train_only(options(three_classes, "fine_tuned", from_run=earlier), three_classes, tmp_path / "more")
    config = json.loads((earlier / "config.json").read_text())
    (earlier / "config.json").write_text(json.dumps(config | {"class_names": ["dog", "cat"]}))
    with pytest.raises(FoveaError, match=r"with the classes dog, cat; these pictures have cat, dog"):
        train_only(options(drawn, "fine_tuned", from_run=earlier), drawn, tmp_path / "turned")


def test_what_is_no_finished_feature_extraction_is_refused(drawn, base_weights, tmp_path):
    with pytest.raises(FoveaError, match="no finished run"):
        train_only(options(drawn, "fine_tuned", from_run=tmp_path / "absent"), drawn, tmp_path / "first")
    train_and_keep(options(drawn, "dense", epochs=1), drawn, tmp_path / "dense")
    with pytest.raises(FoveaError, match="a run of dense; fine-tuning begins with feature_extraction"):
        train_only(options(drawn, "fine_tuned", from_run=tmp_path / "dense"), drawn, tmp_path / "second")


def test_what_cannot_be_unfrozen_is_found_before_training(drawn, base_weights, tmp_path):
    given = options(drawn, "fine_tuned", base_weights=base_weights, unfreeze="block5")
    with pytest.raises(FoveaError, match="begins no layer of fovea_small"):
        train_only(given, drawn, tmp_path / "run")
    assert history(tmp_path / "run") == []


def test_a_base_that_does_not_fit_the_pictures_is_found_before_training(drawn, tmp_path):
    with pytest.raises(FoveaError, match="75x75 pixels or more"):
        train_only(options(drawn, "feature_extraction", base="inception_v3"), drawn, tmp_path / "run")
    assert history(tmp_path / "run") == []
