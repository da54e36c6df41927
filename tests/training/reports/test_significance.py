"""Tests of differences, worked out by hand."""

import numpy as np
import pytest

from training.reports.significance import LEVEL, compare_groups, compare_shares, mcnemar, mean_and_error


def answers(both, only_first, only_second, neither):
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    return first, second


def test_mcnemar_counts_the_pictures_that_one_alone_has_right():
    difference = mcnemar(*answers(both=80, only_first=9, only_second=1, neither=10))
    assert difference.value == pytest.approx(0.08)
    # Ten coins, nine or more of one side: 2 (10 + 1) / 2^10.
    assert difference.p_value == pytest.approx(22 / 1024)
    # The mean of squares is .1, that of the differences .08.
    assert difference.standard_error == pytest.approx(np.sqrt(0.1 - 0.08**2) / 10)
    assert not difference.is_tie


def test_mcnemar_calls_a_tie():
    assert mcnemar(*answers(both=80, only_first=6, only_second=4, neither=10)).is_tie
    equal = mcnemar(*answers(both=8, only_first=0, only_second=0, neither=2))
    assert (equal.value, equal.p_value, equal.is_tie) == (0, 1, True)


def test_accuracies_alone_are_compared_by_their_standard_errors():
    difference = compare_shares(0.8, 100, 0.6, 100)
    assert difference.standard_error == pytest.approx(np.sqrt(0.0016 + 0.0024))
    assert not difference.is_tie
    assert compare_shares(0.8, 100, 0.7, 100).is_tie


def test_two_standard_errors_divide_ties_from_differences():
    assert pytest.approx(0.0455, abs=1e-4) == LEVEL
    # The variance of the difference is .25 / n: two standard errors are .1 at a hundred pictures.
    assert compare_shares(0.9, 99, 0.8, 99).is_tie
    assert not compare_shares(0.9, 101, 0.8, 101).is_tie


def test_mean_over_seeds():
    mean, error = mean_and_error([0.7, 0.8, 0.9])
    assert mean == pytest.approx(0.8)
    assert error == pytest.approx(0.1 / np.sqrt(3))
    assert mean_and_error([0.7]) == (0.7, None)


def test_groups_add_what_pictures_and_seeds_contribute():
    first = [np.array([1, 1, 1, 0], bool), np.array([1, 1, 0, 0], bool)]
    second = [np.array([0, 1, 0, 0], bool)]
    difference = compare_groups(first, second)
    # Shares right in the first group 1, 1, .5, 0; differences 1, 0, .5, 0: mean .375, variance .171875.
    assert difference.value == pytest.approx(0.375)
    seeds = np.std([0.75, 0.5], ddof=1) / np.sqrt(2)
    assert difference.standard_error == pytest.approx(np.sqrt(0.171875 / 4 + seeds**2))
