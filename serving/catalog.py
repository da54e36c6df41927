"""What is served: names, versions and labels resolved to a concrete version and its model card."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from fovea.v1.model_card_pb2 import ModelCard

from serving import wire
from serving.backend import Backend, RefusedError, ServableNotFoundError, VersionState
from serving.contract import card as model_card
from serving.contract import signatures
from serving.deadline import Deadline
from serving.errors import (
    FoveaError,
    ModelNotReadyError,
    ModelServerError,
    UnknownLabelError,
    UnknownModelError,
    UnknownVersionError,
)
from serving.settings import MODEL_NAME, Settings

T = TypeVar("T")


@dataclass(frozen=True)
class ModelRef:
    """A model as a request names it; without version and label, the newest version that is served."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class Served:
    """A loaded version and what it says about itself."""

    name: str
    version: int
    card: ModelCard


@dataclass(frozen=True)
class ModelStatus:
    """A configured model: its versions (newest first), its labels, and the card of the version that answers."""

    name: str
    versions: list[VersionState]
    labels: dict[str, int]
    served: Served | None

    @property
    def ready(self) -> bool:
        """Whether a version answers."""
        return self.served is not None


class Catalog:
    """Asks the model server what it serves, and remembers: a version for a moment, a card for good."""

    def __init__(self, server: Backend, settings: Settings) -> None:
        self._server = server
        self._settings = settings
        self._versions: dict[ModelRef, tuple[float, int]] = {}
        self._cards: dict[tuple[str, int], ModelCard] = {}

    def check(self, ref: ModelRef) -> None:
        """Refuse references that must not reach the model server.

        Raises:
            UnknownModelError: not one of the configured models.
            UnknownVersionError: not a positive number.
            UnknownLabelError: not a label's spelling.
        """
        if ref.name not in self._settings.models:
            raise UnknownModelError(f"model {ref.name[:128]!r} is not served here; {_list(self._settings.models)}")
        if ref.version is not None and not 0 < ref.version < 2**63:
            raise UnknownVersionError(f"model {ref.name!r} has no version {ref.version}")
        if ref.label is not None and not MODEL_NAME.fullmatch(ref.label):
            raise UnknownLabelError(f"model {ref.name!r} has no version with the label {ref.label[:128]!r}")

    def resolve(self, ref: ModelRef, deadline: Deadline) -> Served:
        """Find the version that a reference stands for at the moment, with its card.

        Raises:
            UnknownModelError, UnknownVersionError, UnknownLabelError: there is none.
            ModelNotReadyError: the model is configured, but the model server has not loaded it.
            FoveaError: the model server does not answer, or the model carries no card.
        """
        self.check(ref)
        until, version = self._versions.get(ref, (0.0, 0))
        if time.monotonic() < until:
            return Served(ref.name, version, self._cards[ref.name, version])
        served = self._ask(ref, deadline)
        self._cards[ref.name, served.version] = served.card
        self._versions[ref] = (time.monotonic() + self._settings.version_ttl_s, served.version)
        return served

    def call(self, ref: ModelRef, deadline: Deadline, work: Callable[[Served], T]) -> T:
        """Resolve a reference and do work that calls the version explicitly.

        A version that was unloaded between the two is looked up once more, unless the reference
        names it.

        Raises:
            FoveaError: as for `resolve`; or what `work` raises.
        """
        served = self.resolve(ref, deadline)
        try:
            return work(served)
        except ServableNotFoundError:
            self._versions.pop(ref, None)
            served = self.resolve(ref, deadline)
            try:
                return work(served)
            except ServableNotFoundError:
                raise self._missing(ref) from None

    def status(self, ref: ModelRef, deadline: Deadline) -> ModelStatus:
        """Describe a model: the version or label of the reference alone, or all.

        Raises:
            FoveaError: as for `resolve`, but a model that is not loaded, or whose card cannot be read, is
                described as not ready, so that it does not hide the others.
        """
        self.check(ref)
        try:
            versions = self._server.status(ref.name, deadline)
        except ServableNotFoundError:
            versions = []
        served = None
        try:
            served = self.resolve(ref, deadline)
        except (ModelNotReadyError, ModelServerError):
            pass
        except UnknownVersionError:
            if ref.version not in {state.version for state in versions}:
                raise
        if ref.label is not None and served is not None:
            versions = [state for state in versions if state.version == served.version]
        elif ref.version is not None:
            versions = [state for state in versions if state.version == ref.version]
        return ModelStatus(ref.name, versions, self._labels(ref.name, deadline) if served else {}, served)

    def _labels(self, name: str, deadline: Deadline) -> dict[str, int]:
        found = {}
        for label in self._settings.labels:
            try:
                found[label] = self.resolve(ModelRef(name, label=label), deadline).version
            except UnknownLabelError:
                continue
        return found

    def _ask(self, ref: ModelRef, deadline: Deadline) -> Served:
        query = np.array([b""], dtype=object)
        try:
            answer = self._server.predict(model_spec(ref), signatures.MODEL_CARD, {signatures.QUERY: query}, deadline)
        except ServableNotFoundError:
            raise self._missing(ref) from None
        except RefusedError as error:
            if ref.label is not None and "label" in str(error):
                raise UnknownLabelError(f"model {ref.name!r} has no version with the label {ref.label!r}") from None
            raise ModelServerError(f"model {ref.name!r} carries no model card; it was not exported by Fovea") from error
        if (known := self._cards.get((ref.name, answer.version))) is not None:
            return Served(ref.name, answer.version, known)
        try:
            return Served(ref.name, answer.version, model_card.from_json(answer.outputs[signatures.CARD][0]))
        except (KeyError, IndexError, ValueError) as error:
            raise ModelServerError(f"the model card of {ref.name!r} cannot be read") from error

    def _missing(self, ref: ModelRef) -> FoveaError:
        if ref.version is not None:
            return UnknownVersionError(f"model {ref.name!r} has no version {ref.version} that is loaded")
        return ModelNotReadyError(f"model {ref.name!r} has no version that is loaded yet; try again later")


def model_spec(ref: ModelRef) -> wire.ModelSpec:
    """Write a reference as TensorFlow Serving's ModelSpec."""
    spec = wire.ModelSpec(name=ref.name)
    if ref.version is not None:
        spec.version.value = ref.version
    elif ref.label is not None:
        spec.version_label = ref.label
    return spec


def _list(names: list[str]) -> str:
    return f"served: {', '.join(names)}"
