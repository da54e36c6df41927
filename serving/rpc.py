"""The gRPC door: `fovea.v1.Vision`, the Open Inference Protocol, health and server reflection."""

# ruff: noqa: N802 - methods carry the names of their RPCs.

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Event
from typing import Any, Final, TypeVar

import grpc
import numpy as np
from fovea.oip import open_inference_pb2_grpc
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from PIL import Image

from serving import rendering, rpc_v2, tls
from serving.access import Access, current, request_id
from serving.answers import (
    Attribution,
    Classification,
    Explanation,
    HeatMap,
    LayerActivations,
    ServedModel,
    Text,
)
from serving.api_keys import ApiKeys
from serving.catalog import ModelRef, ModelStatus
from serving.deadline import Deadline
from serving.deadline import current as current_deadline
from serving.errors import FoveaError, InternalError, InvalidArgumentError, NoInstancesError, TooLargeError
from serving.inference import Vision
from serving.settings import Settings
from serving.targets import Targets
from serving.tracing import Trace

log = logging.getLogger(__name__)
T = TypeVar("T")

SERVICE: Final = pb.DESCRIPTOR.services_by_name["Vision"].full_name

STATUS: Final = {
    "INTERNAL": grpc.StatusCode.INTERNAL,
    "INVALID_ARGUMENT": grpc.StatusCode.INVALID_ARGUMENT,
    "NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
    "METHOD_NOT_ALLOWED": grpc.StatusCode.UNIMPLEMENTED,
    "UNKNOWN_MODEL": grpc.StatusCode.NOT_FOUND,
    "UNKNOWN_VERSION": grpc.StatusCode.NOT_FOUND,
    # As TensorFlow Serving answers it.
    "UNKNOWN_LABEL": grpc.StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_LAYER": grpc.StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_CLASS": grpc.StatusCode.INVALID_ARGUMENT,
    "NOT_CARRIED": grpc.StatusCode.FAILED_PRECONDITION,
    "UNKNOWN_COLORMAP": grpc.StatusCode.INVALID_ARGUMENT,
    "NOT_AN_IMAGE": grpc.StatusCode.INVALID_ARGUMENT,
    "EMPTY_BODY": grpc.StatusCode.INVALID_ARGUMENT,
    "BROKEN_BODY": grpc.StatusCode.INVALID_ARGUMENT,
    "WRONG_FIELD": grpc.StatusCode.INVALID_ARGUMENT,
    # As gRPC itself answers messages above its limit.
    "TOO_LARGE": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_PIXELS": grpc.StatusCode.INVALID_ARGUMENT,
    "TOO_MANY_PICTURES": grpc.StatusCode.INVALID_ARGUMENT,
    "ANSWER_TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "ONE_PICTURE_ONLY": grpc.StatusCode.INVALID_ARGUMENT,
    "BAD_JSON": grpc.StatusCode.INVALID_ARGUMENT,
    "BAD_BASE64": grpc.StatusCode.INVALID_ARGUMENT,
    "NO_INSTANCES": grpc.StatusCode.INVALID_ARGUMENT,
    "BAD_TENSOR": grpc.StatusCode.INVALID_ARGUMENT,
    "UNSUPPORTED_MEDIA_TYPE": grpc.StatusCode.INVALID_ARGUMENT,
    "NOT_ACCEPTABLE": grpc.StatusCode.INVALID_ARGUMENT,
    "MODEL_NOT_READY": grpc.StatusCode.UNAVAILABLE,
    "MODEL_SERVER_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "MODEL_SERVER_BUSY": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "MODEL_SERVER_ERROR": grpc.StatusCode.INTERNAL,
    # As gRPC itself answers calls above its limit.
    "OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
}

_WITHOUT_TURN: Final = frozenset(
    ("ListModels", "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata")
)
"""RPCs that are answered at once, however much there is to do."""


