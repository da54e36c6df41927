"""The load generator asks as it says, and what contenders answered is compared with the goals."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from benchmarks import load, scratch, serving
from benchmarks.load import Outcome
from benchmarks.processes import RunningModelServer
from tests.tiny_models import HEIGHT, WIDTH

SLOW_S = 0.05


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/slow":
            with self.server.turn:
                time.sleep(SLOW_S)
        self.server.bodies.append(body)
        self.send_response(500 if self.path == "/broken" else 200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        if self.path == "/closed":
            self.send_header("Connection", "close")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
        # Without a word of it, as servers end connections that were idle.
        self.close_connection = self.path in ("/closed", "/dropped")

    def log_message(self, *args):
        pass


@pytest.fixture
def http():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.bodies, server.turn = [], threading.Lock()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["/plain", "/chunked", "/closed", "/dropped"])
def test_a_closed_loop_sends_every_request_in_turn(http, path):
    requests = [load.post(path, "image/jpeg", body) for body in (b"a", b"bc", b"def")]
    outcome = load.closed(http.server_port, requests, clients=2, seconds=10, calls=30)
    assert (len(outcome.latencies), outcome.in_time, outcome.errors) == (30, 30, 0)
    assert sorted(http.bodies) == [b"a"] * 10 + [b"bc"] * 10 + [b"def"] * 10
    assert outcome.rate == pytest.approx(30 / outcome.seconds)


def test_a_closed_loop_ends_when_its_time_is_over(http):
    started = time.perf_counter()
    outcome = load.closed(http.server_port, [load.post("/plain", "image/jpeg", b"a")], clients=2, seconds=0.2)
    assert 0.2 <= time.perf_counter() - started < 5
    assert outcome.in_time <= len(outcome.latencies) <= outcome.in_time + 2


def test_failures_are_counted_and_no_answers(http):
    outcome = load.closed(http.server_port, [load.post("/broken", "image/jpeg", b"a")], clients=2, seconds=10, calls=7)
    assert (len(outcome.latencies), outcome.in_time, outcome.errors) == (0, 0, 7)
    assert len(outcome.failed[500]) == 7
    with pytest.raises(RuntimeError, match="answered 500: hello"):
        load.ask(http.server_port, load.post("/broken", "image/jpeg", b"a"))
    assert load.ask(http.server_port, load.post("/plain", "image/jpeg", b"a")) == b"hello"


def test_an_open_loop_counts_the_wait_from_when_a_request_was_due(http):
    # Twenty requests come in a tenth of a second to a server that answers one in each twentieth.
    outcome = load.open_loop(http.server_port, [load.post("/slow", "image/jpeg", b"a")], rate=200, seconds=0.1)
    assert (len(outcome.latencies), outcome.errors) == (20, 0)
    assert outcome.latencies.max() > 10 * SLOW_S


def test_percentiles_count_failures_as_waits_without_end():
    outcome = Outcome(np.arange(1, 99) / 1000, 1, 98, {0: np.array([30.0]), 503: np.array([0.001])}, 0)
    assert outcome.percentile_ms(50) == pytest.approx(51)
    assert outcome.percentile_ms(99) == np.inf
    merged = load.merge([outcome, outcome])
    assert (merged.rate, merged.errors) == (98, 4)
    assert merged.failed[503].tolist() == [0.001, 0.001]


def _turns(rate, waits_ms):
    closed = Outcome(np.full(rate, 0.01), 1, rate, {}, 0.1)
    half = Outcome(np.full(100, waits_ms / 1000), 1, 100, {500: np.array([0.1])}, 0)
    return serving.Turns([closed], [half], cpu_s=np.array([0.002, 0.004]) * rate)


def test_contenders_are_compared_with_the_goals():
    turns = {serving.GATEWAY: _turns(200, 20), serving.LITSERVE: _turns(160, 30), serving.BENTOML: _turns(200, 10)}
    figures = {figure.what: figure for figure in serving.compare(serving.SCRATCH, turns)}
    assert figures["scratch: gateway against LitServe"].value == pytest.approx(1.25)
    assert figures["scratch: gateway against LitServe"].reached
    assert not figures["scratch: gateway against BentoML"].reached
    own = figures["scratch: gateway, 99th percentile at half of its peak"]
    assert (own.value, own.at_most, own.reached) == (pytest.approx(20), pytest.approx(10), False)
    assert figures["scratch: LitServe, failed requests"].value == 1
    assert figures["scratch: BentoML, processor time a request"].value == pytest.approx(6)
    cpu = figures["scratch: gateway's own processor time, a classify"]
    assert (cpu.value, cpu.reached) == (pytest.approx(2), True)


def test_the_gateway_and_the_model_server_are_asked_for_the_same(tiny_server, tmp_path):
    server = RunningModelServer(tiny_server.grpc_target, tiny_server.process.pid)
    pictures = [scratch.jpeg(number) for number in range(2)]
    case = serving.Case("tiny", Path(), server, (HEIGHT, WIDTH), pictures, tmp_path)
    with serving.gateway(case, workers=1) as gateway, serving.direct(case) as direct:
        contenders = {serving.GATEWAY: gateway, serving.DIRECT: direct}
        serving.check_same(contenders)
        turns = serving.take_turns(contenders, clients=2, seconds=0.2, rounds=1)
    assert [row.errors for row in turns.values()] == [0, 0]
    assert min(row.rate for row in turns.values()) > 0
    assert [len(row.half) for row in turns.values()] == [1, 0]
    figures = serving.memory(server.target, "tiny", pictures, tmp_path, clients=2, calls=20)
    assert [figure.unit for figure in figures] == ["MB", "MB", "%", ""]
    assert figures[-1].value == 0


def test_pictures_of_a_folder_are_read_by_name(tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"b")
    (tmp_path / "a.JPEG").write_bytes(b"a")
    (tmp_path / "large.jpg").write_bytes(bytes(serving.MOST_BYTES + 1))
    (tmp_path / "note.txt").write_bytes(b"no picture")
    assert serving.read_pictures(tmp_path) == [b"a", b"b"]
