"""The gateway beside others that serve the same net: requests a second, latency, processor time, memory, start.

All contenders run on this machine, on the loopback address, with the same weights, and decode and resize the same
pictures in the same way. They take turns, so that what else the machine does hits all alike.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import orjson
import typer

from benchmarks import load, processes
from benchmarks.load import Outcome
from benchmarks.measuring import Figure, report
from benchmarks.processes import REPOSITORY, RunningGateway, RunningModelServer
from serving import tensors, wire
from serving.contract import images, signatures

RIVALS = REPOSITORY / ".venv" / "rivals" / "bin"
PICTURES = 200
MOST_BYTES = 60_000
SIZE = (150, 150)
SCRATCH, MEAN = "scratch", "mean"
MODEL_SERVER_FLAGS = ("--enable_batching", "--grpc_max_threads=64", "--tensorflow_inter_op_parallelism=-1")
"""Batching as in a cluster; by default, calls beyond four for each core are refused. The nets' ops are a chain."""
PREDICT = "/tensorflow.serving.PredictionService/Predict"
WARM_UP_S = 1.0
TOLERANCE = 1e-3
GATEWAY = "gateway"
DIRECT = "model server alone"
FLASK, LITSERVE, BENTOML = "Flask + model.predict", "LitServe", "BentoML"
GOALS: dict[tuple[str, str], float] = {
    (SCRATCH, FLASK): 8,
    (SCRATCH, LITSERVE): 1.05,
    (SCRATCH, BENTOML): 1.25,
    (SCRATCH, DIRECT): 0.85,
    (MEAN, LITSERVE): 1.6,
    (MEAN, BENTOML): 2.5,
}
"""Least ratio of what the gateway answers to what another does, by model and name."""


class Contender:
    """A server that runs, and how it is asked over HTTP."""

    def __init__(
        self,
        port: int,
        requests: Sequence[bytes],
        read: Callable[[bytes], float],
        pids: Callable[[], list[int]],
        behind: Sequence[int] = (),
    ) -> None:
        """Note how to ask.

        Args:
            port: of the loopback address.
            requests: one of each picture.
            read: reads the probability of the second class from the body of an answer.
            pids: gives its processes.
            behind: processes of the model server that it asks.
        """
        self._port = port
        self._requests = requests
        self._read = read
        self._pids = pids
        self._behind = behind

    def cpu_s(self) -> np.ndarray:
        """Return the processor time that it has used, and that the model server behind it has."""
        return np.array([processes.cpu_s(*self._pids()), processes.cpu_s(*self._behind)])

    def probability(self) -> float:
        """Ask for the first picture once."""
        return self._read(load.ask(self._port, self._requests[0]))

    def closed(self, clients: int, seconds: float) -> Outcome:
        """Measure what it answers."""
        return load.closed(self._port, self._requests, clients, seconds)

    def half(self, rate: float, seconds: float, seed: int) -> Outcome | None:
        """Measure how long requests wait that come at half of a rate."""
        return load.open_loop(self._port, self._requests, rate / 2, seconds, seed) if rate else None


class DirectContender(Contender):
    """The model server, asked over gRPC for pictures that were resized beforehand."""

    def __init__(self, server: RunningModelServer, messages: Sequence[bytes]) -> None:
        super().__init__(0, messages, _read_probabilities, lambda: [server.pid])
        self._target = server.target

    def probability(self) -> float:
        """Ask for the first picture once."""
        with grpc.insecure_channel(self._target, [("grpc.enable_http_proxy", 0)]) as channel:
            return self._read(channel.unary_unary(PREDICT, None, None)(self._requests[0], timeout=load.TIMEOUT_S))

    def closed(self, clients: int, seconds: float) -> Outcome:
        """Measure what it answers."""
        return load.closed_calls(self._target, PREDICT, self._requests, clients, seconds)

    def half(self, rate: float, seconds: float, seed: int) -> Outcome | None:
        """Measure nothing: it is no contender that decodes pictures."""
        return None


@dataclass(frozen=True)
class Turns:
    """What a contender answered in all its turns."""

    closed: list[Outcome]
    half: list[Outcome]
    cpu_s: np.ndarray
    """Processor time in the closed loop, of its own processes and of the model server behind it, float64 [2]."""

    @property
    def rate(self) -> float:
        """Median of the turns' rates in the closed loop."""
        return float(np.median([outcome.rate for outcome in self.closed]))

    @property
    def errors(self) -> int:
        """Failed requests of all turns."""
        return sum(outcome.errors for outcome in [*self.closed, *self.half])


