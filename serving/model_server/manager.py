"""Keeps what is served equal to what configuration and store ask for, and never serves nothing in between."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.model_server.config import models_by_name
from serving.model_server.errors import ServingError, as_serving_error, invalid
from serving.model_server.servable import Servable
from serving.model_server.storage import aspired_versions

_log = logging.getLogger(__name__)
_WAIT_SLICE_S = 0.1


@dataclass
class _Loaded:
    servable: Servable
    in_flight: int = 0
    retired: bool = False


class ModelManager:
    """The models, their versions, states and labels.

    One background thread polls the store, loads and unloads; no request ever waits for a load.
    `poll_wait_s` is the pause between two polls, 0 polls only after a new configuration.
    """

    def __init__(
        self,
        poll_wait_s: float = 1.0,
        allow_labels_for_unavailable: bool = False,
        session_config: tf.compat.v1.ConfigProto | None = None,
        batching: bool = False,
    ) -> None:
        self._poll_wait_s = poll_wait_s
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._session_config = session_config
        self._batching = batching
        self._configs: dict[str, ModelConfig] = {}
        self._labels: dict[str, dict[str, int]] = {}
        # Per model: version to what was loaded, or to None where loading failed.
        self._managed: dict[str, dict[int, _Loaded | None]] = defaultdict(dict)
        self._aspired: dict[str, set[int]] = {}
        # Versions that ended stay listed, as a history.
        self._states: dict[str, dict[int, ModelVersionStatus]] = defaultdict(dict)
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stopping = False
        self._last_poll_error = ""
        self._thread = threading.Thread(target=self._keep_up, name="model-manager", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop polling and close every session that no request uses."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=5)
        for name, versions in self._managed.items():
            for number in list(versions):
                self._unload(name, number)

    # Requests

    @contextmanager
    def servable(self, spec: ModelSpec) -> Iterator[Servable]:
        """Hold the version that `spec` asks for; it is not closed before the block ends.

        Raises ServingError: INVALID_ARGUMENT for an empty name or unknown label, NOT_FOUND for a version that is not
        available.
        """
        with self._changed:
            loaded = self._find(spec)
            loaded.in_flight += 1
        try:
            yield loaded.servable
        finally:
            with self._changed:
                loaded.in_flight -= 1
                last = loaded.retired and not loaded.in_flight
            if last:
                self._end(loaded)

    def status(self, spec: ModelSpec) -> list[ModelVersionStatus]:
        """List the versions of a model and their states, newest first; a label in `spec` is ignored.

        Raises ServingError (NOT_FOUND) when there is none.
        """
        with self._changed:
            states = dict(self._states.get(spec.name, {}))
        if spec.HasField("version"):
            if spec.version.value not in states:
                raise ServingError(
                    StatusCode.NOT_FOUND, f"Could not find version {spec.version.value} of model {spec.name}"
                )
            return [states[spec.version.value]]
        if not states:
            raise ServingError(StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        return [states[number] for number in sorted(states, reverse=True)]

    def _find(self, spec: ModelSpec) -> _Loaded:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        available = self._available(spec.name)
        match spec.WhichOneof("version_choice"):
            case "version":
                number = spec.version.value
            case "version_label":
                if spec.version_label not in self._labels.get(spec.name, {}):
                    raise invalid(f"Unrecognized servable version label: {spec.version_label}")
                number = self._labels[spec.name][spec.version_label]
            case _:
                if not available:
                    raise ServingError(StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
                number = max(available)
        if number not in available:
            raise ServingError(StatusCode.NOT_FOUND, f"Servable not found for request: Specific({spec.name}, {number})")
        return available[number]

    def _available(self, name: str) -> dict[int, _Loaded]:
        return {number: loaded for number, loaded in self._managed.get(name, {}).items() if loaded}

    # Configuration

    def reload(self, config: ModelServerConfig, keep_waiting: Callable[[], bool] | None = None) -> None:
        """Replace the whole configuration; a model that it does not name is unloaded.

        With `keep_waiting`, wait while it returns true until each model that is new has a version available; new
        versions of known models are never waited for. Raises ServingError and changes nothing when the configuration
        is not valid or a label points at a version that is not available; UNKNOWN when a new model fails to load.
        """
        configs = models_by_name(config)
        with self._changed:
            labels = self._checked_labels(configs)
            new = set(configs) - set(self._configs)
            self._configs, self._labels = configs, labels
            for name in new:
                self._aspired.pop(name, None)
        self._wake.set()
        if keep_waiting:
            self._wait_for(new, keep_waiting)

    def _checked_labels(self, configs: dict[str, ModelConfig]) -> dict[str, dict[str, int]]:
        for name, config in configs.items():
            for label, number in config.version_labels.items():
                moves = self._labels.get(name, {}).get(label, number) != number
                may_be_unavailable = self._allow_labels_for_unavailable and not moves
                if number not in self._available(name) and not may_be_unavailable:
                    raise ServingError(
                        StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {name}, "
                        "which is not currently available for inference",
                    )
        return {name: dict(config.version_labels) for name, config in configs.items()}

    def _wait_for(self, names: set[str], keep_waiting: Callable[[], bool]) -> None:
        waiting = set(names)
        with self._changed:
            while waiting:
                waiting = {name for name in waiting if not self._available(name)}
                failed = [name for name in waiting if self._aspired.get(name) and self._tried(name)]
                if failed:
                    raise ServingError(StatusCode.UNKNOWN, self._failure(failed))
                if waiting and not keep_waiting():
                    raise ServingError(StatusCode.CANCELLED, f"Gave up waiting for {', '.join(sorted(waiting))}")
                if waiting:
                    self._changed.wait(_WAIT_SLICE_S)

    def _tried(self, name: str) -> bool:
        return self._aspired[name] <= set(self._managed[name])

    def _failure(self, names: list[str]) -> str:
        causes = [
            f"{{{{name: {name} version: {number}}} due to error: {self._states[name][number].status.error_message}}}"
            for name in names
            for number in self._aspired[name]
        ]
        return f"{len(names)} model(s) did not become available: {{{', '.join(causes)}}}"

    # The background thread

    def _keep_up(self) -> None:
        while not self._stopping:
            try:
                self._reconcile()
                self._last_poll_error = ""
            except Exception as error:  # whatever a store raises, the next poll must still come
                message = str(as_serving_error(error))
                if message != self._last_poll_error:
                    _log.error("no updates for any model until this is mended: %s", message)
                self._last_poll_error = message
            self._wake.wait(self._poll_wait_s or None)
            self._wake.clear()

    def _reconcile(self) -> None:
        with self._changed:
            configs = dict(self._configs)
        for name in list(self._managed):
            if name not in configs:
                self._serve(name, {})
        wanted = {name: aspired_versions(config) for name, config in configs.items()}
        for name, versions in wanted.items():
            self._serve(name, versions)

    def _serve(self, name: str, versions: dict[int, str]) -> None:
        with self._changed:
            self._aspired[name] = set(versions)
        managed = self._managed[name]
        for number in sorted(set(versions) - set(managed)):
            if not self._stopping:
                self._load(name, number, versions[number])
        keeps_serving = not versions or any(managed.get(number) for number in versions)
        for number in set(managed) - set(versions):
            # A failed version is forgotten, so that it is tried again should its folder come back.
            if keeps_serving or managed[number] is None:
                self._unload(name, number)

    def _load(self, name: str, number: int, path: str) -> None:
        _log.info("loading %s version %d from %s", name, number, path)
        self._set_state(name, number, ModelVersionStatus.LOADING)
        started = time.monotonic()
        try:
            loaded = _Loaded(Servable(name, number, path, self._session_config, self._batching))
        except Exception as error:  # a SavedModel can fail in any way; the server must outlive it
            failure = as_serving_error(error)
            _log.error("failed to load %s version %d: %s", name, number, failure)
            with self._changed:
                self._managed[name][number] = None
                self._set_state(name, number, ModelVersionStatus.END, failure)
            return
        with self._changed:
            self._managed[name][number] = loaded
            self._set_state(name, number, ModelVersionStatus.AVAILABLE)
        _log.info("available: %s version %d, after %.1f s", name, number, time.monotonic() - started)

    def _unload(self, name: str, number: int) -> None:
        with self._changed:
            loaded = self._managed[name].pop(number)
            if loaded is None:
                return
            loaded.retired = True
            self._set_state(name, number, ModelVersionStatus.UNLOADING)
            idle = not loaded.in_flight
        if idle:
            self._end(loaded)

    def _end(self, loaded: _Loaded) -> None:
        name, number = loaded.servable.name, loaded.servable.version
        loaded.servable.close()
        with self._changed:
            # The same version may have been loaded anew while its old requests ran out.
            if self._states[name][number].state == ModelVersionStatus.UNLOADING:
                self._set_state(name, number, ModelVersionStatus.END)
        _log.info("unloaded %s version %d", name, number)

    def _set_state(self, name: str, number: int, state: int, failure: ServingError | None = None) -> None:
        status = ModelVersionStatus(version=number, state=state)
        if failure:
            status.status.error_code = failure.code.value[0]
            status.status.error_message = failure.message
        else:
            status.status.error_code = StatusCode.OK.value[0]
        with self._changed:
            self._states[name][number] = status
            self._changed.notify_all()
