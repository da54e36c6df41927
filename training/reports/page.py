"""The page that shows runs side by side, in one file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import keras
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from sklearn.metrics import confusion_matrix

from serving.contract import images
from training.errors import FoveaError, reason
from training.reports import html
from training.reports.comparison import Group, differing_options, group_runs, notes, verdicts
from training.reports.curves import accuracy_range, loss_range, show_epochs, smooth_phases
from training.reports.evaluation import confusion_side, draw_confusion
from training.reports.predictions import Predictions
from training.reports.records import Accuracy, RunRecord
from training.reports.samples import Sample, choose_samples, explain_samples

Progress = Callable[[str, int, int], None]

_SIDE = 180
"""Longest side of a sample, in pixels."""

_PANELS = (
    ("val_accuracy", "validation accuracy"),
    ("val_loss", "validation loss"),
    ("accuracy", "training accuracy"),
    ("loss", "training loss"),
)


@dataclass(frozen=True)
class ClassFigures:
    """Precision and recall of one class, in 0..1; None where nothing counts."""

    name: str
    precision: float | None
    recall: float | None
    count: int


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix of a run as a drawing, and its figures class by class."""

    run: RunRecord
    drawing: Markup
    classes: Sequence[ClassFigures]


@dataclass(frozen=True)
class SampleRow:
    """A picture, and what each run says of it."""

    file: str
    label: str
    picture: Image.Image
    answers: Sequence[Sample]


def write_page(runs: Sequence[RunRecord], output: Path, progress: Progress | None = None) -> list[str]:
    """Compare runs on one HTML page that needs no other file and no network.

    Args:
        runs: at least one.
        output: the file to write.
        progress: called as the models answer.

    Returns:
        The notes and verdicts of the page.
    """
    groups = group_runs(runs)
    colours = dict(zip((group.name for group in groups), cycle(html.COLOURS), strict=False))
    names = run_names(runs)
    finished = [run for run in runs if run.is_finished]
    samples, no_samples = [], ""
    try:
        samples = show_samples(finished, names, progress)
    except FoveaError as error:
        no_samples = str(error)
    remarks = notes(runs, groups)
    found = {split: verdicts(groups, split) for split in ("validation", "test")}
    page = html.render(
        "compare.html",
        {"accuracy": _accuracy, "duration": _duration, "mean": _mean, "option": _option},
        runs=runs,
        groups=groups,
        group_of={str(run.folder): group for group in groups for run in group.runs},
        colours=colours,
        names=names,
        options=differing_options(runs),
        notes=remarks,
        verdicts=found,
        parameters={str(run.folder): count_parameters(run) for run in finished},
        curves=[_draw_curves(groups, colours, column, title) for column, title in _PANELS],
        confusions=list(_confusions(runs)),
        samples=samples,
        no_samples=no_samples,
        finished=finished,
    )
    output.write_text(page)
    return [*remarks, *(f"{split}: {verdict.sentence}" for split in found for verdict in found[split])]


