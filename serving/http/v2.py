"""The Open Inference Protocol (V2) over HTTP, with its binary data extension."""

import base64
import binascii
from http import HTTPStatus
from threading import Event
from typing import Annotated, Any

import orjson
from flask import Response, g, jsonify, request
from flask_openapi3 import OpenAPI, Schema, Tag
from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr, ValidationError

from serving import open_inference
from serving.catalog import ModelRef
from serving.errors import (
    BadBase64Error,
    BadJsonError,
    BadTensorError,
    InvalidArgumentError,
    ModelNotReadyError,
    UnsupportedMediaTypeError,
)
from serving.http import bodies
from serving.http.schemas import Answer, ErrorBody, ModelPath, NoQuery
from serving.inference import Vision
from serving.open_inference import Input, Output
from serving.settings import Settings

HEADER_LENGTH = "Inference-Header-Content-Length"
"""How many bytes of a body are JSON; the binary data of its tensors follows."""

_TAG = Tag(name="open inference", description="The Open Inference Protocol, version 2.")
_OCTETS = "application/octet-stream"


class VersionPath(ModelPath):
    """A version of a model."""

    version: str = Field(description="Number of the version, or one of its labels.")


class TensorParameters(BaseModel):
    """Parameters of an input or a requested output; others are ignored."""

    binary_data_size: Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="Bytes that the input takes behind the JSON."
    )
    binary_data: StrictBool | None = Field(default=None, description="Answer this output in binary form.")
    classification: StrictInt | None = Field(default=None, description="Not offered.")
    shared_memory_region: StrictStr | None = Field(default=None, description="Not offered.")


class InputTensor(BaseModel):
    """`images`, UINT8 [n, h, w, 3], or `image_bytes`, BYTES [n]: encoded pictures, as base64 where they are JSON."""

    name: StrictStr
    datatype: StrictStr
    shape: list[Annotated[StrictInt, Field(ge=0, lt=2**31)]]
    parameters: TensorParameters = TensorParameters()
    data: list[Any] | None = Field(default=None, description="Values, flat or nested; absent where they are binary.")


class RequestedOutput(BaseModel):
    """`probabilities`, `label` or `score`."""

    name: StrictStr
    parameters: TensorParameters = TensorParameters()


class InferParameters(BaseModel):
    """Parameters of a request; others are ignored."""

    timeout: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="Microseconds that the request may take; 0: as long as the server allows."
    )
    binary_data_output: StrictBool = Field(default=False, description="Answer all outputs in binary form.")


class InferBody(BaseModel):
    """An inference request."""

    id: StrictStr | None = Field(default=None, max_length=1024, description="Comes back in the answer.")
    parameters: InferParameters = InferParameters()
    inputs: list[InputTensor] = Field(description="One tensor.")
    outputs: list[RequestedOutput] = Field(default=[], description="Default: probabilities.")


class OutputTensor(Answer):
    """A tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[float] | list[str] | None = Field(default=None, description="Flat; absent where it is binary.")


class InferAnswer(Answer):
    """An inference answer."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class LiveBody(Answer):
    """Whether the process answers."""

    live: bool


class ServerReadyBody(Answer):
    """Whether every configured model answers."""

    ready: bool


class ModelReadyBody(Answer):
    """Whether a model answers."""

    name: str
    ready: bool


