"""One error type for the whole server and the tables that give it a gRPC code and an HTTP status."""

import logging

import tensorflow as tf
from grpc import StatusCode

_log = logging.getLogger(__name__)

# TensorFlow and gRPC share one numbering of status codes.
_CODE_BY_NUMBER: dict[int, StatusCode] = {code.value[0]: code for code in StatusCode}

HTTP_STATUS: dict[StatusCode, int] = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
    StatusCode.UNAUTHENTICATED: 401,
}


class ServingError(Exception):
    """A failure that a client is told about: a status code and one sentence."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid(message: str) -> ServingError:
    """Make an INVALID_ARGUMENT error."""
    return ServingError(StatusCode.INVALID_ARGUMENT, message)


def as_serving_error(error: Exception) -> ServingError:
    """Translate any exception; one that nobody foresaw is logged with its trace and becomes INTERNAL."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, tf.errors.OpError):
        # The prefix comes from Python; clients of TensorFlow Serving see the bare message.
        message = error.message.removeprefix("Graph execution error:").strip()
        return ServingError(_CODE_BY_NUMBER.get(error.error_code, StatusCode.UNKNOWN), message)
    _log.error("unexpected error", exc_info=error)
    return ServingError(StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