def take_turns(contenders: Mapping[str, Contender], clients: int, seconds: float, rounds: int) -> dict[str, Turns]:
    """Ask the contenders in turn: first in a closed loop, then in an open one at half of each one's own peak."""
    for contender in contenders.values():
        contender.closed(clients, min(seconds, WARM_UP_S))
    closed: dict[str, list[Outcome]] = {name: [] for name in contenders}
    half: dict[str, list[Outcome]] = {name: [] for name in contenders}
    cpu = {name: np.zeros(2) for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            before = contender.cpu_s()
            outcome = contender.closed(clients, seconds)
            spent = contender.cpu_s() - before
            closed[name].append(outcome)
            cpu[name] += spent
            _say(f"  {number + 1} {name}: {outcome.rate:.1f} a second, {_each_ms(spent.sum(), [outcome]):.2f} ms each")
    for number in range(rounds):
        for name, contender in contenders.items():
            peak = float(np.median([outcome.rate for outcome in closed[name]]))
            if (waits := contender.half(peak, seconds, number)) is not None:
                half[name].append(waits)
                _say(f"  {number + 1} {name}: 99 % within {waits.percentile_ms(99):.0f} ms at {peak / 2:.1f} a second")
    return {name: Turns(closed[name], half[name], cpu[name]) for name in contenders}


def compare(model: str, turns: Mapping[str, Turns]) -> list[Figure]:
    """Write what the contenders answered as figures, with what the gateway should reach."""
    figures = [Figure(f"{model}: {name}, answers", row.rate, "a second") for name, row in turns.items()]
    figures += [
        Figure(
            f"{model}: {GATEWAY} against {name}",
            turns[GATEWAY].rate / row.rate if row.rate else float("inf"),
            "times",
            at_least=GOALS.get((model, name)),
        )
        for name, row in turns.items()
        if name != GATEWAY
    ]
    waits = {name: load.merge(row.half).percentile_ms(99) for name, row in turns.items() if row.half}
    best = min((wait for name, wait in waits.items() if name != GATEWAY), default=None)
    figures += [
        Figure(
            f"{model}: {name}, 99th percentile at half of its peak",
            wait,
            "ms",
            at_most=best if name == GATEWAY and best is not None and np.isfinite(best) else None,
        )
        for name, wait in waits.items()
    ]
    figures += [Figure(f"{model}: {name}, failed requests", row.errors, "") for name, row in turns.items()]
    costs = {name: _each_ms(row.cpu_s.sum(), row.closed) for name, row in turns.items()}
    figures += [Figure(f"{model}: {name}, processor time a request", cost, "ms") for name, cost in costs.items()]
    figures += [
        Figure(f"{model}: processor time of {name} against the gateway's", cost / costs[GATEWAY], "times")
        for name, cost in costs.items()
        if name != GATEWAY and costs[GATEWAY]
    ]
    own = turns[GATEWAY]
    own_ms = _each_ms(own.cpu_s[0], own.closed)
    figures.append(Figure(f"{model}: gateway's own processor time, a classify", own_ms, "ms", at_most=3))
    spent = sum(outcome.cpu_s for outcome in own.closed)
    figures.append(Figure(f"{model}: processor time of the load, a request", _each_ms(spent, own.closed), "ms"))
    return figures


def start(target: str, models: Sequence[str], folder: Path, repeats: int) -> Figure:
    """Measure the seconds from the start of a gateway to its being ready, in front of a model server that runs."""
    seconds = []
    for _ in range(repeats):
        with processes.gateway(target, models, folder / "gateway-start.log") as running:
            healthy = time.perf_counter()
            with httpx.Client(timeout=load.TIMEOUT_S, trust_env=False) as http:
                while http.get(f"{running.url}/readyz").status_code != httpx.codes.OK:
                    time.sleep(processes.POLL_S)
            seconds.append(running.start_s + time.perf_counter() - healthy)
    return Figure("start to ready, median", float(np.median(seconds)), "s", at_most=1.5)


def memory(target: str, model: str, pictures: Sequence[bytes], folder: Path, clients: int, calls: int) -> list[Figure]:
    """Compare the memory of a gateway's one worker after `calls` requests with that after 1,000."""
    first = min(1000, calls)
    with processes.gateway(target, [model], folder / "gateway-memory.log") as running:
        requests, port = _plain(f"/v1/models/{model}:classify", pictures), _port(running)
        load.closed(port, requests, clients, np.inf, first)
        before = processes.memory_mb(running.worker())["Rss"]
        outcome = load.closed(port, requests, clients, np.inf, max(1, calls - first))
        after = processes.memory_mb(running.worker())["Rss"]
    return [
        Figure(f"worker's memory (RSS) after {first} requests", before, "MB"),
        Figure(f"worker's memory (RSS) after {calls} requests", after, "MB"),
        Figure("growth of memory between them", 100 * (after / before - 1), "%", at_most=5),
        Figure("failed requests meanwhile", outcome.errors, ""),
    ]


def _say(what: str) -> None:
    print(what, flush=True)


def _each_ms(seconds: float, outcomes: Sequence[Outcome]) -> float:
    return 1000 * seconds / max(1, sum(len(outcome.latencies) for outcome in outcomes))


# How each contender is started and asked.


@dataclass(frozen=True)
class Case:
    """A model, in every form that a contender takes, and what it is asked."""

    model: str
    net: Path
    """File of the Keras model."""
    server: RunningModelServer
    size: tuple[int, int]
    """Height and width of the pictures that the model takes."""
    pictures: Sequence[bytes]
    folder: Path
    """For logs."""


Started = AbstractContextManager[Contender]


@contextmanager
def gateway(case: Case, workers: int) -> Iterator[Contender]:
    """Run the gateway in front of the model server."""
    settings = {"FOVEA_WORKERS": str(workers)}
    with processes.gateway(case.server.target, [case.model], case.folder / "gateway.log", settings) as running:
        requests = _plain(f"/v1/models/{case.model}:classify", case.pictures)
        yield Contender(_port(running), requests, _read_classification, running.workers, [case.server.pid])


@contextmanager
def direct(case: Case) -> Iterator[Contender]:
    """Resize the pictures, and write the messages for the model server."""
    messages = []
    for picture in case.pictures:
        request = wire.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = case.model, signatures.PREDICT
        pixels = images.resize(images.decode(picture), *case.size)
        request.inputs[signatures.IMAGES].CopyFrom(tensors.to_proto(pixels[np.newaxis]))
        messages.append(request.SerializeToString())
    yield DirectContender(case.server, messages)


def flask(case: Case, workers: int) -> Started:
    """Run Flask behind gunicorn, with `workers` processes of four threads each."""
    app = "benchmarks.rivals.flask_predict:app"

    def command(port: int) -> list[str]:
        options = ["--workers", str(workers), "--threads", "4", "--bind", f"127.0.0.1:{port}", "--timeout", "120"]
        return [sys.executable, "-m", "gunicorn", *options, app]

    return _rival(case, FLASK, command, _plain("/classify", case.pictures))


def litserve(case: Case, workers: int, batch_size: int = 16, batch_timeout_s: float = 0.005) -> Started:
    """Run LitServe."""

    def command(port: int) -> list[str]:
        options = [str(port), str(workers), str(batch_size), str(batch_timeout_s)]
        return [str(RIVALS / "python"), "-m", "benchmarks.rivals.litserve_api", *options]

    return _rival(case, LITSERVE, command, _forms("/predict", "file", case.pictures))


def bentoml(case: Case, workers: int) -> Started:
    """Run BentoML."""

    def command(port: int) -> list[str]:
        service = "benchmarks.rivals.bentoml_service:Classifier"
        return [str(RIVALS / "bentoml"), "serve", service, "--host", "127.0.0.1", "--port", str(port)]

    return _rival(case, BENTOML, command, _forms("/classify", "images", case.pictures), workers)


@contextmanager
def _rival(
    case: Case, name: str, command: Callable[[int], list[str]], requests: Sequence[bytes], workers: int = 1
) -> Iterator[Contender]:
    port = processes.free_port()
    environment = {
        "RIVAL_NET": str(case.net),
        "RIVAL_WORKERS": str(workers),
        "PYTHONPATH": str(REPOSITORY),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "BENTOML_DO_NOT_TRACK": "true",
    }
    with processes.http_server(command(port), environment, port, "/", case.folder / f"{name.split()[0]}.log") as pid:
        yield Contender(port, requests, _read_plain, lambda: processes.family(pid))


def _read_classification(body: bytes) -> float:
    (row,) = orjson.loads(body)["classifications"]
    return next(item["score"] for item in row["top_k"] if item["class_index"] == 1)


def _read_probabilities(message: bytes) -> float:
    return float(tensors.from_proto(wire.PredictResponse.FromString(message).outputs[signatures.PROBABILITIES])[0, 1])


def _read_plain(body: bytes) -> float:
    """Read `{"probability": p}` or `[p]`."""
    answer = orjson.loads(body)
    return answer[0] if isinstance(answer, list) else answer["probability"]


def _plain(path: str, pictures: Sequence[bytes]) -> list[bytes]:
    return [load.post(path, "image/jpeg", picture) for picture in pictures]


def _forms(path: str, field: str, pictures: Sequence[bytes]) -> list[bytes]:
    requests = []
    for picture in pictures:
        form = httpx.Request("POST", "http://localhost", files={field: ("picture.jpg", picture, "image/jpeg")})
        requests.append(load.post(path, form.headers["Content-Type"], form.read()))
    return requests


def _port(running: RunningGateway) -> int:
    port = urlsplit(running.url).port
    assert port is not None
    return port


def check_same(contenders: Mapping[str, Contender]) -> None:
    """Check that all answer the same probability for the first picture.

    Raises:
        RuntimeError: one does not.
    """
    found = {name: contender.probability() for name, contender in contenders.items()}
    if max(found.values()) - min(found.values()) > TOLERANCE:
        raise RuntimeError(f"the contenders do not serve the same net: {found}")


def read_pictures(folder: Path) -> list[bytes]:
    """Read the first pictures of a folder by name, JPEG, of up to 60 kB each."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    return [path.read_bytes() for path in files if path.stat().st_size <= MOST_BYTES][:PICTURES]


def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of a turn.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contender in each loop.")] = 3,
    clients: Annotated[int, typer.Option(min=1, help="Clients of the closed loop.")] = 16,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the gateway, LitServe and BentoML each.")] = 2,
    starts: Annotated[int, typer.Option(min=0, help="Starts of the gateway; 0: none.")] = 5,
    memory_calls: Annotated[
        int, typer.Option(min=0, help="Requests before memory is read a second time; 0: not at all.")
    ] = 50_000,
    pictures: Annotated[Path | None, typer.Option(help="Folder of JPEGs to send; without, they are drawn.")] = None,
    others: Annotated[bool, typer.Option(help="Measure the rivals too; `make rivals` installs them.")] = True,
) -> None:
    """Compare the gateway with others that serve the same net."""
    # As for Ctrl-C, so that no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if others and not (RIVALS / "python").exists():
        raise SystemExit("LitServe and BentoML are not installed; run `make rivals`, or give --no-others")
    from training.quiet import import_tensorflow

    import_tensorflow()
    from benchmarks import scratch

    _say("preparing nets and pictures")
    sent = read_pictures(pictures) if pictures else [scratch.jpeg(number) for number in range(PICTURES)]
    if not sent:
        raise SystemExit(f"{pictures} holds no JPEG of up to {MOST_BYTES} bytes")
    figures = []
    with scratch.served(SCRATCH, MEAN, flags=MODEL_SERVER_FLAGS) as (folder, server, nets):
        for model, net in nets.items():
            net.save(folder / f"{model}.keras")
        for model in nets:
            _say(model)
            case = Case(model, folder / f"{model}.keras", server, SIZE, sent, folder)
            figures += compare(model, _measure(case, clients, seconds, rounds, workers, others))
        if starts:
            _say(f"start of the gateway, {starts} times")
            figures.append(start(server.target, [SCRATCH], folder, starts))
        if memory_calls:
            _say(f"memory of its worker over {memory_calls} requests")
            figures += memory(server.target, MEAN, sent, folder, clients, memory_calls)
    options = {"seconds": seconds, "rounds": rounds, "clients": clients, "workers": workers, "starts": starts}
    report("serving", options | {"memory_calls": memory_calls, "pictures": len(sent)}, figures)


def _measure(case: Case, clients: int, seconds: float, rounds: int, workers: int, others: bool) -> dict[str, Turns]:
    """Start all contenders, check that they agree, and let them take turns."""
    started: dict[str, Started] = {GATEWAY: gateway(case, workers), DIRECT: direct(case)}
    if others:
        started |= {LITSERVE: litserve(case, workers), BENTOML: bentoml(case, workers)}
        if case.model == SCRATCH:
            started[FLASK] = flask(case, workers)
    with ExitStack() as stack:
        contenders = {}
        for name, contender in started.items():
            _say(f"  starting {name}")
            contenders[name] = stack.enter_context(contender)
        check_same(contenders)
        return take_turns(contenders, clients, seconds, rounds)


if __name__ == "__main__":
    typer.run(main)
