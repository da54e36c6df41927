"""The fit loop on tiny nets: what it keeps, when it stops, what it shows."""

import csv
import socket

import httpx
import keras
import numpy as np
import pytest
import tensorflow as tf

from training import recipes
from training.data.mixing import Mixup
from training.data.pictures import read_picture_set
from training.errors import FoveaError
from training.monitoring import Monitoring
from training.run import Run


@pytest.fixture
def pictures(split_folders):
    return read_picture_set(split_folders)


@pytest.fixture
def run(tmp_path, pictures):
    """A function that begins a run with some options."""

    def begin(name="run", monitoring=None, **changes):
        options = recipes.recipe("dense").options(
            pictures.root, **({"height": 8, "width": 8, "epochs": 3, "batch_size": 4} | changes)
        )
        return Run(tmp_path / name, options, pictures, monitoring=monitoring)

    return begin


def net(run, dropout=0.0, softmax=False):
    keras.utils.set_random_seed(1)
    rate = [keras.layers.Dropout(dropout, seed=5)] if dropout else []
    inputs = [keras.Input(run.input_shape), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    return keras.Sequential([*inputs, *rate, *run.classifier(softmax)])


def history(run):
    with (run.folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights_after(run, epochs, dropout=0.0):
    model = net(run, dropout)
    run.fit(model, keras.optimizers.SGD(0.3, momentum=0.9), epochs=epochs)
    return model.get_weights()


def test_a_phase_ends_with_its_best_epoch(run):
    kept = run("kept", keep_best=True, epochs=8)
    best = weights_after(kept, 8)
    rows = history(kept)
    epoch = 1 + max(range(8), key=lambda k: (float(rows[k]["val_accuracy"]), -float(rows[k]["val_loss"])))
    assert epoch < 8
    last = weights_after(run("last", epochs=epoch), epoch)
    for of_best, of_last in zip(best, last, strict=True):
        np.testing.assert_array_equal(of_best, of_last)


def test_patience_ends_a_phase_and_a_later_start_leaves_it_ended(run):
    patient = run("patient", epochs=50, patience=2, keep_best=True)
    weights = weights_after(patient, 50)
    rows = history(patient)
    best = max(range(len(rows)), key=lambda k: (float(rows[k]["val_accuracy"]), -float(rows[k]["val_loss"])))
    assert len(rows) == best + 1 + 2 < 50
    again = run("patient", epochs=50, patience=2, keep_best=True)
    for first, second in zip(weights, weights_after(again, 50), strict=True):
        np.testing.assert_array_equal(first, second)
    assert history(again) == rows


def test_an_epoch_in_one_execution_is_the_same_epoch(run):
    """What serves features, which are read and stepped through without Python between."""
    step_by_step, at_once = run("step-by-step", batch_size=2), run("at-once", batch_size=2)
    models = [net(each, dropout=0.5) for each in (step_by_step, at_once)]
    step_by_step.fit(models[0], keras.optimizers.SGD(0.3, momentum=0.9))
    at_once.fit(models[1], keras.optimizers.SGD(0.3, momentum=0.9), rows=at_once.pixels)
    for first, second in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)
    measures = [
        [row[name] for row in history(each) for name in ("loss", "val_loss")] for each in (step_by_step, at_once)
    ]
    np.testing.assert_allclose(*(np.array(each, float) for each in measures), atol=2e-6)


def test_a_run_goes_on_with_the_same_dropout(run):
    whole = weights_after(run("whole", epochs=4), 4, dropout=0.5)
    weights_after(run("broken", epochs=4), 2, dropout=0.5)
    resumed = weights_after(run("broken", epochs=4), 4, dropout=0.5)
    for first, second in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(first, second)


def test_epochs_after_the_checkpoint_are_forgotten(run):
    broken = run("broken", epochs=4)
    weights_after(broken, 2)
    text = (broken.folder / "history.csv").read_text()
    (broken.folder / "history.csv").write_text(text + text.splitlines()[-1].replace("train,2", "train,3") + "\n")
    weights_after(run("broken", epochs=4), 4)
    assert [row["epoch"] for row in history(broken)] == ["1", "2", "3", "4"]


def test_a_folder_of_another_run_is_refused(run):
    run("one", seed=1)
    with pytest.raises(FoveaError, match="is a run with seed 1, not 2; resume it as it began"):
        run("one", seed=2)


def test_class_weights_balance_the_classes(run, pictures):
    unbalanced = run("weighted", class_weights=True)
    unbalanced.pictures.splits["train"][:] = unbalanced.pictures.splits["train"][:4]
    counts = np.bincount(unbalanced.pictures.labels("train"))
    assert counts.tolist() == [3, 1]
    model = net(unbalanced)
    unbalanced.fit(model, keras.optimizers.SGD(0.0), epochs=1)
    outputs = net(unbalanced).predict(unbalanced.pixels("train").read(np.arange(4)).astype(np.float32), verbose=0)
    answers = np.append(1 - outputs[:3, 0], outputs[3, 0])
    # Each class has half of the weight: 4 / (2 · 3) for each of three pictures, 4 / (2 · 1) for the fourth.
    expected = np.mean(-np.log(answers) * np.array([2 / 3, 2 / 3, 2 / 3, 2]))
    assert float(history(unbalanced)[0]["loss"]) == pytest.approx(expected, rel=1e-4)


def test_mixed_pictures_train_a_softmax(run):
    mixed = run("mixed")
    model = net(mixed, softmax=True)
    before = [weights.copy() for weights in model.get_weights()]
    mixed.fit(model, keras.optimizers.SGD(0.1), mix=Mixup(0.2))
    assert len(history(mixed)) == 3
    assert not np.array_equal(before[0], model.get_weights()[0])
    assert mixed.predict(model, "validation").shape == (4, 2)


def test_mixed_precision_gives_float32_probabilities(run):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        low = run("low")
        model = net(low)
        low.fit(model, keras.optimizers.SGD(0.1))
        assert model.get_layer("logits").compute_dtype == "bfloat16"
        assert all(variable.dtype == "float32" for variable in model.trainable_variables)
        assert low.predict(model, "validation").dtype == np.float32
    finally:
        keras.config.set_dtype_policy("float32")


def test_metrics_are_served_while_training(run):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    watched = run("watched", monitoring=Monitoring(metrics_port=port))
    watched.fit(net(watched), keras.optimizers.SGD(0.1))
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    last = history(watched)[-1]
    assert float(values['fovea_training_epoch{phase="train"}']) == 3
    assert float(values['fovea_training_pictures_total{phase="train"}']) == pytest.approx(18)
    for split, prefix in (("train", ""), ("validation", "val_")):
        for measure in ("loss", "accuracy"):
            value = float(values[f'fovea_training_{measure}{{phase="train",split="{split}"}}'])
            assert value == pytest.approx(float(last[f"{prefix}{measure}"]), abs=1e-5)
    assert float(values['fovea_training_pictures_per_second{phase="train"}']) > 0
    with pytest.raises(FoveaError, match=rf"--metrics-port {port} cannot be opened"):
        Monitoring(metrics_port=port)


def test_tensorboard_logs_hold_the_history(run, tmp_path):
    logged = run("logged", monitoring=Monitoring(tensorboard=tmp_path / "tensorboard"))
    logged.fit(net(logged), keras.optimizers.SGD(0.1))
    (file,) = (tmp_path / "tensorboard" / "train" / "validation").glob("events*")
    losses = [
        float(tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "epoch_loss"
    ]
    np.testing.assert_allclose(losses, [float(row["val_loss"]) for row in history(logged)], atol=1e-5)
