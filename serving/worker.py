"""gunicorn's worker with threads, which no slow or silent client holds up."""

from concurrent.futures import Future
from typing import Any

from gunicorn import util
from gunicorn.workers.gthread import _DEFER, ThreadWorker

FIRST_BYTE_S = 0.05
"""How long a thread waits for the first byte of a new connection, which the poller then does at no cost."""
LINGER_S = 0.2
"""How long a client has to read the end of an answer and close, before the connection is closed for it."""


class PatientWorker(ThreadWorker):
    """Lets new connections wait outside the threads, and ends connections inside them.

    The base class holds a thread for five seconds for each connection on which nothing comes, and its main thread,
    which accepts for all, for two seconds for each that the other side does not close.
    """

    def handle(self, conn: Any) -> Any:
        """Answer what a connection sends; runs in a thread."""
        if not conn.initialized and not conn.wait_for_data(FIRST_BYTE_S):
            return _DEFER
        keep = super().handle(conn)
        if not keep:
            util.close_graceful(conn.sock, LINGER_S)
        return keep

    def finish_request(self, conn: Any, fs: Future) -> None:
        """Keep or forget a connection; runs in the main thread."""
        if fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
        else:
            self.nr_conns -= 1
            util.close(conn.sock)
