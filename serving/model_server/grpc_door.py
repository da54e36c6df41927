"""The gRPC door: TensorFlow Serving's PredictionService and ModelService in front of the manager."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    status_pb2,
)

from serving.model_server.errors import as_serving_error, invalid
from serving.model_server.manager import ModelManager

_MAX_MESSAGE_BYTES = 2**31 - 1
_MAX_ERROR_CHARACTERS = 1024


def model_metadata(
    manager: ModelManager, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Describe the signatures of the version that `request` asks for."""
    _require_spec(request)
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise invalid(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with manager.servable(request.model_spec) as servable:
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
    response.metadata["signature_def"].Pack(signatures)
    return response


def _require_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _answering(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except Exception as error:  # every failure leaves by one way, as a status
            failure = as_serving_error(error)
        context.abort(failure.code, failure.message[:_MAX_ERROR_CHARACTERS])

    return call


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    @_answering
    def Predict(  # noqa: N802
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        _require_spec(request)
        with self._manager.servable(request.model_spec) as servable:
            return servable.predict(request, context.time_remaining())

    @_answering
    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        return model_metadata(self._manager, request)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    @_answering
    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        _require_spec(request)
        states = self._manager.status(request.model_spec)
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=states)

    @_answering
    def HandleReloadConfigRequest(  # noqa: N802
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest."
                " Only ModelConfigList is currently supported"
            )
        self._manager.reload(request.config, keep_waiting=context.is_active)
        return model_management_pb2.ReloadConfigResponse(status=status_pb2.StatusProto())


def create_grpc_server(manager: ModelManager, port: int, max_threads: int, health_check: bool) -> grpc.Server:
    """Bind the port; raises OSError when it is taken. The caller starts the server."""
    server = grpc.server(
        ThreadPoolExecutor(max_threads, thread_name_prefix="grpc"),
        maximum_concurrent_rpcs=max_threads,
        options=[
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            # Shared ports would let two servers answer in turn without a word.
            ("grpc.so_reuseport", 0),
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(manager), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(manager), server)
    if health_check:
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    try:
        server.add_insecure_port(f"0.0.0.0:{port}")
    except RuntimeError as error:
        raise OSError(f"port {port} cannot be bound: is another server running there?") from error
    return server
