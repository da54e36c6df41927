"""The models that are measured: the nets of recipes, not trained, since only time is measured."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
from fovea.v1.model_card_pb2 import ModelCard

from benchmarks import processes
from training import recipes
from training.data.pictures import Findings, PictureSet
from training.drawing.scene import draw
from training.run import Run
from training.store import Store
from training.train import publish

NAME = "scratch"
TRANSFER = "feature_extraction"
"""The net on the bundled base; that of `fine_tuned` is the same."""
MEAN = "mean"
"""No recipe: the net of `mean`."""
CLASSES = ("cat", "dog")
WIDTH, HEIGHT = 300, 280
"""Size of the picture that is sent, in pixels."""


class Untrained(Run):
    """A run that leaves a net as it was initialised."""

    @property
    def steps(self) -> int:
        """One, for schedules that nothing follows."""
        return 1

    def fit(self, *args: object, **kwargs: object) -> None:
        """Do nothing."""


def net(folder: Path, name: str = NAME) -> keras.Model:
    """Build a recipe's net for two classes at its default size, with weights from a fixed seed.

    Args:
        folder: a new folder, for what a run writes at its start.
        name: of the recipe, or `MEAN`.
    """
    if name == MEAN:
        return mean()
    keras.utils.set_random_seed(0)
    recipe = recipes.recipe(name)
    return recipe.train(Untrained(folder, recipe.options(folder), PictureSet(folder, CLASSES, {}, Findings())))


def publish_net(model: keras.Model, store: Store, name: str = NAME) -> None:
    """Export, verify and publish a net of two classes under the name of its recipe."""
    publish(model, ModelCard(model_name=name, recipe=name, class_names=CLASSES), store)


@contextmanager
def served(
    *names: str, flags: Sequence[str] = ()
) -> Iterator[tuple[Path, processes.RunningModelServer, dict[str, keras.Model]]]:
    """Publish the nets of recipes and run a model server of them.

    Args:
        names: of the recipes, or `MEAN`.
        flags: of the model server.

    Returns:
        A temporary folder, the model server, and the nets by recipe.
    """
    with tempfile.TemporaryDirectory(prefix="fovea-benchmark-") as temporary:
        folder = Path(temporary)
        store = Store(folder / "store")
        models = {name: net(folder / name, name) for name in names}
        for name, model in models.items():
            publish_net(model, store, name)
        with processes.running_model_server(store.config_path, folder / "model_server.log", flags) as server:
            yield folder, server, models


def mean() -> keras.Model:
    """Build a net that costs almost nothing: it judges pictures of 150x150 by the mean of each channel."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((150, 150, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.AveragePooling2D(10),
        keras.layers.AveragePooling2D(15),
        keras.layers.Conv2D(1, 1, name="mean"),
        keras.layers.Flatten(),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    return keras.Sequential(layers)


def jpeg(number: int = 0) -> bytes:
    """Draw a picture that is sent, 300 pixels wide and 280 high."""
    picture = draw(CLASSES[number % 2], np.random.default_rng(number), WIDTH).picture.resize((WIDTH, HEIGHT))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return stream.getvalue()
