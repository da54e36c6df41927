"""Load at little cost in processor time: requests are written beforehand, answers read no further than needed.

A closed loop asks again as soon as it is answered, and measures what can be answered. An open loop asks at moments
that do not depend on the answers, as many independent clients would, and measures how long they wait.
"""

import itertools
import select
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPResponse

import grpc
import numpy as np

TIMEOUT_S = 30.0
MOST_CONNECTIONS = 256
OK = 200
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Outcome:
    """What came of a load."""

    latencies: np.ndarray
    """Seconds of each answer with status 200 from the moment when its request was due, float64 [N]."""
    seconds: float
    """How long requests were sent."""
    in_time: int
    """How many of these answers came within that."""
    failed: Mapping[int, np.ndarray]
    """The same of each request that was answered otherwise, by status; 0 where no answer came."""
    cpu_s: float
    """Processor time that the load itself took."""

    @property
    def errors(self) -> int:
        """How many requests were answered otherwise, or not at all."""
        return sum(map(len, self.failed.values()))

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.in_time / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latencies in milliseconds; infinite where requests failed beyond it."""
        failed = np.full(self.errors, np.inf)
        return 1000 * float(np.percentile(np.concatenate([self.latencies, failed]), percent, method="higher"))


def merge(outcomes: Sequence[Outcome]) -> Outcome:
    """Put the outcomes of several rounds together."""
    statuses = {status for outcome in outcomes for status in outcome.failed}
    return Outcome(
        np.concatenate([outcome.latencies for outcome in outcomes]),
        sum(outcome.seconds for outcome in outcomes),
        sum(outcome.in_time for outcome in outcomes),
        {
            status: np.concatenate([outcome.failed[status] for outcome in outcomes if status in outcome.failed])
            for status in statuses
        },
        sum(outcome.cpu_s for outcome in outcomes),
    )


def post(path: str, content_type: str, body: bytes) -> bytes:
    """Write an HTTP/1.1 request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def ask(port: int, request: bytes) -> bytes:
    """Send one request, and return the body of its answer.

    Raises:
        RuntimeError: the status is not 200.
    """
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(request)
        answer = HTTPResponse(connection)
        answer.begin()
        body = answer.read()
    if answer.status != OK:
        raise RuntimeError(f"answered {answer.status}: {body.decode(errors='replace')[:500]}")
    return body


def closed(port: int, requests: Sequence[bytes], clients: int, seconds: float, calls: int | None = None) -> Outcome:
    """Let clients ask whenever they are answered.

    Args:
        port: of the loopback address, where HTTP/1.1 is spoken.
        requests: whole requests of up to 64 kB, sent in turn.
        clients: connections.
        seconds: how long to ask.
        calls: ask only so often.
    """
    poller = _Poller(port, requests)
    poller.begin()
    end = poller.started + seconds
    left = itertools.count() if calls is None else iter(range(calls))
    for _ in range(clients):
        if next(left, None) is not None:
            poller.send(time.perf_counter())
    while poller.busy:
        for _ in range(poller.collect(TIMEOUT_S)):
            if (now := time.perf_counter()) < end and next(left, None) is not None:
                poller.send(now)
    return poller.outcome(min(seconds, time.perf_counter() - poller.started))


