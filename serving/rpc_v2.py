"""The Open Inference Protocol (V2) over gRPC: `inference.GRPCInferenceService`."""

# ruff: noqa: N802 - methods carry the names of their RPCs.

from collections.abc import Mapping
from threading import Event
from typing import Final

import grpc
from fovea.oip import open_inference_pb2 as pb
from fovea.oip import open_inference_pb2_grpc

from serving import open_inference
from serving.access import current
from serving.catalog import ModelRef
from serving.deadline import Deadline
from serving.deadline import current as current_deadline
from serving.errors import BadTensorError, InvalidArgumentError, TooLargeError
from serving.inference import Vision
from serving.open_inference import Input, Output
from serving.settings import Settings

SERVICE: Final = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

OPEN: Final = ("ServerLive", "ServerReady")
"""RPCs that need no API key."""

_CONTENTS: Final = {"BYTES": "bytes_contents", "UINT8": "uint_contents"}


class OpenInferenceService(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Translates between the protocol's messages and the core."""

    def __init__(self, vision: Vision, settings: Settings, stopping: Event) -> None:
        self._vision = vision
        self._settings = settings
        self._stopping = stopping

    def ServerLive(self, request: pb.ServerLiveRequest, context: grpc.ServicerContext) -> pb.ServerLiveResponse:
        """Say that the process is alive; asks nobody else."""
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request: pb.ServerReadyRequest, context: grpc.ServicerContext) -> pb.ServerReadyResponse:
        """Say whether every configured model answers."""
        ready = not self._stopping.is_set() and all(code == "OK" for code in self._vision.readiness().values())
        return pb.ServerReadyResponse(ready=ready)

    def ModelReady(self, request: pb.ModelReadyRequest, context: grpc.ServicerContext) -> pb.ModelReadyResponse:
        """Say whether a model answers."""
        ref = self._known(request.name, request.version)
        return pb.ModelReadyResponse(ready=not self._stopping.is_set() and open_inference.ready(self._vision, ref))

    def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ServerMetadataResponse:
        """Describe the server."""
        return pb.ServerMetadataResponse(**open_inference.SERVER)

    def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ModelMetadataResponse:
        """Tell versions, inputs and outputs of a model."""
        ref = self._known(request.name, request.version)
        described = open_inference.describe(self._vision.describe(ref, self._deadline(context)))
        kind = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=described.name,
            versions=described.versions,
            platform=described.platform,
            inputs=[kind(**item._asdict()) for item in described.inputs],
            outputs=[kind(**item._asdict()) for item in described.outputs],
        )

    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        """Classify pictures; values come back in the form in which those of the request came."""
        ref = self._known(request.model_name, request.model_version)
        if request.ByteSize() > self._settings.max_bytes:
            raise TooLargeError(f"the request has more than {self._settings.max_bytes} bytes")
        if (timeout := _timeout(request)) is not None:
            self._deadline(context).shorten(timeout)
        for wanted in request.outputs:
            open_inference.check_output_parameters(wanted.name, _parameters(wanted.parameters))
        names = [wanted.name for wanted in request.outputs]
        served, outputs = open_inference.infer(
            self._vision, self._settings, ref, _inputs(request), names, self._deadline(context)
        )
        current.get().version = served.version
        response = pb.ModelInferResponse(model_name=served.name, model_version=str(served.version), id=request.id)
        for output in outputs:
            tensor = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.array.shape)
            if request.raw_input_contents:
                response.raw_output_contents.append(output.raw())
            else:
                _fill(tensor.contents, output)
        return response

    def _known(self, name: str, version: str) -> ModelRef:
        """Return a reference to a model that is served here."""
        access = current.get()
        access.model = "unknown"
        ref = open_inference.reference(name, version)
        self._vision.check(ref)
        access.model = ref.name
        return ref

    def _deadline(self, context: grpc.ServicerContext) -> Deadline:
        return current_deadline.get()


def _inputs(request: pb.ModelInferRequest) -> list[Input]:
    raw = request.raw_input_contents
    if raw:
        if len(raw) != len(request.inputs) or any(tensor.HasField("contents") for tensor in request.inputs):
            raise BadTensorError("raw_input_contents must hold one entry an input, which then has no contents")
        return [
            Input(tensor.name, tensor.datatype, tensor.shape, raw=data)
            for tensor, data in zip(request.inputs, raw, strict=True)
        ]
    return [
        Input(
            tensor.name,
            tensor.datatype,
            tensor.shape,
            values=getattr(tensor.contents, _CONTENTS.get(tensor.datatype, "bytes_contents")),
        )
        for tensor in request.inputs
    ]


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, object]:
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in parameters.items()
    }


def _timeout(request: pb.ModelInferRequest) -> float | None:
    """Return the seconds that the request may take, from its parameter in microseconds; None: no limit of its own."""
    if "timeout" not in request.parameters:
        return None
    parameter = request.parameters["timeout"]
    if parameter.WhichOneof("parameter_choice") != "int64_param" or parameter.int64_param < 0:
        raise InvalidArgumentError("the parameter timeout must be a whole number of microseconds, 0 or more")
    return parameter.int64_param / 1e6 or None


def _fill(contents: pb.InferTensorContents, output: Output) -> None:
    values = output.array.ravel()
    if output.datatype == "BYTES":
        contents.bytes_contents.extend(values)
    else:
        contents.fp32_contents.extend(values)
