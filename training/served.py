"""A model as a model server serves it, called over gRPC version by version."""

import time
from collections.abc import Mapping
from typing import Any, Self

import grpc
import numpy as np
import tensorflow as tf
from fovea.v1.model_card_pb2 import ModelCard
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.contract import card as cards
from serving.contract import signatures
from training.errors import FoveaError

LOAD_TIMEOUT_S = 300.0
CALL_TIMEOUT_S = 60.0
RETRY_S = 30.0
"""How long calls are repeated that a server could not take."""

_POLL_S = 0.5
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)


class RefusedError(FoveaError):
    """A version does not answer a request of the contract as it should: the version is at fault, not the server."""


class ServedModel:
    """One model of a model server, to be used in a `with` block."""

    def __init__(self, server: str, model: str):
        """Open a channel.

        Args:
            server: gRPC address, host:port.
            model: name of the model.
        """
        self.server = server
        self.model = model
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(server, options=unlimited)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def __enter__(self) -> Self:
        """Return the model."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the channel."""
        self._channel.close()

    def wait_until_loaded(self, version: int, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """Wait until the server answers for a version.

        Raises:
            FoveaError: the version failed to load, or did not within the time; the last reason is told.
        """
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.model
        request.model_spec.version.value = version
        state = get_model_status_pb2.ModelVersionStatus.State
        reason = "it did not answer"
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                (status,) = self._models.GetModelStatus(request, timeout=5).model_version_status
            except grpc.RpcError as error:
                reason = error.details() or error.code().name
            else:
                if status.state == state.AVAILABLE:
                    return
                if status.state == state.END and status.status.error_code:
                    raise FoveaError(
                        f"version {version} of {self.model!r} failed to load: {status.status.error_message}"
                    )
                reason = f"it is in state {state.Name(status.state)}"
            if time.monotonic() > deadline:
                raise FoveaError(
                    f"{self.server} did not load version {version} of {self.model!r} within {timeout_s:.0f} s: {reason}"
                )
            time.sleep(_POLL_S)

    def wait_until_labelled(self, label: str, version: int, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """Wait until a label leads to a version.

        Raises:
            FoveaError: it does not within the time.
        """
        deadline = time.monotonic() + timeout_s
        while self.version_behind(label) != version:
            if time.monotonic() > deadline:
                raise FoveaError(
                    f"the store's label {label} is on version {version} of {self.model!r}, but {self.server} did not "
                    f"follow within {timeout_s:.0f} s; does it poll this store's models.config?"
                )
            time.sleep(_POLL_S)

    def version_behind(self, label: str) -> int | None:
        """Ask which version answers for a label; None if none does."""
        try:
            return self._predict(signatures.MODEL_CARD, _card_query(), label=label).model_spec.version.value
        except RefusedError:
            return None

    def card(self, version: int) -> ModelCard:
        """Ask a version for its card.

        Raises:
            RefusedError: it has none.
        """
        outputs = self._predict(signatures.MODEL_CARD, _card_query(), version=version).outputs
        try:
            return cards.from_json(outputs[signatures.CARD].string_val[0])
        except (IndexError, ValueError) as error:
            raise RefusedError(f"version {version} of {self.model!r} answers without a model card") from error

    def probabilities(self, version: int, pictures: np.ndarray) -> np.ndarray:
        """Classify pictures.

        Args:
            version: which version answers.
            pictures: uint8 [n, h, w, 3] of the model's own size.

        Returns:
            float32 [n, classes], for texts [n, positions, classes].

        Raises:
            RefusedError: no answer, or one that is no probabilities.
        """
        inputs = {signatures.IMAGES: pictures}
        answer = self._predict(signatures.PREDICT, inputs, version=version).outputs
        if signatures.PROBABILITIES not in answer:
            raise RefusedError(f"version {version} of {self.model!r} answers without {signatures.PROBABILITIES}")
        values = tf.make_ndarray(answer[signatures.PROBABILITIES])
        if len(values) != len(pictures) or not np.isfinite(values).all():
            raise RefusedError(f"version {version} of {self.model!r} answers with numbers that are not finite")
        if not np.allclose(values.sum(axis=-1), 1, atol=1e-3) or values.min() < 0:
            raise RefusedError(f"version {version} of {self.model!r} answers with numbers that are no probabilities")
        return values

    def _predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], version: int | None = None, label: str = ""
    ) -> predict_pb2.PredictResponse:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        if label:
            request.model_spec.version_label = label
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        attempts = Retrying(
            retry=retry_if_exception(_is_passing),
            wait=wait_exponential(0.1, max=5),
            stop=stop_after_delay(RETRY_S),
            reraise=True,
        )
        try:
            return attempts(self._prediction.Predict, request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            said = error.details() or error.code().name
            if _is_passing(error):
                raise FoveaError(f"{self.server} does not answer: {said}") from error
            who = f"label {label}" if label else f"version {version}"
            raise RefusedError(f"{who} of {self.model!r} refuses {signature}: {said}") from error


def _is_passing(error: Any) -> bool:
    return isinstance(error, grpc.RpcError) and error.code() in _PASSING


def _card_query() -> dict[str, np.ndarray]:
    return {signatures.QUERY: np.array([b""], object)}
