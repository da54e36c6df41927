"""How many requests are worked on at a time, how many wait for it, and which are refused at once."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from serving import metrics
from serving.deadline import Deadline
from serving.errors import DeadlineExceededError, OverloadedError


def refusal() -> OverloadedError:
    """Make the error of a request that is not taken on."""
    return OverloadedError("the gateway has more to do than it takes on; try again later")


class Admission:
    """Slots for work, and a bounded queue in front of them that is served in the order of arrival.

    What finds both full is refused at once. So whatever is accepted is finished within a bounded
    time, and no work is begun whose caller has gone.
    """

    def __init__(self, max_in_flight: int, max_queued: int) -> None:
        self.limit = max_in_flight + max_queued
        self._free = max_in_flight
        self._max_queued = max_queued
        self._lock = threading.Lock()
        # Each waits for a lock of its own, which whoever leaves opens: a slot passes to the eldest, and to nobody else.
        self._queue: deque[threading.Lock] = deque()

    @property
    def full(self) -> bool:
        """Whether all slots are taken, and the queue is full."""
        return not self._free and len(self._queue) >= self._max_queued

    def check(self) -> None:
        """Refuse now what would be refused anyway, before its body is read.

        Raises:
            OverloadedError: all slots are taken, and the queue is full.
        """
        if self.full:
            metrics.REJECTED_FULL.inc()
            raise refusal()

    @contextmanager
    def slot(self, deadline: Deadline) -> Iterator[None]:
        """Hold a slot, once it is this request's turn.

        Raises:
            OverloadedError: all slots are taken, and the queue is full.
            DeadlineExceededError: the request's time ended in the queue.
        """
        self.check()
        with metrics.QUEUE.time():
            self._enter(deadline)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, deadline: Deadline) -> None:
        seconds = deadline.remaining()
        with self._lock:
            if self._free:
                self._free -= 1
                return
            self.check()
            turn = threading.Lock()
            turn.acquire()
            self._queue.append(turn)
        with metrics.QUEUED.track_inprogress():
            if turn.acquire(timeout=seconds):
                return
        with self._lock:
            if turn not in self._queue:
                # It was given the slot in the same moment.
                return
            self._queue.remove(turn)
        metrics.REJECTED_LATE.inc()
        raise DeadlineExceededError("the request's time ended before its turn came; try again later")

    def _leave(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._free += 1
