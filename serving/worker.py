"""gunicorn's worker with threads, which no slow or silent client holds up."""

import select
from concurrent.futures import Future
from typing import Any

from gunicorn import util
from gunicorn.workers.gthread import _DEFER, ThreadWorker

FIRST_BYTE_S = 0.05
"""How long a thread waits for the first byte of a new connection, which the poller then does at no cost."""
NEXT_REQUEST_S = 0.01
"""How long a thread waits for the next request on a connection that it has answered, where there are threads enough."""
LINGER_S = 0.2
"""How long a client has to read the end of an answer and close, before the connection is closed for it."""


class PatientWorker(ThreadWorker):
    """Lets new connections wait outside the threads, keeps busy ones inside, and ends connections there.

    The base class holds a thread for five seconds for each connection on which nothing comes, and its main thread,
    which accepts for all, for two seconds for each that the other side does not close. It passes a connection back
    to the main thread after each request, which costs more than to wait a moment for the next one.
    """

    def handle(self, conn: Any) -> Any:
        """Answer what a connection sends; runs in a thread."""
        if not conn.initialized and not conn.wait_for_data(FIRST_BYTE_S):
            return _DEFER
        keep = super().handle(conn)
        while keep and self.nr_conns <= self.cfg.threads and self.next_request(conn):
            keep = super().handle(conn)
        if not keep:
            util.close_graceful(conn.sock, LINGER_S)
        return keep

    def next_request(self, conn: Any) -> bool:
        """Tell whether there is something to read on a connection that has been answered, or soon will be."""
        if conn.parser.unreader.buf.getvalue():
            return True
        waiting = select.poll()
        waiting.register(conn.sock, select.POLLIN)
        return bool(waiting.poll(1000 * NEXT_REQUEST_S))

    def finish_request(self, conn: Any, fs: Future) -> None:
        """Keep or forget a connection; runs in the main thread."""
        if fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
        else:
            self.nr_conns -= 1
            util.close(conn.sock)
