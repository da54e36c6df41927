"""What calls take and return; docs/api.md says what the fields mean."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Served:
    """A model, and the version of it that answered."""

    name: str
    version: int


@dataclass(frozen=True)
class ClassScore:
    """A class and its probability."""

    label: str
    class_index: int
    score: float


@dataclass(frozen=True)
class Classification:
    """The class of a picture, or its text.

    top_k holds the best classes, best first; positions, of a model that reads texts, the answer for each character.
    """

    model: Served
    label: str
    score: float
    top_k: tuple[ClassScore, ...] = ()
    positions: tuple["Classification", ...] = ()


@dataclass(frozen=True)
class Box:
    """A region in pixels of the upright picture, half-open: left <= x < right, top <= y < bottom."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Overlay:
    """How to draw a map over its picture.

    alpha is the strength in 0..1; colormap a name in the catalogue of cmap, None the gateway's own; box draws the edge
    of the hot region; legend says below the picture what is shown.
    """

    alpha: float = 0.5
    colormap: str | None = None
    box: bool = False
    legend: bool = False


@dataclass(frozen=True)
class Explanation:
    """Why a picture would be of a class.

    heatmap is float32 [h, w], 0 or more and not normalised; peak its greatest value, and box the region where it
    reaches half of that, None where nothing speaks for the class. overlay is the map over the picture, RGB, if asked
    for. layer is None for integrated gradients.
    """

    model: Served
    label: str
    class_index: int
    score: float
    method: str
    layer: str | None
    heatmap: np.ndarray
    peak: float
    box: Box | None
    position: int | None = None
    overlay: Image.Image | None = field(default=None, compare=False, repr=False)

    @property
    def normalized(self) -> np.ndarray:
        """The map divided by its peak, float32 [h, w] in 0..1; all 0 where the peak is 0."""
        return self.heatmap / self.peak if self.peak > 0 else np.zeros_like(self.heatmap)


@dataclass(frozen=True)
class Layer:
    """A convolution or pooling layer, and what can be asked of it."""

    name: str
    kind: str
    height: int
    width: int
    channels: int
    grad_cam: bool
    activations: bool
    filter_patterns: bool


@dataclass(frozen=True)
class Model:
    """A model that the gateway answers for; version is that which answers, None where none does."""

    name: str
    ready: bool
    version: int | None
    classes: tuple[str, ...]
    layers: tuple[Layer, ...]
