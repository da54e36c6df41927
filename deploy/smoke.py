"""Ask a running gateway for everything a deployment must be able to do, once; exit code 1 at the first thing it cannot.

Needs what the gateway needs (grpcio, Pillow), so that it also runs inside the gateway's image.
"""

import argparse
import io
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image, ImageDraw

REQUEST_TIMEOUT_S = 30


class FailedError(Exception):
    """One sentence about what did not work."""


def drawn_picture() -> bytes:
    """Return a JPEG of 200x150 pixels: a disc on a gradient."""
    picture = Image.merge("RGB", [Image.linear_gradient("L").resize((200, 150))] * 3)
    ImageDraw.Draw(picture).ellipse((60, 30, 150, 120), fill=(200, 120, 40))
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()


def ask(url: str, picture: bytes | None = None, accept: str = "application/json") -> bytes:
    """Send a picture, or GET without one; return the body.

    Raises:
        FailedError: the answer is not 2xx, or there is none.
    """
    headers = {"Accept": accept} | ({"Content-Type": "image/jpeg"} if picture else {})
    if key := os.environ.get("FOVEA_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, picture, headers), timeout=REQUEST_TIMEOUT_S) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise FailedError(f"{url} answered {error.code}: {error.read(500).decode(errors='replace').strip()}") from None
    except OSError as error:
        raise FailedError(f"{url} did not answer: {getattr(error, 'reason', error)}") from None


def wait_until_ready(url: str, seconds: float) -> str:
    """Wait until every model answers; return how it was told."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            # /readyz tells more, but is not routed from outside.
            return ask(f"{url}/v2/health/ready").decode().strip()
        except FailedError as error:
            if time.monotonic() > deadline:
                raise FailedError(f"not ready within {seconds:g} s: {error}") from None
            time.sleep(0.5)


def first_model(url: str) -> str:
    """Return the name of the first model that is served."""
    models = json.loads(ask(f"{url}/v1/models"))["models"]
    return next(model["name"] for model in models if model["ready"])


def classify(url: str, model: str, picture: bytes) -> str:
    """Classify the picture; return version, label and score."""
    answer = json.loads(ask(f"{url}/v1/models/{model}:classify", picture))
    best = answer["classifications"][0]
    if not 0 <= best["score"] <= 1:
        raise FailedError(f"the score of {best['label']} is {best['score']}, outside 0..1")
    return f"version {answer['model']['version']}: {best['label']} {best['score']:.3f}"


def grad_cam(url: str, model: str, picture: bytes) -> str:
    """Ask for the overlay; return its size, which must be the picture's."""
    overlay = ask(f"{url}/v1/models/{model}/explain/grad-cam", picture, "image/png")
    size, expected = Image.open(io.BytesIO(overlay)).size, Image.open(io.BytesIO(picture)).size
    if size != expected:
        raise FailedError(f"the overlay has {size} pixels, the picture {expected}")
    return f"PNG of {size[0]}x{size[1]} pixels, {len(overlay)} bytes"


def grpc_health(target: str, tls: bool) -> str:
    """Ask `grpc.health.v1` whether the service answers for its models."""
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials()) if tls else grpc.insecure_channel(target)
    request = health_pb2.HealthCheckRequest(service="fovea.v1.Vision")
    with channel:
        try:
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=REQUEST_TIMEOUT_S).status
        except grpc.RpcError as error:
            raise FailedError(f"{target} did not answer: {error.code().name}, {error.details()}") from None
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    if name != "SERVING":
        raise FailedError(f"fovea.v1.Vision at {target} is {name}")
    return name


def main() -> None:
    """Run the checks in order and print a line for each."""
    parser = argparse.ArgumentParser(description="Check a running gateway with one picture.")
    parser.add_argument("--url", default="http://localhost:8080", help="address of REST; with https, gRPC has TLS too")
    parser.add_argument("--grpc", help="host:port of gRPC; the host of --url and port 8081 by default")
    parser.add_argument("--model", help="name of the model; the first one that is served by default")
    parser.add_argument("--picture", type=Path, help="JPEG file; a drawn picture by default")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for readiness (60)")
    options = parser.parse_args()
    url = options.url.rstrip("/")
    target = options.grpc or f"{urlsplit(url).hostname}:8081"
    try:
        picture = options.picture.read_bytes() if options.picture else drawn_picture()
        print("ready    ", wait_until_ready(url, options.wait), flush=True)
        model = options.model or first_model(url)
        print("classify ", model, classify(url, model, picture), flush=True)
        print("grad-cam ", model, grad_cam(url, model, picture), flush=True)
        print("grpc     ", target, grpc_health(target, tls=url.startswith("https:")), flush=True)
    except (FailedError, OSError) as error:
        sys.exit(f"smoke: {error}")
    except (KeyError, ValueError) as error:
        sys.exit(f"smoke: an answer is not of the expected form: {error!r}")


if __name__ == "__main__":
    main()
