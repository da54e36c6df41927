"""Training curves: the history of a run, raw and smoothed."""

import csv
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

SMOOTHING = 0.8

_COLOURS = {"training": "tab:blue", "validation": "tab:orange"}


def smooth(values: Sequence[float], factor: float = SMOOTHING) -> np.ndarray:
    """Smooth a curve exponentially: the mean of all values so far, each weighted by factor^age; float64 [n].

    Divided by the sum of its weights (Kingma and Ba 2015), the mean does not hang on the first value for long.
    """
    smoothed, mean, weight = np.empty(len(values)), 0.0, 0.0
    for position, value in enumerate(values):
        mean, weight = factor * mean + value, factor * weight + 1
        smoothed[position] = mean / weight
    return smoothed


def read_history(run: Path) -> dict[str, list]:
    """Read `history.csv` of a run as columns; numbers as floats, `phase` as text."""
    with (run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [row[key] if key == "phase" else float(row[key]) for row in rows] for key in (rows[0] if rows else {})}


def best_position(history: dict[str, list]) -> int:
    """Return the position of the highest validation accuracy, of least validation loss among equals."""
    accuracy, loss = history["val_accuracy"], history["val_loss"]
    return max(range(len(accuracy)), key=lambda position: (accuracy[position], -loss[position]))


def phases(history: dict[str, list]) -> Iterator[tuple[str, int, int]]:
    """Yield (name, first position, position after the last) of each phase."""
    for name, group in groupby(enumerate(history["phase"]), key=lambda pair: pair[1]):
        positions = [position for position, _ in group]
        yield name, positions[0], positions[-1] + 1


def smooth_phases(history: dict[str, list], measure: str) -> np.ndarray:
    """Smooth a measure, each phase on its own: the next one is another training."""
    return np.concatenate([smooth(history[measure][start:end]) for _, start, end in phases(history)])


def write_curves(run: Path) -> None:
    """Draw accuracy and loss over the epochs of all phases, raw and smoothed, as `curves.png`."""
    history = read_history(run)
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    for axes, measure in ((accuracy, "accuracy"), (loss, "loss")):
        for name, column in (("training", measure), ("validation", f"val_{measure}")):
            _draw_measure(axes, history, column, name)
        _mark_phases(axes, history)
        _mark_best(axes, history, measure)
        show_epochs(axes, len(history["phase"]))
        axes.set_title(measure)
    accuracy.set_ylim(*accuracy_range(history["accuracy"] + history["val_accuracy"]))
    loss.set_ylim(*loss_range(history["loss"], history["val_loss"]))
    for axes in (accuracy, loss):
        axes.legend(loc="best", fontsize=9)
    figure.supxlabel(f"pale: each epoch; bold: smoothed by {SMOOTHING}", fontsize=8, color="grey")
    figure.savefig(run / "curves.png", dpi=130)


def show_epochs(axes: Axes, epochs: int) -> None:
    """Set up an axis of so many epochs."""
    axes.set_xlim(0.5, max(epochs, 2) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def accuracy_range(values: Sequence[float]) -> tuple[float, float]:
    """Return limits that show accuracies at least a tenth apart, and no more than 0..1 and a little."""
    finite = np.array(values)[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    margin = max(0.08 * (high - low), (0.1 - (high - low)) / 2, 0.01)
    return max(low - margin, -0.02), min(high + margin, 1.02)


def loss_range(*curves: Sequence[float]) -> tuple[float, float]:
    """Return limits of losses from 0 that leave out a first few epochs far above the others."""
    highest = 0.0
    for curve in curves:
        finite = np.array(curve)[np.isfinite(curve)]
        if len(finite):
            # A quarter of a curve may lie up to twice as high as the rest; beyond that it would flatten the rest.
            highest = max(highest, min(finite.max(), 2 * np.quantile(finite, 0.9)))
    return 0.0, 1.08 * highest if highest > 0 else 1.0


def _draw_measure(axes: Axes, history: dict[str, list], column: str, name: str) -> None:
    epochs = np.arange(1, len(history["phase"]) + 1)
    values, smoothed = np.array(history[column]), smooth_phases(history, column)
    for _, start, end in phases(history):
        part = slice(start, end)
        # A line of one point is invisible.
        marker = "o" if end - start < 4 else ""
        label = name if start == 0 else None
        colour = _COLOURS[name]
        axes.plot(epochs[part], values[part], marker=marker, markersize=4, color=colour, alpha=0.35, linewidth=1)
        axes.plot(epochs[part], smoothed[part], marker=marker, markersize=4, color=colour, linewidth=2, label=label)


def _mark_phases(axes: Axes, history: dict[str, list]) -> None:
    parts = list(phases(history))
    for name, start, _ in parts if len(parts) > 1 else []:
        if start > 0:
            axes.axvline(start + 0.5, color="grey", linestyle=":", linewidth=1)
        axes.annotate(
            name,
            (start + 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
            color="grey",
            fontsize=9,
        )


def _mark_best(axes: Axes, history: dict[str, list], measure: str) -> None:
    position = best_position(history)
    value = history[f"val_{measure}"][position]
    if not np.isfinite(value):
        return
    axes.plot(position + 1, value, "o", markersize=7, markerfacecolor="none", markeredgecolor="black", zorder=4)
    right = position > 0.75 * len(history["phase"])
    axes.annotate(
        f"best epoch, {position + 1}: {value:.3f}" if measure == "accuracy" else f"epoch {position + 1}: {value:.3f}",
        (position + 1, value),
        xytext=(-6 if right else 6, 9 if measure == "accuracy" else -14),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=9,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )
