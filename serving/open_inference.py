"""The Open Inference Protocol (V2): its tensors as pictures, and answers as its tensors; knows neither REST nor gRPC.

A request holds one input: `images`, UINT8 [n, h, w, 3], or `image_bytes`, encoded pictures as BYTES
[n] or [n, 1]. Outputs are `probabilities`, and where they are asked for `label` and `score`.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final, NamedTuple

import numpy as np
from fovea.v1.model_card_pb2 import ModelCard

from serving.answers import ServedModel
from serving.catalog import ModelRef, ModelStatus
from serving.contract.signatures import IMAGE_BYTES, IMAGES, PROBABILITIES
from serving.deadline import Deadline
from serving.decoding import Picture
from serving.errors import (
    BadTensorError,
    DeadlineExceededError,
    InvalidArgumentError,
    ModelNotReadyError,
    ModelServerBusyError,
    ModelServerError,
    ModelServerUnavailableError,
    TooManyPicturesError,
    TooManyPixelsError,
    UnknownVersionError,
)
from serving.inference import READY_SECONDS, Vision
from serving.settings import Settings

SERVER: Final[dict[str, Any]] = {
    "name": "fovea",
    "version": metadata.version("fovea"),
    "extensions": ["binary_tensor_data"],
}
PLATFORM: Final = "tensorflow_savedmodel"
LABEL: Final = "label"
SCORE: Final = "score"

_DATATYPES: Final = {IMAGES: "UINT8", IMAGE_BYTES: "BYTES"}
_OUTPUTS: Final = (PROBABILITIES, LABEL, SCORE)
_LENGTH = struct.Struct("<I")


class TensorMetadata(NamedTuple):
    """Name, datatype and shape of an input or output; -1: any size."""

    name: str
    datatype: str
    shape: list[int]


@dataclass(frozen=True)
class ModelMetadata:
    """What the protocol tells about a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Input(NamedTuple):
    """A tensor of a request: its bytes as the protocol's binary form has them, or its values, flat or nested."""

    name: str
    datatype: str
    shape: Sequence[int]
    raw: bytes | None = None
    values: Sequence[Any] = ()


class Output(NamedTuple):
    """A tensor of an answer: float32, or an object array of `bytes`."""

    name: str
    datatype: str
    array: np.ndarray

    def raw(self) -> bytes:
        """Return the values in the protocol's binary form."""
        if self.datatype == "BYTES":
            return b"".join(_LENGTH.pack(len(item)) + item for item in self.array.ravel())
        return self.array.astype("<f4", copy=False).tobytes()


def reference(name: str, version: str | None) -> ModelRef:
    """Read a model's version as the protocol spells it: a number, or here also a label; none: the newest.

    Raises:
        UnknownVersionError: a number that no version can have.
    """
    if not version:
        return ModelRef(name)
    if not (version.isascii() and version.isdigit()):
        return ModelRef(name, label=version)
    if len(version) > 19:
        raise UnknownVersionError(f"model {name[:128]!r} has no version {version[:64]}")
    return ModelRef(name, version=int(version))


def describe(status: ModelStatus) -> ModelMetadata:
    """Tell versions, inputs and outputs of a model.

    Raises:
        ModelNotReadyError: no version answers.
    """
    if status.served is None:
        raise ModelNotReadyError(f"model {status.name!r} has no version that is ready")
    card = status.served.card
    return ModelMetadata(
        name=status.name,
        versions=[str(item.version) for item in status.versions if item.state == "AVAILABLE"],
        platform=PLATFORM,
        inputs=[
            TensorMetadata(IMAGES, "UINT8", [-1, card.input_height, card.input_width, 3]),
            TensorMetadata(IMAGE_BYTES, "BYTES", [-1]),
        ],
        outputs=[
            TensorMetadata(PROBABILITIES, "FP32", [-1, *_row_shape(card)]),
            TensorMetadata(LABEL, "BYTES", [-1]),
            TensorMetadata(SCORE, "FP32", [-1]),
        ],
    )


def ready(vision: Vision, ref: ModelRef) -> bool:
    """Tell within a second whether a model answers.

    Raises:
        FoveaError: there is no such model, version or label.
    """
    try:
        return vision.describe(ref, Deadline(READY_SECONDS)).ready
    except (ModelServerUnavailableError, ModelServerBusyError, ModelServerError, DeadlineExceededError):
        return False


def infer(
    vision: Vision,
    settings: Settings,
    ref: ModelRef,
    inputs: Sequence[Input],
    outputs: Sequence[str],
    deadline: Deadline,
) -> tuple[ServedModel, list[Output]]:
    """Run a model on the pictures of a request.

    Args:
        vision: the core.
        settings: limits.
        ref: the model.
        inputs: the request's tensors.
        outputs: names of the outputs that are wanted, in their order; empty: `probabilities`.
        deadline: the request's.

    Raises:
        BadTensorError: inputs that are not as the module says.
        InvalidArgumentError: an output that does not exist, or is asked for twice.
        FoveaError: as for `Vision.classify`.
    """
    names = list(outputs) or [PROBABILITIES]
    for name in names:
        if name not in _OUTPUTS:
            raise InvalidArgumentError(f"there is no output {name[:64]!r}; outputs are {', '.join(_OUTPUTS)}")
    if len(set(names)) < len(names):
        raise InvalidArgumentError("an output is asked for twice")
    images = _pictures(inputs, settings)
    if names == [PROBABILITIES]:
        predictions = vision.predict(ref, images, deadline)
        return predictions.model, [Output(PROBABILITIES, "FP32", predictions.probabilities)]
    result = vision.classify(ref, images, 1, deadline)
    labels = np.empty(len(result.rows), dtype=object)
    labels[:] = [row.label.encode() for row in result.rows]
    made = {
        PROBABILITIES: Output(PROBABILITIES, "FP32", result.probabilities),
        LABEL: Output(LABEL, "BYTES", labels),
        SCORE: Output(SCORE, "FP32", np.array([row.score for row in result.rows], np.float32)),
    }
    return result.model, [made[name] for name in names]


def check_output_parameters(name: str, parameters: Mapping[str, object]) -> None:
    """Refuse what would change the meaning of an output and is not offered.

    Raises:
        InvalidArgumentError: a parameter that is not offered.
    """
    for parameter in ("classification", "shared_memory_region"):
        if parameters.get(parameter):
            raise InvalidArgumentError(
                f"output {name[:64]!r}: the parameter {parameter} is not offered; ask for the outputs label and score"
                if parameter == "classification"
                else f"output {name[:64]!r}: shared memory is not offered"
            )


def _row_shape(card: ModelCard) -> list[int]:
    classes = len(card.class_names)
    return [card.positions, classes] if card.positions else [classes]


def _pictures(inputs: Sequence[Input], settings: Settings) -> list[Picture]:
    if len(inputs) != 1:
        raise BadTensorError(
            f"the request has {len(inputs)} inputs; send one: images (UINT8 [n, h, w, 3]) or image_bytes (BYTES [n])"
        )
    tensor = inputs[0]
    expected = _DATATYPES.get(tensor.name)
    if expected is None:
        raise BadTensorError(f"there is no input {tensor.name[:64]!r}; inputs are {', '.join(_DATATYPES)}")
    if tensor.datatype != expected:
        raise BadTensorError(f"input {tensor.name!r} is of datatype {expected}, not {tensor.datatype[:16]!r}")
    shape = tuple(tensor.shape)
    if tensor.name == IMAGE_BYTES:
        if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)) or shape[0] < 0:
            raise BadTensorError(f"input {IMAGE_BYTES!r} must have the shape [n] or [n, 1]")
    elif len(shape) != 4 or shape[3] != 3 or shape[0] < 0 or min(shape[1:]) < 1:
        raise BadTensorError(f"input {IMAGES!r} must have the shape [n, h, w, 3]")
    if shape[0] > settings.max_pictures:
        raise TooManyPicturesError(
            f"the request holds {shape[0]} pictures; at most {settings.max_pictures} are allowed"
        )
    if tensor.name == IMAGE_BYTES:
        return list(_encoded(tensor, shape[0]))
    if shape[1] * shape[2] > settings.max_pixels:
        raise TooManyPixelsError(f"the pictures have more than {settings.max_pixels} pixels")
    return list(_pixels(tensor, shape))


def _encoded(tensor: Input, count: int) -> list[bytes]:
    items = _split(tensor.raw) if tensor.raw is not None else list(tensor.values)
    if len(items) != count:
        raise BadTensorError(f"input {tensor.name!r} holds {len(items)} elements, its shape says {count}")
    return items


def _split(raw: bytes) -> list[bytes]:
    """Take the elements of a BYTES tensor apart, each of which comes after its length."""
    items, at = [], 0
    while at + _LENGTH.size <= len(raw):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(raw, at)[0]
        items.append(raw[start:at])
    if at != len(raw):
        raise BadTensorError("a BYTES tensor must hold each element after its length (four bytes, little-endian)")
    return items


def _pixels(tensor: Input, shape: tuple[int, ...]) -> np.ndarray:
    if tensor.raw is not None:
        values = np.frombuffer(tensor.raw, np.uint8)
    else:
        try:
            values = np.array(tensor.values).ravel()
        except ValueError:
            values = np.empty(0, object)
        if len(values) and (values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255):
            raise BadTensorError(f"input {tensor.name!r} must hold whole numbers in 0..255")
    if len(values) != math.prod(shape):
        raise BadTensorError(
            f"input {tensor.name!r} holds {len(values)} values, its shape {list(shape)} takes {math.prod(shape)}"
        )
    return values.astype(np.uint8, copy=False).reshape(shape)
