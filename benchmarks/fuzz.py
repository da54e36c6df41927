"""Send a gateway damaged pictures, bodies, heads and messages, and see that it neither fails, dies nor grows.

Every request begins as one that is answered, or as one of `benchmarks.hostile`, and is then damaged: bits turned,
numbers set to extremes, parts cut out, repeated and exchanged with those of another. A seed and a number make the same
request again, whatever was sent before it.
"""

import functools
import io
import itertools
import json
import random
import re
import signal
import socket
import struct
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import typer
from fovea.oip import open_inference_pb2 as pb_v2
from fovea.v1 import vision_pb2 as pb
from google.protobuf.message import Message
from PIL import Image

from benchmarks import hostile, processes
from benchmarks.measuring import Figure, report

LAYER = "mean"
"""The one convolution of `scratch.mean`."""
TIMEOUT_S = 60
WARM_UP = 2_000
"""Requests before memory is read for the first time, at most a fifth of all."""
READINGS = 5
"""How often it is read after that."""
CLIENTS = 8
_HOSTILE_BYTES = 300_000
_INTERESTING = (0, 1, 2, 16, 127, 128, 255, 256, 32_767, 32_768, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 1e308, 2**63, 2**200, "", "\0", "\u202e", "é" * 300, "../" * 20, "%s%n", "1;--"),
    *([], {}, [[]], [[[]]], [[[256, -1, 0.5]]], [[[1, 2, 3]], []], {"b64": 1}, {"b64": "===="}, [None] * 50),
)
_FORMS = ("application/json", "image/png", "application/x-npz", "*/*", "text/html", "image/*;q=0", "nonsense")
_HTTP_OF_THE_CLIENT = frozenset((501, 505))
"""Answers that HTTP demands for a transfer coding or a version that a server does not know."""


@dataclass
class Findings:
    """What came of the requests."""

    answers: Counter[str] = field(default_factory=Counter)
    """Answers by door and status; `dropped` where the connection was closed without one."""
    faults: list[str] = field(default_factory=list)
    """Answers that say that the gateway failed: 5xx over HTTP; INTERNAL, UNKNOWN and UNAVAILABLE over gRPC."""
    slowest_s: float = 0.0
    begun: list[tuple[int, int]] = field(default_factory=list)
    """For each request the bytes that the gateway had logged when it was begun, and its number."""


@functools.cache
def pictures() -> list[bytes]:
    """Encode a small picture in every way that the gateway decodes."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (36, 48, 3), np.uint8)).resize((60, 44))
    rgba = Image.fromarray(rng.integers(0, 256, (20, 28, 4), np.uint8))
    deep = Image.fromarray(rng.integers(0, 65_536, (20, 28), np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    ways: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "JPEG", {}),
        (rgb, "JPEG", {"progressive": True, "quality": 30, "exif": exif}),
        (rgb.convert("L"), "JPEG", {"restart_marker_blocks": 2}),
        (rgb.convert("CMYK"), "JPEG", {"subsampling": 0}),
        (rgb, "PNG", {"exif": exif}),
        (rgba, "PNG", {}),
        (deep, "PNG", {}),
        (rgb.quantize(16), "PNG", {"transparency": 3}),
        (rgb, "PNG", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        (rgb.quantize(16), "GIF", {"save_all": True, "append_images": [rgb.rotate(90)], "comment": b"comment"}),
        (rgb, "WEBP", {"exif": exif}),
        (rgba, "WEBP", {"lossless": True}),
        (rgb, "WEBP", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        (rgb, "BMP", {}),
        (rgb.quantize(16), "BMP", {}),
        (rgb, "TIFF", {}),
        (rgb, "TIFF", {"compression": "tiff_lzw"}),
        (rgb, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (rgb, "TIFF", {"compression": "jpeg"}),
        (deep, "TIFF", {}),
        (rgb.convert("1"), "TIFF", {"compression": "group4"}),
    ]
    made = []
    for image, format, options in ways:
        stream = io.BytesIO()
        image.save(stream, format, **options)
        made.append(stream.getvalue())
    made += [make()[:_HOSTILE_BYTES] for make in hostile.HOSTILE if "large" not in make.__name__]
    return made


def damage(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Damage bytes in one to eight places."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not damaged:
            break
        # Headers, where most can go wrong, lie at the beginning.
        at = rng.randrange(min(len(damaged), rng.choice((64, 512, len(damaged)))))
        until = min(len(damaged), at + rng.choice((1, 2, 4, 16, 256)))
        match rng.randrange(9):
            case 0 | 1:
                damaged[at] ^= 1 << rng.randrange(8)
            case 2:
                damaged[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 3:
                value = struct.pack(rng.choice("<>") + "Q", rng.choice(_INTERESTING))
                damaged[at : at + 4] = value[4:] if value[0] == 0 else value[:4]
            case 4:
                del damaged[at:until]
            case 5:
                damaged[at:at] = damaged[at:until] * rng.choice((1, 1, 2, 50))
            case 6:
                damaged[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
            case 7:
                del damaged[rng.randrange(len(damaged)) :]
            case _:
                other = rng.choice(others)
                start = rng.randrange(len(other))
                damaged[at:until] = other[start : start + rng.choice((4, 64, 1024))]
    return bytes(damaged)


@dataclass(frozen=True)
class Target:
    """A gateway to be attacked, which logs for nobody else meanwhile."""

    url: str
    grpc_target: str
    """Its other door, host:port."""
    model: str
    """A model that it answers for."""
    layer: str
    """One of the model's layers."""
    log: Path
    """What it writes to standard output and standard error."""


