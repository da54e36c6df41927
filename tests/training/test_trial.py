"""The decision between a canary and the stable version, on answers that are made up."""

import numpy as np
import pytest

from training.trial import Measured, Trial, decide

COUNT = 200


def measured(wrong, version=2, chance=0.5, offset=0):
    """Return a version that has so many pictures wrong, counted from `offset`."""
    right = np.ones(COUNT, bool)
    right[offset : offset + wrong] = False
    return Measured(version, right, 0.1, 5.0, chance)


@pytest.mark.parametrize(
    ("canary_wrong", "stable_wrong", "promote", "words"),
    [
        (20, 20, True, "not significantly different"),
        (22, 20, True, "within the tolerance 0.01"),
        (23, 20, False, "0.015 worse, more than the tolerance 0.01"),
        (40, 20, False, "significantly worse"),
        (5, 20, True, "significantly better"),
        (18, 20, True, "not significantly different"),
    ],
)
def test_neither_significantly_worse_nor_beyond_the_tolerance(canary_wrong, stable_wrong, promote, words):
    decision = decide(Trial(COUNT, measured(canary_wrong), measured(stable_wrong, 1)))
    assert decision.promote == promote
    assert words in decision.why


def test_a_wide_tolerance_does_not_excuse_a_significant_loss():
    trial = Trial(COUNT, measured(30), measured(20, 1))
    assert trial.difference.value == pytest.approx(-0.05)
    assert "significantly worse" in decide(trial, tolerance=0.5).why
    # The same difference, from many pictures on which the two disagree, is chance.
    noisy = Trial(COUNT, measured(30, offset=60), measured(20, 1))
    assert noisy.difference.value == pytest.approx(-0.05)
    assert decide(noisy, tolerance=0.5).promote
    assert not decide(noisy, tolerance=0.01).promote


def test_the_first_version_must_not_be_below_guessing():
    assert decide(Trial(COUNT, measured(100), None)).promote
    assert decide(Trial(COUNT, measured(110), None)).promote
    decision = decide(Trial(COUNT, measured(150), None))
    assert not decision.promote
    assert "below guessing" in decision.why


def test_a_canary_that_does_not_answer_is_not_promoted():
    decision = decide(Trial(COUNT, None, None, "it refuses"))
    assert (decision.promote, decision.why) == (False, "it refuses")


def test_figures_as_lines_and_json():
    trial = Trial(COUNT, measured(20), measured(30, 1))
    stable, canary, difference = trial.lines()
    assert stable.startswith("stable, version 1: 0.850 +/- 0.025 of 200 right, calibration error 0.100, 5.0 ms")
    assert canary.startswith("canary, version 2: 0.900")
    assert difference.startswith("difference: +0.050 +/- 0.015 (p = 0.002")
    figures = trial.as_json()
    assert figures["canary"]["accuracy"] == 0.9
    assert figures["difference"]["value"] == pytest.approx(0.05)
