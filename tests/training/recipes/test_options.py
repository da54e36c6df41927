"""Options that a recipe would not heed are refused."""

from pathlib import Path

import pytest

from training.errors import FoveaError
from training.recipes import RECIPES, recipe


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("scratch", {"unfreeze": "2"}, "recipe scratch does not heed --unfreeze; it is for fine_tuned"),
        ("fine_tuned", {"cached": True}, "recipe fine_tuned does not heed --cached; it is for feature_extraction"),
        ("feature_extraction", {"from_run": Path("runs/a")}, "recipe feature_extraction does not heed --from; "),
        ("dense", {"base": "vgg16"}, "recipe dense does not heed --base; it is for feature_extraction and fine_tuned"),
    ],
)
def test_an_option_for_other_recipes_is_refused(name, given, sentence):
    with pytest.raises(FoveaError, match=sentence):
        recipe(name).options(Path("pictures"), **given)


@pytest.mark.parametrize("name", RECIPES)
def test_options_that_are_not_given_are_no_reason_to_refuse(name):
    options = recipe(name).options(Path("pictures"), base=None, cached=False, unfreeze=None, seed=3)
    assert (options.recipe, options.seed, options.cached) == (name, 3, False)
