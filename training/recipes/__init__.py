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
    read: Callable[..., PictureSet] = read_picture_set
    """Reads the folder of pictures; called with root, seed and progress."""
    takes: frozenset[str] = frozenset()
    """Those of the options for some recipes only that this one heeds."""

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return self.train.__name__

    @property
    def description(self) -> str:
        """The first line of the recipe's docstring."""
        return (self.train.__doc__ or "").strip().splitlines()[0]

    def options(self, data: Path, **given: object) -> TrainOptions:
        """Return the options of a run: those given, and the recipe's own for what is absent or None.

        Raises:
            FoveaError: an option is given that this recipe would not heed.
        """
        for key, flag in OPTIONS_OF_SOME.items():
            if given.get(key) and key not in self.takes:
                takers = " and ".join(other.name for other in RECIPES.values() if key in other.takes)
                raise FoveaError(f"recipe {self.name} does not heed {flag}; it is for {takers}")
        own = {key: getattr(self, key) for key in ("name", "height", "width", "epochs")}
        chosen = {key: value for key, value in given.items() if value is not None}
        return TrainOptions(**{"recipe": self.name, "data": data, **own, **chosen})  # type: ignore[arg-type]


OPTIONS_OF_SOME = {
    "base": "--base",
    "base_weights": "--base-weights",
    "cached": "--cached",
    "unfreeze": "--unfreeze",
    "from_run": "--from",
}
_BASE = frozenset({"base", "base_weights"})

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(dense, height=96, width=96, epochs=30),
        Recipe(scratch, height=150, width=150, epochs=30),
        Recipe(scratch_augmented, height=150, width=150, epochs=100),
        Recipe(scratch_best, height=128, width=128, epochs=100),
        Recipe(feature_extraction, height=64, width=64, epochs=30, takes=_BASE | {"cached"}),
        Recipe(fine_tuned, height=80, width=80, epochs=15, takes=_BASE | {"unfreeze", "from_run"}),
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
