"""What the gateway costs: time to start, memory, and the time it adds to a Predict of the model server."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer

from benchmarks import direct, processes
from benchmarks.measuring import WARM_UP_CALLS, Figure, interleave, median_ms, report
from benchmarks.processes import RunningGateway
from serving.contract import images, signatures

MEMORY_CALLS = 1000
CLIENTS = 8
TIMEOUT_S = 60


def start(target: str, model: str, folder: Path, repeats: int) -> list[Figure]:
    """Start a gateway `repeats` times; the first start may have to read files from the disk."""
    seconds, cpu = [], []
    for _ in range(repeats):
        with processes.gateway(target, [model], folder / "gateway.log") as running:
            seconds.append(running.start_s)
            cpu.append(processes.cpu_s(running.pid, running.worker()))
    return [
        Figure("start to first answered /healthz, median", float(np.median(seconds)), "s", at_most=1.5),
        Figure("start to first answered /healthz, first", seconds[0], "s"),
        Figure("start to first answered /healthz, longest", max(seconds), "s"),
        Figure("processor time of a start, median", float(np.median(cpu)), "s"),
    ]


def added_time(running: RunningGateway, target: str, model: str, jpeg: bytes, calls: int) -> list[Figure]:
    """Compare classify of a JPEG through the gateway with a direct Predict of the same pixels, one client.

    The other contenders show what the difference consists of: decoding and resizing, done here by the gateway's
    own functions, and an HTTP request that does nothing.
    """
    with direct.predictor(target, model) as prepare, _client(running) as http:
        height, width = _input_size(http, model)

        def pixels() -> np.ndarray:
            return images.resize(images.decode(jpeg), height, width)

        contenders: dict[str, Callable[[], object]] = {
            "classify": lambda: _classify(http, model, jpeg),
            "predict": prepare(signatures.PREDICT, {signatures.IMAGES: pixels()[np.newaxis]}),
            "pixels": pixels,
            "healthz": lambda: http.get("/healthz").raise_for_status(),
        }
        seconds = interleave(contenders, calls)
    added = 1000 * float(np.median(seconds["classify"] - seconds["predict"]))
    return [
        Figure("classify through the gateway minus direct Predict, median", added, "ms", at_most=4),
        median_ms("classify through the gateway", seconds["classify"]),
        median_ms("direct Predict", seconds["predict"]),
        median_ms("decode and resize alone", seconds["pixels"]),
        median_ms("/healthz", seconds["healthz"]),
    ]


def memory(running: RunningGateway, model: str, jpeg: bytes, calls: int) -> list[Figure]:
    """Read the worker's memory after `calls` classify calls of one client, and after as many of several at a time."""
    with _client(running) as http:
        cpu = processes.cpu_s(running.worker())
        for _ in range(calls):
            _classify(http, model, jpeg)
        cpu = processes.cpu_s(running.worker()) - cpu
        one = processes.memory_mb(running.worker())
        with ThreadPoolExecutor(CLIENTS) as clients:
            for _ in clients.map(lambda _: _classify(http, model, jpeg), range(calls)):
                pass
        many = processes.memory_mb(running.worker())
    return [
        Figure(f"worker's memory (RSS) after {calls} calls", one["Rss"], "MB", at_most=120),
        Figure("worker's memory, shared pages by share (PSS)", one["Pss"], "MB"),
        Figure(f"RSS after {calls} more by {CLIENTS} clients at a time", many["Rss"], "MB"),
        Figure("worker's processor time a classify call, mean", 1000 * cpu / calls, "ms"),
    ]


def _client(running: RunningGateway) -> httpx.Client:
    return httpx.Client(base_url=running.url, timeout=TIMEOUT_S, trust_env=False)


def _classify(http: httpx.Client, model: str, jpeg: bytes) -> None:
    path = f"/v1/models/{model}:classify"
    http.post(path, content=jpeg, headers={"Content-Type": "image/jpeg"}).raise_for_status()


def _input_size(http: httpx.Client, model: str) -> tuple[int, int]:
    """Return height and width of the pictures that a model takes."""
    card = http.get(f"/v1/models/{model}").raise_for_status().json()
    return card["input_height"], card["input_width"]


def main(
    calls: Annotated[int, typer.Option(min=1, help="Timed calls of each contender.")] = 500,
    repeats: Annotated[int, typer.Option(min=1, help="Starts of the gateway.")] = 5,
    memory_calls: Annotated[int, typer.Option(min=1, help="Calls before memory is read.")] = MEMORY_CALLS,
) -> None:
    """Measure start, memory and added time of a gateway in front of the scratch net."""
    # As for Ctrl-C, so that no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from training.quiet import import_tensorflow

    import_tensorflow()
    from benchmarks import scratch

    jpeg = scratch.jpeg()
    with scratch.served(scratch.NAME) as (folder, server, _):
        figures = start(server.target, scratch.NAME, folder, repeats)
        with processes.gateway(server.target, [scratch.NAME], folder / "gateway.log") as running:
            figures += memory(running, scratch.NAME, jpeg, memory_calls)
            figures += added_time(running, server.target, scratch.NAME, jpeg, calls)
    options = {"calls": calls, "repeats": repeats, "memory_calls": memory_calls, "warm_up_calls": WARM_UP_CALLS}
    report("gateway", options, figures)


if __name__ == "__main__":
    typer.run(main)
