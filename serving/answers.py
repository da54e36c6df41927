"""What the core answers, as data that both doors write in their own form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from serving.rendering import Box


@dataclass(frozen=True)
class ServedModel:
    """The version that answered."""

    name: str
    version: int


@dataclass(frozen=True)
class ClassScore:
    """Probability of one class, in 0..1."""

    label: str
    class_index: int
    score: float


@dataclass(frozen=True)
class Classification:
    """The class of a picture, and the most probable ones, best first."""

    label: str
    class_index: int
    score: float
    top_k: list[ClassScore]


@dataclass(frozen=True)
class Text:
    """The text of a picture: the most probable character at each position; score is the product of theirs."""

    label: str
    score: float
    positions: list[Classification]


@dataclass(frozen=True)
class Classifications:
    """One classification a picture, or one text; probabilities as in `Predictions`."""

    model: ServedModel
    rows: Sequence[Classification | Text]
    probabilities: np.ndarray


@dataclass(frozen=True)
class Predictions:
    """Probabilities, float32 [N, C], or [N, P, C] of a model that reads texts."""

    model: ServedModel
    probabilities: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a picture would be of a class, as a map.

    picture is the picture's place in the request. heatmap is float32 [h, w] as the model computed it: nothing below
    0, not normalised. peak is its greatest value; where that is 0, nothing in the picture speaks for the class and
    box is None. box is the hot region in pixels of the upright picture, whose size is width x height. position is
    that of the explained character, None unless the model reads texts.
    """

    picture: int
    label: str
    class_index: int
    score: float
    method: str
    heatmap: np.ndarray
    peak: float
    box: Box | None
    width: int
    height: int
    position: int | None = None


@dataclass(frozen=True, kw_only=True)
class HeatMap(Explanation):
    """A class-activation map at a convolution, [h, w] at its resolution."""

    layer: str


@dataclass(frozen=True, kw_only=True)
class Attribution(Explanation):
    """What each value of the model's input adds to the class's score (integrated gradients).

    attributions is float32 [H, W, 3]; heatmap the part above 0 of their sum over the colours, [H, W]. score_change is
    the score of the picture less that of the baseline; the attributions add up to it but for completeness_error.
    """

    attributions: np.ndarray
    score_change: float
    completeness_error: float


E = TypeVar("E", bound=Explanation)


@dataclass(frozen=True)
class Explanations(Generic[E]):
    """Explanations picture by picture, class by class, method by method.

    probabilities is float32 [N, C], or [N, P, C] of a model that reads texts, one row a picture.
    """

    model: ServedModel
    class_names: list[str]
    probabilities: np.ndarray
    rows: list[E]


@dataclass(frozen=True)
class ChannelStrength:
    """Mean activation of a channel."""

    channel: int
    mean: float


@dataclass(frozen=True)
class LayerActivations:
    """Summary of a layer for one picture, and the values that were asked for.

    shape is [h, w, c] of the whole layer; sparsity the share of values that are 0 or less;
    silent_channels the number of channels without a value above 0; strongest the channels with the
    greatest mean, strongest first; values float32 [h, w, channels asked for], or None.
    """

    layer: str
    shape: tuple[int, int, int]
    sparsity: float
    silent_channels: int
    strongest: list[ChannelStrength]
    values: np.ndarray | None


@dataclass(frozen=True)
class Activations:
    """For each picture, one entry a layer, in the order of the request (or of the model)."""

    model: ServedModel
    pictures: list[list[LayerActivations]]


@dataclass(frozen=True)
class FilterPatterns:
    """What filters respond to: uint8 [K, H, W, 3], one picture a filter."""

    model: ServedModel
    layer: str
    filters: list[int]
    patterns: np.ndarray
