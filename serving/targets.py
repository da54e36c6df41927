"""What a request names, looked up in a model's card: classes, positions, layers, channels, methods."""

from collections.abc import Sequence
from dataclasses import dataclass

from fovea.v1.model_card_pb2 import Layer, ModelCard

from serving.contract import signatures
from serving.errors import (
    InvalidArgumentError,
    NotCarriedError,
    UnknownClassError,
    UnknownLayerError,
)

_PURPOSES = {"grad_cam": "heat maps", "activations": "activations", "filter_patterns": "filter patterns"}


@dataclass(frozen=True)
class Targets:
    """What to explain of each picture: classes by name or index, the most probable ones, or the predicted one."""

    classes: Sequence[str] = ()
    """Names or indices; empty: see `top_k`."""
    top_k: int | None = None
    """Explain so many of the most probable classes; None: the predicted class, or `classes`."""
    position: int | None = None
    """Of the character to explain, counted from 0; None: the first of a text. For models that read texts only."""

    def __post_init__(self) -> None:
        if self.classes and self.top_k is not None:
            raise InvalidArgumentError("name classes or ask for the top_k most probable, not both")
        if self.top_k is not None and self.top_k < 1:
            raise InvalidArgumentError("top_k must be 1 or more")


def class_index(card: ModelCard, text: str) -> int:
    """Return the index of a class given by name or index; a name that looks like an index is a name.

    Raises:
        UnknownClassError: the model has no such class.
    """
    names = list(card.class_names)
    if text in names:
        return names.index(text)
    if text.isascii() and text.isdigit() and int(text[:9]) < len(names):
        return int(text[:9])
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    raise UnknownClassError(f"the model has no class {text[:128]!r}; its classes are {shown} (0 to {len(names) - 1})")


def position(card: ModelCard, asked: int | None) -> int | None:
    """Return the position to explain, None for a model that does not read texts.

    Raises:
        InvalidArgumentError: a position that the model's texts do not have.
    """
    if not card.positions:
        if asked is not None:
            raise InvalidArgumentError("the model names a class and reads no text; leave out the position")
        return None
    if asked is not None and not 0 <= asked < card.positions:
        raise InvalidArgumentError(
            f"a text of this model has no position {asked}; its positions are 0 to {card.positions - 1}"
        )
    return asked or 0


def layer(card: ModelCard, name: str, ability: str) -> Layer:
    """Return a layer that has an ability: `grad_cam`, `activations` or `filter_patterns`.

    Raises:
        UnknownLayerError: the model has no such layer.
    """
    able = {item.name: item for item in card.layers if getattr(item, ability)}
    if name not in able:
        raise UnknownLayerError(
            f"the model has no layer {name[:128]!r} with {_PURPOSES[ability]}; "
            f"such layers are {', '.join(able) or 'none'}"
        )
    return able[name]


def check_channels(item: Layer, channels: Sequence[int], noun: str = "channel") -> None:
    """Refuse channels that a layer does not have.

    Raises:
        InvalidArgumentError: there is one.
    """
    for channel in channels:
        if not 0 <= channel < item.channels:
            raise InvalidArgumentError(
                f"layer {item.name!r} has no {noun} {channel}; its {noun}s are 0 to {item.channels - 1}"
            )


def check_methods(item: Layer, methods: Sequence[str]) -> None:
    """Refuse heat-map methods that do not exist, or that a model was exported without.

    Args:
        item: a convolution that Grad-CAM can explain.
        methods: names.

    Raises:
        InvalidArgumentError: there is no such method.
        NotCarriedError: the model keeps an older version of the contract.
    """
    for method in methods:
        if method not in signatures.CAM_MAPS:
            known = ", ".join(signatures.CAM_MAPS)
            raise InvalidArgumentError(f"there is no method {method[:64]!r}; methods are {known}")
        if method != signatures.GRAD_CAM and not item.cam_methods:
            raise _not_carried(method)


def check_integrated_gradients(card: ModelCard) -> None:
    """Refuse integrated gradients for a model that was exported without them.

    Raises:
        NotCarriedError: it was.
    """
    if not card.integrated_gradients:
        raise _not_carried(signatures.INTEGRATED_GRADIENTS)


def _not_carried(method: str) -> NotCarriedError:
    return NotCarriedError(
        f"the model was exported without {method}; "
        f"publish it again with this version of Fovea, or ask for {signatures.GRAD_CAM}"
    )