class Client:
    """Sends damaged requests, one after the other; each bears the id `SEED-NUMBER`."""

    def __init__(self, target: Target, seed: int, pictures: Sequence[bytes]) -> None:
        self._model, self._layer, self._log = target.model, target.layer, target.log
        self._seed, self._pictures = seed, pictures
        self._rng, self._id = random.Random(), ""
        self._http = httpx.Client(base_url=target.url, timeout=TIMEOUT_S, trust_env=False)
        self._address = (str(urlsplit(target.url).hostname), urlsplit(target.url).port)
        self._channel = grpc.insecure_channel(target.grpc_target, options=[("grpc.max_receive_message_length", -1)])
        self.findings = Findings()

    def run(self, numbers: Sequence[int]) -> None:
        """Send the requests of these numbers."""
        kinds: tuple[Callable[[], None], ...] = (self._picture, self._json, self._form, self._tensor, self._message)
        try:
            for number in numbers:
                self._id = f"{self._seed}-{number}"
                self._rng.seed(self._id)
                self.findings.begun.append((self._log.stat().st_size, number))
                kind = self._rng.choices((*kinds, self._head), (6, 2, 1, 2, 2, 1))[0]
                started = time.perf_counter()
                kind()
                self.findings.slowest_s = max(self.findings.slowest_s, time.perf_counter() - started)
        finally:
            self._http.close()
            self._channel.close()

    def _damaged(self, data: bytes) -> bytes:
        return damage(data, self._rng, self._pictures)

    def _maybe(self, data: bytes) -> bytes:
        return self._damaged(data) if self._rng.random() < 0.5 else data

    def _picture(self) -> None:
        suffix = self._rng.choice((":classify", "/explain/grad-cam", "/explain/activations"))
        query = self._query(("layer", "class", "top_k", "alpha", "colormap", "channels", "method", "position"))
        kind = self._rng.choice(("image/jpeg", "image/x", "application/octet-stream", ""))
        self._post(suffix + query, self._damaged(self._rng.choice(self._pictures)), {"Content-Type": kind})

    def _json(self) -> None:
        picture = {"b64": b64encode(self._maybe(self._rng.choice(self._pictures)[:20_000])).decode()}
        pixels = [[[self._rng.randrange(256) for _ in range(3)] for _ in range(4)] for _ in range(4)]
        instances: list[Any] = [picture, pixels, {"image_bytes": picture}, {"images": pixels}]
        body: dict[str, Any] = {"instances": self._rng.sample(instances, self._rng.randrange(4))}
        if self._rng.random() < 0.5:
            self._spoil(body)
        suffix = self._rng.choice((":predict", ":classify", ":explain"))
        self._post(suffix, self._maybe(json.dumps(body).encode()), {"Content-Type": "application/json"})

    def _form(self) -> None:
        parts = b"".join(
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="p%d"\r\n\r\n%s\r\n'
            % (index, self._maybe(self._rng.choice(self._pictures)))
            for index in range(self._rng.randrange(1, 4))
        )
        boundary = self._rng.choice(("; boundary=b", "; boundary=b", "; boundary=", ""))
        headers = {"Content-Type": f"multipart/form-data{boundary}"}
        self._post(":classify", self._maybe(parts + b"--b--\r\n"), headers)

    def _tensor(self) -> None:
        picture = self._maybe(self._rng.choice(self._pictures)[:20_000])
        raw = struct.pack("<I", len(picture)) + picture
        tensor: dict[str, Any] = {"name": "image_bytes", "datatype": "BYTES", "shape": [1]}
        headers = {"X-Request-Id": self._id}
        if self._rng.random() < 0.5:
            tensor["parameters"] = {"binary_data_size": len(raw)}
        else:
            tensor["data"], raw = [b64encode(picture).decode()], b""
        body: dict[str, Any] = {"inputs": [tensor], "outputs": [{"name": "label"}]}
        if self._rng.random() < 0.5:
            self._spoil(body)
        head = self._maybe(json.dumps(body).encode())
        if raw or self._rng.random() < 0.2:
            length = self._rng.choice((len(head), len(head), 0, -1, 2**70, len(head) + 1))
            headers["Inference-Header-Content-Length"] = str(length)
        self._note(
            "open inference", self._http.post(f"/v2/models/{self._model}/infer", content=head + raw, headers=headers)
        )

    def _spoil(self, value: Any) -> None:
        """Exchange a value somewhere within JSON."""
        while isinstance(value, dict | list) and value:
            key = self._rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
            if self._rng.random() < 0.4 or not isinstance(value[key], dict | list):
                value[key] = self._rng.choice(_VALUES)
                return
            value = value[key]

    def _query(self, names: Sequence[str]) -> str:
        values = (
            self._layer,
            "0",
            "1",
            "-1",
            "0.5",
            "nan",
            "1e999",
            "a" * 300,
            "0-99999999999",
            "0,0",
            "%00",
            "../..",
            "all",
        )
        chosen = (
            f"{self._rng.choice(names)}={self._rng.choice(values)}" for _ in range(self._rng.choice((0, 0, 1, 2)))
        )
        return "?" + "&".join(chosen)

    def _post(self, suffix: str, body: bytes, headers: dict[str, str]) -> None:
        headers |= {"X-Request-Id": self._id}
        headers |= {"Accept": self._rng.choice(_FORMS)} if self._rng.random() < 0.3 else {}
        if not headers.get("Content-Type"):
            headers.pop("Content-Type", None)
        self._note("REST", self._http.post(f"/v1/models/{self._model}{suffix}", content=body, headers=headers))

    def _note(self, door: str, answer: httpx.Response) -> None:
        self.findings.answers[f"{door} {answer.status_code}"] += 1
        if answer.status_code >= 500:
            self._fault(f"{answer.request.url}: {answer.status_code} {answer.text[:300]}")

    def _fault(self, what: str) -> None:
        self.findings.faults.append(f"{self._id}: {what}")

    def _message(self) -> None:
        picture = self._maybe(self._rng.choice(self._pictures))
        ref = pb.ModelRef(name=self._model)
        tensor = pb_v2.ModelInferRequest.InferInputTensor(name="image_bytes", datatype="BYTES", shape=[1])
        raw = struct.pack("<I", len(picture)) + picture
        messages: dict[str, Message] = {
            "fovea.v1.Vision/Classify": pb.ClassifyRequest(model=ref, images=[picture], top_k=3),
            "fovea.v1.Vision/GradCam": pb.GradCamRequest(model=ref, images=[picture], overlay=pb.Overlay(legend=True)),
            "fovea.v1.Vision/Activations": pb.ActivationsRequest(model=ref, images=[picture], layers=[self._layer]),
            "inference.GRPCInferenceService/ModelInfer": pb_v2.ModelInferRequest(
                model_name=self._model, inputs=[tensor], raw_input_contents=[raw]
            ),
        }
        method = self._rng.choice(list(messages))
        call = self._channel.unary_unary(f"/{method}", None, None)
        try:
            message = self._maybe(messages[method].SerializeToString())
            call(message, timeout=TIMEOUT_S, metadata=(("x-request-id", self._id),))
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
            if code in ("INTERNAL", "UNKNOWN", "UNAVAILABLE"):
                self._fault(f"{method}: {code} {str(error.details())[:300]}")
        self.findings.answers[f"gRPC {code}"] += 1

    def _head(self) -> None:
        """Send a damaged head over a connection of its own."""
        body = self._rng.choice(self._pictures)[:2000]
        length = b"Content-Length: %d" % len(body)
        if self._rng.random() < 0.5:
            length, body = b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        lines = (
            b"POST /v1/models/%s:classify?top_k=1 HTTP/1.1" % self._model.encode(),
            b"Host: gateway\r\nAccept: */*\r\nContent-Type: image/png\r\nX-Request-Timeout: 5",
            b"X-Request-Id: %s" % self._id.encode(),
            b"Connection: close",
            length,
        )
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        answer = b""
        with socket.create_connection(self._address, timeout=TIMEOUT_S) as connection:
            try:
                connection.sendall(self._damaged(head) + body)
                connection.shutdown(socket.SHUT_WR)
                while block := connection.recv(65_536):
                    answer += block
            except ConnectionError:
                pass
        found = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
        self.findings.answers[f"heads {found[1].decode() if found else 'dropped'}"] += 1
        if found and int(found[1]) >= 500 and int(found[1]) not in _HTTP_OF_THE_CLIENT:
            self._fault(f"head: {answer[:300]!r}")


