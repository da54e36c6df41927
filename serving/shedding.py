"""gunicorn's threaded worker, which spends neither a thread nor the application on what is refused for overload.

Refused the usual way, by a thread, the parser and Flask, a request costs a fifth of one that is
answered. At four times the load that can be answered, refusing would leave no time to answer.
"""

import fcntl
import logging
import re
import socket
import struct
import termios
import time
from concurrent.futures import Future
from typing import Any

import orjson

from serving import metrics
from serving.access import request_id
from serving.admission import Admission, refusal
from serving.http import headers
from serving.worker import PatientWorker

log = logging.getLogger(__name__)

_HEADERS = "".join(f"{name}: {value}\r\n" for name, value in headers.ALWAYS.items())
_HEAD_BYTES = 8192
# All that works on pictures; what describes models and the process is answered.
_WORK = re.compile(rb"(?:POST|PUT) /v[12]/models/\S+ HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\nContent-Length: *(\d{1,12}) *(?=\r\n)", re.I)
_REQUEST_ID = re.compile(rb"\r\nX-Request-Id: *(\S+) *(?=\r\n)", re.I)
# Chunks, answers before the body, connections to be closed or changed: left to the parser.
_SPECIAL = re.compile(rb"\r\n(?:Transfer-Encoding|Expect|Upgrade|Connection: *(?!keep-alive *\r\n))", re.I)


class Worker(PatientWorker):
    """Answers as its base does, and refuses in its event loop what there is no room for.

    It refuses there what is plain and has arrived as a whole; the rest takes the usual way, at whose
    end the application refuses it. It counts what it has passed on to threads, for `admission` knows
    of a request only when its thread has come to run.
    """

    admission: Admission

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._passed_on: set[Any] = set()
        self._refused = 0
        self._told = 0.0

    def enqueue_req(self, conn: Any) -> None:
        """Refuse the request of a connection that became readable, or pass it on to a thread."""
        head, size = (b"", 0) if self.cfg.is_ssl else _whole_request(conn.sock)
        if size and (self.admission.full or len(self._passed_on) >= self.admission.limit):
            self._note()
            answered: Future[bool] = Future()
            answered.set_result(_answer(conn.sock, head, size))
            conn.init()
            super().finish_request(conn, answered)
            return
        if size:
            self._passed_on.add(conn)
        super().enqueue_req(conn)

    def next_request(self, conn: Any) -> bool:
        """Wait for a connection's next request, unless the event loop would refuse it.

        It is not counted as passed on: its thread is there, and `admission` will know of it at once.
        """
        self._passed_on.discard(conn)
        return not self.admission.full and super().next_request(conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Take a connection back from a thread."""
        self._passed_on.discard(conn)
        super().finish_request(conn, fs)

    def _note(self) -> None:
        metrics.REJECTED_FULL.inc()
        metrics.REQUESTS.labels("unread", "", "", refusal().code).inc()
        self._refused += 1
        now = time.monotonic()
        if now - self._told >= 1:
            log.warning("overloaded", extra={"fields": {"refused": self._refused}})
            self._refused, self._told = 0, now


def _whole_request(sock: socket.socket) -> tuple[bytes, int]:
    """Return head and size of a plain request for work that has arrived; size 0: there is none."""
    try:
        head, end, _ = sock.recv(_HEAD_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT).partition(b"\r\n\r\n")
    except OSError:
        return b"", 0
    head += b"\r\n"
    lengths = _LENGTH.findall(head)
    if not end or len(lengths) != 1 or not _WORK.match(head) or _SPECIAL.search(head):
        return head, 0
    size = len(head) + len(b"\r\n") + int(lengths[0])
    whole = size <= _readable(sock) and head.count(b"\n") == head.count(b"\r\n")
    return head, size if whole else 0


def _readable(sock: socket.socket) -> int:
    """Return how many bytes have arrived."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]


def _answer(sock: socket.socket, head: bytes, size: int) -> bool:
    """Take a request of so many bytes off a connection and refuse it; tell whether the connection can be kept."""
    offered = _REQUEST_ID.search(head)
    identity = request_id(offered[1].decode("latin-1") if offered else None)
    error = refusal()
    body = orjson.dumps({"error": str(error), "code": error.code, "request_id": identity})
    answer = (
        f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n{_HEADERS}"
        f"Retry-After: 1\r\nX-Request-Id: {identity}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    try:
        while size:
            size -= len(sock.recv(size, socket.MSG_DONTWAIT))
        return sock.send(answer, socket.MSG_DONTWAIT) == len(answer)
    except OSError:
        return False
