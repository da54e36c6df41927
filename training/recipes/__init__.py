"""The recipes: each reads like the paragraph that describes it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from training.data.captchas import read_captcha_set
from training.data.pictures import PictureSet, read_picture_set
from training.errors import FoveaError
from training.options import TrainOptions
from training.recipes.captcha import captcha
from training.recipes.scratch import dense, scratch, scratch_augmented, scratch_best
from training.recipes.transfer import feature_extraction, fine_tuned
from training.run import Run


@dataclass(frozen=True)
class Recipe:
    """A way to make a classifier of a picture set, with its default options."""

    train: Callable[[Run], keras.Model]
    height: int
    width: int
    epochs: int
    keep_best: bool = False
    read: Callable[..., PictureSet] = read_picture_set
    """Reads the folder of pictures; called with root, seed and progress."""

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return self.train.__name__

    @property
    def description(self) -> str:
        """The first line of the recipe's docstring."""
        return (self.train.__doc__ or "").strip().splitlines()[0]

    def options(self, data: Path, **given: object) -> TrainOptions:
        """Return the options of a run: those given, and the recipe's own for what is absent or None."""
        own = {key: getattr(self, key) for key in ("name", "height", "width", "epochs", "keep_best")}
        chosen = {key: value for key, value in given.items() if value is not None}
        return TrainOptions(**{"recipe": self.name, "data": data, **own, **chosen})  # type: ignore[arg-type]


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(dense, height=96, width=96, epochs=30),
        Recipe(scratch, height=150, width=150, epochs=30),
        Recipe(scratch_augmented, height=150, width=150, epochs=100, keep_best=True),
        Recipe(scratch_best, height=96, width=96, epochs=150),
        Recipe(feature_extraction, height=64, width=64, epochs=30),
        Recipe(fine_tuned, height=64, width=64, epochs=15),
        Recipe(captcha, height=60, width=160, epochs=10, read=read_captcha_set),
    )
}


def recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        FoveaError: there is none of that name.
    """
    if name not in RECIPES:
        raise FoveaError(f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
