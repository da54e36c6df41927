"""Requests that come while calls are under way share the next one, and each keeps its own time and its own rows."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from fovea.v1.model_card_pb2 import ModelCard

from serving.backend import RefusedError, ServableNotFoundError
from serving.catalog import Served
from serving.deadline import Deadline
from serving.errors import DeadlineExceededError, ModelServerError
from serving.prediction import Predictor

TIMEOUT_S = 10
FIRST = Served("cats", 1, ModelCard())


def pictures(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[:, None, None, None]


class ModelServer:
    """Answers each picture's value, once it is let go; fails at a picture of 13, takes no more than three, and has no
    version 9."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go = threading.Event()

    def predict(self, served: Served, pixels: np.ndarray, deadline: Deadline) -> np.ndarray:
        self.calls.append(pixels[:, 0, 0, 0].tolist())
        if served.version == 9:
            raise ServableNotFoundError("gone")
        if 13 in self.calls[-1]:
            raise ModelServerError("not finite")
        if len(pixels) > 3:
            raise RefusedError("larger than the largest batch")
        if not self.go.wait(deadline.remaining()):
            raise DeadlineExceededError("the model server did not answer in time")
        return pixels[:, 0, 0].astype(np.float32)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.go.set()


class Clients:
    """Threads that ask one after another, once the first one's call is under way."""

    def __init__(self, predictor: Predictor, server: ModelServer, threads: ThreadPoolExecutor) -> None:
        self._predictor, self._server, self._threads = predictor, server, threads

    def ask(self, *values: int, served: Served = FIRST, seconds: float = TIMEOUT_S) -> Future[np.ndarray]:
        begun, waiting = bool(self._server.calls), len(self._predictor._merged._waiting)
        asked = self._threads.submit(self._predictor, served, pictures(*values), Deadline(seconds))
        merged = self._predictor._merged
        while not asked.done() and (not self._server.calls or (begun and len(merged._waiting) == waiting)):
            time.sleep(0.001)
        return asked


@pytest.fixture
def clients(server: ModelServer) -> Iterator[Clients]:
    with ThreadPoolExecutor(8) as threads:
        yield Clients(Predictor(server.predict, calls=1, max_pictures=4), server, threads)
        server.go.set()


def rows(asked: Future[np.ndarray]) -> list[float]:
    return asked.result(TIMEOUT_S)[:, 0].tolist()


def test_requests_share_a_call_and_get_their_own_rows(server: ModelServer, clients: Clients) -> None:
    asked = [clients.ask(1), clients.ask(2), clients.ask(3, 4), clients.ask(5, 6)]
    server.go.set()
    assert [rows(each) for each in asked] == [[1], [2], [3, 4], [5, 6]]
    assert server.calls == [[1], [2, 3, 4], [5, 6]]


def test_requests_for_other_versions_do_not(server: ModelServer, clients: Clients) -> None:
    second = Served("cats", 2, ModelCard())
    asked = [clients.ask(1), clients.ask(2), clients.ask(3, served=second), clients.ask(4)]
    server.go.set()
    assert [rows(each) for each in asked] == [[1], [2], [3], [4]]
    assert server.calls == [[1], [2, 4], [3]]


def test_what_the_call_raises_is_raised_in_all(server: ModelServer, clients: Clients) -> None:
    gone = Served("cats", 9, ModelCard())
    asked = [clients.ask(1), clients.ask(2, served=gone), clients.ask(3, served=gone)]
    server.go.set()
    for each in asked[1:]:
        with pytest.raises(ServableNotFoundError, match="gone"):
            each.result(TIMEOUT_S)
    assert server.calls == [[1], [2, 3]]


def test_a_picture_that_the_model_fails_at_harms_no_other(server: ModelServer, clients: Clients) -> None:
    asked = [clients.ask(1), clients.ask(2), clients.ask(13), clients.ask(4)]
    server.go.set()
    assert [rows(asked[index]) for index in (0, 1, 3)] == [[1], [2], [4]]
    with pytest.raises(ModelServerError, match="not finite"):
        asked[2].result(TIMEOUT_S)
    assert server.calls == [[1], [2, 13, 4], [2], [13], [4]]


def test_a_model_server_that_takes_fewer_at_a_time_is_asked_for_each(server: ModelServer, clients: Clients) -> None:
    asked = [clients.ask(1), clients.ask(2, 3), clients.ask(4, 5)]
    server.go.set()
    assert [rows(each) for each in asked] == [[1], [2, 3], [4, 5]]
    assert server.calls == [[1], [2, 3, 4, 5], [2, 3], [4, 5]]


def test_a_request_with_more_time_than_the_one_that_led_asks_again(server: ModelServer, clients: Clients) -> None:
    asked = [clients.ask(1, seconds=1.5), clients.ask(2, seconds=3), clients.ask(3)]
    for late in asked[:2]:
        with pytest.raises(DeadlineExceededError):
            late.result(TIMEOUT_S)
    server.go.set()
    assert rows(asked[2]) == [3]
    assert server.calls == [[1], [2, 3], [3]]


def test_a_request_with_less_time_does_not_wait_for_the_one_that_leads(server: ModelServer, clients: Clients) -> None:
    first, hurried = clients.ask(1), clients.ask(2, seconds=0.5)
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError, match="in time"):
        hurried.result(TIMEOUT_S)
    assert time.monotonic() - started < TIMEOUT_S / 2
    server.go.set()
    assert rows(first) == [1]
    assert server.calls == [[1]]
