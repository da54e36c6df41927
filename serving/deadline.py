"""The time that a request has left."""

import time
from typing import Self

from serving.errors import DeadlineExceededError


class Deadline:
    """A moment by which a request has to be answered."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    @classmethod
    def earlier(cls, own_s: float, callers_s: float | None) -> Self:
        """Take the caller's time or our own, whichever ends first; callers need not name one."""
        return cls(own_s if callers_s is None else min(callers_s, own_s))

    def remaining(self) -> float:
        """Return the seconds left, more than 0.

        Raises:
            DeadlineExceededError: none are left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineExceededError(f"the request took longer than {self._seconds:g} seconds")
        return left
