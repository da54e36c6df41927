"""The drawings: one picture and its mask."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.drawing import SPECIES, draw
from training.drawing.animals import pose
from training.drawing.scene import MOST_HIDDEN, compose


def rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


@pytest.mark.parametrize("species", SPECIES)
def test_a_drawing_repeats_for_its_seed_and_for_no_other(species: str) -> None:
    first, again, other = draw(species, rng(1), 96), draw(species, rng(1), 96), draw(species, rng(2), 96)
    assert first.picture.tobytes() == again.picture.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()
    assert first.picture.tobytes() != other.picture.tobytes()


@pytest.mark.parametrize("species", SPECIES)
def test_the_mask_is_binary_of_the_pictures_size_and_a_fair_part_of_it(species: str) -> None:
    shares = []
    for i in range(12):
        drawing = draw(species, rng(3, i), 80)
        assert (drawing.picture.mode, drawing.mask.mode) == ("RGB", "L")
        assert drawing.mask.size == drawing.picture.size
        assert all(64 <= side <= 96 for side in drawing.picture.size)
        mask = np.asarray(drawing.mask)
        assert set(np.unique(mask)) == {0, 255}
        shares.append((mask > 0).mean())
    assert min(shares) > 0.01
    assert max(shares) < 0.7


def test_the_animal_is_what_the_mask_covers_and_nothing_else() -> None:
    """Set the same scene with and without its animal: under the mask it changes, beside it there is only shadow."""
    changed, beside = [], []
    for i in range(12):
        figure = pose(SPECIES[i % len(SPECIES)], rng(4, i))
        drawing = compose(figure, rng(5, i), 96, bare=True)
        with_it = np.asarray(drawing.picture, np.int16)
        without = np.asarray(compose(None, rng(5, i), 96, bare=True).picture, np.int16)
        inside = np.asarray(drawing.mask.filter(ImageFilter.MinFilter(3))) > 0
        outside = np.asarray(drawing.mask.filter(ImageFilter.MaxFilter(9))) == 0
        difference = with_it - without
        changed.append((np.abs(difference[inside]).max(axis=1) > 6).mean())
        beside.append((difference[outside].max(axis=1) > 6).mean())
    assert min(changed) > 0.7
    assert np.mean(changed) > 0.9
    assert max(beside) < 0.03
    assert np.mean(beside) < 0.01


def test_what_stands_in_front_is_not_in_the_mask() -> None:
    """Of the animal as it was set, the scene hides a part in some pictures, never more than the limit and an edge."""
    hidden = []
    for i in range(24):
        figure = pose("cat", rng(6, i))
        seen = np.asarray(compose(figure, rng(7, i), 64).mask) > 0
        free = np.asarray(compose(figure, rng(7, i), 64, bare=True).mask) > 0
        assert not (seen & ~free).any()
        hidden.append(1 - seen.sum() / free.sum())
    assert max(hidden) <= MOST_HIDDEN + 0.08
    assert 4 <= sum(share > 0.02 for share in hidden) <= 20


def test_an_empty_scene_has_an_empty_mask() -> None:
    assert compose(None, rng(8), 64).mask.getextrema() == (0, 0)


def test_colour_does_not_tell_cats_from_dogs() -> None:
    """A logistic regression on the histogram of colours is near chance."""

    def histogram(picture: Image.Image) -> np.ndarray:
        levels = np.asarray(picture.resize((32, 32), Image.Resampling.BOX)).reshape(-1, 3) // 64
        return np.bincount(levels @ (16, 4, 1), minlength=64) / len(levels)

    histograms = [histogram(draw(name, rng(9, i), 48).picture) for i in range(120) for name in ("cat", "dog")]
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    accuracy = cross_val_score(judge, np.array(histograms), np.array([0, 1] * 120), cv=5).mean()
    assert accuracy < 0.65


def test_an_unknown_species_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no species 'yeti'.*cat, dog, fish"):
        draw("yeti", rng(0), 64)
