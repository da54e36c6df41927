"""gunicorn's worker with a connection of its own, and no main thread beside it."""

import os
import socket
import threading

import pytest
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import TConn

from serving.admission import Admission
from serving.deadline import Deadline
from serving.shedding import Worker
from serving.worker import PatientWorker

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
THREADS = 2


class _Application(BaseApplication):
    def load_config(self):
        self.cfg.set("threads", THREADS)


def _answer(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [environ["wsgi.input"].read()]


@pytest.fixture(params=[PatientWorker, Worker])
def worker(request):
    cfg = _Application().cfg
    worker = request.param(0, os.getppid(), [], None, 30, cfg, cfg.logger_class(cfg))
    worker.wsgi = _answer
    worker.nr_conns = THREADS
    worker.admission = Admission(1, 0)
    return worker


@pytest.fixture
def pair(worker):
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with ours, theirs:
        yield ours, TConn(worker.cfg, theirs, ("127.0.0.1", 1), ("127.0.0.1", 2))


@pytest.mark.parametrize("requests", [[REQUEST, REQUEST], [2 * REQUEST]])
def test_a_thread_goes_on_with_the_next_request_of_its_connection(worker, pair, monkeypatch, requests):
    monkeypatch.setattr("serving.worker.NEXT_REQUEST_S", 5)
    client, connection = pair
    thread = threading.Thread(target=worker.handle, args=[connection])
    thread.start()
    answers, wanted = b"", 0
    for sent in requests:
        client.sendall(sent)
        wanted += sent.count(REQUEST)
        while answers.count(b"hi") < wanted:
            answers += client.recv(65536)
    client.shutdown(socket.SHUT_WR)
    thread.join(5)
    assert not thread.is_alive()
    assert answers.count(b"200 OK") == 2


def test_a_thread_gives_its_connection_back_where_others_may_need_it(worker, pair):
    client, connection = pair
    worker.nr_conns = THREADS + 1
    client.sendall(2 * REQUEST)
    assert worker.handle(connection) is True
    assert client.recv(65536).count(b"200 OK") == 1


@pytest.mark.parametrize("worker", [Worker], indirect=True)
def test_the_event_loop_refuses_the_next_request_where_there_is_no_room(worker, pair):
    client, connection = pair
    client.sendall(2 * REQUEST)
    with worker.admission.slot(Deadline(5)):
        assert worker.handle(connection) is True
    assert client.recv(65536).count(b"200 OK") == 1


@pytest.mark.parametrize("worker", [Worker], indirect=True)
def test_a_connection_that_waits_for_its_next_request_is_not_counted_as_work(worker, pair):
    client, connection = pair
    worker._passed_on.add(connection)
    client.sendall(REQUEST)
    assert worker.handle(connection) is True
    assert not worker._passed_on


def test_a_connection_is_closed_when_its_client_goes(worker, pair):
    client, connection = pair
    client.sendall(REQUEST)
    client.shutdown(socket.SHUT_WR)
    assert not worker.handle(connection)
