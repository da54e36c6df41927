"""Temperatures whose minimum is known."""

import numpy as np
import pytest

from training.reports.temperature import GREATEST, LEAST, fit_temperature, scale


def answers(confidence, right, wrong):
    """So many right and wrong answers of two classes, all of one confidence."""
    probabilities = np.tile([confidence, 1 - confidence], (right + wrong, 1))
    return probabilities, np.repeat([0, 1], [right, wrong])


def test_an_overconfident_model_is_cooled_to_its_accuracy():
    # Of answers of one confidence the likelihood is greatest where confidence equals accuracy, here .8:
    # log(.99 / .01) / T = log(.8 / .2), so T = log 99 / log 4.
    probabilities, labels = answers(0.99, right=8, wrong=2)
    temperature = fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(np.log(99) / np.log(4), rel=1e-3)
    assert scale(probabilities, temperature)[0, 0] == pytest.approx(0.8, abs=1e-3)


def test_a_hesitant_model_is_sharpened():
    temperature = fit_temperature(*answers(0.6, right=9, wrong=1))
    assert temperature == pytest.approx(np.log(1.5) / np.log(9), rel=1e-3)


def test_scaling_keeps_the_answer():
    probabilities = np.array([[0.2, 0.5, 0.3]])
    np.testing.assert_allclose(scale(probabilities, 1), probabilities)
    # Square roots, divided by their sum.
    np.testing.assert_allclose(scale(probabilities, 2), np.sqrt(probabilities) / np.sqrt(probabilities).sum())


def test_a_set_without_mistakes_has_no_temperature():
    assert fit_temperature(*answers(0.7, right=5, wrong=0)) == 1


def test_saturated_answers_stay_finite():
    probabilities = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    temperature = fit_temperature(probabilities, np.array([0, 1, 1]))
    assert LEAST <= temperature <= GREATEST
    assert np.isfinite(scale(probabilities, temperature)).all()


def test_texts_have_one_temperature_for_all_positions():
    probabilities, labels = answers(0.99, right=8, wrong=2)
    flat = fit_temperature(probabilities, labels)
    assert fit_temperature(probabilities.reshape(5, 2, 2), labels.reshape(5, 2)) == pytest.approx(flat)
