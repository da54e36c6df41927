"""The time that a request has left."""

import time
from contextvars import ContextVar
from typing import Self

from serving.errors import DeadlineExceededError


class Deadline:
    """A moment by which a request has to be answered."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._start = time.monotonic()

    @classmethod
    def earlier(cls, own_s: float, callers_s: float | None) -> Self:
        """Take the caller's time or our own, whichever ends first; callers need not name one."""
        return cls(own_s if callers_s is None else min(callers_s, own_s))

    def shorten(self, seconds: float) -> None:
        """Let the request have no more than so many seconds, counted from its start."""
        self._seconds = min(self._seconds, seconds)

    def remaining(self) -> float:
        """Return the seconds left, more than 0.

        Raises:
            DeadlineExceededError: none are left.
        """
        left = self._start + self._seconds - time.monotonic()
        if left <= 0:
            raise DeadlineExceededError(f"the request took longer than {self._seconds:g} seconds")
        return left


current: ContextVar[Deadline] = ContextVar("deadline")
"""The deadline of the call that a thread of the gRPC door answers."""
