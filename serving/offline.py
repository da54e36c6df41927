"""The gateway's answers without a server: the same core, in front of a SavedModel in this process."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from serving import wire
from serving.answers import Explanation
from serving.backend import Answer, RefusedError, VersionState
from serving.catalog import ModelRef
from serving.deadline import Deadline
from serving.errors import FoveaError, InvalidArgumentError
from serving.inference import MAX_FILTERS, Vision
from serving.model_server.errors import ServingError
from serving.model_server.servable import Servable, as_written
from serving.settings import MODEL_NAME, Settings
from serving.targets import Targets

__all__ = [
    "MAX_FILTERS",
    "Deadline",
    "Explanation",
    "FoveaError",
    "ModelRef",
    "Targets",
    "Vision",
    "newest_version",
    "open_model",
]

_DEADLINE_S = 600.0


def open_model(folder: Path) -> tuple[Vision, ModelRef]:
    """Load a model to classify and explain pictures with, as the gateway does.

    Args:
        folder: a SavedModel, as `<store>/<model>/<version>` is one; or `<store>/<model>`, of which the newest
            version is taken.

    Returns:
        The core, and the reference to give it.

    Raises:
        FoveaError: there is no SavedModel, or it cannot be loaded.
    """
    path = newest_version(folder)
    version = int(path.name) if path.name.isdecimal() else 1
    name = path.resolve().parent.name if path.name.isdecimal() else path.resolve().name
    name = name if MODEL_NAME.fullmatch(name) else "model"
    try:
        server = _LocalServer(Servable(name, version, str(path), as_written()))
    except Exception as error:
        raise InvalidArgumentError(f"the SavedModel {path} cannot be loaded: {str(error).splitlines()[0]}") from error
    settings = Settings(models=[name], deadline_s=_DEADLINE_S, max_answer_bytes=2**31)
    return Vision(server, settings), ModelRef(name)


def newest_version(folder: Path) -> Path:
    """Find a SavedModel: a folder that is one, or the newest version of `<store>/<model>`.

    Raises:
        FoveaError: there is none.
    """
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = [path for path in folder.glob("*/saved_model.pb") if path.parent.name.isdecimal()]
    if not versions:
        raise InvalidArgumentError(
            f"{folder} holds no SavedModel; give <store>/<model>, or <store>/<model>/<version>, as `fovea models` lists"
        )
    return max((path.parent for path in versions), key=lambda path: int(path.name))


class _LocalServer:
    """What the core asks of a model server, answered by one loaded version."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    def predict(
        self, spec: wire.ModelSpec, signature: str, inputs: Mapping[str, np.ndarray], deadline: Deadline
    ) -> Answer:
        """Run a signature."""
        try:
            outputs = self._servable.run(signature, inputs, timeout_s=deadline.remaining())
        except ServingError as error:
            raise RefusedError(str(error)) from error
        return Answer(self._servable.version, outputs)

    def status(self, name: str, deadline: Deadline) -> list[VersionState]:
        """Say that the version is there."""
        return [VersionState(self._servable.version, "AVAILABLE", "OK", "")]

    def signatures(self, name: str, version: int, deadline: Deadline) -> dict[str, object]:
        """Name the signatures."""
        return dict.fromkeys(self._servable.signatures)
