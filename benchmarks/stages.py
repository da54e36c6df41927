"""Where the gateway's processor time of a classify goes, stage by stage."""

import io
import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from typing import Annotated

import numpy as np
import typer
from werkzeug.test import EnvironBuilder, run_wsgi_app

from benchmarks import processes
from benchmarks.measuring import Figure, report
from benchmarks.processes import RunningGateway
from serving import logs
from serving.backend import ModelServer
from serving.catalog import ModelRef, model_spec
from serving.contract import images, signatures
from serving.deadline import Deadline
from serving.http.app import create_app
from serving.inference import Vision
from serving.settings import Settings

CLIENTS = 16
BLOCK = 20
"""Calls of one stage before the next one's turn; what else the machine does so hits all alike."""
TIMEOUT_S = 60


def stages(target: str, model: str, jpeg: bytes, calls: int) -> dict[str, float]:
    """Measure one thread's milliseconds of processor time for a classify and for its parts, without a web server.

    Returns:
        By part: `decode`, `resize` and the `call` of the model server; `core` (`Vision.classify`), which holds these;
        and `application` (WSGI, with routing, validation, headers and the log line), which holds the core.
    """
    settings = Settings(models=[model], model_server_target=target)
    server = ModelServer(target, settings.max_answer_bytes)
    vision = Vision(server, settings)
    application = create_app(vision, settings, Event())
    served = vision.describe(ModelRef(model), Deadline(TIMEOUT_S)).served
    assert served is not None
    height, width = served.card.input_height, served.card.input_width
    spec = model_spec(ModelRef(model, served.version))
    picture = images.decode(jpeg)
    pixels = images.resize(picture, height, width)[np.newaxis]
    path = f"/v1/models/{model}:classify"
    environ = EnvironBuilder(path, method="POST", data=jpeg, content_type="image/jpeg").get_environ()

    def whole() -> None:
        body, status, _ = run_wsgi_app(application, {**environ, "wsgi.input": io.BytesIO(jpeg)}, buffered=True)
        assert status.startswith("200"), b"".join(body)

    parts: dict[str, Callable[[], object]] = {
        "decode": lambda: images.decode(jpeg),
        "resize": lambda: images.resize(picture, height, width),
        "call": lambda: server.predict(
            spec, signatures.PREDICT, {signatures.IMAGES: pixels}, Deadline(settings.deadline_s)
        ),
        "core": lambda: vision.classify(ModelRef(model), [jpeg], None, Deadline(settings.deadline_s)),
        "application": whole,
    }
    try:
        with _log_to_nowhere(settings.log_level):
            return _processor_ms(parts, calls)
    finally:
        server.close()


def worker(running: RunningGateway, model: str, jpeg: bytes, calls: int, clients: int) -> float:
    """Return the milliseconds of processor time that a gateway's worker takes for a classify, with so many clients."""
    host, port = running.url.removeprefix("http://").split(":")

    def client(count: int) -> None:
        connection = HTTPConnection(host, int(port), timeout=TIMEOUT_S)
        for _ in range(count):
            connection.request("POST", f"/v1/models/{model}:classify", jpeg, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
        connection.close()

    def all_clients(count: int) -> None:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(client, [count] * clients))

    each = -(-calls // clients)
    all_clients(-(-BLOCK // clients))
    spent = processes.cpu_s(running.worker())
    all_clients(each)
    return 1000 * (processes.cpu_s(running.worker()) - spent) / (each * clients)


def figures(parts: Mapping[str, float], one: float, many: float) -> list[Figure]:
    """Tell what each stage takes, of the parts and of a whole worker with one client and with many."""
    core = parts["core"] - parts["decode"] - parts["resize"] - parts["call"]
    return [
        Figure("decode", parts["decode"], "ms"),
        Figure("resize", parts["resize"], "ms"),
        Figure("call of the model server", parts["call"], "ms"),
        Figure("rest of the core", core, "ms"),
        Figure("Flask, routing, validation, headers, log line", parts["application"] - parts["core"], "ms"),
        Figure("application in all", parts["application"], "ms"),
        Figure("gunicorn and sockets, one client", one - parts["application"], "ms"),
        Figure("worker in all, one client", one, "ms", at_most=3),
        Figure(f"worker in all, {CLIENTS} clients", many, "ms", at_most=3),
    ]


@contextmanager
def _log_to_nowhere(level: str) -> Iterator[None]:
    """Write log lines as the gateway does, but to nowhere."""
    root = logging.getLogger()
    before, handlers = root.level, root.handlers[:]
    with open(os.devnull, "w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(logs.JsonFormatter())
        root.handlers[:] = [handler]
        root.setLevel(level.upper())
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(before)


def _processor_ms(parts: Mapping[str, Callable[[], object]], calls: int) -> dict[str, float]:
    """Return the median over blocks, in turn, of the processor time of a call, in ms."""
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(1 + -(-calls // BLOCK)):
        for name, call in parts.items():
            spent = time.process_time()
            for _ in range(BLOCK):
                call()
            seconds[name].append(time.process_time() - spent)
    # The first block warms up.
    return {name: 1000 * float(np.median(blocks[1:])) / BLOCK for name, blocks in seconds.items()}


def _measure(target: str, model: str, jpeg: bytes, calls: int, folder: Path) -> list[Figure]:
    with processes.gateway(target, [model], folder / "gateway.log") as running:
        one, many = (worker(running, model, jpeg, calls, clients) for clients in (1, CLIENTS))
    return figures(stages(target, model, jpeg, calls), one, many)


def main(
    calls: Annotated[int, typer.Option(min=1, help="Calls of each stage.")] = 1000,
    model: Annotated[str, typer.Option(help="Recipe whose net is asked.")] = "scratch",
    server: Annotated[
        str | None, typer.Option(help="A running model server, host:port, that is asked instead, with its --model.")
    ] = None,
) -> None:
    """Measure where the gateway's processor time of a classify goes."""
    # As for Ctrl-C, so that no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from training.quiet import import_tensorflow

    import_tensorflow()
    from benchmarks import scratch

    jpeg = scratch.jpeg()
    if server is not None:
        with tempfile.TemporaryDirectory(prefix="fovea-benchmark-") as folder:
            found = _measure(server, model, jpeg, calls, Path(folder))
    else:
        with scratch.served(model) as (folder, started, _):
            found = _measure(started.target, model, jpeg, calls, folder)
    report("stages", {"calls": calls, "model": model, "server": server}, found)


if __name__ == "__main__":
    typer.run(main)
