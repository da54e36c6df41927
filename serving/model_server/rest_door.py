"""The REST door: TensorFlow Serving's HTTP paths in front of the manager."""

import json
import re
import threading
import time
from http import HTTPStatus
from typing import Any

import waitress.server
from flask import Flask, Response, request
from google.protobuf import json_format
from grpc import StatusCode
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from serving.model_server.errors import HTTP_STATUS, ServingError, as_serving_error, invalid
from serving.model_server.grpc_door import model_metadata
from serving.model_server.manager import ModelManager
from serving.model_server.rest_json import format_outputs, parse_document, parse_inputs
from serving.model_server.servable import DEFAULT_SIGNATURE

_MODEL = r"(?i)/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<method>classify|regress|predict)")
_GET = re.compile(_MODEL + r"(?P<metadata>/metadata)?")
_METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]
_MAX_INT64 = 2**63 - 1


def create_app(manager: ModelManager, timeout_s: float | None = None) -> Flask:
    """Make the application; `timeout_s` bounds one run of a signature."""
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False

    # Method and case are left to the patterns: a wrong method is a malformed request (400), never a 405.
    @app.route("/<path:_>", methods=_METHODS, provide_automatic_options=False)
    def answer(_: str) -> Response:
        if not request.path.lower().startswith("/v1/"):
            return Response(status=HTTPStatus.NOT_FOUND)
        try:
            return Response(_dispatch(manager, timeout_s), mimetype="application/json")
        except Exception as error:  # every failure leaves by one way, as a status
            failure = as_serving_error(error)
        return Response(json.dumps({"error": failure.message}), HTTP_STATUS[failure.code], mimetype="application/json")

    return app


def _dispatch(manager: ModelManager, timeout_s: float | None) -> str:
    if request.method == "POST" and (match := _POST.fullmatch(request.path)):
        if match["method"].lower() != "predict":
            raise ServingError(StatusCode.UNIMPLEMENTED, f"{match['method']} is not implemented, use predict")
        return _predict(manager, _spec(match), request.get_data(cache=False), timeout_s)
    if request.method == "GET" and (match := _GET.fullmatch(request.path)):
        return _metadata(manager, _spec(match)) if match["metadata"] else _status(manager, _spec(match))
    raise invalid(f"Malformed request: {request.method} {request.path}")


def _spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=match["name"])
    if match["version"]:
        if int(match["version"]) > _MAX_INT64:
            raise invalid(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = int(match["version"])
    if match["label"]:
        spec.version_label = match["label"]
    return spec


def _predict(manager: ModelManager, spec: model_pb2.ModelSpec, body: bytes, timeout_s: float | None) -> str:
    document = parse_document(body)
    signature_name = document.get("signature_name") or DEFAULT_SIGNATURE
    with manager.servable(spec) as servable:
        if signature_name not in servable.signatures:
            raise invalid(f'Serving signature name: "{signature_name}" not found in signature def')
        inputs, row_form = parse_inputs(document, servable.signatures[signature_name].inputs)
        outputs = servable.run(signature_name, inputs, timeout_s=timeout_s)
    return format_outputs(outputs, row_form)


def _status(manager: ModelManager, spec: model_pb2.ModelSpec) -> str:
    response = get_model_status_pb2.GetModelStatusResponse(model_version_status=manager.status(spec))
    return json.dumps(_to_dict(response), indent=1)


def _metadata(manager: ModelManager, spec: model_pb2.ModelSpec) -> str:
    metadata_request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    response = model_metadata(manager, metadata_request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    # The map lies under its own field name once more: clients of TensorFlow Serving expect the double nesting.
    answer = {"model_spec": _to_dict(response.model_spec), "metadata": {"signature_def": _to_dict(signatures)}}
    return json.dumps(answer, indent=1)


def _to_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


class RestServer:
    """The application behind waitress, in a thread; raises OSError when the port is taken."""

    def __init__(self, app: Flask, port: int, threads: int) -> None:
        try:
            self._server: Any = waitress.server.create_server(
                app, host="0.0.0.0", port=port, threads=threads, ident="model_server", max_request_body_size=2**31 - 1
            )
        except OSError as error:
            raise OSError(f"port {port} cannot be bound: is another server running there?") from error
        self._thread = threading.Thread(target=self._server.run, name="rest", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Accept nothing new and let what runs finish, for `grace_s` seconds at most."""
        deadline = time.monotonic() + grace_s
        self._server.accepting = False
        self._server.task_dispatcher.shutdown(timeout=grace_s)
        channels = self._server.active_channels
        while time.monotonic() < deadline and any(channel.total_outbufs_len for channel in list(channels.values())):
            time.sleep(0.01)
