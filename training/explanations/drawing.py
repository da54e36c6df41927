"""The pictures that explain what a model makes of one picture, written to a folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from serving.contract import signatures
from serving.offline import MAX_FILTERS, Deadline, Explanation, ModelRef, Targets, Vision

LIMIT_S = 600.0
"""Longest time for one answer of the model."""


def explain(
    vision: Vision,
    ref: ModelRef,
    picture: Path,
    folder: Path,
    asked: Targets,
    layer: str | None = None,
    methods: Sequence[str] = (),
    alpha: float | None = None,
    colormap: str | None = None,
    filters: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Write what the gateway would answer for a picture.

    `answer.json` has the classification and the figures of every explanation and layer; `heat-maps.png` and
    `attributions.png` the overlays side by side; `activations/` every channel of every convolution and pooling layer,
    numbered from the picture to the answer; `filters/` what the filters of every convolution respond to. What the
    model does not carry is left out.

    Args:
        vision: the core.
        ref: the model.
        picture: an encoded picture.
        folder: where to write; made if it is not there.
        asked: which classes to explain.
        layer: the convolution of the heat maps; None: the last.
        methods: of the heat maps; empty: all that the model carries.
        alpha: strength of the overlays in 0..1; None: 0.5.
        colormap: of overlays and grids; None: inferno.
        filters: also draw filter patterns, which takes seconds a layer.
        progress: called with (what is drawn, done, in all).

    Returns:
        What `answer.json` holds.

    Raises:
        FoveaError: a picture that cannot be decoded, or parameters that do not fit the model.
    """
    data = picture.read_bytes()
    classified = vision.classify(ref, [data], None, Deadline(LIMIT_S))
    card = vision.card(ref, Deadline(LIMIT_S))
    explanations: list[Explanation] = []

    def draw(name: str, rows: list[Explanation]) -> None:
        explanations.extend(rows)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(vision.overlay(data, rows, alpha, colormap, box=True, legend=True))

    if layer or methods or card.grad_cam_layer:
        carried = signatures.CAM_MAPS if any(item.cam_methods for item in card.layers) else (signatures.GRAD_CAM,)
        maps = vision.heat_maps(ref, [data], asked, layer, methods or carried, Deadline(LIMIT_S))
        draw("heat-maps.png", list(maps.rows))
    if card.integrated_gradients:
        draw("attributions.png", list(vision.attributions(ref, [data], asked, Deadline(LIMIT_S)).rows))

    names = [item.name for item in card.layers if item.activations]
    layers = []
    (folder / "activations").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=1):
        found = vision.activations(ref, [data], [name], [], True, Deadline(LIMIT_S)).pictures[0][0]
        _place(folder, "activations", number, name).write_bytes(vision.activation_grid(found, colormap))
        layers.append({key: value for key, value in asdict(found).items() if key != "values"})
        if progress:
            progress("activations", number, len(names))
    drawable = [item for item in card.layers if item.filter_patterns] if filters else []
    for number, item in enumerate(drawable, start=1):
        (folder / "filters").mkdir(parents=True, exist_ok=True)
        first = range(min(item.channels, MAX_FILTERS))
        patterns = vision.filter_patterns(ref, item.name, first, Deadline(LIMIT_S))
        _place(folder, "filters", number, item.name).write_bytes(vision.pattern_grid(patterns))
        if progress:
            progress("filter patterns", number, len(drawable))
    answer = {
        "picture": str(picture),
        "model": asdict(classified.model),
        "classification": asdict(classified.rows[0]),
        "explanations": [_figures(row) for row in explanations],
        "layers": layers,
    }
    (folder / "answer.json").write_text(json.dumps(answer, indent=2) + "\n")
    return answer


def _place(folder: Path, kind: str, number: int, layer: str) -> Path:
    return folder / kind / f"{number:02}-{layer.replace('/', '.')}.png"


def _figures(row: Explanation) -> dict[str, Any]:
    """Return an explanation without its arrays."""
    return {key: value for key, value in asdict(row).items() if not isinstance(value, np.ndarray)}
