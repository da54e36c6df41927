"""A published model in this process: its probabilities and its maps, batch by batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from fovea.v1.model_card_pb2 import ModelCard

from serving.contract import card as cards
from serving.contract import signatures
from serving.offline import FoveaError as NoModelError
from serving.offline import newest_version
from training.errors import FoveaError, reason
from training.export.session import Session

BATCH = 32
"""Pictures a call."""


class ExportedModel:
    """A SavedModel that keeps the contract and names classes; to be used in a `with` block."""

    def __init__(self, folder: Path):
        """Load a model.

        Args:
            folder: a SavedModel, or `<store>/<model>`, of which the newest version is taken.

        Raises:
            FoveaError: there is none, it carries no card, or it reads texts.
        """
        try:
            self.folder = newest_version(folder)
        except NoModelError as error:
            raise FoveaError(str(error)) from error
        try:
            self._session = Session(str(self.folder))
            (card,) = self._session.run(signatures.MODEL_CARD, {signatures.QUERY: np.array([b""], object)})[
                signatures.CARD
            ]
        except Exception as error:
            raise FoveaError(f"{self.folder} is no model that Fovea published: {reason(error)}") from error
        self.card: ModelCard = cards.from_json(card)
        if self.card.positions:
            raise FoveaError(f"{self.folder} reads texts; explanations are judged for models that name classes")

    def __enter__(self) -> Self:
        """Return the model."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the model."""
        self._session.close()

    @property
    def methods(self) -> list[str]:
        """Name the methods of explanation that the model carries."""
        card = self.card
        maps = signatures.CAM_MAPS if any(layer.cam_methods for layer in card.layers) else (signatures.GRAD_CAM,)
        return [
            *(maps if card.grad_cam_layer else ()),
            *([signatures.INTEGRATED_GRADIENTS] if card.integrated_gradients else []),
        ]

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [n, classes] of pictures uint8 [n, h, w, 3]."""
        parts = [
            self._session.run(signatures.PREDICT, {signatures.IMAGES: pixels[start : start + BATCH]})[
                signatures.PROBABILITIES
            ]
            for start in range(0, len(pixels), BATCH)
        ]
        return np.concatenate(parts)

    def maps(
        self, methods: Sequence[str], layer: str, pixels: np.ndarray, class_index: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the maps of a class of each picture, by method.

        Args:
            methods: some of `methods`.
            layer: the convolution of class-activation maps.
            pixels: uint8 [n, h, w, 3].
            class_index: the class of each picture, int [n].

        Returns:
            float32 [n, h', w'] each: at the convolution's resolution, or for integrated gradients at the input's, the
            part above 0 of their sum over the colours.
        """
        inputs = {signatures.IMAGES: pixels, signatures.CLASS_INDEX: class_index.astype(np.int32)}
        found: dict[str, np.ndarray] = {}
        chosen = [method for method in methods if method in signatures.CAM_MAPS]
        if chosen == [signatures.GRAD_CAM]:
            found[signatures.GRAD_CAM] = self._session.run(signatures.grad_cam(layer), inputs)[signatures.HEATMAP]
        elif chosen:
            outputs = self._session.run(signatures.cam_methods(layer), inputs)
            found |= {method: outputs[method] for method in chosen}
        if signatures.INTEGRATED_GRADIENTS in methods:
            values = self._session.run(signatures.INTEGRATED_GRADIENTS, inputs)[signatures.ATTRIBUTIONS]
            found[signatures.INTEGRATED_GRADIENTS] = np.maximum(values.sum(axis=-1), 0)
        return found

    def shuffle_weights(self, random: np.random.Generator) -> None:
        """Put the values of every weight tensor into another order, until the model is freed."""
        self._session.shuffle_variables(random)
