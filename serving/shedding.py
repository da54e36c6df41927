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

    That is what `admission` would refuse, and what would wait for a thread. It refuses there what is
    plain and has arrived as a whole; the rest takes the usual way, at whose end the application
    refuses it.
    """

    admission: Admission

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._with_threads = 0
        self._refused = 0
        self._told = 0.0

    def enqueue_req(self, conn: Any) -> None:
        """Refuse the request of a connection that became readable, or pass it on to a thread."""
        full = self.admission.full or self._with_threads >= self.cfg.threads
        if full and not self.cfg.is_ssl and self._refuse(conn):
            return
        self._with_threads += 1
        super().enqueue_req(conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Take a connection back from a thread."""
        self._with_threads -= 1
        super().finish_request(conn, fs)

    def _refuse(self, conn: Any) -> bool:
        """Refuse what waits on a connection; False where it must take the usual way."""
        try:
            head, end, _ = conn.sock.recv(_HEAD_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT).partition(b"\r\n\r\n")
        except OSError:
            return False
        head += b"\r\n"
        lengths = _LENGTH.findall(head)
        if not end or len(lengths) != 1 or not _WORK.match(head) or _SPECIAL.search(head):
            return False
        size = len(head) + len(b"\r\n") + int(lengths[0])
        if size > _readable(conn.sock) or head.count(b"\n") != head.count(b"\r\n"):
            return False
        self._note()
        offered = _REQUEST_ID.search(head)
        answered: Future[bool] = Future()
        answered.set_result(_answer(conn.sock, size, request_id(offered[1].decode("latin-1") if offered else None)))
        conn.init()
        super().finish_request(conn, answered)
        return True

    def _note(self) -> None:
        metrics.REJECTED_FULL.inc()
        metrics.REQUESTS.labels("unread", "", "", refusal().code).inc()
        self._refused += 1
        now = time.monotonic()
        if now - self._told >= 1:
            log.warning("overloaded", extra={"fields": {"refused": self._refused}})
            self._refused, self._told = 0, now


def _readable(sock: socket.socket) -> int:
    """Return how many bytes have arrived."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]


def _answer(sock: socket.socket, size: int, identity: str) -> bool:
    """Take a request of so many bytes off a connection and refuse it; tell whether the connection can be kept."""
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