def open_loop(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int = 0) -> Outcome:
    """Ask so many times a second on average, at the moments of a Poisson process, whatever comes back.

    Args:
        port: as for `closed`.
        requests: as for `closed`.
        rate: requests a second.
        seconds: how long to ask.
        seed: of the moments.
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate, max(1, round(rate * seconds)))
    poller = _Poller(port, requests)
    poller.begin()
    due = (poller.started + np.cumsum(gaps)).tolist()
    sent = 0
    while sent < len(due) or poller.busy:
        while sent < len(due) and due[sent] <= time.perf_counter() and poller.busy < MOST_CONNECTIONS:
            poller.send(due[sent])
            sent += 1
        waits = sent < len(due) and poller.busy < MOST_CONNECTIONS
        poller.collect(max(0.0, due[sent] - time.perf_counter()) if waits else TIMEOUT_S)
    return poller.outcome(float(gaps.sum()))


def closed_calls(target: str, method: str, messages: Sequence[bytes], clients: int, seconds: float) -> Outcome:
    """Let clients make gRPC calls whenever they are answered, one thread each.

    Args:
        target: gRPC target.
        method: full name of a unary method, `/package.Service/Method`.
        messages: serialised requests, sent in turn.
        clients: threads, on one connection.
        seconds: how long to ask.
    """
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        grpc.channel_ready_future(channel).result(TIMEOUT_S)
        call: Callable[..., object] = channel.unary_unary(method, None, None)
        cpu, started = time.process_time(), time.perf_counter()
        end = started + seconds

        def client(number: int) -> tuple[list[float], list[float], int]:
            latencies: list[float] = []
            failed: list[float] = []
            late = 0
            for message in itertools.cycle([*messages[number:], *messages[:number]]):
                if (asked := time.perf_counter()) >= end:
                    return latencies, failed, late
                try:
                    call(message, timeout=TIMEOUT_S)
                except grpc.RpcError:
                    failed.append(time.perf_counter() - asked)
                    continue
                now = time.perf_counter()
                latencies.append(now - asked)
                late += now > end
            raise ValueError("there is nothing to send")

        with ThreadPoolExecutor(clients) as threads:
            parts = list(threads.map(client, range(clients)))
        latencies = np.array([seconds for part in parts for seconds in part[0]])
        failed = np.array([seconds for part in parts for seconds in part[1]])
        late = sum(part[2] for part in parts)
        cpu = time.process_time() - cpu
    return Outcome(latencies, seconds, len(latencies) - late, {0: failed}, cpu)


class _Connection:
    """A connection, with the request that it waits for an answer to."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = b""
        self.due = 0.0
        self.answered = False
        self._received = b""
        self._wanted: int | None = None

    def ask(self, request: bytes, due: float) -> None:
        """Send a request; an error shows when the answer is read."""
        self.request, self.due = request, due
        self._received, self._wanted = b"", None
        try:
            self.socket.sendall(request)
        except OSError:
            self.socket.close()

    @property
    def untouched(self) -> bool:
        """Whether a connection that was kept ended before it answered anything: the server closed it in between."""
        return self.answered and not self._received

    def read(self) -> int | None:
        """Take what has arrived; the status once the answer is whole, 0 where the connection ended, None before."""
        try:
            data = self.socket.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            return 0
        self._received += data
        if self._wanted is None:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return None
            self._wanted = self._end(self._received[:end].lower(), end + 4)
        whole = self._received.endswith(b"0\r\n\r\n") if self._wanted < 0 else len(self._received) >= self._wanted
        if not whole:
            return None
        self.answered = True
        return int(self._received[9:12])

    @property
    def kept(self) -> bool:
        """Whether the server leaves the connection open after this answer."""
        head = self._received.partition(b"\r\n\r\n")[0].lower()
        return head.startswith(b"http/1.1") and b"\r\nconnection: close" not in head

    @staticmethod
    def _end(head: bytes, body: int) -> int:
        """Return how long the answer is; -1: its last chunk ends it."""
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        return body + int(length) if length else -1


class _Poller:
    """Connections with requests under way, idle ones, and what was answered."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._port = port
        self._requests = itertools.cycle(requests)
        self._poll = select.epoll()
        self._busy: dict[int, _Connection] = {}
        self._idle: dict[int, _Connection] = {}
        self._answers: list[tuple[float, float]] = []
        self._failed: dict[int, list[float]] = defaultdict(list)
        self._cpu = 0.0
        self.started = 0.0

    def begin(self) -> None:
        """Start the clocks."""
        self._cpu, self.started = time.process_time(), time.perf_counter()

    @property
    def busy(self) -> int:
        """How many requests are under way."""
        return len(self._busy)

    def send(self, due: float) -> None:
        """Send the next request, which was due at a moment of `time.perf_counter`."""
        self._send(next(self._requests), due)

    def collect(self, timeout_s: float) -> int:
        """Wait for answers; returns how many requests ended. After TIMEOUT_S without any, all under way have failed."""
        ended = 0
        events = self._poll.poll(timeout_s)
        if not events and timeout_s >= TIMEOUT_S:
            ended = len(self._busy)
            for connection in list(self._busy.values()):
                self._failed[0].append(time.perf_counter() - connection.due)
                self._drop(connection)
        for descriptor, _ in events:
            if descriptor in self._idle:
                self._drop(self._idle[descriptor])
            elif descriptor in self._busy:
                ended += self._progress(self._busy[descriptor])
        return ended

    def outcome(self, seconds: float) -> Outcome:
        """Close all connections and say what came of the load."""
        cpu = time.process_time() - self._cpu
        for connection in [*self._busy.values(), *self._idle.values()]:
            self._drop(connection)
        self._poll.close()
        ends = np.array([at for at, _ in self._answers])
        latencies = np.array([latency for _, latency in self._answers])
        failed = {status: np.array(seconds) for status, seconds in self._failed.items()}
        return Outcome(latencies, seconds, int((ends <= self.started + seconds).sum()), failed, cpu)

    def _send(self, request: bytes, due: float) -> None:
        if self._idle:
            descriptor, connection = self._idle.popitem()
        else:
            connection = _Connection(self._port)
            descriptor = connection.socket.fileno()
            self._poll.register(descriptor, select.EPOLLIN)
        self._busy[descriptor] = connection
        connection.ask(request, due)

    def _progress(self, connection: _Connection) -> bool:
        """Read on; whether its request has ended."""
        status = connection.read()
        if status is None:
            return False
        if status and connection.kept:
            descriptor = connection.socket.fileno()
            self._idle[descriptor] = self._busy.pop(descriptor)
        else:
            self._drop(connection)
        if not status and connection.untouched:
            self._send(connection.request, connection.due)
            return False
        now = time.perf_counter()
        if status == OK:
            self._answers.append((now, now - connection.due))
        else:
            self._failed[status].append(now - connection.due)
        return True

    def _drop(self, connection: _Connection) -> None:
        descriptor = connection.socket.fileno()
        self._busy.pop(descriptor, None)
        self._idle.pop(descriptor, None)
        self._poll.unregister(descriptor)
        connection.socket.close()
