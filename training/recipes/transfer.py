"""Recipes that build on a pretrained base."""

import json
from pathlib import Path

import keras
from keras import layers, optimizers

from training.bases import resolve, trained_base, untrained_base
from training.bases.unfreezing import Watch, choose_layers, unfreeze
from training.bases.weights import copy_weights
from training.data.augmentation import Augmentation
from training.errors import FoveaError
from training.nets import warmed_up_cosine
from training.run import Run
from training.run_folder import CONFIG_FILE

HEAD_EPOCHS = 20
HEAD_RATE = 2e-3
AUGMENTATION = Augmentation(rotation=15, shift=0.1, shear=0.1, zoom=0.2, flip=True)


def feature_extraction(run: Run) -> keras.Model:
    """Train a head on the features of a frozen base.

    End to end, every picture goes through the base in every epoch, varied each time. With `--cached` it does so once:
    its features are kept on disk, an epoch takes seconds, and augmentation is not possible (Chollet 2017, section 5.3).
    """
    base = trained_base(run.options.base, *run.input_shape[:2], weights=run.options.base_weights)
    base.trainable = False
    watch = Watch(base)
    head = _head(run, base)
    model = _joined(run, base, head)
    if run.options.cached:
        run.fit(head, _adam(run, HEAD_RATE), rows=run.features(_pooled(base)))
    else:
        run.fit(model, _adam(run, HEAD_RATE), augment=AUGMENTATION)
    watch.check([])
    return model


def fine_tuned(run: Run) -> keras.Model:
    """Adapt the last convolutions of a base to the pictures, after its head has been trained.

    Five steps (Chollet 2017, section 5.3): put a head on the base; freeze the base; train the head; unfreeze the
    last convolutions; train both jointly at a low rate, here with augmentation. Batch normalisation stays frozen.
    With `--from`, a finished run of `feature_extraction` stands for the first three.
    """
    model = _with_trained_head(run) if run.options.from_run is None else _earlier(run, run.options.from_run)
    base = model.layers[0]
    chosen = choose_layers(base, run.options.unfreeze)
    watch = Watch(base)
    unfreeze(base, chosen)
    run.fit(model, _adam(run, 5e-4), phase="joint", augment=AUGMENTATION)
    watch.check(chosen)
    return model


def _with_trained_head(run: Run) -> keras.Model:
    base = trained_base(run.options.base, *run.input_shape[:2], weights=run.options.base_weights)
    base.trainable = False
    # What cannot be unfrozen is said before anything is trained.
    choose_layers(base, run.options.unfreeze)
    head = _head(run, base)
    optimizer = _adam(run, HEAD_RATE, HEAD_EPOCHS)
    run.fit(head, optimizer, rows=run.features(_pooled(base)), phase="head", epochs=HEAD_EPOCHS)
    return _joined(run, base, head)


def _earlier(run: Run, folder: Path) -> keras.Model:
    """Build the model that an earlier run of `feature_extraction` trained.

    Raises:
        FoveaError: the folder is no such run, or one of another base, size or other classes.
    """
    _check_earlier(run, folder)
    base = untrained_base(run.options.base, *run.input_shape[:2])
    model = _joined(run, base, _head(run, base))
    earlier = keras.models.load_model(folder / "model.keras", compile=False)
    try:
        copy_weights(earlier.layers[0], base)
        for layer, original in zip(model.layers[1:], earlier.layers[1:], strict=True):
            layer.set_weights(original.get_weights())
    except ValueError as error:
        raise FoveaError(f"--from {folder} holds a model of another form; train it again with this version") from error
    return model


def _check_earlier(run: Run, folder: Path) -> None:
    if run.options.base_weights is not None:
        raise FoveaError("--from brings the base with its weights; leave --base-weights out, or --from")
    if not (folder / "model.keras").is_file() or not (folder / CONFIG_FILE).is_file():
        raise FoveaError(f"--from {folder} is no finished run; give the folder of a finished run of feature_extraction")
    config = json.loads((folder / CONFIG_FILE).read_text())
    if config["recipe"] != feature_extraction.__name__:
        raise FoveaError(f"--from {folder} is a run of {config['recipe']}; fine-tuning begins with feature_extraction")
    theirs, ours = resolve(config["base"]), resolve(run.options.base)
    if theirs != ours:
        raise FoveaError(f"--from {folder} is a run on the base {theirs}, not {ours}; give --base {theirs}")
    theirs, ours = _size(config["height"], config["width"]), _size(*run.input_shape[:2])
    if theirs != ours:
        raise FoveaError(f"--from {folder} is a run on pictures of {theirs} pixels, not {ours}; give --size {theirs}")
    if config["class_names"] != list(run.pictures.class_names):
        raise FoveaError(
            f"--from {folder} is a run with the classes {', '.join(config['class_names'])}; "
            f"these pictures have {', '.join(run.pictures.class_names)}"
        )


def _size(height: int, width: int) -> str:
    return f"{width}x{height}"


def _pooled(base: keras.Model) -> keras.Model:
    """Return a base whose features are averaged over height and width, [n,c]."""
    return keras.Model(base.input, layers.GlobalAveragePooling2D()(base.output), name=base.name)


def _head(run: Run, base: keras.Model) -> keras.Sequential:
    """Build what turns averaged features [n,c] into probabilities."""
    return keras.Sequential(
        [
            keras.Input(base.output_shape[-1:]),
            layers.Dense(512, activation="relu", name="dense"),
            layers.Dropout(0.2, seed=run.options.seed, name="dropout"),
            *run.classifier(),
        ],
        name="head",
    )


def _joined(run: Run, base: keras.Model, head: keras.Sequential) -> keras.Model:
    return keras.Sequential(
        [keras.Input(run.input_shape), base, layers.GlobalAveragePooling2D(name="average"), *head.layers],
        name=run.options.recipe,
    )


def _adam(run: Run, peak: float, epochs: int | None = None) -> optimizers.Optimizer:
    """Return Adam whose rate rises to its peak in a tenth of the steps and falls along a cosine to nothing."""
    steps = run.steps if epochs is None else run.steps // run.options.epochs * epochs
    return optimizers.Adam(warmed_up_cosine(peak / 10, peak, steps))
