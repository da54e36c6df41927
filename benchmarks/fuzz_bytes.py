"""Requests made of bytes, which is what libFuzzer makes; and the bytes of requests that are answered, to begin with."""

import json
import struct
from base64 import b64encode
from collections.abc import Iterator

from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

LONGEST = 20_000
"""Bytes of a request at most."""
JSON = "application/json"
FORM = "multipart/form-data; boundary=b"
BODIES = (
    (":classify", "image/jpeg"),
    ("/explain/activations", "application/octet-stream"),
    (":classify", JSON),
    (":predict", JSON),
    (":explain", JSON),
    (":classify", FORM),
)
"""Where a body goes, by the first byte, and as what."""
QUERIES = (":classify", "/explain/grad-cam", "/explain/attributions", "/explain/activations", "/explain/filters")
"""Where a query string goes, by the bytes that follow."""
HEADERS = ("Accept", "X-Request-Timeout", "X-Request-Id", "traceparent", "Content-Type", "Content-Encoding")
"""Headers that bytes are made, a line each."""
INFER, INFER_BINARY = (len(BODIES) + len(QUERIES) + number for number in range(2))
HEAD = INFER_BINARY + 1
DOORS = HEAD + 1


def request(data: bytes, model: str, picture: bytes) -> EnvironBuilder:
    """Make a request of bytes: the first chooses what the others are.

    Args:
        data: at least one byte.
        model: who is asked.
        picture: the body of requests whose query or headers the bytes are.
    """
    door, rest = data[0] % DOORS, data[1:]
    base = f"/v1/models/{model}"
    if door < len(BODIES):
        suffix, content_type = BODIES[door]
        return EnvironBuilder(base + suffix, method="POST", data=rest, content_type=content_type)
    if door < INFER:
        suffix = QUERIES[door - len(BODIES)]
        query = rest.decode("latin-1")
        if suffix.endswith("filters"):
            return EnvironBuilder(base + suffix, query_string=query)
        return EnvironBuilder(base + suffix, query_string=query, method="POST", data=picture, content_type="image/png")
    if door == HEAD:
        lines = rest.decode("latin-1").splitlines()
        headers = Headers(list(zip(HEADERS, lines, strict=False)))
        return EnvironBuilder(f"{base}/explain/grad-cam", method="POST", data=picture, headers=headers)
    headers = Headers()
    if door == INFER_BINARY:
        headers["Inference-Header-Content-Length"] = str(int.from_bytes(rest[:2]))
        rest = rest[2:]
    return EnvironBuilder(f"/v2/models/{model}/infer", method="POST", data=rest, headers=headers, content_type=JSON)


def seeds(pictures: list[bytes]) -> Iterator[bytes]:
    """Make requests that are answered, for `request` to read.

    Args:
        pictures: encoded in the ways that the gateway decodes.
    """
    short = [picture for picture in pictures if len(picture) < LONGEST]
    for door, (suffix, content_type) in enumerate(BODIES):
        first = bytes([door])
        if content_type == JSON:
            yield from (first + body for body in _instances(short[0]))
        elif content_type == FORM:
            part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="p"\r\n\r\n%s\r\n' % short[0]
            yield first + part + part + b"--b--\r\n"
        else:
            yield from (first + picture for picture in (short if suffix == ":classify" else short[:1]))
    queries = (b"top_k=2", b"class=0&method=grad_cam", b"class=0&class=1&alpha=0.5&colormap=viridis")
    for door in range(len(BODIES), INFER):
        yield from (bytes([door]) + query for query in (*queries, b"channels=0-1&colormap=magma", b"filter=0,1"))
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1]}
    text = {"inputs": [tensor | {"data": [b64encode(short[0]).decode()]}], "outputs": [{"name": "label"}]}
    yield bytes([INFER]) + json.dumps(text).encode()
    raw = struct.pack("<I", len(short[0])) + short[0]
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    yield bytes([INFER_BINARY]) + struct.pack(">H", len(head)) + head + raw
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    yield bytes([HEAD]) + f"image/png;q=0.5, */*\n5\nmine\n{trace}\nimage/png\nidentity".encode()


def _instances(picture: bytes) -> Iterator[bytes]:
    encoded = {"b64": b64encode(picture).decode()}
    pixels = [[[0, 128, 255]] * 4] * 4
    for instance in (encoded, pixels, {"image_bytes": encoded}, {"images": pixels}):
        yield json.dumps({"instances": [instance], "signature_name": "serving_default"}).encode()
