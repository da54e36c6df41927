"""Controls, deletion and insertion, pointing and energy, on maps whose values are known."""

import numpy as np
import pytest

from training.explanations import controls, faithfulness, localisation
from training.explanations.evaluation import Comparison, Estimate


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def half_lit():
    """A black picture whose left half is white, 8x8."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4] = 255
    return picture


def brightness(pictures):
    """A model whose second class is as probable as the left half is bright."""
    share = pictures[:, :, :4].mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - share, share], axis=1)


def test_pixels_are_ranked_from_the_hottest(random):
    ranks = faithfulness.ranks(np.array([[0.1, 0.9], [0.5, 0.2]]), random)
    assert ranks.tolist() == [[3, 0], [1, 2]]


def test_equal_pixels_are_ranked_at_random(random):
    first, second = (faithfulness.ranks(np.zeros((8, 8)), random) for _ in range(2))
    assert sorted(first.ravel()) == list(range(64))
    assert (first != second).any()


def test_stages_go_from_one_picture_to_the_other(half_lit):
    places = np.arange(64).reshape(8, 8)
    found = faithfulness.stages(np.zeros_like(half_lit), half_lit, places)
    assert found.shape == (faithfulness.STEPS + 1, 8, 8, 3)
    assert not found[0].any()
    np.testing.assert_array_equal(found[-1], half_lit)
    np.testing.assert_array_equal(found[8][:4], half_lit[:4])
    assert not found[8][4:].any()


def test_a_map_of_what_counts_has_the_steepest_curves(half_lit, random):
    heat = half_lit[..., 0] / np.float32(255)
    deletion, insertion = faithfulness.curves(brightness, half_lit, heat, 1, random)
    wrong_deletion, wrong_insertion = faithfulness.curves(brightness, half_lit, 1 - heat, 1, random)
    assert deletion[0] == insertion[-1] == 1
    # After half of the pixels all of the left half is there, or gone (into the mean colour, which is half bright).
    assert insertion[8] == pytest.approx(1)
    assert deletion[8] == pytest.approx(128 / 255)
    assert wrong_deletion[8] == 1
    assert faithfulness.area(insertion) > faithfulness.area(wrong_insertion) + 0.03
    assert faithfulness.area(deletion) < faithfulness.area(wrong_deletion) - 0.1


def test_the_area_of_a_straight_line():
    assert faithfulness.area(np.linspace(0, 1, faithfulness.STEPS + 1)) == pytest.approx(0.5)


def test_pointing_and_energy():
    mask = np.zeros((2, 2), bool)
    mask[0] = True
    heat = np.array([[0.0, 3.0], [1.0, 0.0]])
    assert localisation.points_inside(heat, mask)
    assert not localisation.points_inside(heat[::-1], mask)
    assert localisation.energy_inside(heat, mask) == 0.75


def test_a_map_of_zeros_finds_nothing():
    mask = np.ones((2, 2), bool)
    assert not localisation.points_inside(np.zeros((2, 2)), mask)
    assert localisation.energy_inside(np.zeros((2, 2)), mask) == 0


@pytest.mark.parametrize("name", controls.CONTROLS)
def test_controls_have_the_pictures_size_and_nothing_below_zero(name, random):
    picture = np.random.default_rng(1).integers(0, 256, (30, 50, 3), np.uint8)
    heat = controls.CONTROLS[name](picture, random)
    assert heat.shape == (30, 50)
    assert heat.min() >= 0
    assert np.ptp(heat) > 0


def test_the_controls_are_what_they_are_called(half_lit, random):
    assert np.unravel_index(controls.centre(np.zeros((9, 9, 3)), random).argmax(), (9, 9)) == (4, 4)
    edges = controls.edges(half_lit, random)
    assert (edges[:, 3:5] > 0).all()
    assert not edges[:, [0, 7]].any()
    assert (controls.random(half_lit, random) != controls.random(half_lit, random)).any()


def test_an_estimate_holds_the_mean_within_its_interval():
    values = np.random.default_rng(0).normal(1, 1, 400)
    found = Estimate.of(values, 0)
    assert found.mean == pytest.approx(values.mean())
    assert found.low < found.mean < found.high
    # 1.96 standard errors on each side.
    assert found.high - found.low == pytest.approx(4 * 0.98 / 20, rel=0.15)
    assert Estimate.of(values, 0) == found


@pytest.mark.parametrize(("interval", "verdict"), [((0.1, 0.3), "wins"), ((-0.3, -0.1), "loses"), ((-0.1, 0.3), "tie")])
def test_verdicts(interval, verdict):
    assert Comparison("energy", "random", Estimate(sum(interval) / 2, *interval)).verdict == verdict
