"""gRPC client of the model server: a TensorFlow Serving, or whatever speaks its protocol."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import grpc
import numpy as np
from google.protobuf import json_format

from serving import tensors, tracing, wire
from serving.deadline import Deadline
from serving.errors import (
    AnswerTooLargeError,
    DeadlineExceededError,
    FoveaError,
    ModelServerBusyError,
    ModelServerError,
    ModelServerUnavailableError,
)

log = logging.getLogger(__name__)

# Only UNAVAILABLE says that the call may be made again; the server spreads calls over all addresses of its name.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [
                {"service": "tensorflow.serving.PredictionService"},
                {"service": "tensorflow.serving.ModelService"},
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


class ServableNotFoundError(Exception):
    """The model server has no such model or version."""


class RefusedError(Exception):
    """The model server calls the request invalid; its text is for the log and the catalog, not for clients."""


class Answer(NamedTuple):
    """Outputs of a signature and the version that computed them."""

    version: int
    outputs: dict[str, np.ndarray]


class VersionState(NamedTuple):
    """State of one version: START, LOADING, AVAILABLE, UNLOADING or END."""

    version: int
    state: str
    error_code: str
    error_message: str


class Backend(Protocol):
    """What the core asks of a model server; `ModelServer` says what the calls do and raise."""

    def predict(
        self, spec: wire.ModelSpec, signature: str, inputs: Mapping[str, np.ndarray], deadline: Deadline
    ) -> Answer:
        """Run a signature."""

    def status(self, name: str, deadline: Deadline) -> list[VersionState]:
        """Return the state of all versions of a model."""

    def signatures(self, name: str, version: int, deadline: Deadline) -> dict[str, object]:
        """Return the signatures of a version."""


class ModelServer:
    """One channel to the model server; safe to use from many threads, to be made after a fork."""

    def __init__(self, target: str, max_answer_bytes: int, authorities: bytes | None = None) -> None:
        """Open the channel.

        Args:
            target: gRPC target.
            max_answer_bytes: the largest answer that is taken.
            authorities: certificates, in PEM, that prove the server; None: the connection is not encrypted.
        """
        self._channel = _channel(
            target,
            authorities,
            [
                ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
                ("grpc.enable_retries", 1),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 5_000),
                # A server that returns, perhaps at another address, is to be found again within two seconds.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 1_000),
                ("grpc.max_reconnect_backoff_ms", 1_000),
                ("grpc.dns_min_time_between_resolutions_ms", 1_000),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", max_answer_bytes),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._prediction = wire.PredictionServiceStub(self._channel)
        self._model = wire.ModelServiceStub(self._channel)

    def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._channel.close()

    def predict(
        self, spec: wire.ModelSpec, signature: str, inputs: Mapping[str, np.ndarray], deadline: Deadline
    ) -> Answer:
        """Run a signature.

        Args:
            spec: the model, with a version or a label or neither.
            signature: name of the signature.
            inputs: arrays by input name.
            deadline: the request's.

        Raises:
            ServableNotFoundError: no such model or version.
            RefusedError: no such signature or label, or inputs that the signature does not take.
            FoveaError: the model server is away, busy, late, or failed.
        """
        request = wire.PredictRequest(model_spec=spec)
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tensors.to_proto(array))
        response = _call(self._prediction.Predict, request, deadline)
        try:
            outputs = {name: tensors.from_proto(proto) for name, proto in response.outputs.items()}
        except ValueError as error:
            log.error("signature %s of %s: %s", signature, spec.name, error)
            raise ModelServerError("the model server's answer breaks the contract") from error
        return Answer(response.model_spec.version.value, outputs)

    def status(self, name: str, deadline: Deadline) -> list[VersionState]:
        """Return the state of all versions of a model that the model server knows of, newest first.

        Raises:
            ServableNotFoundError: no such model, or none of its versions has been seen yet.
            FoveaError: as for `predict`.
        """
        request = wire.GetModelStatusRequest(model_spec=wire.ModelSpec(name=name))
        response = _call(self._model.GetModelStatus, request, deadline)
        states = [
            VersionState(
                item.version,
                wire.ModelVersionStatus.State.Name(item.state),
                _code_name(item.status.error_code),
                # What went wrong tells files and hosts, which are nobody else's business.
                "the version cannot be served; the model server's log says why" if item.status.error_code else "",
            )
            for item in response.model_version_status
        ]
        return sorted(states, reverse=True)

    def signatures(self, name: str, version: int, deadline: Deadline) -> dict[str, object]:
        """Return the signatures of a version as TensorFlow Serving's REST API writes them.

        Raises:
            ServableNotFoundError: no such model or version.
            FoveaError: as for `predict`.
        """
        spec = wire.ModelSpec(name=name)
        spec.version.value = version
        request = wire.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = _call(self._prediction.GetModelMetadata, request, deadline)
        signature_map = wire.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signature_map)
        return json_format.MessageToDict(
            signature_map, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )


def _channel(target: str, authorities: bytes | None, options: Sequence[tuple[str, Any]]) -> grpc.Channel:
    if authorities is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(authorities), options)


def _call(method: Callable[..., Any], request: object, deadline: Deadline) -> Any:
    try:
        return method(request, timeout=deadline.remaining(), metadata=tuple(tracing.headers().items()))
    except grpc.RpcError as error:
        raise _translate(error) from error


def _translate(error: grpc.RpcError) -> Exception:
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.NOT_FOUND:
        return ServableNotFoundError(details)
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
        return RefusedError(details)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in details:
        return AnswerTooLargeError("the answer is too large; ask for fewer layers or pictures")
    log.warning("model server: %s: %s", code.name, details)
    kinds: dict[grpc.StatusCode, FoveaError] = {
        grpc.StatusCode.UNAVAILABLE: ModelServerUnavailableError("the model server cannot be reached; try again later"),
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError("the model server did not answer in time"),
        grpc.StatusCode.RESOURCE_EXHAUSTED: ModelServerBusyError("the model server is busy; try again later"),
    }
    return kinds.get(code, ModelServerError("the model server failed to answer this request"))


_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


def _code_name(number: int) -> str:
    return _CODES.get(number, "UNKNOWN")