def attack(target: Target, numbers: Sequence[int], seed: int, clients: int = CLIENTS) -> list[Findings]:
    """Send damaged requests from several clients at a time.

    Args:
        target: where to.
        numbers: which requests.
        seed: makes other requests of the same numbers.
        clients: how many send at a time.

    Returns:
        What each client found.
    """
    seeds = pictures()
    made = [Client(target, seed, seeds) for _ in range(clients)]
    errors: list[Exception] = []

    def run(client: Client, share: Sequence[int]) -> None:
        try:
            client.run(share)
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(client, numbers[index::clients])) for index, client in enumerate(made)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
    return [client.findings for client in made]


def oddities(log: bytes) -> Iterator[tuple[int, str]]:
    """Find what does not belong into the log of a gateway that works: other lines than JSON, errors, stack traces.

    Yields:
        Where in the log each begins, and its lines, those that follow one another as one.
    """
    begun, at = 0, 0
    lines: list[bytes] = []
    for line in (*log.splitlines(keepends=True), b"{}"):
        if _odd(line):
            begun = begun if lines else at
            lines.append(line)
        elif lines:
            yield begun, b"".join(lines).decode(errors="replace")
            lines = []
        at += len(line)


def _odd(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return True
    return not isinstance(entry, dict) or "exception" in entry or entry.get("level") in ("error", "critical")


def suspects(at: int, findings: Sequence[Findings]) -> list[int]:
    """Return the numbers of the requests under way when the gateway logged its byte `at`, and of those just before."""
    found: list[tuple[int, int]] = []
    for one in findings:
        found += [(logged, number) for logged, number in one.begun if logged <= at][-2:]
    # Clients that had ended by then began all of theirs earlier.
    return sorted(number for _, number in sorted(found)[-2 * CLIENTS :])


def main(
    requests: Annotated[int, typer.Option(min=100, help="Requests in all.")] = 25_000,
    seed: Annotated[int, typer.Option(help="Another seed makes other requests.")] = 0,
    only: Annotated[list[int] | None, typer.Option(help="Send only the request of this number; repeatable.")] = None,
) -> None:
    """Attack a gateway in front of a small net; exit code 1 where it fails, dies, grows or logs what it should not."""
    # As for Ctrl-C, so that no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from training.quiet import import_tensorflow

    import_tensorflow()
    from benchmarks import scratch

    ends = np.linspace(min(WARM_UP, requests // 5), requests, READINGS + 1, dtype=int).tolist()
    parts = [range(*bounds) for bounds in itertools.pairwise((0, *ends))]
    with scratch.served(scratch.MEAN) as (folder, server, _):
        log = folder / "gateway.log"
        with processes.gateway(server.target, [scratch.MEAN], log) as running:
            listening = next(json.loads(line) for line in log.read_text().splitlines() if '"listening"' in line)
            target = Target(running.url, f"127.0.0.1:{listening['grpc_port']}", scratch.MEAN, LAYER, log)
            pid = running.worker()
            findings, memory = [], []
            for numbers in [only] if only else parts:
                findings += attack(target, numbers, seed, clients=1 if only else CLIENTS)
                memory.append(processes.memory_mb(running.worker())["Rss"])
            alive = running.worker() == pid
        odd = list(oddities(log.read_bytes()))
    answers = sum((one.answers for one in findings), Counter[str]())
    faults = [fault for one in findings for fault in one.faults]
    for answer, count in sorted(answers.items()):
        print(f"{count:8} {answer}")
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    for at, text in odd[:20]:
        suspected = " ".join(f"--only {number}" for number in suspects(at, findings))
        print(f"one of --seed {seed} {suspected} left in the log:\n{text[:3000]}", file=sys.stderr)
    figures = [
        Figure("requests", answers.total(), ""),
        Figure("answers that say that the gateway failed", len(faults), "", at_most=0),
        Figure("errors, stack traces and lines other than JSON in the log", len(odd), "", at_most=0),
        Figure("workers that died", 0 if alive else 1, "", at_most=0),
        Figure("slowest answer", max(one.slowest_s for one in findings), "s"),
    ]
    if not only:
        figures += [
            Figure(f"memory of the worker after {part.stop} requests", mb, "MB")
            for part, mb in zip(parts, memory, strict=True)
        ]
        most = max(memory[1:]) / memory[0]
        figures.append(Figure("the greatest of them against the first", most, "times", at_most=1.05))
    report("fuzz", {"requests": requests, "seed": seed, "only": only}, figures)
    if not all(figure.reached in (True, None) for figure in figures):
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
