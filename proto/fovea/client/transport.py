"""What a protocol must be able to do for the client."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from fovea.client.answers import Classification, Explanation, Model, Overlay


class Asked(NamedTuple):
    """A model, and which version of it; neither version nor label: the newest."""

    name: str
    version: int | None
    label: str | None


class Target(NamedTuple):
    """A class by name or index, None: the predicted one; and the character of a text."""

    class_name: str | None
    position: int | None


class Transport(Protocol):
    """A protocol. Each call makes one attempt and has so many seconds; `Client` says what calls do."""

    def close(self) -> None:
        """Close the connections."""

    def models(self, seconds: float) -> list[Model]:
        """List the models."""

    def classify(
        self, asked: Asked, pictures: Sequence[bytes], top_k: int | None, seconds: float
    ) -> list[Classification]:
        """Name the class of each picture."""

    def grad_cam(
        self,
        asked: Asked,
        picture: bytes,
        method: str,
        layer: str | None,
        target: Target,
        overlay: Overlay | None,
        seconds: float,
    ) -> Explanation:
        """Explain a class by a class-activation map."""

    def attributions(
        self, asked: Asked, picture: bytes, target: Target, overlay: Overlay | None, seconds: float
    ) -> Explanation:
        """Explain a class by integrated gradients."""

    def activations(
        self, asked: Asked, picture: bytes, layer: str, channels: Sequence[int], seconds: float
    ) -> np.ndarray:
        """Return float32 [h, w, channels]."""

    def filters(self, asked: Asked, layer: str, filters: Sequence[int], seconds: float) -> np.ndarray:
        """Return uint8 [filters, h, w, 3]."""