def run_names(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Name each run by its folder, with the folder above it where two would be called the same."""
    short = [run.folder.resolve().name for run in runs]
    return {
        str(run.folder): name if short.count(name) == 1 else "/".join(run.folder.resolve().parts[-2:])
        for run, name in zip(runs, short, strict=True)
    }


def count_parameters(run: RunRecord) -> int | None:
    """Count the weights of a run's trained model, if it can be loaded."""
    try:
        return keras.models.load_model(run.folder / "model.keras", compile=False).count_params()
    except (OSError, ValueError, TypeError):
        return None


def show_samples(
    runs: Sequence[RunRecord], names: Mapping[str, str], progress: Progress | None = None
) -> list[SampleRow]:
    """Show some validation pictures to the model of every run.

    Args:
        runs: finished runs.
        names: of the runs, by folder.
        progress: called as the models answer.

    Raises:
        FoveaError: the runs share no pictures, or pictures or models are not there any more.
    """
    predictions = _shared_predictions(runs, names)
    rows = choose_samples(predictions)
    files = [predictions[0].files[row] for row in rows]
    root = _root(runs, files)
    by_run = []
    for done, (run, answers) in enumerate(zip(runs, predictions, strict=True), start=1):
        try:
            by_run.append(explain_samples(run.folder, root, answers, rows, run.class_names))
        except (OSError, ValueError, TypeError) as error:
            raise FoveaError(f"the model of {names[str(run.folder)]} cannot be run: {reason(error)}") from error
        if progress:
            progress("heat maps", done, len(runs))
    return [
        SampleRow(file, by_run[0][row].label, _thumbnail(root / file), [samples[row] for samples in by_run])
        for row, file in enumerate(files)
    ]


def _shared_predictions(runs: Sequence[RunRecord], names: Mapping[str, str]) -> list[Predictions]:
    """Return the runs' answers to the validation pictures, the same ones for all."""
    if not runs:
        raise FoveaError("no run is finished")
    if len({run.fingerprint for run in runs}) > 1:
        raise FoveaError("the runs did not see the same pictures")
    found = []
    for run in runs:
        predictions = run.predictions("validation")
        if predictions is None:
            raise FoveaError(f"{names[str(run.folder)]} kept no answers to its validation pictures")
        found.append(predictions)
    if any(list(predictions.files) != list(found[0].files) for predictions in found):
        raise FoveaError("the runs name their validation pictures differently")
    return found


def _root(runs: Sequence[RunRecord], files: Sequence[str]) -> Path:
    """Return the folder of pictures of any run that still has them all."""
    roots = list(dict.fromkeys(Path(run.config["data"]) for run in runs))
    for root in roots:
        if all((root / file).is_file() for file in files):
            return root
    raise FoveaError(f"the pictures are not in {' or '.join(map(str, roots))} any more")


def _thumbnail(file: Path) -> Image.Image:
    return ImageOps.contain(images.decode(file.read_bytes()), (_SIDE, _SIDE))


def _draw_curves(groups: Sequence[Group], colours: dict[str, str], column: str, title: str) -> Markup:
    """Draw a measure of all runs over their epochs, raw and smoothed."""
    with html.ink():
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.subplots()
        drawn = [(group, run) for group in groups for run in group.runs if run.epochs]
        for group, run in drawn:
            epochs = np.arange(1, run.epochs + 1)
            marker = "o" if run.epochs < 4 else ""
            style: dict[str, Any] = {"color": colours[group.name], "marker": marker, "markersize": 4}
            axes.plot(epochs, run.history[column], alpha=0.25, linewidth=0.8, **style)
            axes.plot(epochs, smooth_phases(run.history, column), linewidth=1.8, alpha=0.9, **style)
        values = [run.history[column] for _, run in drawn]
        show_epochs(axes, max((run.epochs for _, run in drawn), default=1))
        if values:
            axes.set_ylim(
                *(loss_range(*values) if "loss" in column else accuracy_range([v for curve in values for v in curve]))
            )
        axes.set_title(title, fontsize=11)
        return html.svg(figure, title)


def _confusions(runs: Sequence[RunRecord]) -> Iterator[Confusion]:
    """Draw the confusion matrix of each run that kept its answers to the validation pictures."""
    for run in runs:
        if (predictions := run.predictions("validation")) is None:
            continue
        probabilities, labels = predictions.single()
        names = run.class_names
        matrix = confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(names)))
        side = confusion_side(len(names))
        with html.ink():
            figure = Figure(figsize=(side + 0.9, side + 0.6), layout="constrained")
            draw_confusion(figure.subplots(), matrix, names)
            drawing = html.svg(figure, f"confusion matrix of {run.folder.name}")
        classes = []
        for label, name in enumerate(names):
            right, count, called = matrix[label, label], int(matrix[label].sum()), int(matrix[:, label].sum())
            precision, recall = right / called if called else None, right / count if count else None
            classes.append(ClassFigures(name, precision, recall, count))
        yield Confusion(run, drawing, classes)


def _accuracy(accuracy: Accuracy | None) -> str:
    """Write an accuracy and its standard error in per cent."""
    if accuracy is None:
        return "–"
    error = "" if accuracy.error is None else f" ± {100 * accuracy.error:.1f}"
    return f"{100 * accuracy.value:.1f}{error}"


def _mean(mean: tuple[float, float | None] | None) -> str:
    """Write a mean over seeds and its standard error in per cent."""
    return _accuracy(Accuracy(*mean) if mean else None)


def _duration(seconds: float) -> str:
    """Write a time as a person says it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _option(value: Any) -> str:
    """Write the value of an option."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)
