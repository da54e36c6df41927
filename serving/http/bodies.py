"""The pictures in a request's body: the body itself, the files of a form, or JSON."""

import base64
import binascii
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from serving.admission import Admission
from serving.deadline import Deadline
from serving.decoding import Picture
from serving.errors import (
    BadBase64Error,
    BadJsonError,
    BrokenBodyError,
    EmptyBodyError,
    NoInstancesError,
    TooLargeError,
    TooManyPicturesError,
    TooManyPixelsError,
    UnsupportedMediaTypeError,
    WrongFieldError,
)
from serving.settings import Settings

FIELD = "file"
# TensorFlow Serving never looks at Content-Type, and its documented curl lines send JSON as a form.
_UNTYPED = ("", "application/x-www-form-urlencoded", "text/plain")
_SIGNATURES = ("", "serving_default", "classify_bytes")
_ROW_KEYS = ("b64", "images", "image_bytes")
_DISCARD_BYTES = 64 * 1024 * 1024
_DISCARD_SECONDS = 5.0


@dataclass(frozen=True)
class Upload:
    """A picture and the name of the file it came from, if it has one."""

    picture: Picture
    filename: str | None = None


@contextlib.contextmanager
def admitted(request: Request, settings: Settings, admission: Admission, deadline: Deadline) -> Iterator[None]:
    """Hold a slot for the work on a request whose body has arrived: no client that is slow to send holds one.

    Raises:
        OverloadedError: nothing more is taken on.
        DeadlineExceededError: the request's time ended before its turn came.
        FoveaError: as for `data`.
    """
    admission.check()
    if request.method in ("POST", "PUT"):
        data(request, settings)
    with admission.slot(deadline):
        yield


def read(request: Request, settings: Settings) -> list[Upload]:
    """Read the pictures of a request.

    Raises:
        FoveaError: no body, another media type, too many bytes or pictures, a form without the
            field `file`, or JSON that holds no pictures.
    """
    kind = request.mimetype
    if kind.startswith("image/") or kind == "application/octet-stream":
        return [Upload(data(request, settings))]
    if kind == "multipart/form-data":
        data(request, settings)
        return _from_form(request, settings)
    if kind == "application/json" or (kind in _UNTYPED and data(request, settings).lstrip()[:1] == b"{"):
        return [Upload(picture) for picture in from_json(data(request, settings), settings)]
    if not kind:
        return [Upload(data(request, settings))]
    raise UnsupportedMediaTypeError(
        f"{kind[:64]} is not taken; send image/*, application/octet-stream, "
        f"multipart/form-data with the field {FIELD!r}, or application/json"
    )


def from_json(data: bytes, settings: Settings) -> list[Picture]:
    """Read pictures from TensorFlow Serving's row form.

    An instance is `{"b64": "..."}`, the pixels as nested lists [h][w][3] of whole numbers in
    0..255, or an object with either of these under the name of the signature's input (`image_bytes`
    or `images`).

    Raises:
        BadJsonError: not JSON, or not of this form.
        BadBase64Error: a picture is not base64.
        NoInstancesError: no pictures.
    """
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadJsonError(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadJsonError('the body must be an object: {"instances": [{"b64": "..."}]}')
    if body.get("signature_name", "") not in _SIGNATURES:
        raise BadJsonError("signature_name must be serving_default or left out")
    instances = body.get("instances")
    if not instances:
        raise NoInstancesError('the body has no instances; send {"instances": [{"b64": "..."}]}')
    if not isinstance(instances, list):
        raise BadJsonError("instances must be a list")
    _check_count(len(instances), settings)
    return [_instance(instance, position, settings.max_pixels) for position, instance in enumerate(instances)]


def discard(request: Request) -> None:
    """Read what is left of the body, within limits.

    An answer sent while the client is still writing is lost to most clients: the close resets the
    connection before they read.
    """
    stream = request.environ["wsgi.input"]
    end, left = time.monotonic() + _DISCARD_SECONDS, _DISCARD_BYTES
    with contextlib.suppress(Exception):
        while left > 0 and time.monotonic() < end and (chunk := stream.read(64 * 1024)):
            left -= len(chunk)


def data(request: Request, settings: Settings) -> bytes:
    """Return the whole body; werkzeug keeps it, also for its form parser.

    Raises:
        FoveaError: no body, too many bytes, or fewer than were announced.
    """
    try:
        body = request.get_data()
    except RequestEntityTooLarge:
        raise _too_large(settings) from None
    # The server's stream has errors of its own kinds for connections that break and chunks that are malformed.
    except Exception as error:
        raise BrokenBodyError("the body broke off before its end") from error
    # Of a body without an announced length werkzeug returns what fits.
    if request.content_length is None and len(body) >= settings.max_bytes:
        raise _too_large(settings)
    if request.content_length is not None and len(body) < request.content_length:
        raise BrokenBodyError("the body broke off before its end")
    if not body:
        raise EmptyBodyError("the body is empty; a picture is expected")
    return body


def _too_large(settings: Settings) -> TooLargeError:
    return TooLargeError(f"the request has more than {settings.max_bytes} bytes")


def _from_form(request: Request, settings: Settings) -> list[Upload]:
    files = request.files.getlist(FIELD)
    if not files:
        # A part without a name has None for one.
        names = sorted(filter(None, {*request.files, *request.form}))
        found = f"only {', '.join(map(repr, names))[:200]}" if names else "no fields"
        raise WrongFieldError(f"the form has {found}; pictures belong into the file field {FIELD!r}")
    _check_count(len(files), settings)
    return [Upload(file.read(), file.filename or None) for file in files]


def _check_count(count: int, settings: Settings) -> None:
    if count > settings.max_pictures:
        raise TooManyPicturesError(f"the request holds {count} pictures; at most {settings.max_pictures} are allowed")


def _instance(value: object, position: int, max_pixels: int) -> Picture:
    if isinstance(value, dict) and len(value) == 1:
        (key, inner), *_ = value.items()
        if key == "b64":
            return _decode_base64(inner, position)
        if key in _ROW_KEYS:
            return _instance(inner, position, max_pixels)
    if isinstance(value, list):
        return _pixels(value, position, max_pixels)
    raise BadJsonError(f'instance {position} must be {{"b64": "..."}} or pixels as nested lists [h][w][3]')


def _decode_base64(text: object, position: int) -> bytes:
    if not isinstance(text, str):
        raise BadBase64Error(f"instance {position}: the value of b64 must be a string")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadBase64Error(f"instance {position} is not base64 (RFC 4648, section 4, without line breaks)") from None


def _pixels(rows: Sequence[object], position: int, max_pixels: int) -> np.ndarray:
    try:
        array = np.array(rows)
    except ValueError:
        array = np.empty(0)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind != "i" or array.min() < 0 or array.max() > 255:
        raise BadJsonError(f"instance {position}: pixels must be nested lists [h][w][3] of whole numbers in 0..255")
    if array.shape[0] * array.shape[1] > max_pixels:
        raise TooManyPixelsError(f"instance {position} has more than {max_pixels} pixels")
    return array.astype(np.uint8)