class VisionService(vision_pb2_grpc.VisionServicer):
    """Translates between messages and the core."""

    def __init__(self, vision: Vision, settings: Settings) -> None:
        self._vision = vision
        self._settings = settings

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        """List the models: versions and cards."""
        statuses = self._vision.list_models(self._deadline(context))
        return pb.ListModelsResponse(models=[_status(status) for status in statuses])

    def Classify(self, request: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:
        """Name the class of each picture, or read its text."""
        ref = _ref(request.model, self._settings)
        if request.top_k < 0:
            raise InvalidArgumentError("top_k must be 0 or more")
        result = self._vision.classify(ref, self._images(request), request.top_k or None, self._deadline(context))
        return pb.ClassifyResponse(model=_model(result.model), classifications=map(_classification, result.rows))

    def GradCam(self, request: pb.GradCamRequest, context: grpc.ServicerContext) -> pb.GradCamResponse:
        """Show where each picture speaks for a class."""
        ref = _ref(request.model, self._settings)
        asked, images = _targets(request.targets), self._images(request)
        draw = self._overlay(request)
        result = self._vision.heat_maps(
            ref, images, asked, request.layer or None, request.methods, self._deadline(context)
        )
        explanations = [_explanation(row, draw(images[row.picture], row)) for row in result.rows]
        return pb.GradCamResponse(model=_model(result.model), explanations=explanations)

    def Attributions(self, request: pb.AttributionsRequest, context: grpc.ServicerContext) -> pb.AttributionsResponse:
        """Show what each pixel adds to a class's score."""
        ref = _ref(request.model, self._settings)
        asked, images = _targets(request.targets), self._images(request)
        draw = self._overlay(request)
        result = self._vision.attributions(ref, images, asked, self._deadline(context))
        explanations = [_explanation(row, draw(images[row.picture], row), request.values) for row in result.rows]
        return pb.AttributionsResponse(model=_model(result.model), explanations=explanations)

    def Activations(self, request: pb.ActivationsRequest, context: grpc.ServicerContext) -> pb.ActivationsResponse:
        """Show what layers make of each picture."""
        ref = _ref(request.model, self._settings)
        result = self._vision.activations(
            ref, self._images(request), request.layers, request.channels, request.values, self._deadline(context)
        )
        pictures = (pb.PictureActivations(layers=map(_layer, layers)) for layers in result.pictures)
        return pb.ActivationsResponse(model=_model(result.model), pictures=pictures)

    def FilterPatterns(
        self, request: pb.FilterPatternsRequest, context: grpc.ServicerContext
    ) -> pb.FilterPatternsResponse:
        """Draw the patterns that filters respond to."""
        ref = _ref(request.model, self._settings)
        result = self._vision.filter_patterns(ref, request.layer or None, request.filters, self._deadline(context))
        patterns = [rendering.png(Image.fromarray(pattern)) for pattern in result.patterns]
        return pb.FilterPatternsResponse(
            model=_model(result.model), layer=result.layer, filters=result.filters, patterns_png=patterns
        )

    def _overlay(
        self, request: pb.GradCamRequest | pb.AttributionsRequest
    ) -> Callable[[bytes, Explanation], bytes | None]:
        """Return what draws an explanation over its picture, or nothing where that is not asked for."""
        if not request.HasField("overlay"):
            return lambda image, row: None
        how = request.overlay
        alpha = how.alpha if how.HasField("alpha") else None
        # What is wrong with a name is said before anything is computed.
        rendering.palette(how.colormap or self._settings.colormap, 256)
        return lambda image, row: self._vision.overlay(
            image, [row], alpha, how.colormap or None, box=how.box, legend=how.legend
        )

    def _deadline(self, context: grpc.ServicerContext) -> Deadline:
        return current_deadline.get()

    def _images(self, request: Any) -> Sequence[bytes]:
        if not request.images:
            raise NoInstancesError("the request holds no picture")
        if sum(map(len, request.images)) > self._settings.max_bytes:
            raise TooLargeError(f"the request has more than {self._settings.max_bytes} bytes")
        return list(request.images)


class _Interceptor(grpc.ServerInterceptor):
    """Gives every call of the services below a request id, its turn, a log line, metrics and errors with their code.

    Health, liveness and readiness need no API key: those who ask have none. Reflection tells what is public.
    """

    def __init__(self, vision: Vision, settings: Settings) -> None:
        self._keys = ApiKeys(settings.api_keys, settings.api_keys_file)
        self._admission = vision.admission
        self._deadline_s = settings.deadline_s

    def intercept_service(
        self, continuation: Callable[[Any], Any], call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        handler = continuation(call_details)
        if handler is None or not call_details.method.startswith((f"/{SERVICE}/", f"/{rpc_v2.SERVICE}/")):
            return handler
        method = call_details.method.rpartition("/")[2]
        metadata = {name: value for name, value in call_details.invocation_metadata or () if isinstance(value, str)}
        return grpc.unary_unary_rpc_method_handler(
            self._noted(handler, method, metadata),
            # Read by `_noted`: gRPC would log a stack trace for each message that is none, and answer INTERNAL.
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )

    def _noted(
        self, handler: Any, method: str, metadata: Mapping[str, str]
    ) -> Callable[[bytes, grpc.ServicerContext], Any]:
        identity = request_id(metadata.get("x-request-id"))

        def noted(message: bytes, context: grpc.ServicerContext) -> Any:
            trace = Trace(method, metadata, spans=method not in rpc_v2.OPEN)
            access = Access(request_id=identity, trace=trace, method="gRPC", route=method, bytes_in=len(message))
            current.set(access)
            deadline = Deadline.earlier(self._deadline_s, context.time_remaining())
            current_deadline.set(deadline)
            trailers = (("x-request-id", identity),)
            try:
                if self._keys.required and method not in rpc_v2.OPEN:
                    access.authenticate(self._keys, metadata)
                if method not in _WITHOUT_TURN:
                    # Before the message is read: what is refused should cost little.
                    self._admission.check()
                request = _read(handler, message)
                with nullcontext() if method in _WITHOUT_TURN else self._admission.slot(deadline):
                    response = handler.unary_unary(request, context)
            except Exception as error:
                if not isinstance(error, FoveaError):
                    log.error("unexpected error", exc_info=error, extra={"fields": {"request_id": identity}})
                    error = InternalError("internal error")
                access.code = error.code
                status = STATUS[error.code]
                access.finish(status.name, 0)
                context.set_trailing_metadata((*trailers, ("fovea-error-code", error.code)))
                context.abort(status, str(error))
            context.set_trailing_metadata(trailers)
            access.finish(grpc.StatusCode.OK.name, response.ByteSize())
            return response

        return noted


def _read(handler: Any, message: bytes) -> Message:
    try:
        return handler.request_deserializer(message)
    except DecodeError:
        raise InvalidArgumentError("the request is not a message of this method's type") from None


class _Health(health.HealthServicer):
    """`""` says that the process is alive, our service's name that every configured model answers."""

    def __init__(self, vision: Vision, stopping: Event, pool: ThreadPoolExecutor) -> None:
        super().__init__(experimental_non_blocking=True, experimental_thread_pool=pool)
        self._vision = vision
        self._stopping = stopping
        self.set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)

    def Check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Any:
        """Answer a probe; asks the models when our service is meant."""
        if request.service == SERVICE and not self._stopping.is_set():
            ready = all(code == "OK" for code in self._vision.readiness().values())
            kinds = health_pb2.HealthCheckResponse
            self.set(SERVICE, kinds.SERVING if ready else kinds.NOT_SERVING)
        return super().Check(request, context)


class Door:
    """The gRPC server of a process; to be made after a fork."""

    def __init__(self, vision: Vision, settings: Settings, stopping: Event, address: str) -> None:
        """Start to listen.

        Args:
            vision: the core.
            settings: limits.
            stopping: set once the process is about to end.
            address: host:port, which other workers may share.

        Raises:
            RuntimeError: the port is taken.
        """
        pool = ThreadPoolExecutor(settings.door_threads, thread_name_prefix="grpc")
        self._server = grpc.server(
            pool,
            interceptors=[_Interceptor(vision, settings)],
            options=[
                ("grpc.so_reuseport", 1),
                # Above our own limit, so that a message a little too large gets our own error with its code.
                ("grpc.max_receive_message_length", 2 * settings.max_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
            # Above what takes and waits for a turn, so that refusals carry our own code.
            maximum_concurrent_rpcs=4 * settings.door_threads,
        )
        vision_pb2_grpc.add_VisionServicer_to_server(VisionService(vision, settings), self._server)
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            rpc_v2.OpenInferenceService(vision, settings, stopping), self._server
        )
        self._health = _Health(vision, stopping, pool)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, rpc_v2.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        certificate = tls.certificate(settings.tls_cert_file, settings.tls_key_file)
        if certificate is None:
            self._server.add_insecure_port(address)
        else:
            self._server.add_secure_port(address, certificate.grpc_credentials())
        self._server.start()

    def not_ready(self) -> None:
        """Answer health checks with NOT_SERVING from now on."""
        self._health.enter_graceful_shutdown()

    def stop(self, grace: float) -> Event:
        """Refuse new calls, and end those under way after `grace` seconds; the event is set when all are gone."""
        return self._server.stop(grace)


def _ref(message: pb.ModelRef, settings: Settings) -> ModelRef:
    access = current.get()
    access.model = message.name if message.name in settings.models else "unknown"
    match message.WhichOneof("choice"):
        case "version":
            return ModelRef(message.name, version=message.version)
        case "label":
            return ModelRef(message.name, label=message.label)
    return ModelRef(message.name)


def _model(model: ServedModel) -> pb.ServedModel:
    current.get().version = model.version
    return pb.ServedModel(name=model.name, version=model.version)


def _tensor(array: np.ndarray) -> pb.FloatTensor:
    return pb.FloatTensor(shape=array.shape, float32_values=array.astype("<f4", copy=False).tobytes())


def _classification(row: Classification | Text) -> pb.Classification:
    if isinstance(row, Text):
        return pb.Classification(label=row.label, score=row.score, positions=map(_classification, row.positions))
    return pb.Classification(
        label=row.label, score=row.score, top_k=[pb.ClassScore(**vars(best)) for best in row.top_k]
    )


def _targets(message: pb.Targets) -> Targets:
    if message.top_k < 0:
        raise InvalidArgumentError("top_k must be 0 or more")
    position = message.position if message.HasField("position") else None
    return Targets(message.classes, message.top_k or None, position)


def _explanation(row: Explanation, overlay: bytes | None, values: bool = False) -> pb.Explanation:
    message = pb.Explanation(
        picture=row.picture,
        label=row.label,
        class_index=row.class_index,
        score=row.score,
        method=row.method,
        heatmap=_tensor(row.heatmap),
        peak=row.peak,
        box=None if row.box is None else pb.Box(**vars(row.box)),
        overlay_png=overlay,
        position=row.position,
    )
    if isinstance(row, HeatMap):
        message.layer = row.layer
    if isinstance(row, Attribution):
        message.score_change, message.completeness_error = row.score_change, row.completeness_error
        if values:
            message.attributions.CopyFrom(_tensor(row.attributions))
    return message


def _layer(item: LayerActivations) -> pb.LayerActivations:
    return pb.LayerActivations(
        layer=item.layer,
        shape=item.shape,
        sparsity=item.sparsity,
        silent_channels=item.silent_channels,
        strongest=[pb.ChannelStrength(**vars(strength)) for strength in item.strongest],
        activations=None if item.values is None else _tensor(item.values),
    )


def _status(status: ModelStatus) -> pb.ModelStatus:
    return pb.ModelStatus(
        name=status.name,
        ready=status.ready,
        versions=[
            pb.VersionStatus(version=item.version, state=item.state, error=item.error_message)
            for item in status.versions
        ],
        card=status.served.card if status.served else None,
        labels=status.labels,
    )