class ServerMetadataBody(Answer):
    """The server, and the extensions of the protocol that it knows."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadataBody(Answer):
    """An input or an output; -1: any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadataBody(Answer):
    """A model: send one of its inputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadataBody]
    outputs: list[TensorMetadataBody]


def register(app: OpenAPI, vision: Vision, settings: Settings, stopping: Event) -> None:
    """Add the protocol's routes to an application.

    Args:
        app: the application, with the converter `name` for parts of paths.
        vision: the core.
        settings: limits.
        stopping: set once the process is about to end, which makes it not ready.
    """

    def known(model: str, version: str | None) -> ModelRef:
        """Return a reference to a model that is served here."""
        g.access.model = "unknown"
        ref = open_inference.reference(model, version)
        vision.check(ref)
        g.access.model = ref.name
        return ref

    def metadata(model: str, version: str | None) -> Response:
        status = vision.describe(known(model, version), g.deadline)
        described = open_inference.describe(status)
        return jsonify(
            {
                **vars(described),
                "inputs": [item._asdict() for item in described.inputs],
                "outputs": [item._asdict() for item in described.outputs],
            }
        )

    def ready(model: str, version: str | None) -> tuple[Response, int]:
        ref = known(model, version)
        return _readiness(not stopping.is_set() and open_inference.ready(vision, ref), name=ref.name)

    def infer(model: str, version: str | None) -> Response:
        ref = known(model, version)
        vision.admission.check()
        body, inputs = _read(settings)
        for wanted in body.outputs:
            open_inference.check_output_parameters(wanted.name, vars(wanted.parameters))
        if body.parameters.timeout:
            g.deadline.shorten(body.parameters.timeout / 1e6)
        with vision.admission.slot(g.deadline):
            return answer(ref, body, inputs)

    def answer(ref: ModelRef, body: InferBody, inputs: list[Input]) -> Response:
        names = [wanted.name for wanted in body.outputs]
        served, outputs = open_inference.infer(vision, settings, ref, inputs, names, g.deadline)
        g.access.version = served.version
        head = {"model_name": served.name, "model_version": str(served.version)}
        if body.id is not None:
            head["id"] = body.id
        chosen = {item.name: item.parameters.binary_data for item in body.outputs}
        binary = dict.fromkeys((item.name for item in outputs), body.parameters.binary_data_output)
        binary |= {name: choice for name, choice in chosen.items() if choice is not None}
        return _respond(head, outputs, binary)

    @app.get("/v2", tags=[_TAG], responses={200: ServerMetadataBody})
    def server_metadata(query: NoQuery) -> Response:
        """Describe the server."""
        return jsonify(open_inference.SERVER)

    @app.get("/v2/health/live", tags=[_TAG], responses={200: LiveBody})
    def server_live(query: NoQuery) -> Response:
        """Say that the process is alive; asks nobody else."""
        return jsonify(live=True)

    @app.get("/v2/health/ready", tags=[_TAG], responses={200: ServerReadyBody, 503: ServerReadyBody})
    def server_ready(query: NoQuery) -> tuple[Response, int]:
        """Say whether every configured model answers."""
        return _readiness(not stopping.is_set() and all(code == "OK" for code in vision.readiness().values()))

    @app.get("/v2/models/<name:model>", tags=[_TAG], responses={200: ModelMetadataBody, 503: ErrorBody})
    def model_metadata(path: ModelPath, query: NoQuery) -> Response:
        """Tell versions, inputs and outputs of a model."""
        return metadata(path.model, None)

    @app.get(
        "/v2/models/<name:model>/versions/<name:version>",
        tags=[_TAG],
        responses={200: ModelMetadataBody, 503: ErrorBody},
    )
    def version_metadata(path: VersionPath, query: NoQuery) -> Response:
        """Tell versions, inputs and outputs of a version of a model."""
        return metadata(path.model, path.version)

    @app.get("/v2/models/<name:model>/ready", tags=[_TAG], responses={200: ModelReadyBody, 503: ModelReadyBody})
    def model_ready(path: ModelPath, query: NoQuery) -> tuple[Response, int]:
        """Say whether a model answers."""
        return ready(path.model, None)

    @app.get(
        "/v2/models/<name:model>/versions/<name:version>/ready",
        tags=[_TAG],
        responses={200: ModelReadyBody, 503: ModelReadyBody},
    )
    def version_ready(path: VersionPath, query: NoQuery) -> tuple[Response, int]:
        """Say whether a version of a model answers."""
        return ready(path.model, path.version)

    octets = {"schema": {"type": "string", "format": "binary"}}
    described = {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _schema(app, InferBody)}, _OCTETS: octets},
        }
    }
    answers: dict[str | int | HTTPStatus, Any] = {
        200: {"content": {"application/json": {"schema": _schema(app, InferAnswer)}, _OCTETS: octets}}
    }

    @app.post("/v2/models/<name:model>/infer", tags=[_TAG], openapi_extensions=described, responses=answers)
    def model_infer(path: ModelPath, query: NoQuery) -> Response:
        """Classify pictures."""
        return infer(path.model, None)

    @app.post(
        "/v2/models/<name:model>/versions/<name:version>/infer",
        tags=[_TAG],
        openapi_extensions=described,
        responses=answers,
    )
    def version_infer(path: VersionPath, query: NoQuery) -> Response:
        """Classify pictures with a version of a model."""
        return infer(path.model, path.version)


def _schema(app: OpenAPI, model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a body that comes in several media types, which flask-openapi3 does not make itself."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    app.components_schemas |= {name: Schema(**part) for name, part in schema.pop("$defs", {}).items()}
    return schema


def _readiness(ready: bool, **names: str) -> tuple[Response, int]:
    if not ready:
        g.access.code = ModelNotReadyError.code
    return jsonify(**names, ready=ready), HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE


def _read(settings: Settings) -> tuple[InferBody, list[Input]]:
    """Read an inference request: its JSON, and its tensors from the JSON or from the binary data behind it."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaTypeError("compressed bodies are not taken; leave out Content-Encoding")
    data = bodies.data(request, settings)
    length = len(data)
    if (announced := request.headers.get(HEADER_LENGTH)) is not None:
        if not (announced.isascii() and announced.isdigit()) or len(announced) > 18 or int(announced) > length:
            raise InvalidArgumentError(f"{HEADER_LENGTH} must be a number of bytes that the body has")
        length = int(announced)
        if length == 0:
            picture = Input("image_bytes", "BYTES", [1], values=[data])
            return InferBody(inputs=[]), [picture]
    try:
        body = InferBody.model_validate(orjson.loads(data[:length]))
    except orjson.JSONDecodeError as error:
        raise BadJsonError(f"the body is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise BadJsonError(f"{where} is wrong: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
    return body, _tensors(body, data[length:])


def _tensors(body: InferBody, binary: bytes) -> list[Input]:
    inputs, at = [], 0
    for tensor in body.inputs:
        size = tensor.parameters.binary_data_size
        if tensor.parameters.shared_memory_region is not None:
            raise BadTensorError(f"input {tensor.name[:64]!r}: shared memory is not offered")
        if (size is None) == (tensor.data is None):
            raise BadTensorError(f"input {tensor.name[:64]!r} must have either data or the parameter binary_data_size")
        if size is not None:
            raw = binary[at : at + size]
            at += size
            inputs.append(Input(tensor.name, tensor.datatype, tensor.shape, raw=raw))
        else:
            values = tensor.data or []
            if tensor.datatype == "BYTES":
                values = [_decode(item, position) for position, item in enumerate(values)]
            inputs.append(Input(tensor.name, tensor.datatype, tensor.shape, values=values))
    if at != len(binary):
        raise BadTensorError(f"{len(binary)} bytes follow the JSON, the inputs' binary_data_size add up to {at}")
    return inputs


def _decode(item: object, position: int) -> bytes:
    if isinstance(item, list) and len(item) == 1:
        item = item[0]
    if not isinstance(item, str):
        raise BadBase64Error(f"element {position} of a BYTES tensor must be a string")
    try:
        return base64.b64decode(item, validate=True)
    except (binascii.Error, ValueError):
        raise BadBase64Error(
            f"element {position} of the BYTES tensor is not base64 (RFC 4648, section 4, without line breaks)"
        ) from None


def _respond(head: dict[str, str], outputs: list[Output], binary: dict[str, bool]) -> Response:
    tensors, tail = [], []
    for output in outputs:
        tensor: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.array.shape),
        }
        if binary[output.name]:
            tail.append(output.raw())
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        elif output.datatype == "BYTES":
            tensor["data"] = [item.decode() for item in output.array.ravel()]
        else:
            tensor["data"] = output.array.ravel()
        tensors.append(tensor)
    response = jsonify(**head, outputs=tensors)
    if tail:
        header = response.get_data()
        response = Response(header + b"".join(tail), mimetype=_OCTETS)
        response.headers[HEADER_LENGTH] = str(len(header))
    return response
