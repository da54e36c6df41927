"""The recipes that train from nothing: what nets they build, and that each learns."""

import csv

import numpy as np
import pytest
from PIL import Image

from training.data.pictures import read_picture_set
from training.export.network import open_network
from training.recipes import recipe
from training.run import Run


@pytest.fixture(scope="module")
def above_and_below(tmp_path_factory):
    """Two classes, bright above and bright below, which every net tells apart within a few steps, whatever the seed."""
    root = tmp_path_factory.mktemp("set")
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("validation", 8)):
        for label, half in (("above", slice(0, 16)), ("below", slice(16, 32))):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 100, (32, 32, 3)).astype(np.uint8)
                pixels[half] += 150
                Image.fromarray(pixels).save(root / split / label / f"{number}.png")
    return read_picture_set(root)


def train(name, pictures, folder, **changes):
    options = {"height": 32, "width": 32, "epochs": 6, "batch_size": 4} | changes
    return recipe(name).train(Run(folder, recipe(name).options(pictures.root, **options), pictures))


@pytest.mark.parametrize("name", ["dense", "scratch", "scratch_augmented", "scratch_best"])
def test_every_recipe_learns(name, above_and_below, tmp_path):
    model = train(name, above_and_below, tmp_path / "run")
    assert model.name == name
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        accuracies = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
    assert len(accuracies) == 6
    assert max(accuracies) > 0.8


def test_the_plain_net_is_that_of_the_book(above_and_below, tmp_path):
    """Chollet 2017, listing 5.5, prints 3,453,121 parameters for 150x150 pixels."""
    model = train("scratch", above_and_below, tmp_path / "run", height=150, width=150, epochs=1, batch_size=32)
    assert model.count_params() == 3_453_121
    assert [layer.name for layer in open_network(model).convolutions] == ["conv1", "conv2", "conv3", "conv4"]


def test_the_best_net_is_explained_at_a_convolution_that_sees_all_of_it(above_and_below, tmp_path):
    model = train("scratch_best", above_and_below, tmp_path / "run", epochs=1)
    assert open_network(model).convolutions[-1].name == "stage4_conv2"
