"""The application factory of the HTTP door."""

import io
from http import HTTPStatus
from importlib import metadata
from threading import Event
from typing import IO, Any

import orjson
from flask import Flask, Request, Response, current_app, g, request
from flask.json.provider import JSONProvider
from flask_openapi3 import Info, OpenAPI
from pydantic import ValidationError

from serving.access import Access, request_id
from serving.api_keys import ApiKeys
from serving.deadline import Deadline
from serving.errors import BrokenBodyError, InvalidArgumentError
from serving.http import bodies, errors, headers, routes, schemas, v2
from serving.inference import Vision
from serving.settings import Settings
from serving.tracing import Trace

# What needs no API key: kubelet, Prometheus and load balancers have none, a browser has none yet when it loads the
# page, and the description is the same everywhere.
_OPEN = frozenset(
    (
        *("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/metrics"),
        *("/openapi.json", "/", "/page/<path:name>"),
    )
)

# Answered by gunicorn, before a request is one.
_OF_THE_SERVER: dict[Any, Any] = {
    status: {"content": {"text/html": {"schema": {"type": "string"}}}}
    for status in (HTTPStatus.REQUEST_URI_TOO_LONG, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
}
_SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "An API key."},
}


class OrjsonProvider(JSONProvider):
    """JSON by orjson, which writes numpy arrays and data classes without a loop in Python."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Write a value as JSON."""
        return self._encode(obj).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Read JSON."""
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Make a JSON answer of the arguments of `jsonify`."""
        return current_app.response_class(
            self._encode(self._prepare_response_obj(args, kwargs)), mimetype="application/json"
        )

    @staticmethod
    def _encode(obj: Any) -> bytes:
        return orjson.dumps(obj, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


class _Request(Request):
    """A request whose uploads stay in memory: they are bounded, and the file system may be read-only."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


def create_app(vision: Vision, settings: Settings, stopping: Event) -> Flask:
    """Make the application.

    Args:
        vision: the core.
        settings: limits and model names.
        stopping: set once the process is about to end.
    """
    app = OpenAPI(
        "serving",
        info=Info(title="Fovea", version=metadata.version("fovea"), description=_DESCRIPTION),
        doc_ui=False,
        static_folder=None,
        responses=dict.fromkeys(sorted(set(errors.STATUS.values())), schemas.ErrorBody) | _OF_THE_SERVER,
        security_schemes=_SECURITY_SCHEMES,
        # A key, or none where the gateway asks for none.
        openapi_extensions={"security": [{}, *({name: []} for name in _SECURITY_SCHEMES)]},
        validation_error_status=400,
        validation_error_model=schemas.ErrorBody,
        validation_error_callback=errors.raise_invalid,
    )
    app.json = OrjsonProvider(app)
    app.request_class = _Request
    app.config["MAX_CONTENT_LENGTH"] = settings.max_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_bytes
    keys = ApiKeys(settings.api_keys, settings.api_keys_file)
    errors.register(app)
    routes.register(app, vision, settings, stopping)
    v2.register(app, vision, settings, stopping)
    _describe_timeout(app)

    @app.before_request
    def begin() -> None:
        route = request.url_rule.rule if request.url_rule else "unmatched"
        g.access = Access(
            request_id=request_id(request.headers.get("X-Request-Id")),
            trace=Trace(f"{request.method} {route}", request.headers, spans=route not in _OPEN),
            method=request.method,
            route=route,
            bytes_in=request.content_length or 0,
        )
        if keys.required and g.access.route not in _OPEN:
            g.access.authenticate(keys, request.headers)
        g.deadline = Deadline.earlier(settings.deadline_s, _timeout(request.headers.get(schemas.TIMEOUT_HEADER.name)))

    @app.after_request
    def end(response: Response) -> Response:
        if request.method in ("POST", "PUT") and response.status_code >= 400 and g.access.code != BrokenBodyError.code:
            bodies.discard(request)
        response.headers["X-Request-Id"] = g.access.request_id
        headers.add(response, encrypted=settings.tls_cert_file is not None)
        g.access.finish(response.status_code, response.content_length or 0)
        return response

    return app


def _timeout(text: str | None) -> float | None:
    """Read the seconds that a client gives its request."""
    if text is None:
        return None
    try:
        return schemas.TIMEOUT.validate_python(text)
    except ValidationError:
        raise InvalidArgumentError(f"{schemas.TIMEOUT_HEADER.name} must be a number of seconds above 0") from None


def _describe_timeout(app: OpenAPI) -> None:
    """Add to every operation of the OpenAPI document the header that `begin` reads for all."""
    for path in app.paths.values():
        for operation in (path.get, path.post, path.put):
            if operation is not None:
                operation.parameters = [*(operation.parameters or []), schemas.TIMEOUT_HEADER]


_DESCRIPTION = """Classifies pictures and shows what the model looked at.
Paths follow TensorFlow Serving, KServe V1 and the Open Inference Protocol.
Every error is {"error", "code", "request_id"}."""
