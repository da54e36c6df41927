"""A model as a model server serves it, called over gRPC version by version."""

import socket
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
    """One model of the model servers behind a name, to be used in a `with` block.

    A label that moves before a server has loaded the version makes that server refuse the whole configuration, for as
    long as it reads both together. So what is waited for holds for all addresses of the name, as for the pods behind a
    headless service; versions are compared on one of them.
    """

    def __init__(self, server: str, model: str):
        """Open a channel.

        Args:
            server: gRPC address, host:port.
            model: name of the model.

        Raises:
            FoveaError: that is no address.
        """
        self._host, _, self._port = server.removeprefix("dns:///").rpartition(":")
        if not self._host or not self._port.isdigit():
            raise FoveaError(f"{server!r} is no address of a model server: give host:port, such as localhost:8500")
        self.server = server
        self.model = model
        self._channels: dict[str, grpc.Channel] = {}

    def __enter__(self) -> Self:
        """Return the model."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            channel.close()

    def wait_until_loaded(self, version: int, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """Wait until every server answers for a version.

        Raises:
            FoveaError: the version failed to load, or did not within the time; the last reason is told.
        """
        deadline = time.monotonic() + timeout_s
        while reason := self._not_loaded(version):
            if time.monotonic() > deadline:
                raise FoveaError(
                    f"version {version} of {self.model!r} was not loaded within {timeout_s:.0f} s: {reason}"
                )
            time.sleep(_POLL_S)

    def wait_until_labelled(self, label: str, version: int, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """Wait until a label leads to a version on every server.

        Raises:
            FoveaError: it does not within the time.
        """
        deadline = time.monotonic() + timeout_s
        while address := self._elsewhere(label, version):
            if time.monotonic() > deadline:
                raise FoveaError(
                    f"the store's label {label} is on version {version} of {self.model!r}, but {address} did not "
                    f"follow within {timeout_s:.0f} s; does it poll this store's models.config?"
                )
            time.sleep(_POLL_S)

    def _not_loaded(self, version: int) -> str | None:
        """Say which server does not answer for a version, and why; None if all do."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.model
        request.model_spec.version.value = version
        state = get_model_status_pb2.ModelVersionStatus.State
        try:
            addresses = self._addresses()
        except OSError as error:
            return f"{self.server} is not known: {error.strerror}"
        for address in addresses:
            models = model_service_pb2_grpc.ModelServiceStub(self._channel(address))
            try:
                (status,) = models.GetModelStatus(request, timeout=5).model_version_status
            except grpc.RpcError as error:
                return f"{address}: {error.details() or error.code().name}"
            if status.state == state.END and status.status.error_code:
                raise FoveaError(
                    f"version {version} of {self.model!r} failed to load at {address}: {status.status.error_message}"
                )
            if status.state != state.AVAILABLE:
                return f"{address}: it is in state {state.Name(status.state)}"
        return None

    def _elsewhere(self, label: str, version: int) -> str | None:
        """Return a server where a label does not lead to a version; None if it does on all."""
        for address in self._addresses():
            try:
                answer = self._predict(signatures.MODEL_CARD, _card_query(), label=label, address=address)
            except RefusedError:
                return address
            if answer.model_spec.version.value != version:
                return address
        return None

    def _addresses(self) -> list[str]:
        found = socket.getaddrinfo(self._host.strip("[]"), self._port, type=socket.SOCK_STREAM)
        # A server that listens on IPv4 alone has an IPv6 name too, as localhost often does.
        four = {(str(at[0]), at[1]) for family, *_, at in found if family == socket.AF_INET}
        six = {(f"[{at[0]!s}]", at[1]) for *_, at in found}
        return sorted(":".join(map(str, at)) for at in four or six)

    def _channel(self, address: str) -> grpc.Channel:
        if address not in self._channels:
            unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            self._channels[address] = grpc.insecure_channel(address, options=unlimited)
        return self._channels[address]

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
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        version: int | None = None,
        label: str = "",
        address: str = "",
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
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel(address or self.server))
        try:
            return attempts(prediction.Predict, request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            said = error.details() or error.code().name
            if _is_passing(error):
                raise FoveaError(f"{address or self.server} does not answer: {said}") from error
            who = f"label {label}" if label else f"version {version}"
            raise RefusedError(f"{who} of {self.model!r} refuses {signature}: {said}") from error


def _is_passing(error: Any) -> bool:
    return isinstance(error, grpc.RpcError) and error.code() in _PASSING


def _card_query() -> dict[str, np.ndarray]:
    return {signatures.QUERY: np.array([b""], object)}
