"""What can be wrong with a request or an answer; each door maps the codes to its own status in one table."""

from typing import ClassVar


class FoveaError(Exception):
    """An answer of one sentence that a client may read.

    `code` is stable: clients may branch on it. The text is for people and names no host, port or file.
    """

    code: ClassVar[str] = "INTERNAL"

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "internal error"


class InternalError(FoveaError):
    """Something that is our own fault; the details are in the log."""


class InvalidArgumentError(FoveaError):
    """A parameter that is missing, malformed or out of its range."""

    code = "INVALID_ARGUMENT"


class NotFoundError(FoveaError):
    """No such path."""

    code = "NOT_FOUND"


class UnauthenticatedError(FoveaError):
    """No API key, or one that is not known."""

    code = "UNAUTHENTICATED"


class MethodNotAllowedError(FoveaError):
    """The path exists, but not for this method."""

    code = "METHOD_NOT_ALLOWED"


class UnknownModelError(FoveaError):
    """A model name that this gateway does not answer for."""

    code = "UNKNOWN_MODEL"


class UnknownVersionError(FoveaError):
    """A version that is not loaded."""

    code = "UNKNOWN_VERSION"


class UnknownLabelError(FoveaError):
    """A version label that nobody gave."""

    code = "UNKNOWN_LABEL"


class UnknownLayerError(FoveaError):
    """A layer that the model does not have, or that cannot do what was asked."""

    code = "UNKNOWN_LAYER"


class UnknownClassError(FoveaError):
    """A class name or index that the model does not have."""

    code = "UNKNOWN_CLASS"


class NotCarriedError(FoveaError):
    """An explanation that the model was exported without."""

    code = "NOT_CARRIED"


class UnknownColormapError(FoveaError):
    """A colour map that does not exist."""

    code = "UNKNOWN_COLORMAP"


class NotAnImageError(FoveaError):
    """Bytes that cannot be decoded as a picture."""

    code = "NOT_AN_IMAGE"


class EmptyBodyError(FoveaError):
    """A request without a body, or a picture of zero bytes."""

    code = "EMPTY_BODY"


class BrokenBodyError(FoveaError):
    """A body that stopped before its announced end."""

    code = "BROKEN_BODY"


class WrongFieldError(FoveaError):
    """A form without the field that carries the pictures."""

    code = "WRONG_FIELD"


class TooLargeError(FoveaError):
    """More bytes than the gateway takes."""

    code = "TOO_LARGE"


class TooManyPixelsError(FoveaError):
    """A picture with more pixels than the gateway decodes."""

    code = "TOO_MANY_PIXELS"


class TooManyPicturesError(FoveaError):
    """More pictures in one request than the gateway takes."""

    code = "TOO_MANY_PICTURES"


class AnswerTooLargeError(FoveaError):
    """An answer that would not fit; the request can be split."""

    code = "ANSWER_TOO_LARGE"


class OnePictureOnlyError(FoveaError):
    """Several pictures where the answer has room for one."""

    code = "ONE_PICTURE_ONLY"


class BadJsonError(FoveaError):
    """A body that is not JSON, or JSON of another shape."""

    code = "BAD_JSON"


class BadBase64Error(FoveaError):
    """A picture in JSON that is not base64."""

    code = "BAD_BASE64"


class NoInstancesError(FoveaError):
    """JSON without pictures."""

    code = "NO_INSTANCES"


class BadTensorError(FoveaError):
    """A tensor of the Open Inference Protocol that is none, or not one that the model takes."""

    code = "BAD_TENSOR"


class UnsupportedMediaTypeError(FoveaError):
    """A Content-Type that cannot carry pictures here."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class NotAcceptableError(FoveaError):
    """An Accept header that none of the answer's forms satisfies."""

    code = "NOT_ACCEPTABLE"


class ModelNotReadyError(FoveaError):
    """A model of this gateway of which no version is loaded yet."""

    code = "MODEL_NOT_READY"


class ModelServerUnavailableError(FoveaError):
    """The model server cannot be reached."""

    code = "MODEL_SERVER_UNAVAILABLE"


class ModelServerBusyError(FoveaError):
    """The model server has more to do than it takes on."""

    code = "MODEL_SERVER_BUSY"


class ModelServerError(FoveaError):
    """The model server failed, or answered something that breaks the contract."""

    code = "MODEL_SERVER_ERROR"


class OverloadedError(FoveaError):
    """The gateway has more to do than it takes on."""

    code = "OVERLOADED"


class DeadlineExceededError(FoveaError):
    """The request's time is up."""

    code = "DEADLINE_EXCEEDED"


def all_codes() -> set[str]:
    """Return the code of every error class."""
    classes, found = [FoveaError], set()
    while classes:
        cls = classes.pop()
        found.add(cls.code)
        classes.extend(cls.__subclasses__())
    return found
