"""Errors as HTTP answers: one table, one shape."""

import logging
from http import HTTPStatus
from typing import Final

from flask import Flask, Response, g, jsonify
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from serving.errors import (
    BrokenBodyError,
    FoveaError,
    InternalError,
    InvalidArgumentError,
    MethodNotAllowedError,
    NotFoundError,
    TooLargeError,
)

log = logging.getLogger(__name__)

STATUS: Final = {
    "INTERNAL": HTTPStatus.INTERNAL_SERVER_ERROR,
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
    "METHOD_NOT_ALLOWED": HTTPStatus.METHOD_NOT_ALLOWED,
    "UNKNOWN_MODEL": HTTPStatus.NOT_FOUND,
    "UNKNOWN_VERSION": HTTPStatus.NOT_FOUND,
    # As TensorFlow Serving answers it.
    "UNKNOWN_LABEL": HTTPStatus.BAD_REQUEST,
    "UNKNOWN_LAYER": HTTPStatus.BAD_REQUEST,
    "UNKNOWN_CLASS": HTTPStatus.BAD_REQUEST,
    "NOT_CARRIED": HTTPStatus.BAD_REQUEST,
    "UNKNOWN_COLORMAP": HTTPStatus.BAD_REQUEST,
    "NOT_AN_IMAGE": HTTPStatus.BAD_REQUEST,
    "EMPTY_BODY": HTTPStatus.BAD_REQUEST,
    "BROKEN_BODY": HTTPStatus.BAD_REQUEST,
    "WRONG_FIELD": HTTPStatus.BAD_REQUEST,
    "TOO_LARGE": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "TOO_MANY_PIXELS": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "TOO_MANY_PICTURES": HTTPStatus.BAD_REQUEST,
    "ANSWER_TOO_LARGE": HTTPStatus.BAD_REQUEST,
    "ONE_PICTURE_ONLY": HTTPStatus.BAD_REQUEST,
    "BAD_JSON": HTTPStatus.BAD_REQUEST,
    "BAD_BASE64": HTTPStatus.BAD_REQUEST,
    "NO_INSTANCES": HTTPStatus.BAD_REQUEST,
    "BAD_TENSOR": HTTPStatus.BAD_REQUEST,
    "UNSUPPORTED_MEDIA_TYPE": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "NOT_ACCEPTABLE": HTTPStatus.NOT_ACCEPTABLE,
    "MODEL_NOT_READY": HTTPStatus.SERVICE_UNAVAILABLE,
    "MODEL_SERVER_UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
    "MODEL_SERVER_BUSY": HTTPStatus.TOO_MANY_REQUESTS,
    "MODEL_SERVER_ERROR": HTTPStatus.BAD_GATEWAY,
    "OVERLOADED": HTTPStatus.SERVICE_UNAVAILABLE,
    "DEADLINE_EXCEEDED": HTTPStatus.GATEWAY_TIMEOUT,
}
_RETRY_SOON = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def register(app: Flask) -> None:
    """Let every error of an application be answered in the one shape."""
    app.register_error_handler(FoveaError, respond)
    app.register_error_handler(HTTPException, _respond_http)
    app.register_error_handler(Exception, _respond_unexpected)


def respond(error: FoveaError) -> Response:
    """Answer an error: `{"error": sentence, "code": stable name, "request_id": id}`."""
    g.access.code = error.code
    response = jsonify(error=str(error), code=error.code, request_id=g.access.request_id)
    response.status_code = STATUS[error.code]
    if response.status_code in _RETRY_SOON:
        response.headers["Retry-After"] = "1"
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="fovea"'
    return response


def raise_invalid(error: ValidationError) -> None:
    """Turn what pydantic says about a parameter into our own error.

    Raises:
        InvalidArgumentError: always; one sentence about the first parameter that is wrong.
    """
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "?"
    if first["type"] == "extra_forbidden":
        raise InvalidArgumentError(f"there is no parameter {name[:64]!r}")
    reason = first["msg"].removeprefix("Value error, ")
    raise InvalidArgumentError(f"parameter {name!r} is wrong: {reason[:1].lower()}{reason[1:]}")


def _respond_http(error: HTTPException) -> Response | HTTPException:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    if error.response is not None or status < HTTPStatus.BAD_REQUEST:
        return error
    kinds: dict[int, FoveaError] = {
        HTTPStatus.NOT_FOUND: NotFoundError("there is nothing at this path; /openapi.json lists what there is"),
        HTTPStatus.METHOD_NOT_ALLOWED: MethodNotAllowedError("this path does not take this method"),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLargeError("the request is too large"),
        HTTPStatus.BAD_REQUEST: BrokenBodyError("the request could not be read"),
    }
    fallback = InvalidArgumentError if status < HTTPStatus.INTERNAL_SERVER_ERROR else InternalError
    response = respond(kinds.get(status, fallback("the request could not be answered")))
    # Method Not Allowed carries the methods that are.
    response.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
    return response


def _respond_unexpected(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error, extra={"fields": {"request_id": g.access.request_id}})
    return respond(InternalError("internal error"))
