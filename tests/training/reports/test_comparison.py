"""Groups and verdicts of runs that are made up."""

import numpy as np
import pytest

from training.reports.comparison import differing_options, group_runs, notes, verdicts
from training.reports.predictions import Predictions, predictions_file, write_predictions
from training.reports.records import RunRecord


@pytest.fixture
def make_run(tmp_path):
    """A function that makes a run that is right about the first so many of a hundred pictures."""

    def make(folder_name, right=None, keep_answers=True, history=None, **config):
        folder = tmp_path / folder_name
        folder.mkdir()
        config = {"recipe": "scratch", "seed": 0, "class_names": ["a", "b"], "data_fingerprint": "one", **config}
        summary = {} if right is None else {"validation_accuracy": right / 100}
        if right is not None and keep_answers:
            labels = np.zeros(100, int)
            labels[right:] = 1
            answers = Predictions([f"{n}.jpg" for n in range(100)], labels, np.tile([0.9, 0.1], (100, 1)))
            write_predictions(predictions_file(folder, "validation"), answers, ("a", "b"))
        return RunRecord(folder, config, history or {}, summary)

    return make


def test_runs_that_differ_in_the_seed_are_a_group(make_run):
    runs = [make_run("a", 80), make_run("b", 60, epochs=5), make_run("c", 90, seed=1, name="other")]
    groups = group_runs(runs)
    assert [[run.folder.name for run in group.runs] for group in groups] == [["a", "c"], ["b"]]
    assert groups[0].mean("validation_accuracy") == (pytest.approx(0.85), pytest.approx(0.05))
    assert groups[1].mean("validation_accuracy") == (pytest.approx(0.6), None)
    assert groups[0].mean("test_accuracy") is None


def test_groups_are_named_by_what_tells_them_apart(make_run):
    runs = [
        make_run("a", epochs=30, cached=False),
        make_run("b", epochs=5, cached=False),
        make_run("c", recipe="dense", epochs=30, cached=True),
    ]
    assert [group.name for group in group_runs(runs)] == ["scratch, epochs 30", "scratch, epochs 5", "dense"]
    assert differing_options(runs) == ["epochs", "cached"]


def test_groups_of_other_pictures_are_not_compared(make_run):
    runs = [make_run("a", 80), make_run("b", 20, data_fingerprint="two")]
    groups = group_runs(runs)
    assert [group.name for group in groups] == ["scratch, pictures one", "scratch, pictures two"]
    assert verdicts(groups, "validation") == []
    assert any("did not all see the same pictures" in note for note in notes(runs, groups))


def test_the_better_run_is_ahead(make_run):
    # Both are right about the first 60, the better one alone about 20 more.
    groups = group_runs([make_run("a", 60), make_run("b", 80, recipe="dense")])
    (verdict,) = verdicts(groups, "validation")
    assert verdict.sentence == (
        "dense is ahead of scratch by 20.0 ± 4.0 points (p < 0.001; McNemar's test on the same pictures)"
    )


def test_a_small_difference_is_a_tie(make_run):
    groups = group_runs([make_run("a", 80), make_run("b", 82, recipe="dense")])
    (verdict,) = verdicts(groups, "validation")
    assert verdict.sentence.startswith("dense and scratch are a tie: 2.0 ± 1.4 points apart (p = 0.500;")


def test_without_the_answers_the_accuracies_are_compared(make_run, tmp_path):
    runs = [make_run("a", 60, keep_answers=False), make_run("b", 80, recipe="dense")]
    (tmp_path / "a" / "validation_report.json").write_text('{"macro avg": {"support": 100.0}}')
    (verdict,) = verdicts(group_runs(runs), "validation")
    assert verdict.difference.standard_error == pytest.approx(np.sqrt((0.24 + 0.16) / 100))
    assert "without the answers" in verdict.sentence


def test_the_best_is_compared_with_all_and_each_with_the_next(make_run):
    runs = [make_run(recipe, right, recipe=recipe) for recipe, right in (("a", 50), ("b", 90), ("c", 70), ("d", 60))]
    found = [(verdict.better.name, verdict.other.name) for verdict in verdicts(group_runs(runs), "validation")]
    assert found == [("b", "c"), ("b", "d"), ("b", "a"), ("c", "d"), ("d", "a")]


def test_what_a_reader_has_to_know(make_run):
    runs = [
        make_run("a", 80, keep_best=True),
        make_run("b", 81, keep_best=True),
        make_run("c", history={"phase": ["x"]}),
    ]
    found = notes(runs, group_runs(runs))
    assert found[0] == "c is unfinished: 1 epoch has ended."
    assert "holds runs of one seed" in found[1]
    assert found[2].startswith("Kept the best epoch on the validation pictures: a, b.")
