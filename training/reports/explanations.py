"""What an evaluation of explanations leaves: a table, figures, and a page in one file."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from training.explanations.evaluation import Estimate, Evaluation, Example
from training.explanations.faithfulness import STEPS
from training.reports import html
from training.reports.heatmaps import overlay

JSON_FILE, CSV_FILE, PAGE_FILE = "explanations.json", "explanations.csv", "explanations.html"

_LEAST_SIDE = 160
"""Side of an example on the page, in pixels."""


@dataclass(frozen=True)
class _View:
    """An example with its maps laid over it."""

    file: str
    predicted: str
    is_right: bool
    picture: Image.Image
    views: Sequence[Image.Image]


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `explanations.json`, `explanations.csv` (one row a picture and map) and `explanations.html`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON_FILE).write_text(json.dumps(as_json(evaluation), indent=2) + "\n")
    with (folder / CSV_FILE).open("w", newline="") as file:
        writer = csv.writer(file)
        measures = list(evaluation.scores[0].measures())
        writer.writerow(["picture", "map", "layer", *measures])
        for scores in evaluation.scores:
            columns = scores.measures()
            for row, picture in enumerate(evaluation.files):
                values = (f"{columns[measure][row]:.6g}" for measure in measures)
                writer.writerow([picture, scores.name, scores.layer or "", *values])
    colours = dict(zip((scores.title for scores in evaluation.scores), cycle(html.COLOURS), strict=False))
    page = html.render(
        "explanations.html",
        {"estimate": _estimate},
        evaluation=evaluation,
        colours=colours,
        curves=[_draw(evaluation, colours, name) for name in ("insertion", "deletion")],
        examples=[_view(example) for example in evaluation.examples],
    )
    (folder / PAGE_FILE).write_text(page)


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures as JSON types."""
    return {
        "model": evaluation.model,
        "split": evaluation.split,
        "pictures": len(evaluation.files),
        "accuracy": evaluation.accuracy,
        "object_share": evaluation.object_share,
        "seed": evaluation.seed,
        "maps": [
            {
                "map": scores.name,
                "layer": scores.layer,
                "control": scores.is_control,
                "silent": scores.silent,
                "measures": {name: asdict(found) for name, found in evaluation.estimates(scores).items()},
                "shuffled": asdict(evaluation.shuffled[scores.title]) if scores.title in evaluation.shuffled else None,
                "comparisons": []
                if scores.is_control
                else [{**asdict(item), "verdict": item.verdict} for item in evaluation.comparisons(scores)],
                "insertion_curve": scores.insertion_curve.tolist(),
                "deletion_curve": scores.deletion_curve.tolist(),
            }
            for scores in evaluation.scores
        ],
        "sentences": evaluation.sentences(),
    }


def _draw(evaluation: Evaluation, colours: dict[str, str], name: str) -> Markup:
    """Draw the mean probability of the class over the share of pixels that are put in or taken away."""
    with html.ink():
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.subplots()
        shares = np.linspace(0, 1, STEPS + 1)
        for scores in evaluation.scores:
            style = "--" if scores.is_control else "-"
            axes.plot(shares, getattr(scores, f"{name}_curve"), style, color=colours[scores.title], linewidth=1.6)
        axes.set_xlabel("share of the pixels")
        axes.set_title(f"{name}: probability of the class", fontsize=11)
        return html.svg(figure, name)


def _view(example: Example) -> _View:
    factor = max(1, -(-_LEAST_SIDE // max(example.picture.shape[:2])))
    picture = Image.fromarray(example.picture)
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BILINEAR)
    views = [overlay(picture, heatmap) for heatmap in example.maps.values()]
    return _View(example.file, example.predicted, example.predicted == example.label, picture, views)


def _estimate(estimate: Estimate) -> str:
    """Write a mean and its interval."""
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
