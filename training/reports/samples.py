"""The same few pictures through the models of several runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageOps

import training.bases  # noqa: F401 (registers the layers that a saved model may hold)
from serving.contract import images
from training.reports.heatmaps import HeatMaps, overlay
from training.reports.predictions import Predictions

MOST = 6

_SIDE = 200


@dataclass(frozen=True)
class Sample:
    """What a run says of a picture, and where it looked."""

    file: str
    label: str
    predicted: str
    confidence: float
    """Probability of the predicted class, in 0..1; of a text that of its first character."""
    is_right: bool
    view: Image.Image
    """The picture with the heat map of the predicted class over it; without, for a net without convolutions."""


def choose_samples(predictions: Sequence[Predictions], most: int = MOST) -> list[int]:
    """Choose pictures to show: half of them such as the runs disagree about most, the rest spread over the split.

    Args:
        predictions: of each run, for the same pictures in the same order.
        most: how many at most.

    Returns:
        Their rows, in order.
    """
    share_right = np.mean([answers.right for answers in predictions], axis=0)
    disagreement = share_right * (1 - share_right)
    least = np.sort(disagreement)[-(most // 2) :].min()
    disputed = _spread(np.flatnonzero((disagreement >= least) & (disagreement > 0)), most // 2)
    others = np.setdiff1d(np.arange(len(share_right)), disputed)
    return sorted([*disputed, *_spread(others, most - len(disputed))])


def _spread(rows: np.ndarray, most: int) -> list[int]:
    """Return the middles of equal parts: the pictures of a split stand class by class, so every class has some."""
    count = min(most, len(rows))
    return [int(rows[int((part + 0.5) / count * len(rows))]) for part in range(count)]


def explain_samples(
    run: Path, root: Path, predictions: Predictions, rows: Sequence[int], class_names: Sequence[str]
) -> list[Sample]:
    """Show what the model of a run looked at.

    Args:
        run: the folder of a run with a model.
        root: the folder of the picture set.
        predictions: of the run.
        rows: which of them.
        class_names: names by class index.

    Raises:
        OSError: a picture is not there.
    """
    model = keras.models.load_model(run / "model.keras")
    height, width = model.inputs[0].shape[1:3]
    pictures = [images.decode((root / predictions.files[row]).read_bytes()) for row in rows]
    chosen = predictions.predicted[rows].reshape(len(rows), -1)
    heat_maps = HeatMaps(model).of(
        np.stack([images.resize(picture, height, width) for picture in pictures]),
        chosen[:, 0],
        np.zeros(len(rows), int) if predictions.labels.ndim == 2 else None,
    )
    first = predictions.probabilities[rows].reshape(len(rows), -1, len(class_names))[:, 0]
    return [
        Sample(
            file=predictions.files[row],
            label=_text(predictions.labels[row], class_names),
            predicted=_text(predictions.predicted[row], class_names),
            confidence=float(first[position].max()),
            is_right=bool(predictions.right[row]),
            view=_view(pictures[position], heat_maps[position] if heat_maps else None),
        )
        for position, row in enumerate(rows)
    ]


def _text(indices: np.ndarray, class_names: Sequence[str]) -> str:
    return "".join(class_names[index] for index in np.atleast_1d(indices))


def _view(picture: Image.Image, heat_map: np.ndarray | None) -> Image.Image:
    fitted = ImageOps.contain(picture, (_SIDE, _SIDE))
    return fitted if heat_map is None else overlay(fitted, heat_map)
