"""What a picture costs: processor time of gateway and model server, by batch size, and the processors for a load."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import httpx
import numpy as np
import typer

from benchmarks import direct, processes
from benchmarks.measuring import Figure, report
from benchmarks.processes import RunningGateway, RunningModelServer
from serving import tensors
from serving.contract import card as model_card
from serving.contract import signatures

BATCHES = (1, 4, 16, 32)
CALLS_AT_ONCE = 4
"""As many as TensorFlow Serving works on here: `num_batch_threads` of k8s/base/model-server/batching.config."""
WARM_UP_CALLS = 10
SECONDS_AN_HOUR = 3600
TIMEOUT_S = 60


def cost(running: RunningGateway, server: RunningModelServer, model: str, jpeg: bytes, calls: int) -> list[Figure]:
    """Measure the processor time of requests through a gateway, one client, one picture each.

    Processor time, unlike the time that passes, hardly depends on what else the machine does.
    """
    figures = []
    with httpx.Client(base_url=running.url, timeout=TIMEOUT_S, trust_env=False) as http:

        def post(path: str, accept: str) -> Callable[[], object]:
            headers = {"Content-Type": "image/jpeg", "Accept": accept}
            return lambda: http.post(f"/v1/models/{model}{path}", content=jpeg, headers=headers).raise_for_status()

        for what, call in (
            ("classify", post(":classify", "application/json")),
            ("Grad-CAM as JSON", post("/explain/grad-cam", "application/json")),
            ("Grad-CAM as PNG", post("/explain/grad-cam", "image/png")),
        ):
            gateway_ms, server_ms = _processor_ms(call, calls, running.worker(), server.pid)
            figures += [
                Figure(f"gateway, {what}", gateway_ms, "ms"),
                Figure(f"model server, {what}", server_ms, "ms"),
            ]
    return figures


def batching(server: RunningModelServer, model: str, calls: int) -> list[Figure]:
    """Measure the model server's processor time for a picture, by the number of pictures in a call."""
    figures = []
    with direct.predictor(server.target, model) as prepare:
        pictures = _pictures(prepare, max(BATCHES))
        for what, signature, inputs in _signatures():
            for size in BATCHES:
                call = prepare(signature, inputs(pictures[:size]))
                (milliseconds,) = _processor_ms(call, max(1, calls // size), server.pid)
                figures.append(Figure(f"model server, {what}, {size} a call, a picture", milliseconds / size, "ms"))
    return figures


def throughput(target: str, model: str, calls: int) -> list[Figure]:
    """Measure how many pictures a second a model server answers, `CALLS_AT_ONCE` calls at a time."""
    figures = []
    with direct.predictor(target, model) as prepare, ThreadPoolExecutor(CALLS_AT_ONCE) as clients:
        pictures = _pictures(prepare, max(BATCHES))
        for what, signature, inputs in _signatures():
            for size in BATCHES:
                call = prepare(signature, inputs(pictures[:size]))
                rounds = max(CALLS_AT_ONCE, calls // size)
                list(clients.map(lambda _, call=call: call(), range(CALLS_AT_ONCE)))
                started = time.perf_counter()
                list(clients.map(lambda _, call=call: call(), range(rounds)))
                rate = rounds * size / (time.perf_counter() - started)
                figures.append(Figure(f"model server, {what}, {size} a call", rate, "pictures/s"))
    return figures


def processors(figures: list[Figure], load: int, utilisation: float) -> list[Figure]:
    """Compute the processors that a load takes, of measured costs.

    Args:
        figures: those of `cost` and `batching`.
        load: pictures an hour.
        utilisation: share of the processors that may be busy, 0..1; what is left keeps waiting times short.
    """
    rate = load / SECONDS_AN_HOUR
    return [
        Figure(f"{load} pictures an hour", rate, "a second"),
        *(
            Figure(f"for them: {figure.what}", rate * figure.value / 1000 / utilisation, "processors")
            for figure in figures
        ),
    ]


def _signatures() -> list[tuple[str, str, Callable[[np.ndarray], dict[str, np.ndarray]]]]:
    def alone(pictures: np.ndarray) -> dict[str, np.ndarray]:
        return {signatures.IMAGES: pictures}

    def with_class(pictures: np.ndarray) -> dict[str, np.ndarray]:
        return alone(pictures) | {signatures.CLASS_INDEX: np.full(len(pictures), signatures.PREDICTED_CLASS, np.int32)}

    return [("classify", signatures.PREDICT, alone), ("Grad-CAM", signatures.GRAD_CAM, with_class)]


def _pictures(prepare: Callable[..., direct.Call], count: int) -> np.ndarray:
    """Make noise of the size that the model's card asks for, uint8 [count, h, w, 3]."""
    answer = prepare(signatures.MODEL_CARD, {signatures.QUERY: np.array([b""], object)})()
    card = model_card.from_json(tensors.from_proto(answer.outputs[signatures.CARD])[0])
    size = (count, card.input_height, card.input_width, 3)
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


def _processor_ms(call: Callable[[], object], calls: int, *pids: int) -> list[float]:
    """Return the milliseconds of processor time that each process spends on a call, on average."""
    for _ in range(min(WARM_UP_CALLS, calls)):
        call()
    before = [processes.cpu_s(pid) for pid in pids]
    for _ in range(calls):
        call()
    return [1000 * (processes.cpu_s(pid) - spent) / calls for pid, spent in zip(pids, before, strict=True)]


def main(
    calls: Annotated[int, typer.Option(min=1, help="Pictures in each measurement.")] = 1000,
    load: Annotated[int, typer.Option(min=1, help="Pictures an hour to compute for.")] = 1_000_000,
    utilisation: Annotated[float, typer.Option(min=0.05, max=1, help="Share of the processors to be busy.")] = 0.6,
    model: Annotated[
        str, typer.Option(help="Recipe whose net is measured: scratch or feature_extraction.")
    ] = "scratch",
    server: Annotated[
        str | None, typer.Option(help="A running model server, host:port, that is measured instead, with its --model.")
    ] = None,
) -> None:
    """Measure what a net costs, and compute what a load takes; or how fast a running model server is."""
    options = {"calls": calls, "load": load, "utilisation": utilisation, "model": model}
    if server is not None:
        report("capacity-server", options, throughput(server, model, calls))
        return
    # As for Ctrl-C, so that no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from training.quiet import import_tensorflow

    import_tensorflow()
    from benchmarks import scratch

    jpeg = scratch.jpeg()
    with (
        scratch.served(model) as (folder, started, _),
        processes.gateway(started.target, [model], folder / "gateway.log") as running,
    ):
        figures = cost(running, started, model, jpeg, calls) + batching(started, model, calls)
        speed = throughput(started.target, model, calls)
    sizes = [Figure("picture sent by the client", len(jpeg) / 1000, "kB")]
    report(f"capacity-{model}", options, [*sizes, *figures, *speed, *processors(figures, load, utilisation)])


if __name__ == "__main__":
    typer.run(main)
