"""Training curves: the history of a run, raw and smoothed."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SMOOTHING = 0.8


def smooth(values: Sequence[float], factor: float = SMOOTHING) -> np.ndarray:
    """Smooth a curve exponentially: s0 = v0, s = factor·s' + (1-factor)·v; float64 [n]."""
    smoothed = np.array(values, np.float64)
    for position in range(1, len(smoothed)):
        smoothed[position] = factor * smoothed[position - 1] + (1 - factor) * smoothed[position]
    return smoothed


def read_history(run: Path) -> dict[str, list]:
    """Read `history.csv` of a run as columns; numbers as floats, `phase` as text."""
    with (run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [row[key] if key == "phase" else float(row[key]) for row in rows] for key in (rows[0] if rows else {})}


def write_curves(run: Path) -> None:
    """Draw loss and accuracy over the epochs of all phases, raw and smoothed, as `curves.png`."""
    history = read_history(run)
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = np.arange(1, len(history["phase"]) + 1)
    starts = [position for position in epochs[1:] if history["phase"][position - 1] != history["phase"][position - 2]]
    for axes, measure in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        _draw_curve(axes, epochs, history[measure], "training", "tab:blue")
        _draw_curve(axes, epochs, history[f"val_{measure}"], "validation", "tab:orange")
        for start in starts:
            axes.axvline(start - 0.5, color="grey", linestyle=":")
            axes.text(start - 0.4, axes.get_ylim()[0], history["phase"][start - 1], va="bottom", color="grey")
        axes.set_xlabel("epoch")
        axes.set_title(measure)
        axes.legend()
    figure.savefig(run / "curves.png", dpi=120)


def _draw_curve(axes: Axes, epochs: np.ndarray, values: Sequence[float], name: str, colour: str) -> None:
    axes.plot(epochs, values, ".", color=colour, alpha=0.35)
    axes.plot(epochs, smooth(values), color=colour, label=f"{name}, smoothed")
