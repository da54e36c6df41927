"""What a gateway answers when it is asked for several times of what it can answer."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import typer

from benchmarks import processes
from benchmarks.measuring import Figure, report

CLIENTS = 16
TIMES = (1, 2, 4)
PROBE_S = 0.1
OK, REFUSED = 200, 503
GOAL = 0.9
"""How much of the peak is to be left at the greatest load."""


@dataclass(frozen=True)
class Answer:
    """Status, and the seconds from the moment when the request was due."""

    status: int
    seconds: float


class _Connection(asyncio.Protocol):
    """A connection that sends one prepared request at a time; as little work an answer as Python allows."""

    def __init__(self) -> None:
        self._received = b""
        self._status: asyncio.Future[int]
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request; the future is its status, 0 where the connection broke."""
        self._status = asyncio.get_running_loop().create_future()
        if self.closed:
            self._status.set_result(0)
        else:
            self._transport.write(request)
        return self._status

    @property
    def closed(self) -> bool:
        """Whether no more can be asked."""
        return self._transport.is_closing()

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._received = b""
            if b"\r\nconnection: close" in head.lower():
                self._transport.close()
            self._status.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        """End the wait for an answer that will not come."""
        if not self._status.done():
            self._status.set_result(0)


class Load:
    """Asks one gateway for one picture, again and again."""

    def __init__(self, url: str, model: str, jpeg: bytes) -> None:
        self._url = url
        self._host, port = urlsplit(url).netloc.split(":")
        self._port = int(port)
        self._request = (
            f"POST /v1/models/{model}:classify HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        ).encode() + jpeg

    def closed(self, clients: int, seconds: float) -> list[Answer]:
        """Let clients ask at once whenever they are answered."""
        return asyncio.run(self._closed(clients, seconds))

    def open(self, rate: float, seconds: float) -> tuple[list[Answer], list[float]]:
        """Ask so many times a second, whatever comes back; return the seconds that probes of /healthz took as well."""
        return asyncio.run(self._open(rate, seconds))

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(_Connection, self._host, self._port))[1]

    async def _closed(self, clients: int, seconds: float) -> list[Answer]:
        answers, end = [], time.perf_counter() + seconds

        async def client() -> None:
            connection = await self._connect()
            while (started := time.perf_counter()) < end:
                if connection.closed:
                    connection = await self._connect()
                answers.append(Answer(await connection.ask(self._request), time.perf_counter() - started))

        await asyncio.gather(*(client() for _ in range(clients)))
        return answers

    async def _open(self, rate: float, seconds: float) -> tuple[list[Answer], list[float]]:
        answers: list[Answer] = []
        probes: list[float] = []
        idle: list[_Connection] = []

        async def ask(due: float) -> None:
            connection = idle.pop() if idle else await self._connect()
            answers.append(Answer(await connection.ask(self._request), time.perf_counter() - due))
            if not connection.closed:
                idle.append(connection)

        async def probe() -> None:
            async with httpx.AsyncClient(timeout=seconds, trust_env=False) as http:
                while True:
                    started = time.perf_counter()
                    (await http.get(f"{self._url}/healthz")).raise_for_status()
                    probes.append(time.perf_counter() - started)
                    await asyncio.sleep(PROBE_S)

        probing = asyncio.create_task(probe())
        asked = await _pace(ask, rate, seconds)
        await asyncio.wait(asked)
        probing.cancel()
        return answers, probes


async def _pace(ask: Callable[[float], Coroutine], rate: float, seconds: float) -> list[asyncio.Task]:
    """Begin what is due, for so many seconds."""
    tasks: list[asyncio.Task] = []
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        while len(tasks) < passed * rate:
            tasks.append(asyncio.create_task(ask(started + len(tasks) / rate)))
        await asyncio.sleep(0.001)
    return tasks


def overload(load: Load, seconds: float, rounds: int) -> list[Figure]:
    """Measure the peak by clients that wait for their answers, and what is left of it at multiples of that rate.

    Peak and multiples take turns, so that what else the machine does hits all alike.
    """
    peaks: list[float] = []
    kept: dict[int, list[float]] = {times: [] for times in TIMES}
    answers: dict[int, list[Answer]] = {times: [] for times in TIMES}
    probes: dict[int, list[float]] = {times: [] for times in TIMES}
    load.closed(CLIENTS, 1)
    for _ in range(rounds):
        peaks.append(_good(load.closed(CLIENTS, seconds)) / seconds)
        for times in TIMES:
            answered, probed = load.open(times * peaks[-1], seconds)
            kept[times].append(_good(answered) / seconds / peaks[-1])
            answers[times] += answered
            probes[times] += probed
    figures = [Figure(f"peak, {CLIENTS} clients, median", float(np.median(peaks)), "/s")]
    for times in TIMES:
        share, goal = float(np.median(kept[times])), GOAL if times == max(TIMES) else None
        figures += [
            Figure(f"answered at {times} times the peak", share, "of the peak", at_least=goal),
            _percentile(f"at {times} times: answered, 99th percentile", _seconds(answers[times], OK)),
            _percentile(f"at {times} times: refused, 99th percentile", _seconds(answers[times], REFUSED)),
            _percentile(f"at {times} times: /healthz, 99th percentile", probes[times]),
        ]
    others = sum(answer.status not in (OK, REFUSED) for several in answers.values() for answer in several)
    return [*figures, Figure("neither answered nor refused", others, "requests", at_most=0)]


def _good(answers: list[Answer]) -> int:
    return sum(answer.status == OK for answer in answers)


def _seconds(answers: list[Answer], status: int) -> list[float]:
    return [answer.seconds for answer in answers if answer.status == status]


def _percentile(what: str, seconds: list[float]) -> Figure:
    return Figure(what, 1000 * float(np.percentile(seconds or [0.0], 99)), "ms")


def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds of each load.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="How often each load takes its turn.")] = 3,
) -> None:
    """Measure what a gateway in front of the scratch net answers under too much load."""
    # As for Ctrl-C, so that no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from training.quiet import import_tensorflow

    import_tensorflow()
    from benchmarks import scratch

    with (
        scratch.served(scratch.NAME) as (folder, server, _),
        processes.gateway(server.target, [scratch.NAME], folder / "gateway.log") as running,
    ):
        figures = overload(Load(running.url, scratch.NAME, scratch.jpeg()), seconds, rounds)
    report("overload", {"seconds": seconds, "rounds": rounds}, figures)


if __name__ == "__main__":
    typer.run(main)
