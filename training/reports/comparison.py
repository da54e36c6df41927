"""Runs side by side: groups of equal options, and which is ahead of which."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from training.reports.records import RunRecord
from training.reports.significance import Difference, compare_groups, compare_shares, mcnemar, mean_and_error


@dataclass(frozen=True)
class Group:
    """Runs of the same options and pictures, which differ in the seed."""

    name: str
    """The recipe, and what tells it from other groups of that recipe."""
    runs: Sequence[RunRecord]

    @property
    def finished(self) -> list[RunRecord]:
        """The runs that were evaluated."""
        return [run for run in self.runs if run.is_finished]

    @property
    def has_seeds(self) -> bool:
        """Whether there are several finished runs to take a mean of."""
        return len(self.finished) > 1

    def mean(self, measure: str) -> tuple[float, float | None] | None:
        """Return the mean of a measure of the summary over the seeds, and its standard error, if any run has it."""
        values = [run.summary[measure] for run in self.runs if measure in run.summary]
        return mean_and_error(values) if values else None


@dataclass(frozen=True)
class Verdict:
    """What the accuracies of two groups on a split say."""

    split: str
    better: Group
    other: Group
    difference: Difference

    @property
    def sentence(self) -> str:
        """The verdict in words, in percentage points."""
        points, error = 100 * self.difference.value, 100 * self.difference.standard_error
        p_value = self.difference.p_value
        chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
        how = f"({chance}; {self.difference.test})"
        if self.difference.is_tie:
            return f"{self.better.name} and {self.other.name} are a tie: {points:.1f} ± {error:.1f} points apart {how}"
        return f"{self.better.name} is ahead of {self.other.name} by {points:.1f} ± {error:.1f} points {how}"


def differing_options(runs: Sequence[RunRecord]) -> list[str]:
    """Return the names of the options that not all runs share, the recipe apart."""
    names = dict.fromkeys(key for run in runs for key in run.options if key != "recipe")
    return [name for name in names if len({_text(run.options.get(name)) for run in runs}) > 1]


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """Gather the runs that differ in nothing but their seeds, in the order in which they are given."""
    gathered: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for run in runs:
        gathered[_text(run.options), run.fingerprint].append(run)
    return [Group(name, group) for name, group in zip(_names(gathered), gathered.values(), strict=True)]


def _names(gathered: dict[tuple[str, str], list[RunRecord]]) -> Iterator[str]:
    """Name each group by its recipe and by what tells it from the other groups of this recipe."""
    firsts = [group[0] for group in gathered.values()]
    for run in firsts:
        same_recipe = [other for other in firsts if other.config.get("recipe") == run.config.get("recipe")]
        told = [f"{name} {run.options.get(name)}" for name in differing_options(same_recipe)]
        if len({other.fingerprint for other in same_recipe}) > 1:
            told.append(f"pictures {run.fingerprint[:8] or 'unknown'}")
        yield ", ".join([str(run.config.get("recipe")), *told])


def notes(runs: Sequence[RunRecord], groups: Sequence[Group]) -> list[str]:
    """Say what a reader has to know before comparing."""
    found = []
    if len({run.fingerprint for run in runs}) > 1:
        found.append(
            "These runs did not all see the same pictures, so accuracies are compared only between those that did."
        )
    for run in runs:
        if not run.is_finished:
            ended = f"{run.epochs} {'epoch has' if run.epochs == 1 else 'epochs have'} ended"
            found.append(f"{run.folder.name} is unfinished: {ended}.")
    for group in groups:
        seeds = [run.config.get("seed") for run in group.finished]
        if len(set(seeds)) < len(seeds):
            found.append(f"{group.name} holds runs of one seed, which count as several though they are the same.")
    texts = [run.folder.name for run in runs if (told := run.predictions("validation")) and told.labels.ndim == 2]
    if texts:
        found.append(
            f"Texts are read by {', '.join(texts)}: the accuracy of an epoch is that of single characters, "
            "the accuracy of a model that of whole texts."
        )
    if any(run.config.get("keep_best") for run in runs):
        kept = ", ".join(run.folder.name for run in runs if run.config.get("keep_best"))
        found.append(
            f"Kept the best epoch on the validation pictures: {kept}. "
            "Having been chosen, this accuracy is a little optimistic; that on test pictures is not."
        )
    return found


def verdicts(groups: Sequence[Group], split: str) -> list[Verdict]:
    """Compare, for each set of pictures, the best group with every other one, and each with the next one below it."""
    by_pictures: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        if group.mean(f"{split}_accuracy"):
            by_pictures[group.runs[0].fingerprint].append(group)
    found = []
    for same in by_pictures.values():
        ranked = sorted(same, key=lambda group: -_mean_accuracy(group, split))
        for first, second in combinations(range(len(ranked)), 2):
            if first == 0 or second == first + 1:
                difference = _difference(ranked[first], ranked[second], split)
                if difference is not None:
                    found.append(Verdict(split, ranked[first], ranked[second], difference))
    return found


def _difference(first: Group, second: Group, split: str) -> Difference | None:
    """Compare picture by picture where the answers were kept, otherwise the accuracies; None if that cannot be done."""
    groups = [
        [predictions for run in group.finished if (predictions := run.predictions(split)) is not None]
        for group in (first, second)
    ]
    both = [*groups[0], *groups[1]]
    if all(groups) and all(list(other.files) == list(both[0].files) for other in both):
        of_first, of_second = ([predictions.right for predictions in group] for group in groups)
        if len(both) == 2:
            return mcnemar(of_first[0], of_second[0])
        return compare_groups(of_first, of_second)
    counts = [min((run.count(split) for run in group.finished), default=0) for group in (first, second)]
    if not all(counts):
        return None
    means = [_mean_accuracy(group, split) for group in (first, second)]
    return compare_shares(means[0], counts[0], means[1], counts[1])


def _mean_accuracy(group: Group, split: str) -> float:
    mean = group.mean(f"{split}_accuracy")
    return mean[0] if mean else 0.0


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
